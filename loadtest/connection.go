package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A connection is one client's connection to a hub. Sending may be done by several
// goroutines; what arrives is handled by one at a time: first by whoever opens the
// connection, then by its reader.
type connection struct {
	node     int
	protocol protocol.Protocol
	carrier  carrier
	handle   func(protocol.Message) // gets what is not the connection's own business

	heard atomic.Int64 // when the last bytes came, in Unix nanoseconds

	// Whose turn it is to receive alone.
	shaken bool   // the server has answered the handshake
	rest   []byte // the beginning of a frame whose end has not come; nil if none

	sending sync.Mutex // held while something is sent
	frame   []byte     // guarded by sending

	ended  atomic.Bool
	ending sync.Once
	cause  error // written by the first end; to be read after an end only
}

// joinID is the invocation id of the invocation that opening a connection may end
// with. No other has it.
const joinID = "join"

// maxFrame bounds a hub message from the server, in bytes.
const maxFrame = 1 << 20

// open shakes hands, invokes join if there is one, and returns when the server has
// completed it. Meanwhile other messages go to handle already. When ctx ends first it
// fails. After an error the carrier is closed.
func (c *connection) open(ctx context.Context, join *protocol.Invocation) (err error) {
	stop := context.AfterFunc(ctx, func() { c.end(context.Cause(ctx)) })
	defer func() {
		if !stop() && err == nil { // the carrier is being closed
			err = context.Cause(ctx)
		}
		if err != nil {
			c.end(err)
			err = c.cause
		}
	}()
	request := protocol.HandshakeRequest{Protocol: c.protocol.Name(), Version: 1}
	if err := c.write(protocol.AppendHandshakeRequest(nil, request)); err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	for !c.shaken {
		if err := c.receive(c.handle); err != nil {
			return fmt.Errorf("shake hands: %w", err)
		}
	}
	if join == nil {
		return nil
	}
	if err := c.join(join); err != nil {
		return fmt.Errorf("%s: %w", join.Target, err)
	}
	return nil
}

func (c *connection) join(m *protocol.Invocation) error {
	m.InvocationID = joinID
	if err := c.send(m); err != nil {
		return err
	}
	var completion *protocol.Completion
	for completion == nil {
		err := c.receive(func(m protocol.Message) {
			if done, ok := m.(*protocol.Completion); ok && done.InvocationID == joinID {
				completion = done
				return
			}
			c.handle(m)
		})
		if err != nil {
			return err
		}
	}
	if completion.HasError {
		return errors.New(completion.Error)
	}
	return nil
}

// read handles what arrives until the connection ends, and says why it did.
func (c *connection) read() error {
	for {
		if err := c.receive(c.handle); err != nil {
			c.end(err)
			return c.cause
		}
	}
}

// receive handles what the next message of the transport holds.
func (c *connection) receive(handle func(protocol.Message)) error {
	return c.carrier.receive(func(data []byte) error {
		c.heard.Store(time.Now().UnixNano())
		return c.take(data, handle)
	})
}

// take handles the frames that are whole and keeps the rest. Frames need not match
// the messages of the transport (HubProtocol, "Overview").
func (c *connection) take(data []byte, handle func(protocol.Message)) error {
	if c.rest != nil {
		data = append(c.rest, data...)
		c.rest = nil
	}
	for len(data) > 0 {
		n, err := c.takeFrame(data, handle)
		switch {
		case errors.Is(err, protocol.ErrIncomplete):
			c.rest = append([]byte(nil), data...)
			return nil
		case err != nil:
			return err
		}
		data = data[n:]
	}
	return nil
}

func (c *connection) takeFrame(data []byte, handle func(protocol.Message)) (n int, err error) {
	if !c.shaken {
		refusal, n, err := protocol.ParseHandshakeResponse(data, maxFrame)
		if err == nil && refusal != "" {
			err = errors.New(refusal)
		}
		c.shaken = err == nil
		return n, err
	}
	m, n, err := c.protocol.Parse(data, maxFrame)
	if err != nil {
		return 0, err
	}
	switch m := m.(type) {
	case *protocol.Ping:
	case *protocol.Close:
		if m.Error != "" {
			return 0, fmt.Errorf("closed by the server: %s", m.Error)
		}
		return 0, errors.New("closed by the server")
	default:
		handle(m)
	}
	return n, nil
}

// send sends the message. An error ends the connection.
func (c *connection) send(m protocol.Message) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	frame, err := c.protocol.Append(c.frame[:0], m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	c.frame = frame
	return c.sendLocked(frame)
}

// write sends a frame that is encoded already. An error ends the connection.
func (c *connection) write(frame []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.sendLocked(frame)
}

// ping sends the frame, which is a ping, unless something else is just being sent,
// which will do as well.
func (c *connection) ping(frame []byte) {
	if c.sending.TryLock() {
		defer c.sending.Unlock()
		_ = c.sendLocked(frame) // the reader reports the end of the connection
	}
}

func (c *connection) sendLocked(frame []byte) error {
	if err := c.carrier.send(frame); err != nil {
		c.end(fmt.Errorf("send: %w", err))
		return c.cause
	}
	return nil
}

// silentFor says for how long nothing has come.
func (c *connection) silentFor(now time.Time) time.Duration {
	return time.Duration(now.UnixNano() - c.heard.Load())
}

// end closes the connection, which ends its reader. The first call's error is why.
func (c *connection) end(cause error) { c.endBy(cause, time.Now().Add(closeTimeout)) }

func (c *connection) endBy(cause error, deadline time.Time) {
	c.ending.Do(func() {
		c.cause = cause
		c.ended.Store(true)
		c.carrier.close(deadline)
	})
}

// closeTimeout is how long the server may take to hear that a connection is over.
const closeTimeout = 2 * time.Second
