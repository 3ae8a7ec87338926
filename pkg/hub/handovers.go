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
// of what arrives: before the fence the connection is the leaving node's, after it the
// successor's.
//
// Lock order: mu, then a connection's.
type handovers struct {
	busy atomic.Bool // there is something below

	mu       sync.Mutex
	closed   bool // no more arrive
	leaving  map[string]*departure
	left     map[string]struct{} // handed over: what is asked of them is the other node's to answer
	arriving map[string]*arrival
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

// tryAgain gives a departure another id, so that the fence of a successor that has been
// given up means nothing any more. It reports whether that has not come yet.
func (t *handovers) tryAgain(d *departure) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.id = newOperationID()
	return !d.isCut
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
func (t *handovers) settle() { t.busy.Store(len(t.leaving)+len(t.left)+len(t.arriving) > 0) }

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

// deliver has f called for the arriving connection of that id, or of any if that is
// empty. f must not block nor use the registry.
func (t *handovers) deliver(id string, f func(*connection)) {
	if !t.busy.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if id != "" {
		if a := t.arriving[id]; a != nil {
			f(a.c)
		}
		return
	}
	for _, a := range t.arriving {
		f(a.c)
	}
}

// intercept takes fences, and operations on one connection that this node is not to
// answer, or not yet. The receive loop calls it before it does anything else with an
// operation.
func (t *handovers) intercept(o backplane.Operation) (taken bool) {
	if !t.busy.Load() {
		return o.Kind == backplane.OpFence
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	d, a := t.leaving[o.Target], t.arriving[o.Target]
	switch {
	case o.Kind == backplane.OpFence:
		if d != nil && d.id == o.ID {
			d.cut()
		}
		if a != nil && a.id == o.ID {
			a.open()
		}
		return true
	case o.TargetKind != backplane.TargetConnection:
		for _, d := range t.leaving {
			d.note(o)
		}
		return false
	case d != nil:
		d.note(o)
		return d.isCut
	case a != nil:
		if a.isOpen && len(a.later) < maxLater {
			a.later = append(a.later, o)
		}
		return true
	}
	_, left := t.left[o.Target]
	return left
}
