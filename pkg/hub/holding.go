package hub

import (
	"errors"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// longestLease bounds leases, whatever is asked for.
const longestLease = time.Hour

var errHeldAlready = errors.New("the operation has been received already")

// holdings are what stays of other nodes' operations after they have been replied to:
// questions that clients have not answered, and joins that have been begun. Each ends
// when it is dropped or taken, when the node that asked has gone, and when its lease has
// run out: so nothing is left of an asker who is not heard any more.
type holdings struct {
	mu   sync.Mutex // a holding's drop is not called under it
	held map[backplane.OperationID]*holding
}

type holding struct {
	asker string
	task  task
	drop  func()      // gives it up
	lease *time.Timer // drops it
}

// leaseOf is how long what the operation asks for may be held.
func leaseOf(o backplane.Operation) time.Duration {
	if o.Lease == 0 || o.Lease > uint64(longestLease/time.Millisecond) {
		return longestLease
	}
	return time.Duration(o.Lease) * time.Millisecond
}

// hold has drop called unless the task is taken before, and reports whether it is held:
// what is held already is not.
func (s *holdings) hold(o backplane.Operation, t task, drop func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[o.ID] != nil {
		return false
	}
	if s.held == nil {
		s.held = make(map[backplane.OperationID]*holding)
	}
	s.held[o.ID] = &holding{o.Asker, t, drop, time.AfterFunc(leaseOf(o), func() { s.drop(o.ID) })}
	return true
}

// keep gives what the operation goes on with a new lease, and reports whether it is held.
func (s *holdings) keep(o backplane.Operation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.held[o.Earlier]
	return h != nil && h.lease.Reset(leaseOf(o))
}

func (s *holdings) holds(id backplane.OperationID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[id] != nil
}

// take ends a holding without having it dropped.
func (s *holdings) take(id backplane.OperationID) (t task, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.remove(id); h != nil {
		return h.task, true
	}
	return task{}, false
}

// drop gives a holding up, if there is one.
func (s *holdings) drop(id backplane.OperationID) {
	s.mu.Lock()
	h := s.remove(id)
	s.mu.Unlock()
	if h != nil {
		h.drop()
	}
}

// remove is called with mu held.
func (s *holdings) remove(id backplane.OperationID) *holding {
	h := s.held[id]
	if h != nil {
		h.lease.Stop()
		delete(s.held, id)
	}
	return h
}

// dropOf gives up what a node has asked for.
func (s *holdings) dropOf(asker string) {
	s.dropIf(func(h *holding) bool { return h.asker == asker })
}

// dropAll gives everything up.
func (s *holdings) dropAll() { s.dropIf(func(*holding) bool { return true }) }

func (s *holdings) dropIf(f func(*holding) bool) {
	s.mu.Lock()
	var dropped []*holding
	for id, h := range s.held {
		if f(h) {
			dropped = append(dropped, s.remove(id))
		}
	}
	s.mu.Unlock()
	for _, h := range dropped {
		h.drop()
	}
}
