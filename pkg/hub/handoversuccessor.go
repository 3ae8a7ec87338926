package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/transport"
)

const (
	// arrivalTime is how long a connection is held in readiness: longer than its hand-over
	// may take.
	arrivalTime = 2 * handoverTime
	// arrivalLook is how often a node that knows all but whether the home record has been
	// moved looks for itself.
	arrivalLook = time.Second
)

var errNoArrival = errors.New("no such hand-over")

// An arrival is a connection's hand-over, on the node that it comes to.
type arrival struct {
	hub    *Hub
	c      *connection
	id     backplane.OperationID
	opened chan struct{} // closed when the last fence has been heard
	over   chan struct{} // closed when the connection has been admitted or dropped

	// Guarded by the handovers' mu.
	completed bool
	later     []backplane.Operation // asked of the connection since the fence

	taken taken
}

// taken is what has arrived for a connection since the fences, until it is known which
// groups it is still in. Its mu may be taken under the handovers' and the locks of the
// registry.
type taken struct {
	mu     sync.Mutex
	fences fences
	bytes  int
	frames []takenFrame
}

type takenFrame struct {
	channel backplane.Channel
	frame   []byte
}

// open is where the connection begins to be this node's, as far as a partition goes: at the
// fence that was heard on the channel. The receive loop calls it.
func (a *arrival) open(ch backplane.Channel) {
	a.taken.mu.Lock()
	defer a.taken.mu.Unlock()
	if a.taken.fences.heard(a.hub.attachment.Partition(ch)) && len(a.taken.fences) == 0 {
		close(a.opened)
	}
}

// isOpenTo reports whether what comes on the channel is this node's.
func (a *arrival) isOpenTo(ch backplane.Channel) bool {
	a.taken.mu.Lock()
	defer a.taken.mu.Unlock()
	return !a.taken.fences.unheard(a.hub.attachment.Partition(ch))
}

// take puts a frame that has arrived on a channel into the connection's queue, or keeps
// it for that. The errors are those of outbound.enqueue. The receive loop calls it.
func (c *connection) take(ch backplane.Channel, frame []byte) error {
	if c.stateful != nil {
		if d := c.stateful.departure.Load(); d != nil && d.isCutFrom(ch) {
			return errHandedOver
		}
		if a := c.stateful.arrival.Load(); a != nil {
			if err, taken := a.take(ch, frame); taken {
				return err
			}
		}
	}
	return c.out.enqueue(frame)
}

// take reports whether the frame was kept, or is not for this node, or is too much.
func (a *arrival) take(ch backplane.Channel, frame []byte) (err error, taken bool) {
	t := &a.taken
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case a.c.stateful.arrival.Load() != a:
		return nil, false
	case t.fences.unheard(a.hub.attachment.Partition(ch)):
		return errOutboundClosed, true
	case len(t.frames) > 0 && (t.bytes+len(frame) > a.hub.maxQueueBytes || len(t.frames) >= a.hub.maxQueueFrames):
		return errSlowConsumer, true
	}
	t.bytes += len(frame)
	t.frames = append(t.frames, takenFrame{ch, frame})
	return nil, true
}

// pass puts what has been kept into the connection's queue, but for what came from groups
// that it was removed from before, and lets what comes go there directly.
func (a *arrival) pass(u *unacked, waiting [][]byte, removed map[backplane.Channel]bool) {
	t := &a.taken
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.frames {
		if !removed[f.channel] {
			waiting = append(waiting, f.frame)
		}
	}
	t.frames = nil
	a.c.out.goOnFrom(u, waiting, a.c.protocol().TransferFormat())
	a.c.stateful.arrival.Store(nil)
}

// answerHandovers serves the calls of nodes that leave.
func (h *Hub) answerHandovers() {
	h.peers.Handle(h.callName(callPrepare), h.answerPrepare)
	h.peers.Handle(h.callName(callComplete), h.answerComplete)
	h.peers.Handle(h.callName(callAdmit), h.answerAdmit)
	h.peers.Handle(h.callName(callDrop), h.answerDrop)
}

// refuseHandovers ends that, and drops connections that have not been admitted.
func (h *Hub) refuseHandovers() {
	for _, call := range []string{callPrepare, callComplete, callAdmit, callDrop} {
		h.peers.Handle(h.callName(call), nil)
	}
	for _, a := range h.handovers.close() {
		a.drop()
	}
}

