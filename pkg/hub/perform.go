package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// How many operations of others a node performs at a time, and how many wait for their
// turn beyond, in all and in bytes of what they carry. Of those for which there is no room
// the askers are told, for as many at a time; of more than that they hear by nobody
// answering.
const (
	maxOperating      = 1024
	maxOperationQueue = 16384
	maxOperationBytes = 16 << 20
	maxRefusals       = 16384
)

// errTooManyOperations is why an operation is not performed for which there is no room.
var errTooManyOperations = &referenceError{text: "too many operations at a time", is: backplane.ErrUnavailable}

// How long a node waits before it publishes again a reply that could not be published:
// at first, and at most. It ends with the operation's time.
const (
	firstReplyPause = 20 * time.Millisecond
	lastReplyPause  = time.Second
)

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

// A queuedOperation waits for its turn.
type queuedOperation struct {
	bytes int
	f     func()
}

// queue runs f in one of the goroutines for operations of others, when it is its turn. If
// there is no room it runs refuse there, before what waits; and neither if there is no
// room for that, or the hub is shut down.
func (o *operations) queue(bytes int, f, refuse func()) (queued bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch room := len(o.waiting) < maxOperationQueue && o.waitingBytes+bytes <= maxOperationBytes; {
	case o.closed:
		return false
	case room || len(o.waiting) == 0:
		o.waiting = append(o.waiting, queuedOperation{bytes, f})
		o.waitingBytes += bytes
		queued = true
	case len(o.refusals) < maxRefusals:
		o.refusals = append(o.refusals, refuse)
	}
	if o.performers < maxOperating {
		o.performers++
		o.performing.Go(o.performQueued)
	}
	return queued
}

// performQueued performs until nothing waits. Owner: the hub, whose Shutdown joins it.
func (o *operations) performQueued() {
	for f := o.nextQueued(); f != nil; f = o.nextQueued() {
		f()
	}
}

// nextQueued takes what is next. Nothing means that the goroutine must end.
func (o *operations) nextQueued() func() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.refusals) > 0 {
		f := o.refusals[0]
		o.refusals[0] = nil
		o.refusals = o.refusals[1:]
		return f
	}
	if len(o.waiting) == 0 {
		o.waiting, o.refusals = nil, nil
		o.performers--
		return nil
	}
	next := o.waiting[0]
	o.waiting[0] = queuedOperation{}
	o.waiting = o.waiting[1:]
	o.waitingBytes -= next.bytes
	return next.f
}

// close performs no more. What is being performed goes on: performing waits for it.
func (o *operations) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

// A task is an operation that has been received, and what it is for here.
type task struct {
	targets  []*connection
	joinings []*joining // one for each target, or none
	held     bool       // among the holdings, until it is dropped or taken
	err      error      // why it cannot be performed
}

// receiveOperation performs what another node, or this one, has asked for. The receive
// loop calls it, so the work is done elsewhere.
func (h *Hub) receiveOperation(o backplane.Operation) {
	if o.Kind == backplane.OpForget {
		h.holdings.drop(o.Earlier)
		return
	}
	t := h.prepare(o)
	until := time.Now().Add(h.operationTimeout)
	queued := h.operations.queue(bytesOf(o), func() {
		ctx, cancel := context.WithDeadline(h.ctx, until)
		defer cancel()
		if ctx.Err() != nil { // the turn has come too late
			h.giveUp(o, t)
			return
		}
		h.reply(ctx, o, h.apply(ctx, o, t))
	}, h.refusal(o, until))
	if !queued {
		h.giveUp(o, t)
	}
}

// giveUp undoes prepare for an operation that is not performed.
func (h *Hub) giveUp(o backplane.Operation, t task) {
	if t.held {
		h.holdings.drop(o.ID)
	}
	t.endJoins()
	h.logger.Warn("operation of another node not performed: too many at a time, or leaving", "hub", h.name)
}

// refusal tells who asks that there is no room. It keeps no more of the operation than that
// takes.
func (h *Hub) refusal(o backplane.Operation, until time.Time) func() {
	asked := backplane.Operation{ID: o.ID, Asker: o.Asker}
	return func() {
		ctx, cancel := context.WithDeadline(h.ctx, until)
		defer cancel()
		h.reply(ctx, asked, failed(errTooManyOperations))
	}
}

