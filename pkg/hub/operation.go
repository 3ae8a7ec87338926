package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// An UnansweredError reports nodes that did not say in time that an operation is in
// force on them. It may be, and may come to be.
type UnansweredError struct {
	Nodes []string // ids, sorted
}

// Error names the nodes.
func (e *UnansweredError) Error() string {
	return "no answer from " + strings.Join(e.Nodes, ", ")
}

// Is reports that the error is one of [backplane.ErrUnavailable].
func (e *UnansweredError) Is(target error) bool { return target == backplane.ErrUnavailable }

// maxOperating is how many operations of others a node performs at a time. Those beyond
// are not performed, which their askers hear by nobody answering.
const maxOperating = 1024

// operations are those that this node has asked the cluster for, and those that it
// performs for others.
type operations struct {
	performing sync.WaitGroup // counted up under mu, and never once closed

	mu      sync.Mutex
	pending map[backplane.OperationID]*pendingOperation
	running int // of performing
	closed  bool
}

// perform runs f in a goroutine, unless limit of them run or the hub is shut down.
func (o *operations) perform(limit int, f func()) (performed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.running >= limit {
		return false
	}
	o.running++
	o.performing.Go(func() { // ends within the operation time-out
		f()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.running--
	})
	return true
}

// close performs no more, and waits for those that are being performed.
func (o *operations) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.performing.Wait()
}

// A pendingOperation waits for the replies to one. All but replied is guarded by the
// operations' mu.
type pendingOperation struct {
	of      *operations
	id      backplane.OperationID
	waiting map[string]bool // nodes that have not replied; nil: whoever replies
	replies []backplane.Reply
	replied chan struct{} // of capacity 1: there are replies to look at, or fewer to wait for
}

// expect begins to take replies, from the nodes given, or from anybody.
func (o *operations) expect(nodes map[string]bool) *pendingOperation {
	p := &pendingOperation{of: o, waiting: nodes, replied: make(chan struct{}, 1)}
	rand.Read(p.id[:])
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pending == nil {
		o.pending = make(map[backplane.OperationID]*pendingOperation)
	}
	o.pending[p.id] = p
	return p
}

// forget takes no more replies.
func (p *pendingOperation) forget() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	delete(p.of.pending, p.id)
}

// receive takes a reply. The receive loop calls it.
func (o *operations) receive(r backplane.Reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pending[r.ID]
	if p == nil || p.waiting != nil && !p.waiting[r.Node] {
		return // late, or not asked
	}
	delete(p.waiting, r.Node)
	p.replies = append(p.replies, r)
	p.signal()
}

// nodeGone waits for the node no longer: it has died or left, and holds nothing any more.
func (o *operations) nodeGone(node string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pending {
		asked := slices.ContainsFunc(p.replies, func(r backplane.Reply) bool {
			return r.Node == node && r.Outcome == backplane.OutcomeAccepted
		})
		if asked {
			p.replies = append(p.replies, backplane.Reply{Node: node, Outcome: backplane.OutcomeNothing})
		}
		delete(p.waiting, node)
		p.signal()
	}
}

func (p *pendingOperation) signal() {
	select {
	case p.replied <- struct{}{}:
	default:
	}
}

// look returns the replies so far, and the nodes that are still to reply.
func (p *pendingOperation) look() (replies []backplane.Reply, waiting []string) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	for node := range p.waiting {
		waiting = append(waiting, node)
	}
	slices.Sort(waiting)
	return slices.Clone(p.replies), waiting
}

// everywhere has every node of the cluster perform an operation, and returns once all
// have, whether any of them had the target. A node that dies meanwhile is not waited
// for: what it held is gone.
func (h *Hub) everywhere(ctx context.Context, o backplane.Operation) (found bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, h.operationTimeout)
	defer cancel()
	nodes, err := h.attachment.Nodes(ctx)
	if err != nil {
		return false, err
	}
	waiting := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		waiting[n.ID] = true
	}
	p := h.operations.expect(waiting)
	defer p.forget()
	if err := h.publishOperation(ctx, p, backplane.All, o); err != nil {
		return false, err
	}
	for {
		replies, waiting := p.look()
		if len(waiting) == 0 {
			return outcomeOf(replies)
		}
		select {
		case <-p.replied:
		case <-ctx.Done():
			_, waiting = p.look()
			return false, &UnansweredError{waiting}
		}
	}
}

// outcomeOf returns whether the target was found, and what failed anywhere.
func outcomeOf(replies []backplane.Reply) (found bool, err error) {
	var failed []error
	for _, r := range replies {
		switch r.Outcome {
		case backplane.OutcomeDone:
			found = true
		case backplane.OutcomeFailed:
			failed = append(failed, fmt.Errorf("node %s: %s", r.Node, r.Error))
		}
	}
	return found, errors.Join(failed...)
}

// atConnection has the node that holds a connection perform an operation on it.
func (h *Hub) atConnection(ctx context.Context, o backplane.Operation) error {
	if c := h.registry.connection(o.Target); c != nil {
		targets := []*connection{c}
		_, err := outcomeOf([]backplane.Reply{h.apply(ctx, o, targets, beginJoins(o, targets))})
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.operationTimeout)
	defer cancel()
	p := h.operations.expect(nil)
	defer p.forget()
	if err := h.publishToHolder(ctx, p, o); err != nil {
		return err
	}
	select {
	case <-p.replied:
	case <-ctx.Done():
		return fmt.Errorf("%w: the node of the connection did not answer", backplane.ErrUnavailable)
	}
	replies, _ := p.look()
	found, err := outcomeOf(replies)
	if err == nil && !found {
		return ErrNoConnection
	}
	return err
}

