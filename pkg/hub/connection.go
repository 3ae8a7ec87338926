package hub

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// A connection is one client's session: handshake, messages, memberships, end.
//
// It ends in one place, end, whoever asks for it: the client, the application, a
// time-out, the reader that met nonsense, a writer that failed. What has to be undone
// is then undone by finish, once.
type connection struct {
	hub    *Hub
	link   *transport.Connection
	id     string
	user   string
	caller *Caller
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	opened time.Time

	out         outbound
	invocations invocations
	calls       calls
	waiting     budget // of the client's input

	// Owned by the reader (Receive and Disconnected).
	input []byte // received and not yet parsed: the beginning of a frame
	ready bool   // the handshake and OnConnected are done

	// The encoding that the client chose, an index into hub.protocols. Set by the
	// handshake, before the connection is registered; constant from then on.
	encoding int
	// Counts the client's messages, with stateful reconnect; nil without. Set as encoding.
	stateful *stateful

	// Read by the heartbeat.
	lastRead atomic.Int64 // when Receive last returned, unix nanoseconds
	reading  atomic.Bool  // Receive is running: the client is not silent but waiting
	pinged   atomic.Bool  // the client has sent a ping, and can be timed out from now on
	lastPing int64        // the heartbeat's own, unix nanoseconds

	mu          sync.Mutex
	ended       bool
	how         closing
	writeError  error // why the transport was given up, if a write failed
	moved       bool  // the registry has it no more: it is being handed over to another node
	joinless    bool  // it joins nothing, since it is being handed over
	suspended   bool  // it does not end, since it is being handed over: see postponed
	postponed   *closing
	shaken      bool // the handshake has been answered
	connecting  bool // OnConnected is running: the reader will start finish
	established bool // OnConnected succeeded, so OnDisconnected will follow
	registered  bool // with registry and backplane
	userMember  *member
	groups      map[string]*membership
	joinings    map[*joining]struct{}
}

// closing says how a connection ends.
type closing struct {
	err            error  // what OnDisconnected is told
	text           string // error of the Close message
	allowReconnect bool   // of the Close message
	handshakeError string // answers the handshake, in place of a Close message
	gone           bool   // there is nobody left to tell
	drop           bool   // what waits to be sent is not sent any more
}

// accept is the transport's [transport.Accept].
func (h *Hub) accept(link *transport.Connection, r *http.Request) transport.Session {
	user, err := h.identify(r, link.Identity())
	c := h.newConnection(link, user)
	h.metrics.connections.Inc()
	if err != nil || !h.handshakes.add(c) {
		c.end(closing{err: err})
	}
	return c
}

// identify returns the user identifier of who makes a request.
func (h *Hub) identify(r *http.Request, identity *auth.Identity) (user string, err error) {
	err = h.guard(func() error {
		user = h.userIdentifier(r, identity)
		return nil
	})
	return user, err
}

// newConnection returns one that is to end, whereupon finish is called.
func (h *Hub) newConnection(link *transport.Connection, user string) *connection {
	ctx, cancel := context.WithCancel(h.ctx)
	c := &connection{hub: h, link: link, id: link.ID(), user: user, ctx: ctx, cancel: cancel, opened: time.Now()}
	c.caller = &Caller{c: c}
	c.invocations.permits = h.parallel
	c.waiting.max = h.maxWaiting
	c.lastPing = c.opened.UnixNano()
	c.out = outbound{
		link: link.Carrier(), maxBytes: h.maxQueueBytes, maxFrames: h.maxQueueFrames,
		spawn: h.work.Go, failed: c.writeFailed, held: true,
	}
	h.work.Add(1) // finish takes it back
	return c
}

// end ends the connection, the first time that it is called. It does not wait.
func (c *connection) end(how closing) {
	c.mu.Lock()
	if c.suspended && c.postponed == nil {
		c.postponed = &how
	}
	if c.ended || c.suspended {
		c.mu.Unlock()
		return
	}
	c.ended, c.how = true, how
	last := c.lastFrame(how)
	connecting := c.connecting
	c.mu.Unlock()

	if c.stateful != nil {
		c.link.DisableReconnect() // first, so that no client comes back to something that is ending
	}
	c.cancel()
	for _, i := range c.invocations.close() {
		c.dropInvocation(i)
	}
	c.out.finish(last, how.drop)
	if !connecting {
		c.hub.work.Go(c.finish)
	}
}

