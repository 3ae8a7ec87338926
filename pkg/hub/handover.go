package hub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// A connection with stateful reconnect is handed over when its node is drained, to a
// successor that goes on where this one stops:
//
//  1. The leaving node stops reading from the client and takes no more joins. What the
//     client invoked may end; what does not, and streams, and questions to the client,
//     end with an error.
//  2. prepare: the successor gets to know the connection, becomes a member of its
//     channels, and delivers nothing to it yet. Once its subscriptions are confirmed it
//     publishes fences: one in each partition that channels of the connection lie in, on
//     a channel to which both are subscribed.
//  3. The backplane has one order over all channels of a partition. What the leaving node
//     hears there before the fence it delivers, and what the successor hears after it,
//     that one does. What is asked of the connection by its id is fenced as its channel.
//  4. complete, after the last fence: the leaving node sends what it has left to send, what
//     the client has not acknowledged, the counters, and the groups that are left: the
//     successor keeps those that it has left too, so that a removal holds whichever of them
//     heard it.
//  5. The home record is moved, by compare-and-set.
//  6. admit: the successor lets the client come; the leaving node cuts the socket, without
//     a closing handshake, so that the client does come, and forgets the connection.
//
// Whatever fails up to the moving of the record leaves the connection where it is, and it
// is closed there with the advice to reconnect; the successor forgets it. OnDisconnected
// is called once, where the connection ends.

const (
	// handoverTime bounds the hand-over of one connection.
	handoverTime = 5 * time.Second
	// Of these, how long what the client has invoked may take.
	handoverWaiting = 2 * time.Second // until all of it runs
	handoverRunning = time.Second     // and then until it has ended
	// handoverAfterwards bounds what is done once the outcome is certain: telling the
	// successor.
	handoverAfterwards = 2 * time.Second
	// movedLife is the life of a record that is moved. The successor renews it.
	movedLife = time.Minute
	// successors is how many nodes are tried.
	successors = 3
)

var (
	errNoSuccessor = errors.New("no other node takes the connection")
	errBusy        = errors.New("what the client invoked has not run in time")
	errMoving      = fmt.Errorf("%w: the connection is being handed over", backplane.ErrUnavailable)
	errLeaving     = &Error{Message: "The server is leaving."} // what the client's invocations end with
)

// A departure is a connection's hand-over, on the node that it leaves.
type departure struct {
	hub    *Hub
	c      *connection
	id     backplane.OperationID
	to     peer.Node
	who    *auth.Identity // that the successor was told
	groups []groupState   // that it is told
	fenced chan struct{}  // closed by the last cut

	// What is published by the connection's id is the successor's, and so what this node
	// sends to it is to be published too.
	indirect atomic.Bool

	// Changed under the handovers' mu, by the receive loop alone, which may read it without.
	fences fences
	begun  bool // fences have been heard

	// Guarded by the handovers' mu; noted no more once fenced is closed.
	refused bool                // a close was asked for
	removed map[string]struct{} // groups that it was removed from
	nothing bool                // it was removed from all groups
}

// note takes heed of an operation that is performed at the same time: the export must
// not be ahead of it.
func (d *departure) note(o backplane.Operation) {
	if len(d.fences) == 0 || !d.isTargetOf(o) {
		return
	}
	switch o.Kind {
	case backplane.OpClose:
		d.refused = true
	case backplane.OpRemoveFromAll:
		d.nothing = true
	case backplane.OpRemove:
		if d.removed == nil {
			d.removed = make(map[string]struct{})
		}
		d.removed[o.Group] = struct{}{}
	}
}

func (d *departure) isTargetOf(o backplane.Operation) bool {
	switch o.TargetKind {
	case backplane.TargetConnection:
		return d.c.id == o.Target
	case backplane.TargetUser:
		return d.c.user == o.Target
	case backplane.TargetGroup:
		d.c.mu.Lock()
		defer d.c.mu.Unlock()
		return d.c.groups[o.Target] != nil
	}
	return false
}

// cut is where the connection ends to be this node's, as far as a partition goes: at the
// fence that was heard on the channel. The receive loop calls it.
func (d *departure) cut(ch backplane.Channel) {
	if !d.fences.heard(d.hub.attachment.Partition(ch)) {
		return
	}
	d.begun = true
	if d.isCutFrom(backplane.Connection(d.c.id)) {
		d.indirect.Store(true)
	}
	if len(d.fences) == 0 {
		d.c.delist()
		d.c.out.freeze()
		close(d.fenced)
	}
}

// isCutFrom reports whether what comes on the channel is the successor's. It is called with
// the handovers' mu held, or by the receive loop.
func (d *departure) isCutFrom(ch backplane.Channel) bool {
	return !d.fences.unheard(d.hub.attachment.Partition(ch))
}

