package redisplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// Senders are told while Redis is away, what they are told is true, and afterwards all
// is as before.
func TestRedisRestarts(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill=", kill), func(t *testing.T) {
			redis := redistest.Start(t)
			sender, receiver := start(t, redis.URL()), start(t, redis.URL())
			channels := []string{"all", "numbers", "joined meanwhile", "node:" + sender.NodeID(), "node:" + receiver.NodeID()}
			for i := range 250 {
				ch := backplane.User(fmt.Sprint(i))
				receiver.Subscribe(ch)
				channels = append(channels, string(ch))
			}
			receiver.Subscribe("left meanwhile")
			receiver.join(t, "numbers")

			numbers := sender.stream(t, "numbers")
			numbers.await(t, true)
			if kill {
				redis.Kill()
			} else {
				redis.Stop()
			}
			numbers.await(t, false)
			for _, n := range []*node{sender, receiver} {
				await.Until(t, "the node is deaf", func() error {
					if n.Healthy() == nil {
						return errors.New("it is not")
					}
					return nil
				})
			}
			wait := receiver.Subscribe("joined meanwhile")
			receiver.Unsubscribe("left meanwhile")
			redis.Restart()
			if err := wait(inTime(t)); err != nil {
				t.Errorf("join while Redis is away: %v", err)
			}
			sender.awaitHealthy(t)
			receiver.awaitHealthy(t)
			numbers.await(t, true)
			outcomes := numbers.end()
			sender.send(t, "end", "numbers")
			receiver.awaitLast(t, "numbers end")

			arrived := make(map[int]bool)
			last := -1
			for _, arrival := range receiver.received() {
				var n int
				if _, err := fmt.Sscanf(arrival, "numbers %d", &n); err != nil {
					continue
				}
				if n <= last {
					t.Fatalf("%d arrived after %d", n, last)
				}
				last, arrived[n] = n, true
			}
			for n, err := range outcomes {
				switch {
				case err == nil:
				case errors.Is(err, backplane.ErrNotSent):
					if arrived[n] {
						t.Errorf("%d arrived, its sender was told %v", n, err)
					}
				case !errors.Is(err, backplane.ErrUnknown):
					t.Errorf("the sender of %d was told %v", n, err)
				}
			}
			if !arrived[0] || !arrived[len(outcomes)-1] {
				t.Error("the first or the last number is missing")
			}
			slices.Sort(channels)
			if got := redis.Channels(t); !slices.Equal(got, channels) {
				t.Errorf("subscribed are %q, want %q", got, channels)
			}
			if gaps, total := receiver.health.gaps(); gaps != 1 || total <= 0 {
				t.Errorf("%d gaps of %v, want one", gaps, total)
			}
		})
	}
}

// A stream is numbers that a node sends one after the other, and what it is told of each.
type stream struct {
	end func() []error // ends it, and returns what was told

	mu       sync.Mutex
	outcomes []error
	times    []gap // of the calls
}

func (n *node) stream(t *testing.T, ch backplane.Channel) *stream {
	s := new(stream)
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			begin := time.Now()
			err := n.Publish(context.Background(), fmt.Append(nil, i), ch)
			s.mu.Lock()
			s.outcomes = append(s.outcomes, err)
			s.times = append(s.times, gap{begin, time.Now()})
			s.mu.Unlock()
		}
	})
	s.end = func() []error {
		stop()
		sending.Wait()
		return s.outcomes
	}
	t.Cleanup(func() { s.end() })
	return s
}

// await waits until some number that is sent from now on is, or is not, successful.
func (s *stream) await(t *testing.T, success bool) {
	t.Helper()
	from := -1
	await.Until(t, fmt.Sprintf("the success of a send is %t", success), func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if from < 0 {
			from = len(s.outcomes)
		}
		if !slices.ContainsFunc(s.outcomes[from:], func(err error) bool { return (err == nil) == success }) {
			return fmt.Errorf("of %d sends", len(s.outcomes)-from)
		}
		return nil
	})
}

