package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// An invocation is a bound call of a method that waits for its turn.
type invocation struct {
	id        string
	method    *method
	arguments []reflect.Value
	size      int // bytes that it counts for while it waits
}

// invocations are the calls of one connection. They run one at a time and in order,
// in a goroutine that lives only while there are any.
type invocations struct {
	mu      sync.Mutex
	waiting []*invocation
	bytes   int           // sizes of waiting
	running bool          // a runner exists
	room    chan struct{} // made by a reader that waits, closed when something was taken
}

// push adds an invocation. If there is no room it does not, and returns what to wait
// for before trying again. start says that the caller must start a runner.
func (q *invocations) push(i *invocation, max int) (start bool, full <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes > 0 && q.bytes+i.size > max {
		if q.room == nil {
			q.room = make(chan struct{})
		}
		return false, q.room
	}
	q.waiting = append(q.waiting, i)
	q.bytes += i.size
	start = !q.running
	q.running = true
	return start, nil
}

// pop takes the next invocation. None means that the runner must end.
func (q *invocations) pop() *invocation {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.waiting, q.running = nil, false
		return nil
	}
	i := q.waiting[0]
	q.waiting[0] = nil
	q.waiting = q.waiting[1:]
	q.bytes -= i.size
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
	return i
}

// dispatch binds an invocation and queues it. What cannot be invoked is answered at
// once. When the queue is full the reader waits here, and the client with it.
func (c *connection) dispatch(m *protocol.Invocation, size int) {
	method := c.hub.methods.lookup(m.Target)
	if method == nil {
		c.hub.metrics.invocations.WithLabelValues("unknown_method").Inc()
		c.complete(m.InvocationID, nil, failedToInvoke(m.Target)+unknownMethodDetails)
		return
	}
	arguments, err := method.bind(c.protocol(), m.RawArguments)
	if err != nil {
		c.hub.metrics.invocations.WithLabelValues("bad_arguments").Inc()
		c.complete(m.InvocationID, nil, c.hub.withDetails(failedToInvoke(method.name), err))
		return
	}
	if n := len(m.StreamIDs); n > 0 {
		c.hub.metrics.invocations.WithLabelValues("bad_arguments").Inc()
		c.complete(m.InvocationID, nil, fmt.Sprintf("%s HubException: Client sent %d stream(s), Hub method expects 0.", errorInvoking(method.name), n))
		return
	}
	i := &invocation{id: m.InvocationID, method: method, arguments: arguments, size: size}
	for {
		start, full := c.invocations.push(i, c.hub.maxWaiting)
		if start {
			c.hub.work.Go(c.run)
		}
		if full == nil {
			return
		}
		select {
		case <-full:
		case <-c.ctx.Done():
			return
		}
	}
}

// run invokes what waits until nothing does. Owner: the connection (the hub joins
// it); it ends when the queue is empty or the connection has ended, though not before
// the method that it is in returns.
func (c *connection) run() {
	for i := c.invocations.pop(); i != nil; i = c.invocations.pop() {
		if c.ctx.Err() == nil {
			c.invoke(i)
		}
	}
}

func (c *connection) invoke(i *invocation) {
	var result any
	err := c.guard(func() (err error) {
		result, err = i.method.invoke(c.ctx, c.caller, i.arguments)
		return err
	})
	if err == nil {
		c.hub.metrics.invocations.WithLabelValues("ok").Inc()
		c.complete(i.id, result, "")
		return
	}
	c.hub.metrics.invocations.WithLabelValues("error").Inc()
	level := slog.LevelError
	if _, shown := errors.AsType[*Error](err); shown {
		level = slog.LevelDebug // the client reads it
	}
	c.hub.logger.Log(c.ctx, level, "hub method failed", "hub", c.hub.name, "method", i.method.name, "error", err)
	c.complete(i.id, nil, c.hub.withDetails(errorInvoking(i.method.name), err))
}
