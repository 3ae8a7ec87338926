package redisplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// A watcher is a receiver that wants to know of nodes that go.
type watcher struct {
	*recorder
	mu       sync.Mutex
	dead     []string
	departed []string
}

// NodeLeft implements [backplane.NodeWatcher].
func (w *watcher) NodeLeft(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.departed = append(w.departed, id)
}

// awaitLeft waits until NodeLeft has been called for these, and nothing else.
func (w *watcher) awaitLeft(t *testing.T, want ...string) {
	t.Helper()
	await.Until(t, fmt.Sprintf("%q have left", want), func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.Equal(w.departed, want) {
			return fmt.Errorf("%q have", w.departed)
		}
		return nil
	})
}

// NodeDied implements [backplane.NodeWatcher].
func (w *watcher) NodeDied(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.dead = append(w.dead, id)
}

func (w *watcher) died() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dead)
}

// watch attaches a watcher and waits until the node is announced to serve the prefix.
func (n *node) watch(t *testing.T, prefix string) *watcher {
	t.Helper()
	w := &watcher{recorder: newRecorder()}
	a, err := n.Attach(prefix, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Subscribe(backplane.All)(inTime(t)); err != nil {
		t.Fatal(err)
	}
	return w
}

// awaitDied waits until NodeDied has been called for these, and nothing else.
func (w *watcher) awaitDied(t *testing.T, want ...string) {
	t.Helper()
	await.Until(t, fmt.Sprintf("%q have died", want), func() error {
		if got := w.died(); !slices.Equal(got, want) {
			return fmt.Errorf("%q have", got)
		}
		return nil
	})
}

// announce puts a value where a node's announcement is.
func announce(t *testing.T, server *redistest.Server, id, value string) {
	t.Helper()
	p := server.Client().TxPipeline()
	p.Set(inTime(t), announcementKey+id, value, 0)
	p.SAdd(inTime(t), rosterKey, id)
	if _, err := p.Exec(inTime(t)); err != nil {
		t.Fatal(err)
	}
}

// signed returns an announcement as it is in Redis.
func signed(t *testing.T, key []byte, a announcement) string {
	t.Helper()
	value, err := a.sign(key)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// expire lets an announcement run out.
func expire(t *testing.T, server *redistest.Server, id string) {
	t.Helper()
	if err := server.Client().Del(inTime(t), announcementKey+id).Err(); err != nil {
		t.Fatal(err)
	}
}

// looked waits until the node has taken in all announcements there are now. A look begins
// with the node's own announcement, which makes its key mortal again.
func (n *node) looked(t *testing.T, server *redistest.Server) {
	t.Helper()
	key := announcementKey + n.NodeID()
	for range 2 { // the second begins when the first, and what it tells, is over
		if err := server.Client().Persist(inTime(t), key).Err(); err != nil {
			t.Fatal(err)
		}
		await.Until(t, "the node looks", func() error {
			ttl, err := server.Client().PTTL(inTime(t), key).Result()
			if err == nil && ttl < 0 {
				err = errors.New("it has not")
			}
			return err
		})
	}
}

// ids returns the roster of the node's own hub.
func (n *node) ids(t *testing.T) []string {
	t.Helper()
	nodes, err := n.Nodes(inTime(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, of := range nodes {
		ids = append(ids, of.ID)
	}
	return ids
}

func (n *node) awaitNodes(t *testing.T, want ...string) {
	t.Helper()
	slices.Sort(want)
	await.Until(t, fmt.Sprintf("the roster is %q", want), func() error {
		if got := n.ids(t); !slices.Equal(got, want) {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

func withKeys(keys ...[]byte) func(*Options) { return func(o *Options) { o.Keys = keys } }

// What nobody with a key has signed does not count, nor does its end.
func TestForgedAnnouncements(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), withKeys([]byte("new"), clusterKey), probing(50*time.Millisecond))
	n.join(t, "a")
	w := n.watch(t, "w/")
	genuine := announcement{Prefixes: []string{"", "w/"}, Hearing: true}
	of := func(id string) announcement {
		a := genuine
		a.ID = id
		return a
	}
	forged := map[string]string{
		"other-key":  signed(t, []byte("other"), of("other-key")),
		"no-key":     signed(t, nil, of("no-key")),
		"another-id": signed(t, clusterKey, of("somebody")),
		"tampered":   strings.Replace(signed(t, clusterKey, of("tampered")), "true", "null", 1),
		"no-mac":     strings.SplitN(signed(t, clusterKey, of("no-mac")), " ", 2)[1],
		"empty":      "",
		"left":       signed(t, clusterKey, announcement{ID: "left", Prefixes: genuine.Prefixes, Left: true}),
	}
	for id, value := range forged {
		announce(t, server, id, value)
	}
	announce(t, server, "genuine-1", signed(t, []byte("new"), of("genuine-1")))
	announce(t, server, "genuine-2", signed(t, clusterKey, of("genuine-2")))
	announce(t, server, "of-others", signed(t, clusterKey, announcement{ID: "of-others", Prefixes: []string{"x/"}}))
	if err := server.Client().LPush(inTime(t), announcementKey+"list", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if err := server.Client().SAdd(inTime(t), rosterKey, "list").Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{n.NodeID(), "genuine-1", "genuine-2"}
	slices.Sort(want)
	if got := n.ids(t); !slices.Equal(got, want) {
		t.Errorf("the roster is %q, want %q", got, want)
	}
	n.looked(t, server)
	for id := range forged {
		expire(t, server, id)
	}
	n.looked(t, server)
	expire(t, server, "genuine-1")
	w.awaitDied(t, "genuine-1")
}

// A death is told once, to those whose hub the node served.
func TestNodeDies(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), withKeys(clusterKey), probing(50*time.Millisecond))
	a, b, c := n.watch(t, "a/"), n.watch(t, "b/"), n.watch(t, "c/")
	gone, err := n.Attach("gone/", a)
	if err != nil {
		t.Fatal(err)
	}
	gone.Detach()
	for i, id := range []string{"one", "two"} {
		announce(t, server, id, signed(t, clusterKey, announcement{ID: id, Prefixes: []string{"", "a/", "b/", "gone/", "other/"}}))
		n.looked(t, server)
		expire(t, server, id)
		a.awaitDied(t, []string{"one", "two"}[:i+1]...)
		n.looked(t, server)
	}
	a.awaitDied(t, "one", "two")
	b.awaitDied(t, "one", "two")
	c.awaitDied(t)
}

// A node that is closed is gone at once, which is no death.
func TestClosedNodeIsNotDead(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), withKeys(clusterKey), probing(50*time.Millisecond))
	n.join(t, "a")
	w := n.watch(t, "w/")
	other := start(t, server.URL(), withKeys(clusterKey))
	other.join(t, "a")
	other.watch(t, "w/")
	n.looked(t, server)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	if got := n.ids(t); !slices.Equal(got, []string{n.NodeID()}) {
		t.Errorf("the roster is %q after the other node was closed", got)
	}
	n.looked(t, server)
	w.awaitLeft(t, other.NodeID())
	expire(t, server, other.NodeID())
	n.looked(t, server)

	announce(t, server, "mortal", signed(t, clusterKey, announcement{ID: "mortal", Prefixes: []string{"w/"}}))
	n.looked(t, server)
	expire(t, server, "mortal")
	w.awaitDied(t, "mortal")
	w.awaitLeft(t, other.NodeID())
}

// A node that cannot reach Redis counts as dead, until it is back.
func TestCutOffNodeDies(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server)
	n := start(t, server.URL(), probing(50*time.Millisecond))
	n.join(t, "a")
	w := n.watch(t, "w/")
	other := start(t, proxy.URL(), probing(time.Second), func(o *Options) { o.DialTimeout = 500 * time.Millisecond })
	other.join(t, "a")
	other.watch(t, "w/")
	n.awaitNodes(t, n.NodeID(), other.NodeID())
	proxy.Freeze()
	key := announcementKey + other.NodeID()
	if err := server.Client().Persist(inTime(t), key).Err(); err != nil {
		t.Fatal(err)
	}
	n.looked(t, server)
	expire(t, server, other.NodeID())
	w.awaitDied(t, other.NodeID())
	n.awaitNodes(t, n.NodeID())
	proxy.Thaw()
	n.awaitNodes(t, n.NodeID(), other.NodeID())
	w.awaitDied(t, other.NodeID())
}

// Nothing stays in Redis when the nodes are gone.
func TestRosterIsForgotten(t *testing.T) {
	const interval = time.Second
	server := redistest.Start(t)
	one, two := start(t, server.URL(), probing(interval)), start(t, server.URL(), probing(interval))
	one.join(t, "a")
	two.join(t, "a")
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	bounds := map[string]time.Duration{
		rosterKey:                      2 * leftRemembered * announcementsMissed * interval,
		announcementKey + one.NodeID(): announcementsMissed * interval,
		announcementKey + two.NodeID(): leftRemembered * announcementsMissed * interval,
		operationsKey:                  keptLife,
	}
	keys, err := server.Client().Keys(inTime(t), "*").Result()
	if err != nil || len(keys) != len(bounds) {
		t.Errorf("the keys are %q, %v", keys, err)
	}
	for _, key := range keys {
		if ttl, err := server.Client().PTTL(inTime(t), key).Result(); err != nil || ttl <= 0 || ttl > bounds[key] {
			t.Errorf("%s has %v to live, want at most %v; %v", key, ttl, bounds[key], err)
		}
	}
}

// A roster that Redis has lost comes back, and nobody is taken for dead.
func TestRosterIsLost(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *redistest.Server){
		"emptied": func(t *testing.T, server *redistest.Server) {
			if err := server.Client().FlushAll(inTime(t)).Err(); err != nil {
				t.Fatal(err)
			}
		},
		"started anew": func(t *testing.T, server *redistest.Server) {
			server.Kill()
			server.Restart()
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			var nodes []*node
			var watchers []*watcher
			var ids []string
			for range 3 {
				n := start(t, server.URL(), withKeys(clusterKey), probing(500*time.Millisecond))
				n.join(t, "a")
				nodes = append(nodes, n)
				watchers = append(watchers, n.watch(t, "w/"))
				ids = append(ids, n.NodeID())
			}
			for _, n := range nodes {
				n.awaitNodes(t, ids...)
			}
			announce(t, server, "mortal", signed(t, clusterKey, announcement{ID: "mortal", Prefixes: []string{"w/"}}))
			for _, n := range nodes {
				n.looked(t, server)
			}
			lose(t, server)
			for _, n := range nodes {
				n.awaitNodes(t, ids...)
			}
			for i, w := range watchers {
				w.awaitDied(t, "mortal") // when all others have had their time
				nodes[i].looked(t, server)
				w.awaitDied(t, "mortal")
			}
		})
	}
}