func TestStartsWithoutRedis(t *testing.T) {
	redis := redistest.Start(t)
	redis.Stop()
	n := startDeaf(t, redis.URL(), func(o *Options) { o.SubscribeTimeout = 100 * time.Millisecond })
	expectError(t, "publish", n.Publish(inTime(t), nil, "a"), backplane.ErrNotSent)
	wait := n.Subscribe("a", "b")
	expectError(t, "wait", wait(inTime(t)), backplane.ErrUnavailable)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expectError(t, "wait", wait(cancelled), context.Canceled)
	if err := n.Healthy(); err == nil {
		t.Error("healthy without Redis")
	}
	redis.Restart()
	n.awaitHealthy(t)
	if err := wait(inTime(t)); err != nil {
		t.Error(err)
	}
	n.send(t, "hi", "a", "b")
	n.expect(t, "a hi", "b hi")
	if gaps, _ := n.health.gaps(); gaps != 0 {
		t.Errorf("%d gaps before it has heard", gaps)
	}
}

// A subscription connection on which nothing comes any more, or from this side nothing
// gets through, looks like one on which nothing is published.
func TestHalfOpenSubscription(t *testing.T) {
	for name, frozen := range map[string][]redistest.Direction{
		"to client": {redistest.ToClient},
		"both ways": {redistest.ToClient, redistest.ToServer},
	} {
		t.Run(name, func(t *testing.T) {
			redis := redistest.Start(t)
			proxy := redistest.NewProxy(t, redis)
			receiver, sender := start(t, proxy.URL(), probing(100*time.Millisecond)), start(t, redis.URL())
			receiver.join(t, "a")
			sender.send(t, "before", "a")
			receiver.awaitLast(t, "a before")

			pipes := proxy.Subscribers()
			if len(pipes) != 1 {
				t.Fatalf("%d subscription connections, want 1", len(pipes))
			}
			for _, d := range frozen {
				pipes[0].Freeze(d)
			}
			sender.send(t, "unheard", "a")
			await.Until(t, "the gap is over", func() error {
				if gaps, _ := receiver.health.gaps(); gaps == 0 {
					return errors.New("it has not begun")
				}
				return receiver.Healthy()
			})
			sender.send(t, "after", "a")
			receiver.expect(t, "a before", "a after")
			if gaps, total := receiver.health.gaps(); gaps < 1 || total < receiver.prober.interval {
				t.Errorf("%d gaps of %v", gaps, total)
			}
			await.Until(t, "Redis has one subscription left", func() error {
				pipes[0].Cut()
				if n := redis.Subscribers(t, "a"); n != 1 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
		})
	}
}

// The library does not connect by itself where the subscriber does: it would subscribe
// everything at once, and nobody would know of the gap.
func TestOneConnectionForOneLost(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	n := start(t, proxy.URL())
	connections := func() (total int) {
		t.Helper()
		info, err := redis.Client().Info(inTime(t), "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(info) {
			fmt.Sscanf(line, "total_connections_received:%d", &total)
		}
		return total
	}
	before := connections()
	if before < 2 {
		t.Fatalf("%d connections", before)
	}
	for i := range 3 {
		proxy.Subscribers()[0].Cut()
		await.Until(t, "the gap is over", func() error {
			if gaps, _ := n.health.gaps(); gaps != i+1 {
				return fmt.Errorf("%d gaps", gaps)
			}
			return n.Healthy()
		})
	}
	if n := connections() - before; n != 3 {
		t.Errorf("%d connections for 3 that were lost", n)
	}
}

// When the name of Redis comes to mean another server and only the subscription
// connection is lost, the node publishes to the old server and listens to the new one.
func TestPublishesWhereItListens(t *testing.T) {
	before, after := redistest.Start(t), redistest.Start(t)
	proxy := redistest.NewProxy(t, before)
	n := start(t, proxy.URL(), probing(100*time.Millisecond))
	n.join(t, "a")
	proxy.Redirect(after)
	proxy.Subscribers()[0].Cut()
	await.Until(t, "the node listens to the new server", func() error {
		if after.Subscribers(t, "a") != 1 {
			return errors.New("it does not")
		}
		return nil
	})
	n.awaitHealthy(t)
	n.send(t, "hi", "a")
	n.expect(t, "a hi")
}

// A network that loses every packet for a while.
func TestFrozenNetwork(t *testing.T) {
	const timeout = 500 * time.Millisecond
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	n := start(t, proxy.URL(), probing(100*time.Millisecond), func(o *Options) {
		o.PublishTimeout, o.DialTimeout, o.SubscribeTimeout = timeout, timeout, timeout
	})
	n.join(t, "a")
	proxy.Freeze()
	expectError(t, "publish", n.Publish(inTime(t), []byte("frozen"), "a"), backplane.ErrUnknown)
	expectError(t, "publish on a new connection", n.Publish(inTime(t), []byte("frozen"), "a"), backplane.ErrNotSent)
	wait := n.Subscribe("b")
	expectError(t, "wait", wait(inTime(t)), backplane.ErrUnavailable)
	await.Until(t, "the node knows", func() error {
		if n.Healthy() == nil {
			return errors.New("healthy")
		}
		return nil
	})
	proxy.Thaw()
	n.awaitHealthy(t)
	await.Until(t, "what was held meanwhile is in force", func() error { return wait(inTime(t)) })
	await.Until(t, "messages pass", func() error { return n.Publish(inTime(t), []byte("after"), "a", "b") })
	n.awaitLast(t, "b after")
	await.Until(t, "only the present connections are left", func() error {
		if a, b := redis.Subscribers(t, "a"), redis.Subscribers(t, "b"); a != 1 || b != 1 {
			return fmt.Errorf("%d, %d subscribers", a, b)
		}
		return nil
	})
}

// What Redis may have taken is never sent again.
func TestPublishIsNotRepeated(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	sender, receiver := start(t, proxy.URL()), start(t, redis.URL())
	receiver.join(t, "a")
	sender.send(t, "before", "a")
	publisher := proxy.Publishers()
	if len(publisher) != 1 {
		t.Fatalf("%d publishing connections, want 1", len(publisher))
	}
	publisher[0].Freeze(redistest.ToClient)
	result := make(chan error, 1)
	go func() { result <- sender.Publish(context.Background(), []byte("once"), "a") }()
	receiver.awaitLast(t, "a once")
	publisher[0].Cut()
	expectError(t, "publish without a reply", <-result, backplane.ErrUnknown)
	sender.send(t, "after", "a")
	receiver.expect(t, "a before", "a once", "a after")
}

// A pipeline that was stuck on the way and comes late neither reorders nor doubles.
func TestLatePipeline(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	sender := start(t, proxy.URL(), func(o *Options) { o.PublishTimeout = time.Second })
	receiver := start(t, redis.URL())
	receiver.join(t, "a")
	sender.send(t, "before", "a")
	witness := redis.Client().Subscribe(t.Context(), "a")
	defer witness.Close()
	if _, err := witness.Receive(inTime(t)); err != nil {
		t.Fatal(err)
	}

	stuck := proxy.Publishers()[0]
	stuck.Freeze(redistest.ToServer)
	expectError(t, "publish", sender.Publish(inTime(t), []byte("late"), "a"), backplane.ErrUnknown)
	sender.send(t, "after", "a")
	stuck.Thaw(redistest.ToServer)
	for _, want := range []string{"after", "late"} {
		m, err := witness.ReceiveMessage(inTime(t))
		if err != nil || !strings.HasSuffix(m.Payload, want) {
			t.Fatalf("Redis got %v, %v, want %q", m, err, want)
		}
	}
	sender.send(t, "end", "a")
	receiver.expect(t, "a before", "a after", "a end")
	if n := testutil.ToFloat64(receiver.metrics.late); n != 1 {
		t.Errorf("%v late envelopes counted, want 1", n)
	}
}

func TestPasswords(t *testing.T) {
	redis := redistest.Start(t, "--requirepass", "right")
	address := strings.TrimPrefix(redis.URL(), "redis://")
	for password, want := range map[string]string{":wrong@": "WRONGPASS", "": "NOAUTH"} {
		n := startDeaf(t, "redis://"+password+address, func(o *Options) { o.SubscribeTimeout = 100 * time.Millisecond })
		expectError(t, "publish", n.Publish(inTime(t), nil, "a"), backplane.ErrNotSent)
		err := n.Subscribe("a")(inTime(t))
		expectError(t, "wait", err, backplane.ErrUnavailable)
		await.Until(t, "the node says why", func() error {
			if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wrong@") {
				return fmt.Errorf("it says %v, want %s", err, want)
			}
			return nil
		})
	}
	n := start(t, "redis://:right@"+address)
	n.join(t, "a")
	n.send(t, "hi", "a")
	n.expect(t, "a hi")
}

// startWithACL starts a Redis with a user app, password pw, that has these rules for
// channels.
func startWithACL(t *testing.T, rules ...string) *redistest.Server {
	t.Helper()
	return redistest.Start(t, append([]string{"--user", "app", "on", ">pw", "~*", "+@all"}, rules...)...)
}

// Where Redis takes some of the channels and refuses others, nobody can say that
// nothing was sent.
func TestRefusedChannels(t *testing.T) {
	redis := startWithACL(t, "resetchannels", "&node:*", "&all", "&allowed")
	n := start(t, "redis://app:pw@"+strings.TrimPrefix(redis.URL(), "redis://"))
	n.join(t, "allowed")
	expectError(t, "publish on a forbidden channel", n.Publish(inTime(t), []byte("1"), "forbidden"), backplane.ErrNotSent)
	expectError(t, "publish on both", n.Publish(inTime(t), []byte("2"), "forbidden", "allowed"), backplane.ErrUnknown)
	n.send(t, "3", "allowed")
	n.expect(t, "allowed 2", "allowed 3")
	if got, want := testutil.ToFloat64(n.metrics.errors.WithLabelValues("not_sent")), 1.0; got != want {
		t.Errorf("%v not sent, want %v", got, want)
	}
	if got, want := testutil.ToFloat64(n.metrics.errors.WithLabelValues("unknown")), 1.0; got != want {
		t.Errorf("%v unknown, want %v", got, want)
	}
}

// A node that may not publish cannot prove that it hears. Connecting anew would not
// help, so it hears on.
func TestRefusedProbe(t *testing.T) {
	redis := startWithACL(t, "&*")
	n := start(t, "redis://app:pw@"+strings.TrimPrefix(redis.URL(), "redis://"), probing(100*time.Millisecond))
	n.join(t, "a")
	acl := func(rule string) {
		t.Helper()
		if err := redis.Client().Do(inTime(t), "acl", "setuser", "app", rule).Err(); err != nil {
			t.Fatal(err)
		}
	}
	acl("-publish")
	await.Until(t, "the node says so", func() error {
		if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	if err := redis.Client().Publish(inTime(t), "a", "{}").Err(); err != nil {
		t.Fatal(err)
	}
	n.expect(t, "a {}")
	acl("+publish")
	n.awaitHealthy(t)
}

// Close does not wait for a Redis that does not answer.
func TestCloseWithoutAnswer(t *testing.T) {
	redis := redistest.Start(t)
	n := start(t, redis.URL(), func(o *Options) {
		o.PublishTimeout, o.DialTimeout, o.SubscribeTimeout = time.Hour, time.Hour, time.Hour
	})
	n.join(t, "a")
	redis.Pause()
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			expectError(t, "publish", n.Publish(context.Background(), []byte("hi"), "a"), backplane.ErrClosed)
		})
		group.Go(func() {
			expectError(t, "wait", n.Subscribe("b")(context.Background()), backplane.ErrClosed)
		})
	}
	await.Until(t, "all are on their way", func() error {
		n.lane.mu.Lock()
		defer n.lane.mu.Unlock()
		if n.lane.sequence < 2 || n.lane.messages == 0 {
			return fmt.Errorf("%d sent, %d wait", n.lane.sequence, n.lane.messages)
		}
		return nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Close()
		group.Wait()
	}()
	select {
	case <-done:
	case <-time.After(await.Deadline):
		t.Fatal("Close waits")
	}
}
