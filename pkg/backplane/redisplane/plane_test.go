package redisplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/backplanetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// soak reports whether all rounds are wanted, and not the tenth of them.
func soak() bool { return os.Getenv("HELIOGRAPH_SOAK") == "1" }

func TestContract(t *testing.T) {
	redis := redistest.Start(t)
	backplanetest.Run(t, func(*testing.T) backplanetest.Cluster {
		return backplanetest.Cluster{
			Node: func(t *testing.T) backplane.Backplane {
				p, err := New(Options{URL: redis.URL(), Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				return p
			},
		}
	})
}

// A node is a plane with one attachment, and what that has received.
type node struct {
	*Plane
	backplane.Attachment
	*recorder
}

// probing makes the node probe this often, for tests in which it is to find itself deaf.
func probing(d time.Duration) func(*Options) {
	return func(o *Options) { o.ProbeInterval = d }
}

// start starts a node and waits until it hears.
func start(t testing.TB, url string, options ...func(*Options)) *node {
	t.Helper()
	n := startDeaf(t, url, options...)
	n.awaitHealthy(t)
	return n
}

// startDeaf does not wait.
func startDeaf(t testing.TB, url string, options ...func(*Options)) *node {
	t.Helper()
	o := Options{URL: url, Logger: slog.New(slog.DiscardHandler)}
	for _, set := range options {
		set(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	n := &node{Plane: p, recorder: newRecorder()}
	if n.Attachment, err = p.Attach("", n.recorder); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) awaitHealthy(t testing.TB) {
	t.Helper()
	await.Until(t, "the node hears", n.Healthy)
}

// join subscribes and waits until that is in force.
func (n *node) join(t testing.TB, channels ...backplane.Channel) {
	t.Helper()
	if err := n.Subscribe(channels...)(inTime(t)); err != nil {
		t.Fatal(err)
	}
}

// send publishes, and fails the test if that fails.
func (n *node) send(t testing.TB, body string, channels ...backplane.Channel) {
	t.Helper()
	if err := n.Publish(inTime(t), []byte(body), channels...); err != nil {
		t.Fatal(err)
	}
}

func inTime(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	t.Cleanup(cancel)
	return ctx
}

// A recorder is a receiver that keeps what arrives: "channel body".
type recorder struct {
	mu       sync.Mutex
	arrivals []string
}

func newRecorder() *recorder { return &recorder{} }

// Deliver implements [backplane.Receiver].
func (r *recorder) Deliver(ch backplane.Channel, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals = append(r.arrivals, string(ch)+" "+string(body))
}

func (r *recorder) received() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrivals)
}

// awaitLast waits until the last arrival is this one.
func (r *recorder) awaitLast(t testing.TB, last string) {
	t.Helper()
	await.Until(t, fmt.Sprintf("%q has arrived", last), func() error {
		if got := r.received(); len(got) == 0 || got[len(got)-1] != last {
			return fmt.Errorf("%d have arrived, at last %q", len(got), got[max(0, len(got)-3):])
		}
		return nil
	})
}

func (r *recorder) expect(t testing.TB, want ...string) {
	t.Helper()
	if len(want) > 0 {
		r.awaitLast(t, want[len(want)-1])
	}
	if got := r.received(); !slices.Equal(got, want) {
		t.Errorf("received %q, want %q", got, want)
	}
}

func expectError(t testing.TB, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: error is %v, want %v", what, err, w)
		}
	}
}

// A join that has returned is effective: what is sent afterwards arrives, however long
// the subscription took.
func TestJoinThenSend(t *testing.T) {
	const workers, delay = 4, 20 * time.Millisecond
	rounds := 100
	if soak() {
		rounds = 1000
	}
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	proxy.DelaySubscribers(delay)
	receiver, sender := start(t, proxy.URL()), start(t, redis.URL())
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range rounds / workers {
				group := backplane.Group(fmt.Sprint(w, " ", i%3)) // so that most are joined again
				if err := receiver.Subscribe(group)(inTime(t)); err != nil {
					t.Error(err)
				}
				if err := sender.Publish(inTime(t), fmt.Append(nil, i), group); err != nil {
					t.Error(err)
				}
				receiver.Unsubscribe(group)
			}
		})
	}
	group.Wait()
	receiver.join(t, "end")
	sender.send(t, "end", "end")
	receiver.awaitLast(t, "end end")
	if n := len(receiver.received()) - 1; n != rounds {
		t.Errorf("%d of %d arrived", n, rounds)
	}
}

