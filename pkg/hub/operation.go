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
// force on them. It may be, and may come to be. Of an operation on one connection it
// names the connection's node, or, where that could not be found out, all that it may be.
type UnansweredError struct {
	Nodes []string // ids, sorted
}

// Error names the nodes.
func (e *UnansweredError) Error() string {
	return "no answer from " + strings.Join(e.Nodes, ", ")
}

// Is reports that the error is one of [backplane.ErrUnavailable].
func (e *UnansweredError) Is(target error) bool { return target == backplane.ErrUnavailable }

// operations are those that this node has asked the cluster for, and those that it
// performs for others.
type operations struct {
	performing sync.WaitGroup // counted up under mu, and never once closed

	mu      sync.Mutex
	pending map[backplane.OperationID]*pendingOperation
	running int // of performing, by perform
	closed  bool

	// Operations of others that wait for their turn, and those of which the askers are to be
	// told that there is no room.
	waiting      []queuedOperation
	waitingBytes int
	refusals     []func()
	performers   int // goroutines that perform them
}

// A pendingOperation waits for the replies to one. All but replied is guarded by the
// operations' mu.
type pendingOperation struct {
	of      *operations
	id      backplane.OperationID
	waiting map[string]bool   // nodes that have not replied; nil: whoever replies
	replies []backplane.Reply // not yet taken by next, or all of them where nodes are waited for
	asked   string            // the node that has asked the client, and will reply again
	gone    []string          // nodes that have died or left since expect
	replied chan struct{}     // of capacity 1: there are replies to look at, or nodes have gone
}

func newOperationID() (id backplane.OperationID) {
	rand.Read(id[:])
	return id
}

// expect begins to take replies, from anybody, and to note who goes.
func (o *operations) expect() *pendingOperation {
	p := &pendingOperation{of: o, id: newOperationID(), replied: make(chan struct{}, 1)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pending == nil {
		o.pending = make(map[backplane.OperationID]*pendingOperation)
	}
	o.pending[p.id] = p
	return p
}

// waitFor takes replies from these nodes only, but for those that have gone meanwhile.
func (p *pendingOperation) waitFor(nodes []string) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.waiting = make(map[string]bool, len(nodes))
	for _, node := range nodes {
		if !slices.Contains(p.gone, node) {
			p.waiting[node] = true
		}
	}
}

// forget takes no more replies.
func (p *pendingOperation) forget() {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	delete(p.of.pending, p.id)
}

// receive takes a reply. The receive loop calls it. A reply may come twice, of which
// waiting and next take one.
func (o *operations) receive(r backplane.Reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.pending[r.ID]
	if p == nil || p.waiting != nil && !p.waiting[r.Node] {
		return // late, or not asked
	}
	delete(p.waiting, r.Node)
	if r.Outcome == backplane.OutcomeAccepted {
		p.asked = r.Node
	}
	p.replies = append(p.replies, r)
	p.signal()
}

// nodeGone waits for the node no longer: it has died or left, and holds nothing any more.
func (o *operations) nodeGone(node string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.pending {
		p.gone = append(p.gone, node)
		if p.asked == node {
			p.replies = append(p.replies, backplane.Reply{Node: node, Outcome: backplane.OutcomeNothing})
		}
		delete(p.waiting, node)
		p.signal()
	}
}

// signal is called with the operations' mu held.
func (p *pendingOperation) signal() {
	select {
	case p.replied <- struct{}{}:
	default:
	}
}

// next takes one reply, if there is one.
func (p *pendingOperation) next() (r backplane.Reply, ok bool) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	if len(p.replies) == 0 {
		return r, false
	}
	r, p.replies = p.replies[0], p.replies[1:]
	if len(p.replies) > 0 {
		p.signal()
	}
	return r, true
}

// look returns the replies so far, and the nodes that are still to reply, sorted.
func (p *pendingOperation) look() (replies []backplane.Reply, waiting []string) {
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	for node := range p.waiting {
		waiting = append(waiting, node)
	}
	slices.Sort(waiting)
	return slices.Clone(p.replies), waiting
}

// operating bounds an operation in time, and by the end of the hub.
func (h *Hub) operating(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(h.ctx, func() { end(ErrClosed) })
	ctx, cancel := context.WithTimeout(ctx, h.operationTimeout)
	return ctx, func() {
		stop()
		cancel()
		end(nil)
	}
}

// everywhere has every node of the cluster perform an operation, and returns once all
// have, whether any of them had the target. A node that goes meanwhile is not waited for:
// what it held is gone.
func (h *Hub) everywhere(ctx context.Context, o backplane.Operation) (found bool, err error) {
	p := h.operations.expect() // before the nodes are looked up, so that none goes unseen
	defer p.forget()
	ctx, cancel := h.operating(ctx)
	defer cancel()
	nodes, err := h.nodes(ctx)
	if err != nil {
		return false, err
	}
	return h.atNodes(ctx, p, o, nodes)
}

// nodes returns the ids of all nodes.
func (h *Hub) nodes(ctx context.Context) (ids []string, err error) {
	nodes, err := h.attachment.Nodes(ctx)
	for _, n := range nodes {
		ids = append(ids, n.ID)
	}
	return ids, err
}

// atNodes has every node perform an operation, and waits for those given.
func (h *Hub) atNodes(ctx context.Context, p *pendingOperation, o backplane.Operation, nodes []string) (found bool, err error) {
	p.waitFor(nodes)
	o.ID = p.id
	if err := h.publishOperation(ctx, backplane.All, o); err != nil {
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
			if context.Cause(ctx) == ErrClosed {
				return false, ErrClosed
			}
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
			failed = append(failed, &remoteError{r.Node, r.Error})
		}
	}
	return found, errors.Join(failed...)
}

