package backplane

import "time"

// A MissedReceiver is a [Receiver] that tells what comes in time from what it had missed.
// To others, what was missed is delivered by Deliver.
//
// The calls come one at a time, in turn with those of Deliver, and like them must neither
// block nor call the backplane, but for Unsubscribe.
type MissedReceiver interface {
	// Missed hands over an operation that was published with PublishKept while this node
	// did not hear: in the order in which they were published, each once, and before
	// anything is delivered after that. What is missed otherwise, because Redis took it
	// and its publisher then failed, comes some seconds late. It was published age ago, as
	// far as is known: no longer.
	Missed(ch Channel, operation []byte, age time.Duration)

	// MissedUnknown tells that operations may have been missed while this node did not
	// hear, and that it cannot be known which. It too comes before anything is delivered.
	MissedUnknown()
}
