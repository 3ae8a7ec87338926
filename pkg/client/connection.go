package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

const (
	// outgoingFrames is how many encoded messages may wait for the writer.
	outgoingFrames = 16
	// joinedBytes is how much may go into one message of the WebSocket: enough to save
	// system calls, little enough that the server sees progress.
	joinedBytes = 64 << 10
	// closeTimeout is how long what was sent before Close may take to go out, and the
	// server to close its side.
	closeTimeout = 5 * time.Second
)

// A connection is one connection to the hub, from its handshake to its end.
type connection struct {
	client   *Client
	socket   *webSocket
	id       string      // empty if the server was not asked for it
	unread   []byte      // what came behind the handshake; of the reading goroutine
	outgoing chan []byte // frames for the writer; never closed

	ctx    context.Context // ends with the connection; its cause says why
	cancel context.CancelCauseFunc

	mu    sync.Mutex
	calls map[string]*call // that wait for something, by id; nil once the connection has ended
}

// encodeError is a message that cannot be written. It does not harm the connection.
type encodeError struct{ err error }

func (e *encodeError) Error() string { return "encode " + e.err.Error() }
func (e *encodeError) Unwrap() error { return e.err }

// serve reads and writes until the connection has ended, and returns why it has.
func (c *connection) serve() error {
	var writer sync.WaitGroup
	writer.Go(c.write)
	c.end(c.read())
	c.socket.abort()
	writer.Wait()
	return context.Cause(c.ctx)
}

// end makes the connection refuse and fail all calls. The first reason counts. Whoever
// calls it sees to it that the reader returns.
func (c *connection) end(reason error) {
	c.mu.Lock()
	calls := c.calls
	c.calls = nil
	c.cancel(reason)
	c.mu.Unlock()
	for _, call := range calls {
		call.answers.push(answer{err: c.lost()})
	}
}

// lost is the error of calls that the end of the connection left without an answer.
func (c *connection) lost() error {
	return fmt.Errorf("%w: %w", ErrConnectionLost, context.Cause(c.ctx))
}

// unsent is the error of calls for which the connection ended too early.
func (c *connection) unsent() error {
	if errors.Is(context.Cause(c.ctx), ErrClosed) {
		return ErrClosed
	}
	return ErrNotConnected
}

// spawn starts a goroutine on behalf of a call. It must heed the connection's end. Once
// that has come, spawn does nothing and reports false.
func (c *connection) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		return false
	}
	c.client.work.Go(f) // under mu, so never after the client began to wait
	return true
}

// send hands a message to the writer, or returns why it did not: an [*encodeError], the
// context's error, [ErrNotConnected] or [ErrClosed].
func (c *connection) send(ctx context.Context, m protocol.Message) error {
	frame, err := c.client.protocol.Append(nil, m)
	if err != nil {
		return &encodeError{err}
	}
	return c.queueFrame(ctx, frame)
}

func (c *connection) queueFrame(ctx context.Context, frame []byte) error {
	// A select takes any case that is ready.
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.ctx.Err() != nil {
		return c.unsent()
	}
	select {
	case c.outgoing <- frame:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.ctx.Done():
		return c.unsent()
	}
}

// sendSoon sends a message, which must have no values in it, without waiting for a server
// that does not read.
func (c *connection) sendSoon(m protocol.Message) {
	if c.ctx.Err() != nil {
		return
	}
	frame := c.client.frame(m)
	select {
	case c.outgoing <- frame:
	default:
		c.spawn(func() { c.queueFrame(c.ctx, frame) })
	}
}

// frame encodes a message that has no values in it.
func (c *Client) frame(m protocol.Message) []byte {
	frame, err := c.protocol.Append(nil, m)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err)) // only values can fail to encode
	}
	return frame
}

// write is the connection's writer. serve joins it; it ends with the connection.
func (c *connection) write() {
	ping := c.client.frame(&protocol.Ping{})
	ticker := time.NewTicker(c.client.keepAlive)
	defer ticker.Stop()
	// The server expects signs of life from the first ping on.
	for frames := [][]byte{ping}; ; {
		if err := c.socket.write(c.client.protocol.TransferFormat(), frames...); err != nil {
			c.unwritable(err)
			return
		}
		select {
		case frame := <-c.outgoing:
			frames = c.join(append(frames[:0], frame))
		case <-ticker.C:
			frames = append(frames[:0], ping)
		case <-c.ctx.Done():
			if errors.Is(context.Cause(c.ctx), ErrClosed) {
				c.leave()
			}
			return
		}
	}
}

// unwritable waits for the reader to find the end too, since what the server sent before it
// went, such as a Close message, is still to be acted on.
func (c *connection) unwritable(reason error) {
	select {
	case <-c.ctx.Done():
	case <-time.After(closeTimeout):
		c.end(fmt.Errorf("write: %w", reason))
		c.socket.abort()
	}
}

// join appends to frames what waits behind them, up to some size.
func (c *connection) join(frames [][]byte) [][]byte {
	for size := len(frames[0]); size < joinedBytes; size += len(frames[len(frames)-1]) {
		select {
		case frame := <-c.outgoing:
			frames = append(frames, frame)
		default:
			return frames
		}
	}
	return frames
}

// leave ends the connection in order: what was sent before goes out.
func (c *connection) leave() {
	var frames [][]byte
	for len(c.outgoing) > 0 {
		frames = append(frames, <-c.outgoing)
	}
	if c.socket.write(c.client.protocol.TransferFormat(), append(frames, c.client.frame(&protocol.Close{}))...) == nil {
		c.socket.close(closeTimeout)
	}
}

// remember makes the call receive what the server answers to its id.
func (c *connection) remember(call *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		return c.unsent()
	}
	c.calls[call.id] = call
	return nil
}

// forget undoes remember. It returns the call, or nil if it was forgotten before.
func (c *connection) forget(id string) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	call := c.calls[id]
	delete(c.calls, id)
	return call
}