// A remoteError is why an operation failed on a node.
type remoteError struct{ node, text string }

func (e *remoteError) Error() string {
	if e.node == "" {
		return e.text
	}
	return "node " + e.node + ": " + e.text
}

// Is reports whether the text has a line that is the target's.
func (e *remoteError) Is(target error) bool {
	var text string
	switch target {
	case ErrRemoved, ErrExpired:
		text = target.Error()
	case backplane.ErrUnavailable:
		text = errTooManyOperations.Error()
	default:
		return false
	}
	return slices.Contains(strings.Split(e.text, "\n"), text)
}

// atConnection has the node that holds a connection perform an operation on it.
func (h *Hub) atConnection(ctx context.Context, o backplane.Operation) error {
	if c := h.registry.connection(o.Target); c != nil {
		_, err := outcomeOf([]backplane.Reply{h.apply(ctx, o, h.prepare(o))})
		if !c.hasMoved() {
			return err
		}
	}
	p := h.operations.expect()
	defer p.forget()
	r, err := h.atHolder(ctx, p, o)
	if err != nil {
		return err
	}
	return errorAtHolder(r)
}

// errorAtHolder is what the holder's reply to an operation means.
func errorAtHolder(r backplane.Reply) error {
	if r.Outcome == backplane.OutcomeNothing {
		return ErrNoConnection
	}
	_, err := outcomeOf([]backplane.Reply{r})
	return err
}

// atHolder has the node that holds a connection, which is not this one, perform an
// operation, and returns its first reply. While there is none, which node that is can
// only be asked: halfway through the time that there is, and when a node has gone.
func (h *Hub) atHolder(ctx context.Context, p *pendingOperation, o backplane.Operation) (backplane.Reply, error) {
	ctx, cancel := h.operating(ctx)
	defer cancel()
	o.ID = p.id
	if err := h.publishToHolder(ctx, o); err != nil {
		return backplane.Reply{}, err
	}
	halfway := time.NewTimer(h.operationTimeout / 2)
	defer halfway.Stop()
	search := h.operations.expect()
	defer search.forget()
	var suspects []string // where the connection may be, as far as is known
	for {
		select {
		case <-p.replied:
		case <-search.replied:
		case <-halfway.C:
		case <-ctx.Done():
			return backplane.Reply{}, unansweredAtHolder(ctx, suspects)
		}
		if r, ok := p.next(); ok {
			return r, nil
		}
		if r, ok := search.next(); ok {
			if r.Outcome == backplane.OutcomeNothing {
				return backplane.Reply{}, ErrNoConnection
			}
			suspects = []string{r.Node}
			continue
		}
		exists := backplane.Operation{ID: search.id, Kind: backplane.OpExists, TargetKind: o.TargetKind, Target: o.Target}
		if err := h.publishToHolder(ctx, exists); errors.Is(err, ErrNoConnection) {
			if r, ok := p.next(); ok {
				return r, nil
			}
			return backplane.Reply{}, ErrNoConnection
		}
		if nodes, err := h.nodes(ctx); err == nil {
			suspects = slices.Sorted(slices.Values(slices.DeleteFunc(nodes, func(id string) bool { return id == h.plane.NodeID() })))
		}
	}
}

// unansweredAtHolder is the error where the node of a connection has not answered.
func unansweredAtHolder(ctx context.Context, suspects []string) error {
	switch {
	case context.Cause(ctx) == ErrClosed:
		return ErrClosed
	case len(suspects) > 0:
		return &UnansweredError{suspects}
	default:
		return fmt.Errorf("%w: the node of the connection did not answer", backplane.ErrUnavailable)
	}
}

// publishToHolder publishes an operation on a connection that is not of this node. If
// nobody gets it there is no such connection, unless some node does not hear.
func (h *Hub) publishToHolder(ctx context.Context, o backplane.Operation) error {
	ch := backplane.Connection(o.Target)
	n, err := h.publishCounted(ctx, ch, o)
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

func (h *Hub) publishOperation(ctx context.Context, ch backplane.Channel, o backplane.Operation) error {
	_, err := h.publishCounted(ctx, ch, o)
	return err
}

func (h *Hub) publishCounted(ctx context.Context, ch backplane.Channel, o backplane.Operation) (subscribers int, err error) {
	if isKept(o) {
		return h.attachment.PublishKept(ctx, h.signed(ch, o), ch)
	}
	return h.attachment.PublishCounted(ctx, h.signed(ch, o), ch)
}

// signed returns the body of an operation that this node asks for.
func (h *Hub) signed(ch backplane.Channel, o backplane.Operation) []byte {
	o.Asker = h.plane.NodeID()
	return backplane.AppendOperation(nil, h.connections.Keys, h.address(ch), o)
}

// address is the whole name of a channel, which operations and replies are signed with.
func (h *Hub) address(ch backplane.Channel) backplane.Channel {
	return backplane.Channel(h.prefix) + ch
}

var _ backplane.NodeWatcher = receiver{}

// NodeLeft implements [backplane.NodeWatcher].
func (h receiver) NodeLeft(node string) { h.nodeGone(node) }

// NodeDied implements [backplane.NodeWatcher].
func (h receiver) NodeDied(node string) {
	h.nodeGone(node)
	h.tellOfDeath(node)
}

// nodeGone drops what the node has asked for, and waits for it no longer.
func (h *Hub) nodeGone(node string) {
	h.holdings.dropOf(node)
	h.operations.nodeGone(node)
}
