package redisplane

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// jam starts a sender whose next message stays in flight, and a receiver of the channel
// "a"; free lets it go on.
func jam(t *testing.T, options ...func(*Options)) (sender, receiver *node, free func()) {
	t.Helper()
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	options = append([]func(*Options){func(o *Options) {
		o.PublishTimeout, o.ProbeInterval = time.Hour, time.Hour // nothing else moves
	}}, options...)
	sender, receiver = start(t, proxy.URL(), options...), start(t, redis.URL())
	receiver.join(t, "a")
	sender.send(t, "before", "a")
	receiver.awaitLast(t, "a before")
	pipe := proxy.Publishers()[0]
	pipe.Freeze(redistest.ToServer)
	return sender, receiver, func() { pipe.Thaw(redistest.ToServer) }
}

// later publishes, and returns where the outcome will be.
func (n *node) later(ctx context.Context, body string, channels ...backplane.Channel) <-chan error {
	result := make(chan error, 1)
	go func() { result <- n.Publish(ctx, []byte(body), channels...) }()
	return result
}

// awaitLane waits until this many messages have been sent, and wait.
func (n *node) awaitLane(t *testing.T, sent uint64, waiting int) {
	t.Helper()
	await.Until(t, fmt.Sprintf("%d are sent and %d wait", sent, waiting), func() error {
		n.lane.mu.Lock()
		defer n.lane.mu.Unlock()
		if n.lane.sequence != sent || n.lane.messages != waiting {
			return fmt.Errorf("%d are sent, %d wait", n.lane.sequence, n.lane.messages)
		}
		return nil
	})
}

func (n *node) sent() uint64 {
	n.lane.mu.Lock()
	defer n.lane.mu.Unlock()
	return n.lane.sequence
}

// A publisher whose context ends waits no longer. What is in flight goes on, what waits
// does not.
func TestPublishContextEnds(t *testing.T) {
	sender, receiver, free := jam(t)
	sent := sender.sent()
	flying, stopFlying := context.WithCancel(t.Context())
	inFlight := sender.later(flying, "in flight", "a")
	sender.awaitLane(t, sent+1, 0)
	waiting, stopWaiting := context.WithTimeout(t.Context(), time.Millisecond)
	defer stopWaiting()
	expectError(t, "publish what waits", sender.Publish(waiting, []byte("waiting"), "a", "a"), backplane.ErrNotSent, context.DeadlineExceeded)
	sender.awaitLane(t, sent+1, 0)
	stopFlying()
	expectError(t, "publish what is in flight", <-inFlight, backplane.ErrUnknown, context.Canceled)
	expectError(t, "publish in a context that has ended", sender.Publish(flying, []byte("never"), "a"), backplane.ErrNotSent, context.Canceled)
	free()
	sender.send(t, "after", "a")
	receiver.expect(t, "a before", "a in flight", "a after")
}

// Of a message for more channels than one pipeline has room for, some may be in flight
// while the others wait.
func TestPublishContextEndsHalfway(t *testing.T) {
	sender, receiver, free := jam(t)
	sent := sender.sent()
	ctx, cancel := context.WithCancel(t.Context())
	channels := slices.Repeat([]backplane.Channel{"a"}, maxPipelineMessages+5)
	result := sender.later(ctx, "x", channels...)
	sender.awaitLane(t, sent+maxPipelineMessages, 5)
	cancel()
	expectError(t, "publish", <-result, backplane.ErrUnknown, context.Canceled)
	sender.awaitLane(t, sent+maxPipelineMessages, 0)
	free()
	sender.send(t, "after", "a")
	receiver.awaitLast(t, "a after")
	if n := len(receiver.received()) - 2; n != maxPipelineMessages {
		t.Errorf("%d arrived, want %d", n, maxPipelineMessages)
	}
}

func TestQueueIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		set  func(*Options)
		body string
		fits int
	}{
		"messages": {func(o *Options) { o.MaxQueuedMessages = 10 }, "x", 10},
		"bytes":    {func(o *Options) { o.MaxQueuedBytes = 10_000 }, strings.Repeat("x", 2000), 4},
		"one":      {func(o *Options) { o.MaxQueuedBytes = 10 }, strings.Repeat("x", 2000), 1},
	} {
		t.Run(name, func(t *testing.T) {
			sender, receiver, free := jam(t, test.set)
			sent := sender.sent()
			results := []<-chan error{sender.later(t.Context(), "first", "a")}
			sender.awaitLane(t, sent+1, 0)
			for i := range test.fits {
				results = append(results, sender.later(t.Context(), test.body, "a"))
				sender.awaitLane(t, sent+1, i+1)
			}
			expectError(t, "publish", sender.Publish(t.Context(), []byte(test.body), "a"), backplane.ErrNotSent, errQueueFull)
			free()
			for _, result := range results {
				if err := <-result; err != nil {
					t.Error(err)
				}
			}
			sender.send(t, "after", "a")
			receiver.awaitLast(t, "a after")
			if n := len(receiver.received()) - 3; n != test.fits {
				t.Errorf("%d arrived of those that waited, want %d", n, test.fits)
			}
		})
	}
}

