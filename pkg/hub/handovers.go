package hub

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// maxArrivals bounds the connections that are being handed over to this node, and
// maxLater what other nodes ask of one of them meanwhile.
const (
	maxArrivals = 1024
	maxLater    = 64
)

// handovers are the connections of this node that are on their way to another one, or
// from one. The receive loop looks here first, since a hand-over is a cut in the order
// of what arrives: before the fence of a partition what comes there is the leaving node's to
// deliver, after it the successor's.
//
// Lock order: mu, then a connection's.
type handovers struct {
	busy atomic.Bool // there is something below

	mu       sync.Mutex
	closed   bool // no more arrive
	leaving  map[string]*departure
	left     map[string]struct{} // handed over: what is asked of them is the other node's to answer
	arriving map[string]*arrival
	marks    map[backplane.OperationID]chan struct{} // closed when heard
}

// depart begins a departure. The connection has no other.
func (t *handovers) depart(d *departure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leaving == nil {
		t.leaving, t.left = make(map[string]*departure), make(map[string]struct{})
	}
	t.leaving[d.c.id] = d
	t.busy.Store(true)
}

// tryAgain gives a departure another id, so that the fences of a successor that has been
// given up mean nothing any more. It reports whether none has come yet.
func (t *handovers) tryAgain(d *departure) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.id = newOperationID()
	return !d.begun
}

// departed ends a departure. left says that the connection is another node's now.
func (t *handovers) departed(d *departure, left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.leaving, d.c.id)
	if left {
		t.left[d.c.id] = struct{}{} // until the hub is shut down, which is to follow
	}
	t.settle()
}

// arrive begins an arrival, and reports whether one more may be.
func (t *handovers) arrive(a *arrival) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.arriving) >= maxArrivals || t.arriving[a.c.id] != nil {
		return false
	}
	if t.arriving == nil {
		t.arriving = make(map[string]*arrival)
	}
	t.arriving[a.c.id] = a
	delete(t.left, a.c.id)
	t.busy.Store(true)
	return true
}

// arrived ends an arrival, unless it has ended. Under the lock, so that the receive loop
// waits, it calls last with what was asked of the connection since the fence.
func (t *handovers) arrived(a *arrival, last func(later []backplane.Operation)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.arriving[a.c.id] != a {
		return false
	}
	delete(t.arriving, a.c.id)
	last(a.later)
	t.settle()
	return true
}

// settle is called with mu held.
func (t *handovers) settle() {
	t.busy.Store(len(t.leaving)+len(t.left)+len(t.arriving)+len(t.marks) > 0)
}

// expect returns what is closed when a fence of that id is heard.
func (t *handovers) expect(mark backplane.OperationID) (heard <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.marks == nil {
		t.marks = make(map[backplane.OperationID]chan struct{})
	}
	c := make(chan struct{})
	t.marks[mark] = c
	t.settle()
	return c
}

func (t *handovers) forget(mark backplane.OperationID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.marks, mark)
	t.settle()
}

// arrival returns the arrival that a call is about, or nil.
func (t *handovers) arrival(id handoverID) *arrival {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a := t.arriving[id.Connection]; a != nil && a.id == id.Handover {
		return a
	}
	return nil
}

// close lets no more arrive, and returns those that have not been admitted.
func (t *handovers) close() []*arrival {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return slices.Collect(maps.Values(t.arriving))
}

// each calls f for each connection of the node, and one for that of the id, if there is
// one: connections that arrive, which the registry does not have, included. Nobody is
// admitted meanwhile. f must not block nor use the registry.
func (t *handovers) each(r *registry, f func(*connection)) {
	if t.busy.Load() {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, a := range t.arriving {
			f(a.c)
		}
	}
	r.each(f)
}

func (t *handovers) one(r *registry, id string, f func(*connection)) {
	if t.busy.Load() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if a := t.arriving[id]; a != nil {
			f(a.c)
		}
	}
	if c := r.connection(id); c != nil {
		f(c)
	}
}

// intercept takes fences, and operations on one connection that this node is not to
// answer, or not yet. The receive loop calls it before it does anything else with an
// operation that has come on the channel.
func (t *handovers) intercept(ch backplane.Channel, o backplane.Operation) (taken bool) {
	if !t.busy.Load() {
		return o.Kind == backplane.OpFence
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d, a := t.leaving[o.Target], t.arriving[o.Target]
	switch {
	case o.Kind == backplane.OpFence:
		if d != nil && d.id == o.ID {
			d.cut(ch)
		}
		if a != nil && a.id == o.ID {
			a.open(ch)
		}
		if heard := t.marks[o.ID]; heard != nil {
			close(heard)
			delete(t.marks, o.ID)
		}
		return true
	case o.TargetKind != backplane.TargetConnection:
		for _, d := range t.leaving {
			d.note(o)
		}
		return false
	case d != nil:
		d.note(o)
		return d.isCutFrom(ch)
	case a != nil:
		if a.isOpenTo(ch) && len(a.later) < maxLater {
			a.later = append(a.later, o)
		}
		return true
	}
	_, left := t.left[o.Target]
	return left
}
