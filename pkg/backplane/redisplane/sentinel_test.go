package redisplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// The subtests share the sentinels: it takes seconds until they know each other.
func TestSentinel(t *testing.T) {
	sentinels := redistest.StartSentinels(t)

	t.Run("Contract", func(t *testing.T) {
		runContract(t, Options{URL: sentinels.URL(), ProbeInterval: time.Second})
	})

	t.Run("SaysWhy", func(t *testing.T) {
		url := sentinels.URL()
		for _, test := range []struct{ url, want string }{
			{url + "more", `knows no master "mainmore"`},
			{"redis+sentinel://" + sentinels.Servers[0].Addr() + "/main", `its role is "master", not "sentinel"`},
			{"redis+sentinel://127.0.0.1:1/main", "connection refused"},
		} {
			n := startDeaf(t, test.url)
			await.Until(t, "the node says why it is deaf", func() error {
				if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), test.want) {
					return fmt.Errorf("it says %v, want %s", err, test.want)
				}
				return nil
			})
		}
	})

	t.Run("OneOfThreeIsEnough", func(t *testing.T) {
		for _, s := range sentinels.Sentinels[:2] {
			s.Kill()
		}
		n := start(t, sentinels.URL())
		n.join(t, "a")
		n.send(t, "hi", "a")
		n.expect(t, "a hi")
		for _, s := range sentinels.Sentinels[:2] {
			s.Restart()
		}
	})

	t.Run("SlowSentinel", func(t *testing.T) {
		sentinels.Sentinels[0].Pause()
		defer sentinels.Sentinels[0].Resume()
		n := start(t, sentinels.URL(), func(o *Options) { o.DialTimeout = time.Hour })
		n.join(t, "a")
	})

	t.Run("Failover", func(t *testing.T) {
		failOver(t, sentinels.URL(), sentinels.Master, true, func(*redistest.Server) { sentinels.Failover() })
	})

	t.Run("Kill", func(t *testing.T) {
		failOver(t, sentinels.URL(), sentinels.Master, false, (*redistest.Server).Kill)
	})
}

// failOver has another server become the master while a node publishes, and holds both
// ends to what they promise. A server that does not live takes with it what it has taken
// and not yet handed on.
func failOver(t *testing.T, url string, master func() *redistest.Server, lives bool, provoke func(master *redistest.Server)) {
	gaps := new(gapLog)
	sender := start(t, url)
	receiver := start(t, url, func(o *Options) { o.Logger = slog.New(gaps) })
	for i := range 250 {
		receiver.Subscribe(backplane.User(fmt.Sprint(i)))
	}
	receiver.join(t, "numbers")
	before := master()
	numbers := sender.stream(t, "numbers")
	numbers.await(t, true)

	start := time.Now()
	provoke(before)
	await.Until(t, "the nodes have another master", func() error {
		for _, n := range []*node{sender, receiver} {
			if n.site.lookout.is(n.site.place, before.Addr()) {
				return errors.New("they have not")
			}
		}
		return nil
	})
	wait := receiver.Subscribe("joined meanwhile")
	await.Until(t, "the join is in force", func() error { return wait(inTime(t)) })
	numbers.await(t, true)
	t.Logf("sends succeed again, and joins are in force, after %v", time.Since(start).Round(time.Millisecond))
	sender.awaitHealthy(t)
	receiver.awaitHealthy(t)
	t.Logf("the gap has ended after %v", time.Since(start).Round(time.Millisecond))
	sent := len(numbers.end())
	sender.send(t, "end", "numbers")
	sender.send(t, "hi", "joined meanwhile", "user:249")
	receiver.awaitLast(t, "user:249 hi")

	after := master()
	if after == before {
		t.Fatal("the master is the same")
	}
	got := after.Channels(t)
	for _, ch := range []string{"numbers", "joined meanwhile", "user:0", "node:" + sender.NodeID(), "node:" + receiver.NodeID()} {
		if !slices.Contains(got, ch) {
			t.Errorf("%q is not subscribed at the new master", ch)
		}
	}
	checkNumbers(t, receiver.received(), "numbers", numbers, gaps, lives)
	if closed := gaps.closed(); len(closed) != 1 {
		t.Errorf("%d gaps, want 1: %v", len(closed), closed)
	}
	t.Logf("%d numbers sent", sent)

	if !lives {
		return
	}
	await.Until(t, "nobody is left at the former master", func() error {
		if left := before.Channels(t); slices.Contains(left, "numbers") {
			return fmt.Errorf("%d channels are", len(left))
		}
		return nil
	})
}