func TestRedisRestarts(t *testing.T) {
	for _, kill := range []bool{false, true} {
		t.Run(fmt.Sprint("kill=", kill), func(t *testing.T) {
			redis := redistest.Start(t)
			sender, receiver := start(t, redis.URL()), start(t, redis.URL())
			var channels []string
			for i := range 250 {
				ch := backplane.User(fmt.Sprint(i))
				receiver.Subscribe(ch)
				channels = append(channels, string(ch))
			}
			receiver.join(t, "numbers")
			before := append([]string{"all", "numbers", "node:" + sender.NodeID(), "node:" + receiver.NodeID()}, channels...)
			slices.Sort(before)

			// The sender goes on through it all; what it is told of each is kept.
			ctx, stop := context.WithCancel(t.Context())
			var sent []error
			var failures, successes sync.WaitGroup
			failures.Add(1)
			successes.Add(1)
			failed, succeeded := sync.OnceFunc(failures.Done), sync.OnceFunc(successes.Done)
			var away bool
			var awayMu sync.Mutex
			var sending sync.WaitGroup
			sending.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					err := sender.Publish(context.Background(), fmt.Appendf(nil, "%d", i), "numbers")
					sent = append(sent, err)
					awayMu.Lock()
					if away && err != nil {
						failed()
					} else if !away && err == nil && failuresSeen(sent) {
						succeeded()
					}
					awayMu.Unlock()
				}
			})
			set := func(v bool) {
				awayMu.Lock()
				defer awayMu.Unlock()
				away = v
			}
			await.Until(t, "numbers arrive", func() error {
				if len(receiver.received()) < 100 {
					return errors.New("too few")
				}
				return nil
			})
			set(true)
			if kill {
				redis.Kill()
			} else {
				redis.Stop()
			}
			failures.Wait()
			await.Until(t, "both nodes are deaf", func() error {
				if sender.Healthy() == nil || receiver.Healthy() == nil {
					return errors.New("not yet")
				}
				return nil
			})
			wait := receiver.Subscribe("joined meanwhile")
			receiver.Unsubscribe(backplane.User("0"))
			redis.Restart()
			set(false)
			if err := wait(inTime(t)); err != nil {
				t.Errorf("join while Redis is away: %v", err)
			}
			sender.awaitHealthy(t)
			receiver.awaitHealthy(t)
			successes.Wait()
			stop()
			sending.Wait()
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
			for i, err := range sent {
				switch {
				case err == nil:
				case errors.Is(err, backplane.ErrNotSent):
					if arrived[i] {
						t.Errorf("%d arrived, its sender was told %v", i, err)
					}
				case !errors.Is(err, backplane.ErrUnknown):
					t.Errorf("sender was told %v", err)
				}
			}
			after := append(slices.DeleteFunc(before, func(ch string) bool { return ch == "user:0" }), "joined meanwhile")
			slices.Sort(after)
			if got := redis.Channels(t); !slices.Equal(got, after) {
				t.Errorf("subscribed are %q, want %q", got, after)
			}
			if gaps, total := receiver.health.gaps(); gaps != 1 || total <= 0 {
				t.Errorf("%d gaps of %v, want one", gaps, total)
			}
		})
	}
}