// Nodes fails while Redis is away, and says why.
func TestNodesWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), func(o *Options) { o.DialTimeout = 200 * time.Millisecond })
	n.join(t, "a")
	server.Pause()
	_, err := n.Nodes(inTime(t))
	expectError(t, "nodes, without an answer", err, backplane.ErrUnavailable)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = n.Nodes(cancelled)
	expectError(t, "nodes, under a cancelled context", err, context.Canceled)
	server.Resume()
	server.Stop()
	_, err = n.Nodes(inTime(t))
	expectError(t, "nodes, without a server", err, backplane.ErrUnavailable)
	if errors.Is(err, errClosing) {
		t.Errorf("the error %q does not say what was wrong", err)
	}
	server.Restart()
	await.Until(t, "the roster is back", func() error {
		_, err := n.Nodes(inTime(t))
		return err
	})
}

// Nodes ends with the attachment, whatever Redis does.
func TestNodesDuringClose(t *testing.T) {
	server := redistest.Start(t)
	for name, end := range map[string]func(n *node){
		"close":  func(n *node) { n.Close() },
		"detach": func(n *node) { n.Detach() },
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, server.URL(), func(o *Options) { o.DialTimeout = time.Hour })
			n.join(t, "a")
			server.Pause()
			defer server.Resume()
			result := make(chan error)
			for range 3 {
				go func() {
					_, err := n.Nodes(context.Background())
					result <- err
				}()
			}
			await.Until(t, "one waits for Redis", func() error {
				if len(n.roster.using) > 0 {
					return errors.New("it does not")
				}
				return nil
			})
			end(n)
			for range 3 {
				select {
				case err := <-result:
					expectError(t, "nodes", err, backplane.ErrClosed)
				case <-time.After(await.Deadline):
					t.Fatal("Nodes waits")
				}
			}
		})
	}
}