// checkNumbers checks that what arrived of a stream is in order and no more than once,
// and that what did not arrive was not promised: it was sent in a gap or, where the server
// did not live, next before one.
func checkNumbers(t *testing.T, arrivals []string, ch backplane.Channel, numbers *stream, gaps *gapLog, lives bool) {
	t.Helper()
	arrived := make(map[int]bool)
	last := -1
	for _, arrival := range arrivals {
		var n int
		if _, err := fmt.Sscanf(arrival, string(ch)+" %d", &n); err != nil {
			continue
		}
		if n <= last {
			t.Fatalf("%d arrived after %d", n, last)
		}
		last, arrived[n] = n, true
	}
	lost := 0
	var end time.Time // of the next number that arrived, where the server did not live
	for n, err := range slices.Backward(numbers.outcomes) {
		if arrived[n] || lives {
			end = numbers.times[n].to
		}
		switch {
		case err == nil && !arrived[n]:
			lost++
			if !gaps.covers(gap{numbers.times[n].from, end}) {
				t.Errorf("%d did not arrive, though it was sent at %v, in no gap of %v", n, numbers.times[n], gaps.closed())
			}
		case err == nil:
		case errors.Is(err, backplane.ErrNotSent):
			if arrived[n] {
				t.Errorf("%d arrived, its sender was told %v", n, err)
			}
		case !errors.Is(err, backplane.ErrUnknown):
			t.Errorf("the sender of %d was told %v", n, err)
		}
	}
	t.Logf("%d numbers were taken by redis and lost in the gap", lost)
}

// A gapLog is a log handler that keeps when a node was deaf.
type gapLog struct {
	mu    sync.Mutex
	since time.Time
	gaps  []gap
}

type gap struct{ from, to time.Time }

func (g gap) String() string {
	return fmt.Sprintf("%v to %v", g.from.Format(time.StampMilli), g.to.Format(time.StampMilli))
}

func (l *gapLog) Enabled(context.Context, slog.Level) bool { return true }

func (l *gapLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch r.Message {
	case "deaf to the cluster":
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "since" {
				l.since = a.Value.Time()
			}
			return true
		})
	case "hears the cluster again":
		l.gaps = append(l.gaps, gap{l.since, r.Time})
	}
	return nil
}

func (l *gapLog) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *gapLog) WithGroup(string) slog.Handler { return l }

func (l *gapLog) closed() []gap {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.gaps)
}

// covers reports whether some gap has a moment of what began and ended then.
func (l *gapLog) covers(of gap) bool {
	return slices.ContainsFunc(l.closed(), func(g gap) bool { return of.to.After(g.from) && of.from.Before(g.to) })
}

// While some node may still publish at the former master, the gap goes on.
func TestGapUntilAllHaveLeft(t *testing.T) {
	o, err := Options{URL: "redis+sentinel://127.0.0.1:1/main", Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	target, err := o.target()
	if err != nil {
		t.Fatal(err)
	}
	for since, want := range map[time.Duration]bool{0: false, settlePause - time.Minute/60: false, settlePause: true} {
		h := newHealth(o.Logger)
		s := newSubscriber(o, newSite(target, newLookout(target, o), 0, h), "node:n", newMetrics(), h)
		s.site.lookout.places[0].since = time.Now().Add(-since)
		s.table.connect("node:n")
		s.table.next()
		if err := s.table.confirm(true, "node:n"); err != nil {
			t.Fatal(err)
		}
		for i, probe := range []struct{ caughtUp, new bool }{{true, want}, {false, false}} {
			if hears, comesToHear := s.prove(probe.caughtUp); hears != want || comesToHear != probe.new {
				t.Errorf("%v after the change, by probe %d the node hears: %t, which is new: %t", since, i, hears, comesToHear)
			}
		}
	}
}

// Sentinels that are cut off from the others say what they know; all of them together are
// believed even if they have been set up anew.
func TestBelieves(t *testing.T) {
	for _, test := range []struct {
		epoch int64
		most  bool
		want  bool
	}{
		{6, false, false}, {7, false, true}, {8, false, true}, {6, true, true}, {8, true, true},
	} {
		p := &place{epoch: 7}
		if got := p.believes(opinion{answer: answer{epoch: test.epoch}, most: test.most}); got != test.want {
			t.Errorf("%+v: got %t", test, got)
		}
	}
}

// Whether a server is the master has to be certain where there are several.
func TestRoleWithheld(t *testing.T) {
	acl := []string{"--user", "default", "on", "nopass", "~*", "&*", "+@all", "-role"}
	start(t, redistest.Start(t, acl...).URL())
	n := startDeaf(t, redistest.StartSentinels(t, acl...).URL())
	await.Until(t, "the node says why it is deaf", func() error {
		if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "'role' command") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
}

// A Redis that is made a replica takes what is published, but not from or for those at
// the new master. So nodes leave it, and say why.
func TestReadOnlyReplica(t *testing.T) {
	redis, other := redistest.Start(t), redistest.Start(t)
	n := start(t, redis.URL(), probing(100*time.Millisecond))
	n.join(t, "a")
	replicate := func(of ...any) {
		t.Helper()
		if err := redis.Client().Do(inTime(t), append([]any{"replicaof"}, of...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := net.SplitHostPort(other.Addr())
	replicate(host, port)
	await.Until(t, "the node says why it is deaf", func() error {
		if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), `its role is "slave"`) {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	if err := n.Publish(inTime(t), nil, "a"); !errors.Is(err, backplane.ErrNotSent) {
		t.Errorf("publish at a replica: %v", err)
	}
	replicate("no", "one")
	n.awaitHealthy(t)
	await.Until(t, "publications succeed", func() error { return n.Publish(inTime(t), []byte("hi"), "a") })
	n.awaitLast(t, "a hi")
}
