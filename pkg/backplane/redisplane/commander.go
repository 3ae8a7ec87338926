package redisplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/pkg/backplane"
)

const (
	// maxCommands is how many commands one pipeline has at most, so that a deadline for it
	// means something.
	maxCommands = 512
	// maxWaitingCommands is how many may wait for the pipeline in flight. Beyond it,
	// commands fail at once.
	maxWaitingCommands = 16384
)

// A commander has Redis answer commands, for who waits for the answer. Whatever is
// waiting when the last pipeline has been answered becomes the next one; there is one
// connection, and a goroutine while there is something to do.
//
// Nothing is sent twice, and the connection is made by whatever needs it: a command
// fails if that does not succeed.
type commander struct {
	outlet                // run is its sender; one follows the other
	timeout time.Duration // for an answer

	running sync.WaitGroup // run; counted up under mu, and never once closed

	mu      sync.Mutex // never held across I/O
	queue   []*order
	waiting int // commands in queue
	active  bool
	closed  bool
}

// An order is commands of one caller that go out together. They are the commander's
// until done is closed, and after that the caller's, if he still waits.
type order struct {
	commands  []*redis.Cmd
	done      chan struct{}
	abandoned bool // guarded by the commander's mu: nobody waits, so it need not be sent
}

func newCommander(o Options, s *site) *commander {
	return &commander{outlet: outlet{site: s}, timeout: o.PublishTimeout}
}

// do returns nil when Redis has answered the commands, of which there are no more than
// maxCommands: each has its reply, or the error that is one. Any other error is
// ErrUnavailable, ErrClosed or the context's; the commands must then not be looked at,
// and may have been performed.
func (c *commander) do(ctx context.Context, commands ...*redis.Cmd) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := &order{commands: commands, done: make(chan struct{})}
	if err := c.enqueue(o); err != nil {
		return err
	}
	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	var reason error
	select {
	case <-o.done:
		return o.failure()
	case <-ctx.Done():
		reason = ctx.Err()
	case <-timer.C:
		reason = fmt.Errorf("%w: no answer within %v", backplane.ErrUnavailable, c.timeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o.abandoned = true
	return reason
}

// failure returns why there was no answer to one of the commands.
func (o *order) failure() error {
	for _, command := range o.commands {
		switch err := command.Err(); {
		case err == nil, isReply(err):
		case errors.Is(err, backplane.ErrClosed):
			return err
		default:
			return fmt.Errorf("%w: %w", backplane.ErrUnavailable, err)
		}
	}
	return nil
}

func (c *commander) enqueue(o *order) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return backplane.ErrClosed
	case c.waiting > 0 && c.waiting+len(o.commands) > maxWaitingCommands:
		return fmt.Errorf("%w: %d commands wait for redis", backplane.ErrUnavailable, c.waiting)
	}
	c.queue = append(c.queue, o)
	c.waiting += len(o.commands)
	if !c.active {
		c.active = true
		c.running.Go(c.run)
	}
	return nil
}

// run sends what waits, until nothing does.
func (c *commander) run() {
	for {
		batch := c.take()
		if len(batch) == 0 {
			return
		}
		c.send(batch)
		for _, o := range batch {
			close(o.done)
		}
	}
}

// take takes what makes the next pipeline out of the queue.
func (c *commander) take() []*order {
	c.mu.Lock()
	defer c.mu.Unlock()
	var batch []*order
	n, taken := 0, 0
	for _, o := range c.queue {
		if n > 0 && n+len(o.commands) > maxCommands {
			break
		}
		taken++
		c.waiting -= len(o.commands)
		if !o.abandoned {
			batch = append(batch, o)
			n += len(o.commands)
		}
	}
	clear(c.queue[:taken])
	if c.queue = c.queue[taken:]; len(c.queue) == 0 {
		c.queue = nil
	}
	c.active = len(batch) > 0
	return batch
}

// send sends the commands and leaves in each the reply, or why there is none.
func (c *commander) send(batch []*order) {
	link, err := c.connect()
	if err != nil {
		failAll(batch, err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	failAll(batch, errNoOutcome) // until the library writes one there, which it does not always do
	pipeline := link.client.Pipeline()
	for _, o := range batch {
		for _, command := range o.commands {
			pipeline.Process(ctx, command)
		}
	}
	_, err = pipeline.Exec(ctx)

	var lost error
	for _, o := range batch {
		for _, command := range o.commands {
			outcome := command.Err()
			if outcome == nil || isReply(outcome) {
				c.site.demoted(outcome)
				continue
			}
			if err != nil {
				outcome = err // where Redis refuses the connection, commands do not have it
			}
			outcome = link.cause(outcome)
			if isReply(outcome) {
				outcome = fmt.Errorf("connect: %v", outcome) // not one to the command
			}
			command.SetErr(outcome)
			lost = outcome
		}
	}
	if lost != nil {
		c.fail(lost)
		c.disconnect()
	}
}

func failAll(batch []*order, err error) {
	for _, o := range batch {
		for _, command := range o.commands {
			command.SetErr(err)
		}
	}
}

// close ends what is in flight, and what waits, and returns when nothing is done any
// more.
func (c *commander) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.hurry(backplane.ErrClosed)
	c.running.Wait()
	c.disconnect()
}