// answerPrepare takes a connection in readiness, and publishes the fences.
func (h *Hub) answerPrepare(ctx context.Context, _ string, body []byte) ([]byte, error) {
	var p preparation
	if err := decodeHandover(body, &p); err != nil {
		return nil, err
	}
	encoding, err := encodingNamed(h.protocols, p.Protocol)
	if err != nil {
		return nil, err
	}
	if err := h.plane.Healthy(); err != nil {
		return nil, fmt.Errorf("this node does not hear: %w", err)
	}
	a := &arrival{hub: h, id: p.Handover, opened: make(chan struct{}), over: make(chan struct{})}
	a.taken.fences = h.fencesOf(p.Connection, string(p.User), p.Groups)
	channels := a.taken.fences.channels()
	_, err = h.connections.Adopt(p.handover(), func(link *transport.Connection) transport.Session {
		a.c = h.newConnection(link, string(p.User))
		a.c.standBy(a, encoding, p.Opened)
		return a.c
	})
	if err != nil {
		return nil, err
	}
	subscribed := h.attachment.Subscribe(channels...) // also if the connection leaves a group meanwhile
	h.work.Go(func() {
		defer h.attachment.Unsubscribe(channels...)
		a.supervise()
	})
	if !h.handovers.arrive(a) {
		close(a.over)
		a.forget()
		return nil, errors.New("too many connections are being handed over")
	}
	err = a.c.enlist(ctx, p.Groups)
	if err == nil {
		err = subscribed(ctx)
	}
	if err == nil {
		err = a.publishFences(ctx, channels)
	}
	if err != nil {
		a.drop()
		return nil, err
	}
	return nil, nil
}

// publishFences publishes the fences at the same time, so that little is kept between the
// first and the last. Their goroutines, one for each partition, end when it returns.
func (a *arrival) publishFences(ctx context.Context, channels []backplane.Channel) error {
	fence := backplane.Operation{ID: a.id, Kind: backplane.OpFence, TargetKind: backplane.TargetConnection, Target: a.c.id}
	errs := make([]error, len(channels))
	var publishing sync.WaitGroup
	for i, ch := range channels {
		publishing.Go(func() { errs[i] = a.hub.publishOperation(ctx, ch, fence) })
	}
	publishing.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("publish fences: %w", err)
	}
	return nil
}

// answerComplete takes what the connection goes on from.
func (h *Hub) answerComplete(ctx context.Context, _ string, body []byte) ([]byte, error) {
	var s completion
	if err := decodeHandover(body, &s); err != nil {
		return nil, err
	}
	a := h.handovers.arrival(s.handoverID)
	if a == nil {
		return nil, errNoArrival
	}
	select {
	case <-a.opened:
	case <-a.over:
		return nil, errNoArrival
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the fences: %w", ctx.Err())
	}
	return nil, a.complete(&s)
}

func (a *arrival) complete(s *completion) error {
	u, err := s.unacked()
	if err != nil {
		return err
	}
	u.max, u.pauses = a.hub.maxUnacked, a.hub.metrics.ackPauses
	a.hub.handovers.mu.Lock()
	defer a.hub.handovers.mu.Unlock()
	if a.completed || a.hub.handovers.arriving[a.c.id] != a {
		return errNoArrival
	}
	removed, err := a.c.goOnFrom(s)
	if err != nil {
		return err
	}
	a.pass(u, s.Waiting, removed)
	a.completed = true
	return nil
}

// answerAdmit lets the client come.
func (h *Hub) answerAdmit(_ context.Context, _ string, body []byte) ([]byte, error) {
	var m admission
	if err := decodeHandover(body, &m); err != nil {
		return nil, err
	}
	a := h.handovers.arrival(m.handoverID)
	if a == nil || !a.isComplete() {
		return nil, errNoArrival
	}
	a.admit(m.Epoch)
	return nil, nil
}

// answerDrop forgets a connection whose hand-over has failed.
func (h *Hub) answerDrop(_ context.Context, _ string, body []byte) ([]byte, error) {
	var id handoverID
	if err := decodeHandover(body, &id); err != nil {
		return nil, err
	}
	if a := h.handovers.arrival(id); a != nil {
		a.drop()
	}
	return nil, nil
}

func (a *arrival) isComplete() bool {
	a.hub.handovers.mu.Lock()
	defer a.hub.handovers.mu.Unlock()
	return a.completed
}

