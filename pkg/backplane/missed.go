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

// A GapWatcher is a [Receiver] that wants to know of gaps: times in which this node did not
// hear what was published, after it had heard. Messages of that time may be lost.
type GapWatcher interface {
	// GapEnded tells of a gap that has just ended: it began then, or some seconds later.
	// The call comes after those of a [MissedReceiver] and before anything is delivered of
	// what was published after the gap, in turn with Deliver and under the same rules.
	GapEnded(began time.Time)
}
