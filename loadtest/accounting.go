package main

// window is how many sequence numbers back from the highest a stream can tell
// whether it has had them.
const window = 64

// A stream is what one receiver has had of what one sender sent to one target. The
// messages of a stream are numbered from 1 in the order of sending. The zero stream
// has had nothing.
type stream struct {
	highest   uint64 // sequence number
	seen      uint64 // bit i is set if highest-i has come
	delivered uint64 // different messages
}

// A verdict says what a message was to its stream.
type verdict uint8

const (
	inOrder    verdict = iota // new, and above all before it
	outOfOrder                // new, but overtaken by a later one
	duplicate                 // had already
	tooOld                    // further back than the window: late or a duplicate, nobody knows
)

// receive takes down that the message with that number, which is not 0, has come.
//
// What is too old is not counted as delivered, so that duplicates cannot make up for
// losses; if it was only late, it counts as lost as well as out of order.
func (s *stream) receive(sequence uint64) verdict {
	if sequence > s.highest {
		s.seen = s.seen<<(sequence-s.highest) | 1 // Go shifts all bits out where there are too many
		s.highest = sequence
		s.delivered++
		return inOrder
	}
	back := s.highest - sequence
	switch {
	case back >= window:
		return tooOld
	case s.seen&(1<<back) != 0:
		return duplicate
	}
	s.seen |= 1 << back
	s.delivered++
	return outOfOrder
}

// lost says how many of the expected messages have not come.
func (s *stream) lost(expected uint64) uint64 {
	if s.delivered >= expected {
		return 0
	}
	return expected - s.delivered
}

// A tally counts what became of received messages.
type tally struct {
	delivered  uint64 // different messages, whatever their order
	duplicated uint64
	outOfOrder uint64
	stray      uint64 // of a target that the receiver does not belong to
	damaged    uint64 // of this trial, but not as they were sent
	ignored    uint64 // not of this trial
}

// count takes down the verdict on one message.
func (t *tally) count(v verdict) {
	switch v {
	case inOrder:
		t.delivered++
	case outOfOrder:
		t.delivered++
		t.outOfOrder++
	case duplicate:
		t.duplicated++
	case tooOld:
		t.outOfOrder++
	}
}

func (t *tally) add(other tally) {
	t.delivered += other.delivered
	t.duplicated += other.duplicated
	t.outOfOrder += other.outOfOrder
	t.stray += other.stray
	t.damaged += other.damaged
	t.ignored += other.ignored
}