// delist takes a connection out of the registry. Its channels stay subscribed until
// unregister.
func (c *connection) delist() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = true
	c.hub.registry.remove(c)
	if c.userMember != nil {
		c.hub.registry.leave(c.userMember)
	}
	for _, m := range c.groups {
		c.hub.registry.leave(m.member)
	}
}

// handOver hands the connection over to one of the nodes, or closes it, and reports
// which. It returns when that is done, within handoverTime and what ending it takes.
func (h *Hub) handOver(ctx context.Context, c *connection, nodes []backplane.NodeState) bool {
	ctx, cancel := context.WithTimeout(ctx, handoverTime)
	defer cancel()
	d := &departure{hub: h, c: c, fenced: make(chan struct{})}
	err := d.do(ctx, nodes)
	if err == nil {
		h.metrics.handedOver.Inc()
		return true
	}
	h.metrics.notHandedOver.Inc()
	h.logger.Debug("connection not handed over", "hub", h.name, "connection", c.id, "error", err)
	c.out.thaw()
	c.end(closing{allowReconnect: true})
	return false
}

func (d *departure) do(ctx context.Context, nodes []backplane.NodeState) (err error) {
	c, h := d.c, d.hub
	if len(nodes) == 0 {
		return errNoSuccessor
	}
	if err := c.still(ctx); err != nil {
		return err
	}
	handover, epoch := c.link.HandOver()
	if epoch == 0 {
		return errors.New("the connection has no home record")
	}
	d.who, d.groups = handover.Identity, c.groupStates(nil)
	defer func() {
		if err != nil {
			c.link.TakeBack(epoch)
		}
	}()
	d.fences = h.fencesOf(c.id, c.user, d.groups)
	channels := d.fences.channels()
	h.attachment.Subscribe(channels...) // also if the connection leaves a group meanwhile
	defer h.attachment.Unsubscribe(channels...)
	c.stateful.departure.Store(d)
	h.handovers.depart(d)
	left := false
	defer func() { h.handovers.departed(d, left) }()

	if err := d.prepare(ctx, handover, nodes); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.drop()
		}
	}()
	select {
	case <-d.fenced:
	case <-c.ctx.Done():
		return ErrNoConnection
	case <-ctx.Done():
		return fmt.Errorf("wait for the fences: %w", ctx.Err())
	}
	if err := d.complete(ctx); err != nil {
		return err
	}
	if err := c.keepFromEnding(); err != nil {
		return err
	}
	if err := d.move(ctx, epoch); err != nil {
		c.letEnd()
		return err
	}
	left = true
	h.tell(d.to, callAdmit, &admission{handoverID: *d.header(), Epoch: epoch + 1})
	c.leave()
	return nil
}