// The node's own probe passes a queue that is full, or the node would take itself for
// deaf because it has much to say.
func TestProbePassesTheQueue(t *testing.T) {
	sender, receiver, free := jam(t, func(o *Options) { o.MaxQueuedMessages = 1 })
	receiver.join(t, sender.Channel())
	sent := sender.sent()
	first := sender.later(t.Context(), "first", "a")
	sender.awaitLane(t, sent+1, 0)
	second := sender.later(t.Context(), "second", sender.Channel())
	sender.awaitLane(t, sent+1, 1)
	probe, err := sender.lane.probe([]byte("probe"), string(sender.Channel()))
	if err != nil {
		t.Fatal(err)
	}
	free()
	for _, result := range []<-chan error{first, second} {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	<-probe.done
	node := string(sender.Channel())
	receiver.expect(t, "a before", "a first", node+" probe", node+" second")
}

// Channel returns the node's own.
func (n *node) Channel() backplane.Channel { return backplane.Node(n.NodeID()) }

// What waits while a pipeline is in flight becomes one pipeline.
func TestPipelines(t *testing.T) {
	sender, receiver, free := jam(t)
	sent := sender.sent()
	before := testutil.ToFloat64(sender.metrics.pipelines)
	const messages = 100
	results := []<-chan error{sender.later(t.Context(), "first", "a")}
	sender.awaitLane(t, sent+1, 0)
	for i := range messages {
		results = append(results, sender.later(t.Context(), strconv.Itoa(i), "a"))
		sender.awaitLane(t, sent+1, i+1)
	}
	free()
	for _, result := range results {
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
	want := []string{"a before", "a first"}
	for i := range messages {
		want = append(want, "a "+strconv.Itoa(i))
	}
	receiver.expect(t, want...)
	if n := testutil.ToFloat64(sender.metrics.pipelines) - before; n != 2 {
		t.Errorf("%v pipelines, want 2", n)
	}
}

// The requests that come and go in the queue, at random, against a slice.
func TestRequests(t *testing.T) {
	var q requests
	var want []*request
	check := func() {
		t.Helper()
		var forward, backward []*request
		for r := q.first; r != nil; r = r.after {
			forward = append(forward, r)
		}
		for r := q.last; r != nil; r = r.before {
			backward = append(backward, r)
		}
		slices.Reverse(backward)
		if !slices.Equal(forward, want) || !slices.Equal(backward, want) {
			t.Fatalf("queue is %v and %v, want %v", forward, backward, want)
		}
	}
	for i := range 1000 {
		switch r := new(request); i % 7 {
		case 0, 3, 5:
			q.pushBack(r)
			want = append(want, r)
		case 1:
			q.pushFront(r)
			want = slices.Insert(want, 0, r)
		default:
			if len(want) > 0 {
				at := i * 31 % len(want)
				r = want[at]
				want = slices.Delete(want, at, at+1)
				if !q.remove(r) {
					t.Fatal("not in the queue")
				}
			}
			if q.remove(r) {
				t.Fatal("was not in the queue")
			}
		}
		check()
	}
}

// A connection that Redis has closed while nothing was sent is noticed before something
// is: that costs nobody a message.
func TestPublishAfterIdleConnectionWasClosed(t *testing.T) {
	redis := redistest.Start(t)
	sender := start(t, redis.URL(), func(o *Options) { o.ProbeInterval = time.Hour })
	sender.send(t, "before", "a")
	for range 3 {
		before := sender.lane.link
		if err := redis.Client().Do(inTime(t), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		sender.send(t, "after", "a")
		if sender.lane.link != before {
			t.Error("the link was replaced")
		}
	}
}

// BenchmarkPublish is 32 goroutines that each publish 200 bytes and wait for the
// outcome, through a lane, with and without signing, and through the Redis library alone,
// on as many connections as it likes.
func BenchmarkPublish(b *testing.B) {
	const senders = 32
	body := []byte(strings.Repeat("x", 200))
	run := func(b *testing.B, publish func(context.Context) error) {
		b.ReportAllocs()
		b.ResetTimer()
		var group sync.WaitGroup
		for s := range senders {
			group.Go(func() {
				for range (b.N + s) / senders {
					if err := publish(context.Background()); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		group.Wait()
	}
	b.Run("lane", func(b *testing.B) {
		n := start(b, redistest.Start(b).URL())
		run(b, func(ctx context.Context) error { return n.Publish(ctx, body, "group:benchmark") })
	})
	b.Run("signing lane", func(b *testing.B) {
		n := start(b, redistest.Start(b).URL(), keyed(firstKey))
		run(b, func(ctx context.Context) error { return n.Publish(ctx, body, "group:benchmark") })
	})
	b.Run("library", func(b *testing.B) {
		options, err := redis.ParseURL(redistest.Start(b).URL())
		if err != nil {
			b.Fatal(err)
		}
		c := redis.NewClient(options)
		defer c.Close()
		run(b, func(ctx context.Context) error { return c.Publish(ctx, "group:benchmark", body).Err() })
	})
}

// BenchmarkDeliver is one message of 200 bytes, from Publish to Deliver on another node,
// with 32 goroutines that publish.
func BenchmarkDeliver(b *testing.B) {
	const senders = 32
	url := redistest.Start(b).URL()
	sender, receiver := start(b, url), start(b, url)
	counting := &countdown{done: make(chan struct{})}
	a, err := receiver.Attach("bench/", counting)
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Subscribe("a")(inTime(b)); err != nil {
		b.Fatal(err)
	}
	out, err := sender.Attach("bench/", newRecorder())
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(strings.Repeat("x", 200))
	counting.left = b.N / senders * senders
	if counting.left == 0 {
		close(counting.done)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var group sync.WaitGroup
	for range senders {
		group.Go(func() {
			for range b.N / senders {
				if err := out.Publish(context.Background(), body, "a"); err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
	<-counting.done
}

// A countdown is a receiver that closes done when nothing is left to come.
type countdown struct {
	left int
	done chan struct{}
}

// Deliver implements [backplane.Receiver].
func (c *countdown) Deliver(backplane.Channel, []byte) {
	if c.left--; c.left == 0 {
		close(c.done)
	}
}