// However Nodes and Close meet, no connection is left.
func TestNodesLeaveNoConnection(t *testing.T) {
	server := redistest.Start(t)
	for range 20 {
		n := start(t, server.URL())
		n.join(t, "a")
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				for {
					if _, err := n.Nodes(context.Background()); err != nil {
						expectError(t, "nodes", err, backplane.ErrClosed)
						return
					}
				}
			})
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		group.Wait()
		late, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := n.roster.nodes(late, "") // as if it had overtaken Close
		expectError(t, "nodes after Close", err, backplane.ErrUnavailable)
		cancel()
	}
	await.Until(t, "the test's own connections are left", func() error {
		clients, err := server.Client().ClientList(inTime(t)).Result()
		if n := strings.Count(clients, "\n"); err == nil && n > 2 {
			err = fmt.Errorf("%d are:\n%s", n, clients)
		}
		return err
	})
}

// A subscription is not confirmed before others can know of the node.
func TestSubscribedWhenAnnounced(t *testing.T) {
	server := startWithACL(t, "&*", "-set")
	var log safeBuffer
	n := startDeaf(t, "redis://app:pw@"+server.Addr(), probing(100*time.Millisecond), func(o *Options) {
		o.SubscribeTimeout = 300 * time.Millisecond
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	n.awaitHealthy(t)
	err := n.Subscribe("a")(inTime(t))
	expectError(t, "wait without an announcement", err, backplane.ErrUnavailable)
	if err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("the error %v does not say what was wrong", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	expectError(t, "wait under a cancelled context", n.Subscribe("a")(cancelled), context.Canceled)
	if n := strings.Count(log.String(), "redis refuses"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}

	acl := func(rule string) {
		t.Helper()
		if err := server.Client().Do(inTime(t), "acl", "setuser", "app", rule).Err(); err != nil {
			t.Fatal(err)
		}
	}
	acl("+set")
	await.Until(t, "the node is announced", func() error { return n.Subscribe("a")(inTime(t)) })
	n.awaitNodes(t, n.NodeID())

	// On a new connection, which may be to a Redis that has nothing, it is announced anew.
	acl("-set")
	if err := server.Client().Do(inTime(t), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the gap is over", func() error {
		if gaps, _ := n.health.gaps(); gaps == 0 {
			return errors.New("it has not begun")
		}
		return n.Healthy()
	})
	expectError(t, "wait on a new connection", n.Subscribe("b")(inTime(t)), backplane.ErrUnavailable)
	acl("+set")
	await.Until(t, "the node is announced again", func() error { return n.Subscribe("b")(inTime(t)) })
}

// An announcement that was on its way when a hub was detached, or the connection made
// anew, does not count.
func TestAnnouncementFromBefore(t *testing.T) {
	r := newRoster(Options{ProbeInterval: time.Second}, nil, "n", 1)
	before := r.doubted()
	r.renew()
	r.tellAnnounced(before, []string{"a/"}, nil)
	if r.isAnnounced("a/") {
		t.Error("it counts")
	}
	if len(r.now) != 1 {
		t.Error("no other is made")
	}
	r.tellAnnounced(r.doubted(), []string{"a/"}, nil)
	if !r.isAnnounced("a/") || r.isAnnounced("") {
		t.Error("the next one does not count")
	}
}

// A safeBuffer may be written and read at the same time.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A node says at once that it is deaf, and that it hears again: nothing is due for an
// hour.
func TestHearingIsAnnounced(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server)
	n := start(t, server.URL(), probing(time.Hour))
	other := start(t, proxy.URL(), probing(time.Hour))
	other.join(t, "a")
	awaitHearing := func(want bool) {
		t.Helper()
		await.Until(t, fmt.Sprintf("the other node is announced to hear: %t", want), func() error {
			nodes, err := n.Nodes(inTime(t))
			if err == nil && !slices.Contains(nodes, backplane.NodeState{ID: other.NodeID(), Hearing: want}) {
				err = fmt.Errorf("the roster is %v", nodes)
			}
			return err
		})
	}
	awaitHearing(true)
	proxy.Refuse(true)
	proxy.Subscribers()[0].Cut()
	awaitHearing(false)
	proxy.Refuse(false)
	awaitHearing(true)
}

// A hub that is attached, or no longer, is announced so at once.
func TestAttachmentsAreAnnounced(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), probing(time.Hour))
	other := start(t, server.URL(), probing(time.Hour))
	for range 10 {
		other.join(t, "a")
		if got := n.ids(t); !slices.Contains(got, other.NodeID()) {
			t.Fatalf("subscribed before it is announced: %q", got)
		}
		other.Detach()
		n.awaitNodes(t, n.NodeID())
		var err error
		if other.Attachment, err = other.Attach("", other.recorder); err != nil {
			t.Fatal(err)
		}
	}
}

