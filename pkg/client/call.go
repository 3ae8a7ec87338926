package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// Invoke invokes a method of the hub and returns its result. Arguments are values that
// have an encoding, and uploads (see the package's "Calls").
//
// The error is an [*Error] if the method failed, the context's if that ended first, and
// otherwise [ErrNotConnected], [ErrClosed] or [ErrConnectionLost], or says what cannot be
// encoded or decoded. When the context ends, the server is told that nobody waits any
// more. A method without a result gives the zero value of types that can be null, and an
// error for others: see [Client.Invoke].
func Invoke[T any](ctx context.Context, c *Client, method string, args ...any) (result T, err error) {
	raw, hasResult, err := c.invoke(ctx, method, args)
	if err == nil && hasResult {
		err = c.protocol.BindValue(raw, &result)
	}
	if err != nil {
		err = fmt.Errorf("invoke %q: %w", method, err)
	}
	return result, err
}

// Invoke is as the function [Invoke], for methods whose result does not matter.
func (c *Client) Invoke(ctx context.Context, method string, args ...any) error {
	if _, _, err := c.invoke(ctx, method, args); err != nil {
		return fmt.Errorf("invoke %q: %w", method, err)
	}
	return nil
}

// Send invokes a method and wants no answer, not even an error. It returns when the
// message, and everything that the uploads among the arguments gave, has been handed to
// the connection; whether it arrives is not known. Errors are as in [Invoke]. Those of
// uploads are for the server, which gets their texts.
func (c *Client) Send(ctx context.Context, method string, args ...any) error {
	if err := c.send(ctx, method, args); err != nil {
		return fmt.Errorf("send %q: %w", method, err)
	}
	return nil
}

// Stream invokes a method that streams and returns what it streams. The method is
// invoked when the loop over the sequence begins, anew for every loop. Leaving the loop,
// or the end of the context, cancels the stream.
//
// An error, as in [Invoke], is the last element.
func Stream[T any](ctx context.Context, c *Client, method string, args ...any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		call, err := c.begin(ctx, method, args, true)
		if err == nil {
			defer call.end()
		}
		for err == nil {
			var raw []byte
			var item T
			if raw, err = call.next(ctx); err == nil {
				err = c.protocol.BindValue(raw, &item)
			}
			if err == nil && !yield(item, nil) {
				return
			}
		}
		if !errors.Is(err, errStreamEnded) {
			var none T
			yield(none, fmt.Errorf("stream %q: %w", method, err))
		}
	}
}

// A call is an invocation that waits for its answer. Except for its queue, it belongs to
// the goroutine that called.
type call struct {
	conn        *connection
	id          string
	answers     *queue[answer]
	stopUploads context.CancelCauseFunc
	answered    bool // there is nothing to cancel any more
}

// An answer is an item of a stream, or the end of the call: its completion, or an error
// of this side.
type answer struct {
	item       []byte
	size       int // that item has taken of the client's budget
	completion *protocol.Completion
	err        error
}

var (
	errStreamEnded = errors.New("stream has ended")
	// Causes of the end of the context of uploads. After the first the server expects no
	// more of them.
	errAnswered = errors.New("call was answered")
	errGivenUp  = errors.New("call was given up")
)

func (c *Client) invoke(ctx context.Context, method string, args []any) (result []byte, hasResult bool, err error) {
	call, err := c.begin(ctx, method, args, false)
	if err != nil {
		return nil, false, err
	}
	defer call.end()
	completion, _, err := call.wait(ctx)
	switch {
	case err != nil:
		return nil, false, err
	case completion == nil:
		return nil, false, errors.New("method streams: the server answered with an item")
	}
	return completion.RawResult, completion.HasResult, nil
}

func (c *Client) send(ctx context.Context, method string, args []any) error {
	conn, err := c.connected()
	if err != nil {
		return err
	}
	m, uploads, err := c.invocation(method, args)
	if err != nil {
		return err
	}
	if err := conn.send(ctx, m); err != nil {
		return err
	}
	return conn.uploadAll(ctx, uploads)
}

// begin makes a call. The caller waits for its answers and then ends it.
func (c *Client) begin(ctx context.Context, method string, args []any, stream bool) (*call, error) {
	conn, err := c.connected()
	if err != nil {
		return nil, err
	}
	m, uploads, err := c.invocation(method, args)
	if err != nil {
		return nil, err
	}
	m.InvocationID = c.nextID()
	call := &call{conn: conn, id: m.InvocationID, answers: newQueue[answer]()}
	// Before it is sent, since the answer may come at once.
	if err := conn.remember(call); err != nil {
		return nil, err
	}
	if stream {
		err = conn.send(ctx, &protocol.StreamInvocation{Invocation: *m})
	} else {
		err = conn.send(ctx, m)
	}
	if err != nil {
		conn.forget(call.id)
		return nil, err
	}
	ctx, call.stopUploads = context.WithCancelCause(ctx)
	for _, u := range uploads {
		conn.spawn(func() {
			if err := conn.upload(ctx, u); err != nil {
				call.answers.push(answer{err: err})
			}
		})
	}
	return call, nil
}

// invocation makes the message, without an id, of a call with the arguments.
func (c *Client) invocation(method string, args []any) (*protocol.Invocation, []*upload, error) {
	if method == "" {
		return nil, nil, errors.New("no method named")
	}
	m := &protocol.Invocation{Target: method, Arguments: make([]any, 0, len(args))}
	var uploads []*upload
	for i, arg := range args {
		u, err := uploadOf(arg)
		if err != nil {
			return nil, nil, fmt.Errorf("argument %d: %w", i+1, err)
		}
		if u == nil {
			m.Arguments = append(m.Arguments, arg)
			continue
		}
		u.id = c.nextID()
		uploads = append(uploads, u)
		m.StreamIDs = append(m.StreamIDs, u.id)
	}
	return m, uploads, nil
}

// nextID numbers invocations and uploads over all connections, so that none is taken
// for another.
func (c *Client) nextID() string { return strconv.FormatUint(c.ids.Add(1), 10) }

// next returns the next item of a stream, or errStreamEnded.
func (c *call) next(ctx context.Context) ([]byte, error) {
	completion, item, err := c.wait(ctx)
	if err == nil && completion != nil {
		err = errStreamEnded
	}
	return item, err
}

// wait returns what the server answers next: an item, or a completion without error.
func (c *call) wait(ctx context.Context) (*protocol.Completion, []byte, error) {
	a, err := c.answers.pop(ctx)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case a.err != nil:
		return nil, nil, a.err
	case a.completion == nil:
		c.conn.client.waiting.give(a.size)
		return nil, a.item, nil
	}
	c.answered = true
	if a.completion.HasError || a.completion.Error != "" {
		return nil, nil, &Error{Message: a.completion.Error}
	}
	return a.completion, nil, nil
}

// end stops the uploads, and gives the call up if it has not been answered.
func (c *call) end() {
	c.conn.forget(c.id)
	for _, a := range c.answers.drain() {
		c.conn.client.waiting.give(a.size)
		c.answered = c.answered || a.completion != nil
	}
	if c.answered {
		c.stopUploads(errAnswered)
		return
	}
	c.stopUploads(errGivenUp)
	c.conn.sendSoon(&protocol.CancelInvocation{InvocationID: c.id})
}
