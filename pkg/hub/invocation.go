package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// An invocation is a bound call of a method, from its dispatch to its completion.
type invocation struct {
	connection *connection
	id         string // empty: no answer is wanted
	method     *method
	arguments  *arguments
	uploads    []*upload
	streaming  bool // it was asked for a stream, and its method has one
	size       int  // what it counts for while it waits: see charge

	ctx invocationContext

	write func() // writes the answer; the runner runs it, or has it run: see writeLater

	gaveBack atomic.Bool // see givePermitBack
	answered atomic.Bool // see answer
	isDone   bool        // see done; guarded by the mu of the connection's calls
}

// dispatch deals with an invocation, or answers it at once if it cannot be run. One
// that has no part in a stream waits for its turn; when too much waits, the reader
// waits here, and the client with it. One that has runs from now on, beside others.
func (c *connection) dispatch(m *protocol.Invocation, streaming bool, size int) {
	i, refusal := c.prepare(m, streaming)
	if refusal != "" {
		c.complete(m.InvocationID, nil, refusal)
		return
	}
	i.size = charge(invocationOverhead, size, i.footprint())
	if i.streaming || len(i.uploads) > 0 {
		if text := c.begin(i); text != "" {
			i.ctx.end()
			c.complete(m.InvocationID, nil, text)
			return
		}
		c.hub.work.Go(func() { c.invoke(i) })
		return
	}
	if c.waiting.acquire(c.ctx, i.size) != nil {
		i.ctx.end()
		return
	}
	c.begin(i)
	taken, start := c.invocations.push(i)
	if !taken {
		c.dropInvocation(i)
	}
	if start {
		c.hub.work.Go(c.run)
	}
}

// footprint is how many bytes the arguments take.
func (i *invocation) footprint() (bytes int) {
	for k, parameter := range i.method.parameters {
		if parameter.item == nil {
			bytes += footprint(i.arguments.values[leading+k])
		}
	}
	return bytes
}

// dropInvocation gives up one that has not been run.
func (c *connection) dropInvocation(i *invocation) {
	c.waiting.release(i.size)
	c.done(i)
}

// How long the end of a connection waits for what the client invoked before.
const (
	settleWaiting = 5 * time.Second // in all
	settleRunning = time.Second     // for what runs, once nothing waits for its turn
)

// settle waits until all that the client invoked is done, streams aside: what it sent
// before it ended the connection, or before it sent nonsense, is not disturbed by that.
// It gives up after some time, since a method may be waiting for its context to end,
// and when somebody else ends the connection.
func (c *connection) settle() { c.awaitInvocations(settleWaiting, settleRunning) }

func (c *connection) awaitInvocations(longestWaiting, longestRunning time.Duration) {
	waiting, running := c.invocations.progress()
	ctx, cancel := context.WithTimeout(c.ctx, longestWaiting)
	defer cancel()
	for ; waiting != nil; waiting, running = c.invocations.progress() {
		select {
		case <-waiting:
		case <-ctx.Done():
			return
		}
	}
	ctx, cancel = context.WithTimeout(ctx, longestRunning)
	defer cancel()
	for ; running != nil; _, running = c.invocations.progress() {
		select {
		case <-running:
		case <-ctx.Done():
			return
		}
	}
}

// prepare makes an invocation of a message, or says why it cannot be. The order of the
// checks is the reference implementation's.
func (c *connection) prepare(m *protocol.Invocation, streaming bool) (i *invocation, refusal string) {
	method := c.hub.methods.lookup(m.Target)
	if method == nil {
		c.hub.metrics.unknownMethod.Inc()
		return nil, failedToInvoke(m.Target) + unknownMethodDetails
	}
	var bound *arguments
	err := c.guard(func() (err error) { // types may decode themselves
		bound, err = method.bind(c.protocol(), m.RawArguments)
		return err
	})
	if err != nil {
		c.hub.metrics.badArguments.Inc()
		return nil, c.hub.withDetails(failedToInvoke(method.name), err)
	}
	if err := c.authorized(method); err != nil {
		c.hub.metrics.unauthorized.Inc()
		c.hub.logger.Debug("invocation refused", "hub", c.hub.name, "method", method.name, "error", err)
		return nil, "Failed to invoke '" + method.name + "' because user is unauthorized"
	}
	switch {
	case streaming && !method.streams():
		refusal = fmt.Sprintf("The client attempted to invoke the non-streaming '%s' method with a streaming invocation.", method.name)
	case !streaming && method.streams():
		refusal = fmt.Sprintf("The client attempted to invoke the streaming '%s' method with a non-streaming invocation.", method.name)
	case len(m.StreamIDs) != method.uploads:
		refusal = fmt.Sprintf("%s HubException: Client sent %d stream(s), Hub method expects %d.", errorInvoking(method.name), len(m.StreamIDs), method.uploads)
	}
	if refusal != "" {
		c.hub.metrics.badArguments.Inc()
		return nil, refusal
	}
	i = &invocation{connection: c, id: m.InvocationID, method: method, arguments: bound, streaming: streaming}
	i.ctx.invocation, i.ctx.parent = i, c.ctx
	c.addUploads(i, m.StreamIDs)
	return i, ""
}