// bytesOf is how many bytes an operation keeps while it waits, roughly.
func bytesOf(o backplane.Operation) int {
	bytes := 512 + len(o.Target) + len(o.Group) + len(o.Reason)
	for _, e := range o.Encodings {
		bytes += len(e.Frame)
	}
	return bytes
}

// prepare begins what an operation asks for, in the order of arrival: so that a removal
// that comes next cancels joins, and what is to be forgotten is there to be.
func (h *Hub) prepare(o backplane.Operation) (t task) {
	if o.Kind == backplane.OpAddToGroup && o.Earlier != (backplane.OperationID{}) {
		begun, ok := h.holdings.take(o.Earlier)
		if !ok {
			return task{err: errors.New("the join that was begun is not known any more")}
		}
		return begun
	}
	t.targets = h.targets(o)
	switch o.Kind {
	case backplane.OpAddToGroup:
		t.beginJoins(o.Group)
	case backplane.OpBeginJoin:
		t.beginJoins(o.Group)
		begun := t
		if t.joinings, t.held = nil, h.holdings.hold(o, begun, begun.endJoins); !t.held {
			begun.endJoins()
			t.err = errHeldAlready
		}
	case backplane.OpAsk:
		if len(t.targets) > 0 {
			t.err = h.expectFor(o, t.targets[0])
			t.held = t.err == nil
		}
	}
	return t
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
		if o.Kind == backplane.OpClose { // first: a connection is there until it is registered
			targets = h.handshakes.ofUser(o.Target)
		}
		h.registry.eachMember(backplane.User(o.Target), add)
	case backplane.TargetGroup:
		h.registry.eachMember(backplane.Group(o.Target), add)
	}
	return targets
}

func (t *task) beginJoins(group string) {
	for _, c := range t.targets {
		t.joinings = append(t.joinings, c.beginJoin(group))
	}
}

// endJoins gives up joins that have been begun.
func (t task) endJoins() {
	for i, j := range t.joinings {
		t.targets[i].endJoin(j)
	}
}

// apply performs an operation that has been prepared, and says what came of it.
func (h *Hub) apply(ctx context.Context, o backplane.Operation, t task) backplane.Reply {
	switch {
	case t.err != nil:
		return failed(t.err)
	case o.Kind == backplane.OpKeep && h.holdings.keep(o):
		return backplane.Reply{Outcome: backplane.OutcomeDone}
	case len(t.targets) == 0:
		return backplane.Reply{Outcome: backplane.OutcomeNothing}
	case o.Kind == backplane.OpKeep:
		return failed(errors.New("what is to be kept is not known any more"))
	case o.Kind == backplane.OpAsk:
		return h.askFor(o, t.targets[0])
	}
	var errs []error
	for i, c := range t.targets {
		switch o.Kind {
		case backplane.OpExists, backplane.OpBeginJoin:
		case backplane.OpAddToGroup:
			err := c.joinGroup(ctx, t.joinings[i], expiryOf(o))
			if err != nil && !errors.Is(err, ErrNoConnection) {
				errs = append(errs, err)
			}
		case backplane.OpRemove:
			c.leaveGroup(o.Group)
		case backplane.OpRemoveFromAll:
			c.leaveAllGroups()
		case backplane.OpClose:
			c.end(closing{text: o.Reason, allowReconnect: o.AllowReconnect})
		default:
			errs = append(errs, fmt.Errorf("operation %d is not known here", o.Kind))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return failed(err)
	}
	return backplane.Reply{Outcome: backplane.OutcomeDone}
}

func failed(err error) backplane.Reply {
	return backplane.Reply{Outcome: backplane.OutcomeFailed, Error: err.Error()}
}

func expiryOf(o backplane.Operation) time.Time {
	if o.Expires == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(o.Expires))
}

// reply answers an operation. Where that fails it tries again until ctx ends: a reply
// that comes twice does no harm.
func (h *Hub) reply(ctx context.Context, o backplane.Operation, r backplane.Reply) {
	r.ID, r.Node = o.ID, h.plane.NodeID()
	ch := backplane.Node(o.Asker)
	body := backplane.AppendReply(nil, h.connections.Keys, h.address(ch), r)
	for pause := firstReplyPause; ; pause = min(2*pause, lastReplyPause) {
		err := h.attachment.Publish(ctx, body, ch)
		if err == nil {
			return
		}
		if errors.Is(err, backplane.ErrClosed) || !sleep(ctx, pause) {
			h.logger.Warn("operation of another node not answered", "hub", h.name, "error", err)
			return
		}
	}
}

// sleep reports whether d has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
