package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/hub"
)

// lobby is a hub without methods: the test acts through the hub itself.
type lobby struct{}

// A cluster is some nodes on one Redis, each behind a proxy of its own.
type cluster struct {
	redis *redistest.Server
	nodes []*node
	begun time.Time
}

type node struct {
	*hub.Hub
	number  int
	plane   *redisplane.Plane
	proxy   *redistest.Proxy
	address string
	begun   time.Time // of the cluster

	mu   sync.Mutex
	gaps []Span // guarded by mu
}

func startCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{redis: redistest.Start(t), begun: time.Now()}
	for i := range nodes {
		n := &node{number: i, proxy: redistest.NewProxy(t, c.redis), begun: c.begun}
		n.proxy.DelaySubscribers(5 * time.Millisecond) // so that who does not wait is too early
		keys := [][]byte{[]byte("a key of the cluster, of 32 bytes")}
		quiet := slog.New(slog.DiscardHandler)
		var err error
		n.plane, err = redisplane.New(redisplane.Options{
			URL: n.proxy.URL(), Keys: keys, Logger: quiet,
			ProbeInterval: 200 * time.Millisecond, PublishTimeout: 500 * time.Millisecond, DialTimeout: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.plane.Close() })
		if _, err := n.plane.Attach("gaps/", watcher{n}); err != nil {
			t.Fatal(err)
		}
		n.Hub, err = hub.New(lobby{},
			hub.WithBackplane(n.plane), hub.WithClusterKeys(keys...), hub.WithLogger(quiet),
			hub.WithUserIdentifier(func(r *http.Request, _ *auth.Identity) string { return r.URL.Query().Get("user") }),
		)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(n.Hub)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
			defer cancel()
			if err := n.Shutdown(ctx); err != nil {
				t.Error(err)
			}
			server.Close()
		})
		n.address = server.URL
		c.nodes = append(c.nodes, n)
	}
	c.heal(t)
	return c
}

// now returns the time since the cluster began.
func (c *cluster) now() time.Duration { return time.Since(c.begun) }

// heal waits until all nodes hear.
func (c *cluster) heal(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		await.Until(t, "the node hears", n.plane.Healthy)
	}
}

// gaps returns the gaps of each node.
func (c *cluster) gaps() [][]Span {
	all := make([][]Span, len(c.nodes))
	for i, n := range c.nodes {
		n.mu.Lock()
		all[i] = slices.Clone(n.gaps)
		n.mu.Unlock()
	}
	return all
}

func (n *node) gapCount() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.gaps)
}

// A watcher records its node's gaps, before anything is delivered after them.
type watcher struct{ *node }

func (w watcher) Deliver(backplane.Channel, []byte) {}

func (w watcher) GapEnded(began time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaps = append(w.gaps, Span{began.Sub(w.begun), time.Since(w.begun)})
}

// A session is one connection to a node.
type session struct {
	Receiver
	client *client.Client
	id     string

	mu     sync.Mutex
	heard  []string        // guarded by mu, as is marked
	marked map[string]bool // the markers heard
}

// connect connects to the node. The session is a member of its user's channel.
func (c *cluster) connect(t *testing.T, n *node, name, user string) (*session, error) {
	s := &session{
		Receiver: Receiver{Name: name, Node: n.number, Stays: make(map[string][]Stay)},
		marked:   make(map[string]bool),
	}
	var err error
	if s.client, err = client.New(n.address + "/?user=" + user); err != nil {
		return nil, err
	}
	hear := func(id string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.heard = append(s.heard, id)
	}
	mark := func(id string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.marked[id] = true
	}
	if err := errors.Join(s.client.On("Heard", hear), s.client.On("Marked", mark)); err != nil {
		return nil, err
	}
	t.Cleanup(s.client.Close)
	entering := c.now()
	if err := s.client.Start(t.Context()); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s.id = s.client.ConnectionID()
	s.Stays["user:"+user] = []Stay{{entering, c.now(), Never, Never}}
	return s, nil
}

// disconnect ends the session: afterwards it hears nothing more.
func (c *cluster) disconnect(s *session) {
	leaving := c.now()
	s.client.Close()
	<-s.client.Done()
	for _, stays := range s.Stays {
		if last := &stays[len(stays)-1]; last.Out == Never {
			last.Leaving, last.Out = min(last.Leaving, leaving), c.now()
		}
	}
}

// hasHeard reports whether the session has heard the message.
func (s *session) hasHeard(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.heard, id)
}

// take returns the receiver with what it has heard since the last call.
func (s *session) take() *Receiver {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Heard, s.heard = s.heard, nil
	clear(s.marked)
	return &s.Receiver
}

// A sender sends to channels from one node, one message after the other.
type sender struct {
	name    string
	node    *node
	cluster *cluster
	total   *atomic.Int64 // of all senders
	number  int
	sent    []*Message // in this round
}

// send sends the next message, which it returns. An error is one that Send does not have.
func (s *sender) send(ctx context.Context, channel string) (*Message, error) {
	s.number++
	m := &Message{Sender: s.name, Number: s.number, Channel: channel, Begun: s.cluster.now()}
	s.sent = append(s.sent, m)
	to := s.node.Clients().Group(channel)
	if user, ok := strings.CutPrefix(channel, "user:"); ok {
		to = s.node.Clients().User(user)
	}
	err := to.Send(ctx, "Heard", m.ID())
	s.total.Add(1)
	switch {
	case err == nil:
		m.Outcome = Sent
	case errors.Is(err, backplane.ErrNotSent):
		m.Outcome = NotSent
	case errors.Is(err, backplane.ErrUnknown):
		m.Outcome = Unknown
	default:
		return m, err
	}
	return m, nil
}

// settle ends a round: it returns once every session has heard a marker of every node,
// sent after everything else, and all nodes hear. What is published is in one order, so
// that nothing else is on its way. Markers are lost only in gaps, and then sent again.
func (c *cluster) settle(t *testing.T, round int, sessions []*session) {
	t.Helper()
	attempt := 0
	var markers []string
	var gaps [][]Span
	await.Until(t, "all have heard the markers of all nodes", func() error {
		for _, n := range c.nodes {
			if err := n.plane.Healthy(); err != nil {
				markers = nil
				return err
			}
		}
		if now := c.gaps(); markers == nil || !slices.EqualFunc(gaps, now, slices.Equal) {
			attempt++
			gaps, markers = now, nil
			var sent []string
			for i, n := range c.nodes {
				marker := fmt.Sprintf("round %d, node %d, attempt %d", round, i, attempt)
				if err := n.Clients().All().Send(t.Context(), "Marked", marker); err != nil {
					return err
				}
				sent = append(sent, marker)
			}
			markers = sent
		}
		return missing(sessions, markers)
	})
}

// missing says which of the markers a session has not heard.
func missing(sessions []*session, markers []string) error {
	for _, s := range sessions {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range markers {
			if !s.marked[m] {
				return fmt.Errorf("%s on node %d has not heard that of %s", s.Name, s.Node, m)
			}
		}
	}
	return nil
}