// lastFrame encodes what the client is told at the end, if anything. It is called
// with mu held.
func (c *connection) lastFrame(how closing) []byte {
	switch {
	case how.gone:
		return nil
	case !c.shaken && how.handshakeError != "":
		return protocol.AppendHandshakeResponse(nil, how.handshakeError)
	case !c.shaken:
		return nil
	}
	return c.mustAppend(&protocol.Close{Error: how.text, AllowReconnect: how.allowReconnect})
}

// finish undoes what the connection was. It runs once, in a goroutine of its own
// (owner: the hub, which joins it), after end and not during OnConnected.
func (c *connection) finish() {
	defer c.hub.work.Done()
	c.hub.handshakes.remove(c)
	c.hub.results.abandon(c)
	if c.established {
		err := c.hub.apart(func() error { return c.disconnected(c.hub.ctx, c.how.err) })
		if err != nil {
			c.hub.logger.Error("OnDisconnected failed", "connection", c.id, "error", err)
		}
	}
	c.unregister()
	c.hub.metrics.connections.Dec()
	if c.how.err != nil {
		c.hub.logger.Debug("connection ended", "connection", c.id, "error", c.how.err)
	}
}

func (c *connection) guard(f func() error) error { return c.hub.guard(f) }

// fail ends the connection because of err, which the client may cure by coming back.
func (c *connection) fail(err error) {
	c.end(closing{err: err, text: c.hub.withDetails(textClosedWithError, err), allowReconnect: true})
}

// writeFailed is called by the outbound queue's writer, which then cuts the transport.
// What the client sent before is done all the same. The reader may be waiting for room,
// so the end does not wait for it to notice.
func (c *connection) writeFailed(err error) {
	c.mu.Lock()
	c.writeError = fmt.Errorf("write to client: %w", err)
	c.mu.Unlock()
	c.hub.work.Go(c.lose)
}

// lose ends a connection whose transport is gone. Who calls it first decides nothing:
// both tell the same.
func (c *connection) lose() {
	c.settle()
	c.mu.Lock()
	err := c.writeError
	c.mu.Unlock()
	c.end(closing{err: err, gone: true})
}

// tooSlow ends a connection whose queue is full, or whose client does not acknowledge
// what it is sent: err says which.
func (c *connection) tooSlow(err error) {
	c.hub.metrics.slowConsumers.Inc()
	c.hub.logger.Warn("connection closed: slow consumer", "hub", c.hub.name, "error", err, "interrupted", c.out.away())
	c.hub.logger.Debug("slow consumer", "connection", c.id)
	c.end(closing{err: err, text: c.hub.withDetails(textClosedWithError, err), allowReconnect: true, drop: true})
}

// send encodes a message for this connection alone and enqueues it. The error is that
// of a value that cannot be encoded; what cannot be delivered is dropped.
func (c *connection) send(m protocol.Message) error {
	_, err := c.sendHere(m)
	return err
}

// sendHere is send, and reports whether the connection is still this node's.
func (c *connection) sendHere(m protocol.Message) (here bool, err error) {
	return c.sendBy(c.out.spawn, m)
}

// sendBy is sendHere for a caller with a spawn of its own: see outbound.enqueueBy.
func (c *connection) sendBy(spawn func(func()), m protocol.Message) (here bool, err error) {
	var frame []byte
	err = c.guard(func() (err error) { // types may encode themselves
		frame, err = c.protocol().Append(nil, m)
		return err
	})
	if err != nil {
		return true, err
	}
	return c.enqueueBy(spawn, frame), nil
}

// enqueue is for callers that hold no lock of the registry. It reports whether the
// connection is still this node's.
func (c *connection) enqueue(frame []byte) (here bool) { return c.enqueueBy(c.out.spawn, frame) }

func (c *connection) enqueueBy(spawn func(func()), frame []byte) (here bool) {
	switch c.out.enqueueBy(spawn, frame) {
	case nil:
		c.hub.metrics.sent.Inc()
	case errSlowConsumer:
		c.tooSlow(errSlowConsumer)
	case errHandedOver:
		return false
	}
	return true
}

// hasMoved reports whether the connection is, or may be, another node's by now.
func (c *connection) hasMoved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

func (c *connection) protocol() protocol.Protocol { return c.hub.protocols[c.encoding] }