func failuresSeen(sent []error) bool {
	return slices.ContainsFunc(sent, func(err error) bool { return err != nil })
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
	old, new := redistest.Start(t), redistest.Start(t)
	proxy := redistest.NewProxy(t, old)
	n := start(t, proxy.URL(), probing(100*time.Millisecond))
	n.join(t, "a")
	proxy.Redirect(new)
	proxy.Subscribers()[0].Cut()
	await.Until(t, "the node listens to the new server", func() error {
		if new.Subscribers(t, "a") != 1 {
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
	publisher := proxy.Others()
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

	stuck := proxy.Others()[0]
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

// After any storm of joins and leaves on nodes whose connections break, exactly what is
// held is subscribed.
func TestStorm(t *testing.T) {
	const channels, workers = 100, 4
	steps := 2000
	if soak() {
		steps = 20_000
	}
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	nodes := []*node{start(t, redis.URL()), start(t, proxy.URL())}
	held := make([]map[string]int, len(nodes)) // counts of holders
	var done atomic.Int64                      // steps
	var mu sync.Mutex
	var group sync.WaitGroup
	for i, n := range nodes {
		held[i] = map[string]int{"all": 1, "node:" + n.NodeID(): 1}
		for w := range workers {
			group.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), uint64(w)))
				for range steps / workers / len(nodes) {
					done.Add(1)
					ch := backplane.Group(fmt.Sprint(random.IntN(channels)))
					mu.Lock()
					if held[i][string(ch)] > 0 && random.IntN(2) == 0 {
						held[i][string(ch)]--
						n.Unsubscribe(ch)
						mu.Unlock()
						continue
					}
					held[i][string(ch)]++
					wait := n.Subscribe(ch)
					mu.Unlock()
					if random.IntN(4) == 0 {
						if err := wait(inTime(t)); err != nil && !errors.Is(err, backplane.ErrUnavailable) {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	for i := range 5 {
		await.Until(t, "the storm goes on", func() error {
			if n := int(done.Load()); n < steps/6*(i+1) {
				return fmt.Errorf("%d steps of %d", n, steps)
			}
			return nil
		})
		proxy.Cut()
	}
	group.Wait()

	want := make(map[string]int) // nodes
	for _, m := range held {
		for ch, holders := range m {
			if holders > 0 {
				want[ch]++
			}
		}
	}
	await.Until(t, "Redis' subscriptions equal the model", func() error {
		got := redis.Channels(t)
		for _, ch := range got {
			if n := redis.Subscribers(t, ch); n != want[ch] {
				return fmt.Errorf("%q has %d subscribers, want %d", ch, n, want[ch])
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("%d channels, want %d", len(got), len(want))
		}
		return nil
	})
	for _, n := range nodes {
		n.Detach()
	}
	await.Until(t, "nothing but the nodes' own channels is left", func() error {
		if got := redis.Channels(t); len(got) != len(nodes) {
			return fmt.Errorf("%q are", got)
		}
		return nil
	})
}

// Any program with a Redis client can publish.
func TestPlainJSON(t *testing.T) {
	redis := redistest.Start(t)
	n := start(t, redis.URL())
	chat := newRecorder()
	a, err := n.Attach("chat/", chat)
	if err != nil {
		t.Fatal(err)
	}
	n.join(t, backplane.User("ada"))
	if err := a.Subscribe(backplane.User("ada"))(inTime(t)); err != nil {
		t.Fatal(err)
	}
	const one, two, three = `{"target":"ReceiveMessage","arguments":["hi"]}`, `{"target":2}`, `{`
	for _, publish := range [][2]string{
		{"user:ada", ""},
		{"user:ada", "\x00"},
		{"user:ada", "\x01"},
		{"user:ada", "\x02 of the future"},
		{"user:ada", `["no"]`},
		{"user:ada", one},
		{"chat/user:ada", two},
		{"user:ada", three},
	} {
		if err := redis.Client().Publish(inTime(t), publish[0], publish[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	n.expect(t, "user:ada "+one, "user:ada "+three)
	chat.expect(t, "user:ada "+two)
	if malformed, version := testutil.ToFloat64(n.metrics.malformed), testutil.ToFloat64(n.metrics.unknownVersion); malformed != 2 || version != 3 {
		t.Errorf("counted %v malformed, %v of unknown version, want 2, 3", malformed, version)
	}
}

// What is published under a prefix that nobody has, or no longer, is for nobody.
func TestUnattached(t *testing.T) {
	redis := redistest.Start(t)
	n := start(t, redis.URL())
	ch := backplane.Channel("chat/x")
	n.join(t, ch) // by a hub that did not keep to its channels
	n.send(t, "lost", ch)
	n.join(t, "group:chat/x")
	n.send(t, "hi", "group:chat/x")
	n.expect(t, "group:chat/x hi")
	if n := testutil.ToFloat64(n.metrics.unattached); n != 1 {
		t.Errorf("%v counted, want 1", n)
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

func TestMetrics(t *testing.T) {
	redis := redistest.Start(t)
	registry := prometheus.NewRegistry()
	register := func(o *Options) { o.Registerer = registry }
	n := start(t, redis.URL(), register)
	n.join(t, "a", "b")
	n.send(t, "hi", "a", "b")
	n.awaitLast(t, "b hi")
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "heliograph_backplane_") {
			t.Errorf("metric %s", f.GetName())
		}
		if m := f.GetMetric()[0]; len(f.GetMetric()) == 1 {
			values[strings.TrimPrefix(f.GetName(), "heliograph_backplane_")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{"subscriptions": 4, "subscriptions_pending": 0, "healthy": 1, "gaps_total": 0, "gap_seconds_total": 0} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if values["published_total"] < 3 || values["received_total"] < 3 {
		t.Errorf("published %v, received %v", values["published_total"], values["received_total"])
	}
	if _, err := New(Options{URL: redis.URL(), Registerer: registry}); err == nil {
		t.Error("metrics were registered twice")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry); err != nil || n != 0 {
		t.Errorf("%d metrics are left, %v", n, err)
	}
	start(t, redis.URL(), register)
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