// prepare finds a successor.
func (d *departure) prepare(ctx context.Context, handover transport.Handover, nodes []backplane.NodeState) error {
	c := d.c
	p := &preparation{
		User: []byte(c.user), Subject: []byte(d.who.Subject), Claims: d.who.Claims,
		Authenticated: d.who.Authenticated, Expires: d.who.Expires,
		CloseOnExpiry: handover.CloseOnExpiry, Spent: handover.Spent, Opened: c.opened,
		Protocol: c.protocol().Name(), Groups: d.groups,
	}
	first := rand.IntN(len(nodes))
	errs := []error{errNoSuccessor}
	for i := range min(len(nodes), successors) {
		if !d.hub.handovers.tryAgain(d) || ctx.Err() != nil {
			break // cut by one that has been told to drop it
		}
		p.handoverID = *d.header()
		body, err := encodeHandover(p)
		if err != nil {
			return err
		}
		n := nodes[(first+i)%len(nodes)]
		d.to = peer.Node{ID: n.ID, Address: n.Address}
		_, err = d.hub.peers.Call(ctx, d.to, d.hub.callName(callPrepare), body)
		if err == nil {
			return nil
		}
		if !errors.Is(err, peer.ErrRefused) { // it may have taken it
			d.drop()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// complete sends the successor what it is to go on from. It is called after the fences.
func (d *departure) complete(ctx context.Context) error {
	c := d.c
	if d.refused {
		return ErrNoConnection
	}
	if c.link.Identity() != d.who {
		return errors.New("the client's credentials were renewed meanwhile")
	}
	s := &completion{handoverID: *d.header(), Received: c.stateful.received.Load(), Pinged: c.pinged.Load(), Groups: c.groupStates(d)}
	s.Acked, s.Sent, s.Waiting = c.out.state()
	body, err := encodeHandover(s)
	if err != nil {
		return err
	}
	_, err = d.hub.peers.Call(ctx, d.to, d.hub.callName(callComplete), body)
	return err
}

// move makes the successor the connection's home.
func (d *departure) move(ctx context.Context, epoch uint64) error {
	homes := d.hub.attachment.Homes()
	moved, err := homes.Move(ctx, d.c.id, epoch, d.to.ID, movedLife)
	if err != nil { // it may have been all the same
		ctx, cancel := context.WithTimeout(d.hub.ctx, handoverAfterwards)
		defer cancel()
		home, found, located := homes.Locate(ctx, d.c.id)
		moved = located == nil && found && home.Node == d.to.ID && home.Epoch == epoch+1
		err = errors.Join(err, located)
	}
	if !moved {
		return fmt.Errorf("move the home record: %w", errors.Join(err, errors.New("it is not this node's any more")))
	}
	return nil
}

// drop has the node forget the connection. The client does not wait for that.
func (d *departure) drop() {
	to, id := d.to, d.header()
	d.hub.operations.perform(math.MaxInt, func() { d.hub.tell(to, callDrop, id) }) // one for each that was tried
}

// tell makes a call whose outcome changes nothing any more. It is made again if it may
// not have been heard.
func (h *Hub) tell(to peer.Node, name string, call any) {
	body, err := encodeHandover(call)
	if err != nil {
		panic("hand-over: " + err.Error()) // numbers and strings only
	}
	ctx, cancel := context.WithTimeout(h.ctx, handoverAfterwards)
	defer cancel()
	for pause := firstReplyPause; ; pause *= 2 {
		_, err := h.peers.Call(ctx, to, h.callName(name), body)
		if err == nil || errors.Is(err, peer.ErrRefused) || errors.Is(err, peer.ErrReplaced) || !sleep(ctx, pause) {
			return
		}
	}
}

func (d *departure) header() *handoverID {
	return &handoverID{Version: handoverVersion, Handover: d.id, Connection: d.c.id}
}

// callName is the name of a hub's call: several hubs of one node share its peers.
func (h *Hub) callName(call string) string { return "handover/" + call + "/" + h.prefix + h.name }

// still stops what the client does: nothing more is read from it, what it has invoked
// ends, or is ended, and from then on it joins nothing.
func (c *connection) still(ctx context.Context) error {
	if !c.stateful.take(ctx) { // for good: Receive then waits for the connection's end
		return errBusy
	}
	if !c.ready {
		return errors.New("OnConnected has not returned")
	}
	if !c.settleWithin(handoverWaiting, handoverRunning) {
		return errBusy
	}
	c.mu.Lock()
	c.joinless = true
	c.mu.Unlock()
	c.failInvocations(errLeaving)
	c.hub.results.abandon(c)
	return nil
}

// groupStates returns the memberships that somebody may have been told of, those aside
// of which an operation that is being performed removes the connection.
func (c *connection) groupStates(noted *departure) []groupState {
	c.mu.Lock()
	defer c.mu.Unlock()
	var states []groupState
	for name, m := range c.groups {
		if !m.confirmed {
			continue
		}
		if noted != nil {
			if _, removed := noted.removed[name]; removed || noted.nothing {
				continue
			}
		}
		states = append(states, groupState{Name: []byte(name), Expires: m.expires})
	}
	return states
}

// keepFromEnding makes the connection's end wait for letEnd, or for leave, which is one.
func (c *connection) keepFromEnding() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return ErrNoConnection
	}
	c.suspended = true
	return nil
}

// letEnd undoes keepFromEnding.
func (c *connection) letEnd() {
	c.mu.Lock()
	c.suspended = false
	how := c.postponed
	c.mu.Unlock()
	if how != nil {
		c.end(*how)
	}
}

// leave forgets the connection, which is another node's now.
func (c *connection) leave() {
	c.link.Release()
	c.out.abandon()
	c.mu.Lock()
	c.suspended, c.established = false, false // so that OnDisconnected is left to the other node
	c.mu.Unlock()
	c.end(closing{gone: true})
}

// settleWithin waits for what the client has invoked, streams aside, and reports whether
// all of it has begun.
func (c *connection) settleWithin(waiting, running time.Duration) bool {
	c.awaitInvocations(waiting, running)
	left, _ := c.invocations.progress()
	return left == nil
}

// failInvocations answers what still runs, and ends its context.
func (c *connection) failInvocations(err error) {
	c.calls.mu.Lock()
	var running []*invocation
	for _, i := range c.calls.invocations {
		running = append(running, i)
	}
	c.calls.mu.Unlock()
	for _, i := range running {
		if !i.answered.Swap(true) {
			c.send(&protocol.Completion{InvocationID: i.id, Error: c.hub.withDetails(errorInvoking(i.method.name), err)})
		}
		i.ctx.end()
	}
}