// An id is not forgotten whose node comes back at that moment.
func TestForget(t *testing.T) {
	server := redistest.Start(t)
	announce(t, server, "back", "announcement")
	announce(t, server, "gone", "announcement")
	announce(t, server, "other", "announcement")
	expire(t, server, "gone")
	for _, ids := range [][]string{nil, {"gone", "back"}, {"gone"}} {
		if err := (&roster{site: &site{keys: firstWord}}).forget(inTime(t), server.Client(), ids); err != nil {
			t.Fatal(err)
		}
	}
	ids, err := server.Client().SMembers(inTime(t), rosterKey).Result()
	slices.Sort(ids)
	if err != nil || !slices.Equal(ids, []string{"back", "other"}) {
		t.Errorf("%q are left, %v", ids, err)
	}
}

func TestManyNodes(t *testing.T) {
	const nodes = 3000
	server := redistest.Start(t)
	n := start(t, server.URL(), withKeys(clusterKey))
	n.join(t, "a")
	_, err := server.Client().Pipelined(inTime(t), func(p redis.Pipeliner) error {
		for i := range nodes {
			id := strconv.Itoa(i)
			p.Set(inTime(t), announcementKey+id, signed(t, clusterKey, announcement{ID: id, Prefixes: []string{""}}), 0)
			p.SAdd(inTime(t), rosterKey, id)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := n.ids(t); len(got) != nodes+1 {
		t.Errorf("%d nodes, want %d", len(got), nodes+1)
	}
}
