package client

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// keptBytes is the largest buffer that a reader keeps while it holds nothing.
const keptBytes = 64 << 10

// read acts on what the server sends, until the connection ends, and returns why it did.
func (c *connection) read() error {
	buffer := c.unread
	c.unread = nil
	for {
		n, err := c.parse(buffer)
		if err != nil {
			return err
		}
		buffer = append(buffer[:0], buffer[n:]...)
		if len(buffer) == 0 && cap(buffer) > keptBytes {
			buffer = nil
		}
		// A frame that is not whole is not looked at again before there is twice as much
		// of it, or the WebSocket's message ends, with which frames usually end.
		for wanted, end := 2*len(buffer), false; !end; {
			if buffer, end, err = c.socket.read(buffer); err != nil {
				return err
			}
			end = end || len(buffer) >= wanted
		}
	}
}

// parse acts on the whole frames in data and returns how many bytes they take.
func (c *connection) parse(data []byte) (n int, err error) {
	for n < len(data) {
		if c.ctx.Err() != nil {
			return len(data), nil // whatever comes until the server has closed its side
		}
		m, size, err := c.client.protocol.Parse(data[n:], c.client.maxMessage)
		switch {
		case errors.Is(err, protocol.ErrIncomplete):
			return n, nil
		case err != nil:
			return n, fmt.Errorf("read message: %w", err)
		}
		if err := c.receive(m); err != nil && c.ctx.Err() == nil {
			return n, err
		}
		n += size
	}
	return n, nil
}

// receive acts on one message. It ignores what a client has no use for: items and
// completions of calls that nobody waits for any more, and unknown types. An error ends
// the connection.
func (c *connection) receive(m protocol.Message) error {
	switch m := m.(type) {
	case *protocol.Invocation:
		return c.queueInvocation(m)
	case *protocol.StreamItem:
		return c.queueItem(m)
	case *protocol.Completion:
		if call := c.forget(m.InvocationID); call != nil {
			m.RawResult = bytes.Clone(m.RawResult)
			call.answers.push(answer{completion: m})
		}
	case *protocol.Close:
		c.socket.close(closeTimeout)
		return &serverClosed{*m}
	}
	return nil
}

func (c *connection) queueInvocation(m *protocol.Invocation) error {
	m.RawArguments = bytes.Clone(m.RawArguments)
	size := len(m.RawArguments) + messageOverhead
	waiting := c.client.waiting
	if err := waiting.take(c.ctx, size, c.client.serverTimeout); err != nil {
		return err
	}
	c.client.inbox.push(func() {
		waiting.give(size)
		c.client.handle(c, m)
	})
	return nil
}

func (c *connection) queueItem(m *protocol.StreamItem) error {
	c.mu.Lock()
	call := c.calls[m.InvocationID]
	c.mu.Unlock()
	if call == nil {
		return nil
	}
	a := answer{item: bytes.Clone(m.RawItem), size: len(m.RawItem) + messageOverhead}
	if err := c.client.waiting.take(c.ctx, a.size, c.client.serverTimeout); err != nil {
		return err
	}
	if !call.answers.push(a) {
		c.client.waiting.give(a.size)
	}
	return nil
}
