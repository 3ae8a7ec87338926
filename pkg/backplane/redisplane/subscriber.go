package redisplane

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A subscriber keeps this node subscribed to what it holds, and hands on what arrives.
// It has one connection at a time, for receiving and for the commands that subscribe
// and unsubscribe. Any error ends a connection; the subscriber then makes the next one,
// for as long as it runs.
type subscriber struct {
	site       *site
	node       string        // the channel that is subscribed first on each connection
	timeout    time.Duration // for waiting
	metrics    *metrics
	health     *health
	deliver    func(channel, payload string) // run calls it, one call at a time
	connecting func()                        // run calls it before anything is delivered of a new connection
	connected  func()                        // run calls it when node is subscribed on a new connection
	restored   func()                        // called, with mu held, when all is subscribed on a new connection
	settled    func()                        // called when no node publishes at a former master any more

	wake     chan struct{} // of capacity 1: the table may have commands
	current  atomic.Pointer[link]
	arrivals atomic.Uint64 // messages received; the probe looks whether it grows

	mu       sync.Mutex // never held across I/O
	table    *subscriptions
	again    bool // all that was held when the present connection began is in force
	caughtUp bool // and what was missed before has been taken in
	hearing  bool // and others publish where this node is subscribed

	begun chan struct{} // closed when what was missed has been taken in for the first time
}

func newSubscriber(o Options, at *site, node string, m *metrics, h *health) *subscriber {
	s := &subscriber{
		site:    at,
		node:    at.tag + node,
		timeout: o.SubscribeTimeout,
		metrics: m,
		health:  h,
		wake:    make(chan struct{}, 1),
		table:   newSubscriptions(),
		begun:   make(chan struct{}),

		connecting: func() {},
		restored:   func() {},
		settled:    func() {},
	}
	s.table.hold(s.node)
	return s
}

// hold counts one more holder of each channel, unless the attachment holds nothing any
// more. It does not block.
func (s *subscriber) hold(a *attachment, channels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.isDetached() { // and so to be released, or released already
		return
	}
	for _, channel := range channels {
		s.table.hold(channel)
	}
	s.signal()
}

// release counts one holder less of each channel. It does not block.
func (s *subscriber) release(a *attachment, channels []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.isDetached() { // and so to be released, or released already
		return
	}
	for _, channel := range channels {
		s.table.release(channel)
	}
	s.signal()
}

// releaseAll gives up all that the attachment holds, which has been detached: the channels
// of its prefix, where the subscriber itself holds one.
func (s *subscriber) releaseAll(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.releaseAll(
		func(channel string) bool { return prefixOf(strings.TrimPrefix(channel, s.site.tag)) == a.prefix },
		func(channel string) bool { return channel == s.node },
	)
	s.signal()
}

// wait returns nil once the subscriptions of all these channels are in force, if that is
// before the deadline. On the first connection, that is once operations have been read too:
// those that are published from then on come in their order.
func (s *subscriber) wait(ctx context.Context, deadline time.Time, channels []string, detached <-chan struct{}) error {
	start := time.Now()
	until := func(done <-chan struct{}) error {
		select {
		case <-done: // most often: then no timer is needed
			return nil
		default:
		}
		timeout := time.NewTimer(time.Until(deadline))
		defer timeout.Stop()
		select {
		case <-done:
			return nil
		case <-detached:
			return backplane.ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		case <-timeout.C:
			return s.unavailable(fmt.Errorf("not confirmed within %v", s.timeout))
		}
	}
	waited := false
	for _, channel := range channels {
		s.mu.Lock()
		p := s.table.wait(channel)
		s.mu.Unlock()
		if p == nil {
			continue
		}
		waited = true
		if err := until(p.done); err != nil {
			return err
		}
		if p.err != nil {
			return s.unavailable(p.err)
		}
	}
	if waited {
		s.metrics.subscribe.Observe(time.Since(start).Seconds())
	}
	return until(s.begun)
}

func (s *subscriber) unavailable(reason error) error {
	if err := s.health.check(); err != nil {
		return fmt.Errorf("%w: %w; this node %w", backplane.ErrUnavailable, reason, err)
	}
	return fmt.Errorf("%w: %w", backplane.ErrUnavailable, reason)
}

// counts returns how many subscriptions are in force, and how many are to be made or
// given up.
func (s *subscriber) counts() (inForce, pending int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.inForce, len(s.table.channels) - s.table.inForce
}

// cut ends the present connection, if there is one, for the reason err.
func (s *subscriber) cut(err error) {
	if l := s.current.Load(); l != nil {
		l.cut(err)
	}
}

// prove notes that a probe was heard on the present connection, and if so that what was
// missed has been taken in. It returns whether the node hears, and whether that is new;
// deliver calls it.
func (s *subscriber) prove(caughtUp bool) (hears, comesToHear bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caughtUp = s.caughtUp || caughtUp
	select {
	case <-s.begun:
	default:
		if caughtUp {
			close(s.begun)
		}
	}
	comesToHear = !s.hearing && s.caughtUp && s.site.unsettled() == 0
	s.hearing = s.hearing || comesToHear
	return s.hearing, comesToHear
}