func (c *connection) authorized(m *method) error {
	for _, required := range m.requires {
		if err := c.hub.apart(func() error { return required(c.ctx, c.caller.Identity()) }); err != nil {
			return err
		}
	}
	return nil
}

// run invokes what waits until nothing does, or until the invocation that it is in
// gives its permit back. Owner: the connection (the hub joins it); when the connection
// has ended nothing waits, so it ends with the method that it is in. The last answer it
// writes itself, without a permit: most often it is the only one, and to wake another
// goroutine for it would cost as much as the write.
func (c *connection) run() {
	var write func()
	for c.runNext(&write) {
	}
	if write != nil {
		write()
	}
}

// runNext invokes what is next, and reports whether the runner still has its permit. If
// the method ends the goroutine, another runner gets that. write is what is left to do for
// the answer to the invocation before, which does not wait for this one.
func (c *connection) runNext(write *func()) (goOn bool) {
	i := c.invocations.pop()
	if i == nil {
		return false
	}
	if *write != nil {
		c.hub.work.Go(*write)
		*write = nil
	}
	c.waiting.release(i.size)
	returned := false
	defer func() {
		goOn = !i.gaveBack.Swap(true) // whoever asks a client on its behalf from now on has no permit to give
		if returned {
			*write = i.write
			return
		}
		if i.write != nil {
			c.hub.work.Go(i.write)
		}
		if goOn {
			c.hub.work.Go(c.run)
		}
	}()
	c.invoke(i)
	returned = true
	return
}

// writeLater is the spawn (see outbound.enqueueBy) of the answer to an invocation that a
// runner runs.
func (i *invocation) writeLater(write func()) { i.write = write }

// givePermitBack lets the next invocation of the connection run although this one has
// not returned, since it is about to wait for an answer of a client, which may depend
// on it. The permit is not taken again.
func (c *connection) givePermitBack(i *invocation) {
	if i.streaming || len(i.uploads) > 0 || i.gaveBack.Swap(true) {
		return
	}
	if c.invocations.giveBack() {
		c.hub.work.Go(c.run)
	}
}

// invoke runs an invocation and answers it.
func (c *connection) invoke(i *invocation) {
	defer c.done(i)
	var result any
	c.hub.guardThen(func() (err error) {
		result, err = c.call(i)
		return err
	}, func(err error) { c.conclude(i, result, err) })
}

// conclude answers an invocation whose method has returned, or streams what that returned.
func (c *connection) conclude(i *invocation, result any, err error) {
	if err == nil && i.streaming {
		c.stream(i, result)
		return
	}
	c.count(err)
	if err != nil {
		c.logFailure("hub method failed", i, err)
		c.answer(i, nil, c.hub.withDetails(errorInvoking(i.method.name), err))
		return
	}
	c.answer(i, result, "")
}

func (c *connection) count(err error) {
	if err != nil {
		c.hub.metrics.failed.Inc()
	} else {
		c.hub.metrics.succeeded.Inc()
	}
}

func (c *connection) logFailure(what string, i *invocation, err error) {
	level := slog.LevelError
	if _, shown := errors.AsType[*Error](err); shown || c.ctx.Err() != nil {
		level = slog.LevelDebug // the client reads it, or its end is the reason
	}
	c.hub.logger.Log(c.ctx, level, what, "hub", c.hub.name, "method", i.method.name, "error", err)
}

// answer is complete for an invocation that has run, unless the hand-over of its
// connection has answered it already. What the invocation held is free by then: the client
// may go on to the next one at once.
func (c *connection) answer(i *invocation, result any, errorText string) {
	c.done(i)
	switch {
	case i.answered.Swap(true):
	case i.streaming || len(i.uploads) > 0:
		c.complete(i.id, result, errorText)
	default:
		c.completeBy(i.writeLater, i.id, result, errorText)
	}
}

// complete answers an invocation, unless it wanted no answer: with the error text if
// there is one, and else with the result.
func (c *connection) complete(invocationID string, result any, errorText string) {
	c.completeBy(c.out.spawn, invocationID, result, errorText)
}

// completeBy is complete for a caller with a spawn of its own: see outbound.enqueueBy.
func (c *connection) completeBy(spawn func(func()), invocationID string, result any, errorText string) {
	if invocationID == "" {
		return
	}
	m := &protocol.Completion{InvocationID: invocationID, Error: errorText}
	if errorText == "" {
		m.HasResult, m.Result = true, result
	}
	if _, err := c.sendBy(spawn, m); err != nil {
		// As in the reference implementation: the client could not tell this error from
		// one of the method, which has done its work.
		c.fail(fmt.Errorf("encode result: %w", err))
	}
}
