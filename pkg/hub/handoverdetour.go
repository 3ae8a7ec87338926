package hub

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// What a node sends to a connection of its own does not go over the backplane. When the
// connection has just been handed over to the node, that would overtake what the node has
// sent to it over the backplane before. So such a connection has a detour at first: who
// sends to it by its id waits until all that was published before has arrived, or, where
// the backplane does not answer, goes on to publish.

// detourTime bounds one attempt to end a detour, and the pause before the next.
const detourTime = time.Second

// A detour is how sends go to a connection that has been handed over to this node.
type detour struct {
	over chan struct{} // who sends waits until it is closed, and looks again; nil: publishes
}

// sends are what this node is publishing to connections by their ids.
type sends struct {
	mu    sync.Mutex
	to    map[string]int
	ended chan struct{} // made by who waits, closed when one has ended
}

func (s *sends) begin(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to == nil {
		s.to = make(map[string]int)
	}
	s.to[id]++
}

func (s *sends) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to[id]--; s.to[id] == 0 {
		delete(s.to, id)
	}
	if s.ended != nil {
		close(s.ended)
		s.ended = nil
	}
}

// wait returns once nothing is being published to the connection.
func (s *sends) wait(ctx context.Context, id string) error {
	for {
		s.mu.Lock()
		if s.to[id] == 0 {
			s.mu.Unlock()
			return nil
		}
		if s.ended == nil {
			s.ended = make(chan struct{})
		}
		ended := s.ended
		s.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sendHere sends to the connection, if it is this node's. If it is not, to whom it is has
// to be published, and sends.end be called then.
func (h *Hub) sendHere(ctx context.Context, id string, m protocol.Message) (here bool, err error) {
	for {
		c := h.registry.connection(id)
		if c == nil || c.detour() != nil {
			h.sends.begin(id) // before the second look, so that who ends the detour sees this or is seen
			c = h.registry.connection(id)
			if c == nil {
				return false, nil
			}
			d := c.detour()
			if d != nil && d.over == nil {
				return false, nil
			}
			h.sends.end(id)
			if d != nil {
				select {
				case <-d.over:
				case <-ctx.Done():
					return true, ctx.Err()
				}
				continue
			}
		}
		if !c.isIndirect() {
			if here, err := c.sendHere(m); here {
				return true, err
			}
		}
		h.sends.begin(id)
		return false, nil
	}
}

// isIndirect reports whether what is published to the connection goes to the node that it
// is being handed over to, so that what is sent to it must not overtake that.
func (c *connection) isIndirect() bool {
	if c.stateful == nil {
		return false
	}
	d := c.stateful.departure.Load()
	return d != nil && d.indirect.Load()
}

func (c *connection) detour() *detour {
	if c.stateful == nil {
		return nil
	}
	return c.stateful.detour.Load()
}

// endDetour lets sends go to the connection directly, and reports whether that could be
// done. If not they are published.
func (c *connection) endDetour() bool {
	d := c.detour()
	if d == nil || d.over == nil {
		d = &detour{over: make(chan struct{})}
		c.stateful.detour.Store(d)
	}
	ctx, cancel := context.WithTimeout(c.ctx, detourTime)
	defer cancel()
	err := c.hub.sends.wait(ctx, c.id)
	if err == nil {
		err = c.hub.hearItself(ctx, c.id)
	}
	if err != nil {
		c.hub.logger.Debug("sends to a connection still go over the backplane", "hub", c.hub.name, "error", err)
		c.stateful.detour.Store(new(detour))
	} else {
		c.stateful.detour.Store(nil)
	}
	close(d.over)
	return err == nil
}

// hearItself returns once all has arrived that was published to the connection before.
func (h *Hub) hearItself(ctx context.Context, id string) error {
	mark := backplane.Operation{ID: newOperationID(), Kind: backplane.OpFence, TargetKind: backplane.TargetConnection, Target: id}
	heard := h.handovers.expect(mark.ID)
	defer h.handovers.forget(mark.ID)
	if err := h.publishOperation(ctx, backplane.Connection(id), mark); err != nil {
		return fmt.Errorf("publish mark: %w", err)
	}
	select {
	case <-heard:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for mark: %w", ctx.Err())
	}
}