// listen looks whether all is subscribed again; mu is held.
func (s *subscriber) listen() {
	if !s.again && s.table.restored() {
		s.again = true
		s.restored()
	}
}

// standing returns the present connection, nil if there is none, and how far it is.
func (s *subscriber) standing() (l *link, restored, caughtUp bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l = s.current.Load()
	return l, l != nil && s.again, s.caughtUp
}

// run makes one connection after the other until ctx ends.
func (s *subscriber) run(ctx context.Context) {
	var pauses backoff
	for ctx.Err() == nil {
		heard, err := s.connection(ctx)
		if heard {
			pauses.reset()
		}
		if ctx.Err() == nil {
			s.health.lost(err)
			pauses.pause(ctx)
		}
	}
}

// connection makes one connection, and returns what ended it, and whether the node has
// heard over it.
func (s *subscriber) connection(ctx context.Context) (heard bool, err error) {
	l := newLink(s.site, false)
	defer l.close()
	defer context.AfterFunc(ctx, func() { l.cut(backplane.ErrClosed) })()

	// The library connects when the first command is sent.
	pubsub := l.client.Subscribe(ctx)
	defer pubsub.Close()
	dialing, cancel := context.WithTimeout(ctx, s.site.options.DialTimeout)
	defer cancel()
	if err := s.site.subscribe(dialing, pubsub, s.node); err != nil {
		return false, fmt.Errorf("connect: %w", l.cause(err))
	}

	s.mu.Lock()
	s.table.connect(s.node)
	s.mu.Unlock()
	s.current.Store(l)
	s.signal()
	var writer sync.WaitGroup
	writer.Go(func() { s.write(l, pubsub) })

	s.connecting()
	err = s.receive(pubsub)
	l.cut(err)
	writer.Wait()
	s.current.Store(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	heard = s.hearing
	s.table.disconnect()
	s.again, s.caughtUp, s.hearing = false, false, false
	return heard, l.cause(err)
}

// write sends the table's commands until the link is cut.
func (s *subscriber) write(l *link, pubsub *redis.PubSub) {
	settled := time.NewTimer(s.site.unsettled())
	defer settled.Stop()
	for {
		select {
		case <-s.wake:
		case <-settled.C:
			s.settled()
			continue
		case <-l.ctx.Done():
			return
		}
		for {
			s.mu.Lock()
			subscribe, unsubscribe := s.table.next()
			s.listen() // nothing may have been left to confirm
			s.mu.Unlock()
			if len(subscribe) == 0 && len(unsubscribe) == 0 {
				break
			}
			if err := s.send(l.ctx, pubsub, subscribe, unsubscribe); err != nil {
				l.cut(err)
				return
			}
		}
	}
}

// send names no empty list: the library would take that for all channels.
func (s *subscriber) send(ctx context.Context, pubsub *redis.PubSub, subscribe, unsubscribe []string) error {
	if len(subscribe) > 0 {
		if err := s.site.subscribe(ctx, pubsub, subscribe...); err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
	}
	if len(unsubscribe) > 0 {
		if err := s.site.unsubscribe(ctx, pubsub, unsubscribe...); err != nil {
			return fmt.Errorf("unsubscribe: %w", err)
		}
	}
	return nil
}

// receive takes in what arrives until the connection ends, and returns why it did. It
// waits without a deadline, since the library would go on out of step after one that
// passes in the middle of a message. That something arrives at all, the probe sees to.
func (s *subscriber) receive(pubsub *redis.PubSub) error {
	ctx := context.Background()
	for {
		arrival, err := pubsub.Receive(ctx)
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		switch a := arrival.(type) {
		case *redis.Message:
			s.arrivals.Add(1)
			s.deliver(a.Channel, a.Payload)
		case *redis.Subscription:
			if err := s.confirm(a); err != nil {
				return err
			}
		default:
			return fmt.Errorf("receive: unexpected %T", arrival)
		}
	}
}

func (s *subscriber) confirm(c *redis.Subscription) error {
	kind := s.site.confirmed(c)
	subscribed := kind == "subscribe"
	if !subscribed && kind != "unsubscribe" {
		return fmt.Errorf("%w: %s", errOutOfStep, c.Kind)
	}
	s.mu.Lock()
	err := s.table.confirm(subscribed, c.Channel)
	s.listen()
	s.mu.Unlock()
	if err != nil && s.site.tag != "" && !subscribed {
		return errMoved // redis itself unsubscribes then
	}
	if err != nil {
		return err
	}
	s.signal()
	if subscribed && c.Channel == s.node {
		s.connected()
	}
	return nil
}

func (s *subscriber) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
