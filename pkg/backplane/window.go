package backplane

import (
	"container/list"
)

// MaxPublishers is how many publishers a [Window] remembers.
const MaxPublishers = 4096

// A Window decides which of the envelopes that arrive over one or several subscription
// connections are new, so that an envelope that comes late or twice neither reorders
// nor doubles anything. It remembers the last sequence number of each lane of the
// [MaxPublishers] publishers that it heard last; one that it has forgotten begins anew.
// That takes about 200 bytes a publisher, and 8 for each number up to its greatest lane.
//
// The zero Window has heard nobody. It is not safe for concurrent use: it belongs to
// the receive loop.
type Window struct {
	publishers map[string]*list.Element // each in heard
	heard      list.List                // of *lastHeard, the latest first
}

// lastHeard is what is remembered of one publisher.
type lastHeard struct {
	publisher   string
	incarnation uint64
	sequences   []uint64 // by lane, at most MaxLane+1; 0 where nothing was heard
}

// Accept reports whether e is new, and remembers it if so. It is not if its sequence
// number is not above the last one accepted of its publisher, incarnation and lane, or
// if the publisher has been heard in a later incarnation. A plain envelope, which has
// no header to tell by, is always accepted.
func (w *Window) Accept(e *Envelope) bool {
	if e.Plain() {
		return true
	}
	if e.Lane > MaxLane {
		return false
	}
	last := w.last(e.Publisher)
	switch {
	case e.Incarnation < last.incarnation:
		return false
	case e.Incarnation > last.incarnation:
		last.incarnation = e.Incarnation
		clear(last.sequences)
	}
	if missing := int(e.Lane) + 1 - len(last.sequences); missing > 0 {
		last.sequences = append(last.sequences, make([]uint64, missing)...)
	}
	if e.Sequence <= last.sequences[e.Lane] {
		return false
	}
	last.sequences[e.Lane] = e.Sequence
	return true
}

// last returns what is remembered of the publisher, who has just been heard.
func (w *Window) last(publisher string) *lastHeard {
	if element, ok := w.publishers[publisher]; ok {
		w.heard.MoveToFront(element)
		return element.Value.(*lastHeard)
	}
	if w.publishers == nil {
		w.publishers = make(map[string]*list.Element)
	}
	if len(w.publishers) == MaxPublishers {
		forgotten := w.heard.Remove(w.heard.Back()).(*lastHeard)
		delete(w.publishers, forgotten.publisher)
	}
	last := &lastHeard{publisher: publisher}
	w.publishers[publisher] = w.heard.PushFront(last)
	return last
}