// admit makes the connection one of this node's like any other. The client is away, and
// waited for.
func (a *arrival) admit(epoch uint64) {
	c, h := a.c, a.hub
	admitted := h.handovers.arrived(a, func(later []backplane.Operation) {
		close(a.over)
		h.metrics.connections.Inc()
		c.mu.Lock()
		c.established, c.joinless = true, false
		h.registry.add(c)
		c.mu.Unlock()
		for _, o := range later {
			h.receiveOperation(o)
		}
	})
	if !admitted {
		return
	}
	h.metrics.takenOver.Inc()
	h.work.Go(func() { a.begin(epoch) })
}

// begin lets the client come, once what it does has its effects in order. Owner: the hub,
// which joins it; it ends when sends need no detour, or with the connection.
func (a *arrival) begin(epoch uint64) {
	c := a.c
	direct := c.endDetour()
	c.link.Admit(epoch)
	c.letEnd()
	for !direct && sleep(c.ctx, detourTime) {
		direct = c.endDetour()
	}
}

// drop forgets the connection, which has not been admitted.
func (a *arrival) drop() {
	if a.hub.handovers.arrived(a, func([]backplane.Operation) { close(a.over) }) {
		a.forget()
	}
}

func (a *arrival) forget() {
	a.hub.metrics.connections.Inc() // which finish takes back
	a.c.leave()
}

// supervise ends an arrival of which nothing more is heard: where all but the admission
// has come, the home record tells. Owner: the hub, which joins it; it ends with the
// arrival, after arrivalTime at the latest.
func (a *arrival) supervise() {
	look := time.NewTicker(arrivalLook)
	defer look.Stop()
	end := time.NewTimer(arrivalTime)
	defer end.Stop()
	for {
		select {
		case <-a.over:
			return
		case <-end.C:
			a.drop()
			return
		case <-a.hub.ctx.Done():
			a.drop()
			return
		case <-look.C:
			if a.isComplete() {
				a.look()
			}
		}
	}
}

func (a *arrival) look() {
	ctx, cancel := context.WithTimeout(a.hub.ctx, arrivalLook)
	defer cancel()
	home, found, err := a.hub.attachment.Homes().Locate(ctx, a.c.id)
	switch {
	case err != nil || !found:
	case home.Node == a.hub.plane.NodeID():
		a.admit(home.Epoch)
	case home.Ended():
		a.drop()
	}
}

// standBy makes a new connection one that is known to the client already, and to this
// node not yet.
func (c *connection) standBy(a *arrival, encoding int, opened time.Time) {
	c.encoding, c.stateful, c.opened = encoding, newStateful(), opened
	c.stateful.giveBack()
	c.stateful.arrival.Store(a)
	c.stateful.detour.Store(&detour{over: make(chan struct{})})
	c.ready = true
	c.mu.Lock()
	c.shaken, c.suspended, c.joinless = true, true, true
	c.mu.Unlock()
}

// enlist makes the connection a member of its channels, and returns when they are
// subscribed. It does not become known by its id: what is asked of it by that is the
// leaving node's.
func (c *connection) enlist(ctx context.Context, groups []groupState) error {
	channels := []backplane.Channel{backplane.Connection(c.id)}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrNoConnection
	}
	c.registered = true
	if c.user != "" {
		channels = append(channels, backplane.User(c.user))
		c.userMember = c.hub.registry.join(backplane.User(c.user), c)
	}
	c.groups = make(map[string]*membership, len(groups))
	for _, g := range groups {
		name := string(g.Name)
		if c.groups[name] != nil {
			continue
		}
		ch := backplane.Group(name)
		m := &membership{member: c.hub.registry.join(ch, c), confirmed: true, expires: g.Expires}
		c.groups[name] = m
		c.expire(name, m)
		channels = append(channels, ch)
	}
	c.hub.attachment.Subscribe(channels...)         // what the connection holds, until it is removed
	wait := c.hub.attachment.Subscribe(channels...) // what this waits for, meanwhile or not
	c.mu.Unlock()
	defer c.hub.attachment.Unsubscribe(channels...)
	if err := wait(ctx); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// goOnFrom takes what the leaving node says of the connection last, and returns the
// channels of the groups that it has been removed from there.
func (c *connection) goOnFrom(s *completion) (removed map[backplane.Channel]bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.postponed != nil {
		return nil, ErrNoConnection
	}
	left := make(map[string]bool, len(s.Groups))
	for _, g := range s.Groups {
		left[string(g.Name)] = true
	}
	removed = make(map[backplane.Channel]bool)
	for name, m := range c.groups {
		if !left[name] {
			removed[m.channel] = true
			c.dropGroup(name, m)
		}
	}
	c.stateful.next = s.Received + 1
	c.stateful.received.Store(s.Received)
	c.pinged.Store(s.Pinged)
	return removed, nil
}
