package hub

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// Receive implements [transport.Session]: it takes bytes of the client's stream and
// handles every whole frame in them.
func (c *connection) Receive(p []byte) {
	c.reading.Store(true)
	if c.stateful != nil && !c.stateful.take(c.ctx) {
		return
	}
	if len(c.input) > 0 {
		c.input = append(c.input, p...)
		p = c.input
	}
	rest := p[c.consume(p):]
	switch {
	case c.ctx.Err() != nil || len(rest) == 0:
		c.input = nil
	default:
		c.input = append(c.input[:0], rest...) // rest may be the end of input itself
	}
	if c.stateful != nil { // since the handshake, perhaps, which took the turn
		c.stateful.giveBack()
	}
	c.lastRead.Store(time.Now().UnixNano())
	c.reading.Store(false)
}

// Disconnected implements [transport.Session].
func (c *connection) Disconnected() {
	switch {
	case c.ready && len(c.input) > 0:
		c.settle()
		c.fail(errConnectionEnded)
	case c.stateful != nil && c.out.away():
		c.settle()
		c.end(closing{err: errNotResumed, gone: true})
	default:
		c.lose()
	}
}

// consume handles the frames at the beginning of data and returns their length.
func (c *connection) consume(data []byte) (consumed int) {
	for c.ctx.Err() == nil && consumed < len(data) {
		var n int
		if !c.ready {
			n = c.handshake(data[consumed:])
		} else {
			n = c.next(data[consumed:])
		}
		if n == 0 {
			break
		}
		consumed += n
	}
	return consumed
}

// next handles one frame. It returns 0 if there is none, or if the connection ended.
func (c *connection) next(data []byte) int {
	m, n, err := c.protocol().Parse(data, c.hub.maxMessage)
	switch {
	case errors.Is(err, protocol.ErrIncomplete):
		return 0
	case err != nil:
		c.link.DisableReconnect()
		c.settle()
		c.fail(err)
		return 0
	}
	if c.stateful != nil && !c.stateful.count(m) {
		return n // it has come before, over another carrier
	}
	c.hub.metrics.received.Inc()
	c.handle(m, n)
	return n
}

// handshake looks for the handshake request and answers it (HubProtocol, "Overview").
// It returns 0 if the request is not complete, or if the connection ended.
func (c *connection) handshake(data []byte) int {
	limit := c.hub.maxMessage
	request, n, err := protocol.ParseHandshakeRequest(data, limit)
	switch {
	case errors.Is(err, protocol.ErrIncomplete):
		return 0
	case limit > 0 && bytes.IndexByte(data[:min(limit, len(data))], 0x1e) < 0:
		c.refuse(textHandshakeCancel, err)
		return 0
	case err != nil:
		text := textHandshakeFailed
		if c.hub.detailedErrors {
			text += " " + err.Error()
		}
		c.refuse(text, err)
		return 0
	}
	if text := c.choose(request); text != "" {
		c.refuse(text, errors.New(text))
		return 0
	}
	if err := c.hub.checkName("user identifier", c.user); err != nil {
		c.refuse(textHandshakeFailed, err)
		return 0
	}
	if c.connect() != nil {
		return 0
	}
	return n
}

// choose sets the encoding, or says why the request cannot be met.
func (c *connection) choose(request protocol.HandshakeRequest) (refusal string) {
	for i, p := range c.hub.protocols {
		if !strings.EqualFold(p.Name(), request.Protocol) {
			continue
		}
		if request.Version > protocol.MaxVersion {
			return "The server does not support version " + strconv.Itoa(request.Version) + " of the '" + request.Protocol + "' protocol."
		}
		if !c.link.Carries(p.TransferFormat()) {
			return "Cannot use the '" + p.Name() + "' protocol on the current transport. The transport does not support '" + p.TransferFormat().String() + "' transfer format."
		}
		c.encoding = i
		if request.Version >= statefulVersion && c.link.Stateful() {
			c.stateful = newStateful()
		}
		return ""
	}
	return "The protocol '" + request.Protocol + "' is not supported."
}

func (c *connection) refuse(text string, err error) {
	c.end(closing{err: err, handshakeError: text})
}

// connect makes the connection reachable, answers the handshake and runs OnConnected,
// in this order: when a client's start() has returned, whatever is sent to it or its
// user arrives. Nothing more is read from the client until OnConnected has returned.
func (c *connection) connect() error {
	if err := c.register(); err != nil {
		return err
	}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrNoConnection
	}
	c.shaken, c.connecting = true, true
	c.out.release(protocol.AppendHandshakeResponse(nil, ""), c.protocol().TransferFormat(), c.newUnacked())
	c.mu.Unlock()
	if c.stateful != nil {
		c.link.AllowReconnect()
	}
	c.hub.handshakes.remove(c)

	err := c.hub.apart(func() error { return c.connected(context.WithValue(c.ctx, connectingKey{}, true)) })

	c.mu.Lock()
	c.connecting = false
	c.established = err == nil
	ended := c.ended
	c.mu.Unlock()
	switch {
	case ended: // meanwhile; the one who ended it left the rest to this goroutine
		c.hub.work.Go(c.finish)
		return ErrNoConnection
	case err != nil:
		c.hub.logger.Error("OnConnected failed", "hub", c.hub.name, "error", err)
		c.end(closing{err: err, text: c.hub.withDetails(textClosedWithError, err)})
		return err
	}
	c.ready = true
	return nil
}

// handle acts on one message from the client. What the hub has no use for is ignored:
// an answer to nothing, an item of no stream, a cancellation of what has ended, unknown
// types, Ack and Sequence without stateful reconnect.
func (c *connection) handle(m protocol.Message, size int) {
	switch m := m.(type) {
	case *protocol.Invocation:
		c.dispatch(m, false, size)
	case *protocol.StreamInvocation:
		c.dispatch(&m.Invocation, true, size)
	case *protocol.StreamItem:
		c.receiveItem(m, size)
	case *protocol.Completion:
		c.receiveCompletion(m)
	case *protocol.CancelInvocation:
		c.cancelInvocation(m.InvocationID)
	case *protocol.Ping:
		c.pinged.Store(true)
	case *protocol.Ack:
		if c.stateful != nil {
			c.out.ack(m.SequenceID)
		}
	case *protocol.Sequence:
		if c.stateful != nil {
			if err := c.stateful.rewind(m.SequenceID); err != nil {
				c.fail(err)
			}
		}
	case *protocol.Close:
		var err error
		if m.Error != "" {
			err = &Error{Message: m.Error}
		}
		c.link.DisableReconnect()
		c.settle()
		c.end(closing{err: err})
	}
}

func failedToInvoke(target string) string {
	return "Failed to invoke '" + target + "' due to an error on the server."
}

func errorInvoking(target string) string {
	return "An unexpected error occurred invoking '" + target + "' on the server."
}
