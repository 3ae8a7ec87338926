package hub

import (
	"context"
	"sync"
	"time"
)

// An invocationContext is the context of an invocation. It ends when the client cancels
// the invocation, when the connection ends, and when the invocation has been completed.
//
// Most methods never wait for their context. So what is needed for that, which is dearer
// than the rest of an invocation, is made by the first who asks for it.
type invocationContext struct {
	invocation *invocation
	parent     context.Context // the connection's

	mu     sync.Mutex
	ended  bool
	inner  context.Context // made by Done; from then on all that the context is
	cancel context.CancelFunc
}

// invocationKey is the context key of the invocation that code runs on behalf of.
type invocationKey struct{}

// end ends the context, the first time that it is called.
func (c *invocationContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

// Deadline implements [context.Context].
func (c *invocationContext) Deadline() (time.Time, bool) { return c.parent.Deadline() }

// Done implements [context.Context].
func (c *invocationContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithCancel(c.parent)
		if c.ended {
			c.cancel()
		}
	}
	return c.inner.Done()
}

// Err implements [context.Context].
func (c *invocationContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.inner != nil:
		return c.inner.Err()
	case c.ended:
		return context.Canceled
	}
	return c.parent.Err()
}

// Value implements [context.Context]. Package context asks by a key of its own for what
// Done belongs to, so that it need not start a goroutine for a context made from this one.
func (c *invocationContext) Value(key any) any {
	if key == (invocationKey{}) {
		return c.invocation
	}
	c.mu.Lock()
	from := c.inner
	c.mu.Unlock()
	if from == nil {
		from = c.parent
	}
	return from.Value(key)
}
