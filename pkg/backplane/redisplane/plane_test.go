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
	runContract(t, Options{URL: redistest.Start(t).URL()})
}

func runContract(t *testing.T, o Options) {
	o.Logger = slog.New(slog.DiscardHandler)
	backplanetest.Run(t, func(*testing.T) backplanetest.Cluster {
		return backplanetest.Cluster{
			Node: func(t *testing.T) backplane.Backplane {
				p, err := New(o)
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
	*partition
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
	n := &node{Plane: p, partition: p.first, recorder: newRecorder()}
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