// publishToHolder publishes an operation on a connection that is not of this node. If
// nobody gets it there is no such connection, unless some node does not hear.
func (h *Hub) publishToHolder(ctx context.Context, p *pendingOperation, o backplane.Operation) error {
	ch := backplane.Connection(o.Target)
	o.ID, o.Asker = p.id, h.plane.NodeID()
	n, err := h.attachment.PublishCounted(ctx, backplane.AppendOperation(nil, h.connections.Keys, h.address(ch), o), ch)
	if err != nil || n > 0 {
		return err
	}
	nodes, err := h.attachment.Nodes(ctx)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !n.Hearing {
			return fmt.Errorf("%w: node %s does not hear", backplane.ErrUnavailable, n.ID)
		}
	}
	return ErrNoConnection
}

func (h *Hub) publishOperation(ctx context.Context, p *pendingOperation, ch backplane.Channel, o backplane.Operation) error {
	o.ID, o.Asker = p.id, h.plane.NodeID()
	return h.attachment.Publish(ctx, backplane.AppendOperation(nil, h.connections.Keys, h.address(ch), o), ch)
}

// receiveOperation performs what another node, or this one, has asked for. The receive
// loop calls it, so the work is done elsewhere.
func (h *Hub) receiveOperation(o backplane.Operation) {
	targets := h.targets(o)
	joinings := beginJoins(o, targets) // now, so that a removal that comes next cancels them
	performed := h.operations.perform(maxOperating, func() {
		ctx, cancel := context.WithTimeout(h.ctx, h.operationTimeout)
		defer cancel()
		h.reply(ctx, o, h.apply(ctx, o, targets, joinings))
	})
	if !performed {
		for i, j := range joinings {
			targets[i].endJoin(j)
		}
		h.logger.Warn("operation of another node not performed: too many at a time, or leaving", "hub", h.name)
	}
}

// beginJoins begins the joins that an operation asks for, one for each target.
func beginJoins(o backplane.Operation, targets []*connection) (joinings []*joining) {
	if o.Kind != backplane.OpAddToGroup {
		return nil
	}
	for _, c := range targets {
		joinings = append(joinings, c.beginJoin(o.Group))
	}
	return joinings
}

// reply answers an operation. Without the backplane the asker gets no answer, which it
// knows what to make of.
func (h *Hub) reply(ctx context.Context, o backplane.Operation, r backplane.Reply) {
	r.ID, r.Node = o.ID, h.plane.NodeID()
	ch := backplane.Node(o.Asker)
	if err := h.attachment.Publish(ctx, backplane.AppendReply(nil, h.connections.Keys, h.address(ch), r), ch); err != nil {
		h.logger.Debug("operation not answered", "hub", h.name, "error", err)
	}
}

// targets returns the connections of this node that an operation is for.
func (h *Hub) targets(o backplane.Operation) (targets []*connection) {
	add := func(c *connection) { targets = append(targets, c) }
	switch o.TargetKind {
	case backplane.TargetConnection:
		if c := h.registry.connection(o.Target); c != nil {
			add(c)
		}
	case backplane.TargetUser:
		h.registry.eachMember(backplane.User(o.Target), add)
	case backplane.TargetGroup:
		h.registry.eachMember(backplane.Group(o.Target), add)
	}
	return targets
}

// apply performs an operation on connections of this node, for which beginJoins has been
// called, and says what came of it.
func (h *Hub) apply(ctx context.Context, o backplane.Operation, targets []*connection, joinings []*joining) backplane.Reply {
	if len(targets) == 0 {
		return backplane.Reply{Outcome: backplane.OutcomeNothing}
	}
	var failed []error
	for i, c := range targets {
		switch o.Kind {
		case backplane.OpExists:
		case backplane.OpAddToGroup:
			err := c.joinGroup(ctx, joinings[i], expiryOf(o))
			if err != nil && !errors.Is(err, ErrNoConnection) {
				failed = append(failed, err)
			}
		case backplane.OpRemove:
			c.leaveGroup(o.Group)
		case backplane.OpRemoveFromAll:
			c.leaveAllGroups()
		case backplane.OpClose:
			c.end(closing{text: o.Reason, allowReconnect: o.AllowReconnect})
		case backplane.OpAsk:
			return h.askFor(o, c)
		default:
			failed = append(failed, fmt.Errorf("operation %d is not known here", o.Kind))
		}
	}
	if err := errors.Join(failed...); err != nil {
		return backplane.Reply{Outcome: backplane.OutcomeFailed, Error: err.Error()}
	}
	return backplane.Reply{Outcome: backplane.OutcomeDone}
}

func expiryOf(o backplane.Operation) time.Time {
	if o.Expires == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(o.Expires))
}

// address is the whole name of a channel, which operations and replies are signed with.
func (h *Hub) address(ch backplane.Channel) backplane.Channel {
	return backplane.Channel(h.prefix) + ch
}

var _ backplane.NodeWatcher = receiver{}

// NodeLeft implements [backplane.NodeWatcher].
func (h receiver) NodeLeft(node string) { h.operations.nodeGone(node) }

// NodeDied implements [backplane.NodeWatcher].
func (h receiver) NodeDied(node string) {
	h.operations.nodeGone(node)
	if h.nodeDied != nil {
		h.nodeDied(node)
	}
}
