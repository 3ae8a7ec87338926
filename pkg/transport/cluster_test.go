package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// A node of a cluster in this process.
type node struct {
	m      *Manager
	public *httptest.Server
	peers  *peer.Peers
	plane  backplane.Backplane
	homes  *lossyHomes
	opened chan *diary
}

// A lossyHomes fails while it is told to.
type lossyHomes struct {
	backplane.Homes
	away  atomic.Bool
	calls atomic.Int64
}

func (h *lossyHomes) fail() error {
	h.calls.Add(1)
	if h.away.Load() {
		return backplane.ErrUnavailable
	}
	return nil
}

func (h *lossyHomes) Claim(ctx context.Context, id string, life time.Duration) (backplane.Home, bool, error) {
	if err := h.fail(); err != nil {
		return backplane.Home{}, false, err
	}
	return h.Homes.Claim(ctx, id, life)
}

func (h *lossyHomes) Locate(ctx context.Context, id string) (backplane.Home, bool, error) {
	if err := h.fail(); err != nil {
		return backplane.Home{}, false, err
	}
	return h.Homes.Locate(ctx, id)
}

func (h *lossyHomes) Renew(ctx context.Context, life time.Duration, epochs map[string]uint64) ([]string, error) {
	if err := h.fail(); err != nil {
		return nil, err
	}
	return h.Homes.Renew(ctx, life, epochs)
}

// nothing is a receiver of no messages.
type nothing struct{}

func (nothing) Deliver(backplane.Channel, []byte) {}

// join starts a node whose connections keep diaries and allow reconnects.
func join(t *testing.T, plane backplane.Backplane) *node {
	t.Helper()
	n := &node{plane: plane, opened: make(chan *diary, 1024)}
	accept := func(c *Connection, _ *http.Request) Session {
		d := &diary{c: c, carrier: c.Carrier()}
		c.AllowReconnect()
		n.opened <- d
		return d
	}
	n.m, n.public = serve(t, Config{Accept: accept, Keys: Keys{key('k')}}, AllowStatefulReconnects(), EnableAuthenticationRefresh())
	attachment, err := plane.Attach("", nothing{})
	if err != nil {
		t.Fatal(err)
	}
	if n.peers, err = peer.New(peer.Config{Self: plane.NodeID(), Keys: [][]byte{key('k')}, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	n.homes = &lossyHomes{Homes: attachment.Homes()}
	n.m.Join(Cluster{Self: plane.NodeID(), Homes: n.homes, Node: attachment.Node, Peers: n.peers})
	between := httptest.NewServer(n.peers.Handler(n.public.Config.Handler))
	plane.Advertise(between.URL)
	t.Cleanup(func() {
		n.m.Refuse()
		n.m.Abort()
		n.peers.Close()
		between.Close()
		n.m.Close()
		attachment.Detach()
		plane.Close()
	})
	return n
}

// Each test is held on both backplanes.
var clusters = map[string]func(t *testing.T, nodes int) []*node{
	"in process": func(t *testing.T, nodes int) (all []*node) {
		var bus backplane.Bus
		for range nodes {
			all = append(all, join(t, bus.Join()))
		}
		return all
	},
	"Redis": func(t *testing.T, nodes int) []*node {
		all, _ := onRedis(t, nodes)
		return all
	},
}

func onRedis(t *testing.T, nodes int) (all []*node, redis *redistest.Server) {
	t.Helper()
	redis = redistest.Start(t)
	for range nodes {
		plane, err := redisplane.New(redisplane.Options{
			URL: redis.URL(), Keys: [][]byte{key('k')}, Logger: slog.New(slog.DiscardHandler), DialTimeout: time.Second, PublishTimeout: time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, join(t, plane))
	}
	meet(t, all...)
	return all, redis
}

// meet waits until the nodes know where they are.
func meet(t *testing.T, nodes ...*node) {
	t.Helper()
	await.Until(t, "nodes know each other", func() error {
		for _, n := range nodes {
			for _, other := range nodes {
				state, known, err := n.m.cluster.Node(t.Context(), other.plane.NodeID())
				if err != nil || !known || state.Address == "" {
					return fmt.Errorf("%+v, %v, %v", state, known, err)
				}
			}
		}
		return nil
	})
}

// sweep has the node see to the records that are due, and waits until that is done.
func (n *node) sweep(now time.Time) {
	n.m.cluster.sweep(now)
	n.m.cluster.work.Wait()
}

func (n *node) next(t *testing.T) *diary {
	t.Helper()
	select {
	case d := <-n.opened:
		return d
	case <-time.After(deadline):
		t.Fatal("no connection on this node")
		return nil
	}
}

func onEach(t *testing.T, nodes int, f func(t *testing.T, nodes []*node)) {
	for name, start := range clusters {
		t.Run(name, func(t *testing.T) { f(t, start(t, nodes)) })
	}
}

func newToken(t *testing.T, n *node, query string) string {
	t.Helper()
	return "id=" + negotiate(t, n.public, "negotiateVersion=1&"+query).ConnectionToken
}

// The connection is where its first request was, and whatever follows finds it, from
// whatever node.
func TestEventStreamOverNodes(t *testing.T) {
	onEach(t, 3, func(t *testing.T, n []*node) {
		query := newToken(t, n[0], "")
		mustRequest(t, n[1].public, "POST", query, "0", 200) // claims it
		e := openStream(t, n[2].public, query)
		e.expect(t, ":")
		d := n[1].next(t)
		want := "received:0"
		for i := range 30 {
			mustRequest(t, n[i%3].public, "POST", query, fmt.Sprint(i+1), 200)
			want += fmt.Sprintf(" received:%d", i+1)
			d.say(t, fmt.Sprintf("answer %d", i))
			e.expect(t, fmt.Sprintf("data: answer %d", i), "")
		}
		d.expect(t, want)
		d.carrier.Close()
		d.expect(t, want+" disconnected")
		if _, err := e.lines.ReadByte(); err == nil {
			t.Error("the stream goes on")
		}
		for _, node := range n {
			if text := mustRequest(t, node.public, "POST", query, "late", 404); text != "No Connection with that ID" {
				t.Errorf("got %q", text)
			}
		}
	})
}

// The end of a forwarded stream reaches the other node, whoever ends it.
func TestForwardedStreamIsLeft(t *testing.T) {
	onEach(t, 2, func(t *testing.T, n []*node) {
		query := newToken(t, n[0], "")
		mustRequest(t, n[0].public, "POST", query, "x", 200)
		e := openStream(t, n[1].public, query)
		e.expect(t, ":")
		d := n[0].next(t)
		e.leave()
		d.expect(t, "received:x disconnected")
	})
}

func TestPollsOverNodes(t *testing.T) {
	onEach(t, 3, func(t *testing.T, n []*node) {
		query := newToken(t, n[2], "")
		expectPoll(t, n[0].public, query, `200 application/octet-stream ""`)
		d := n[0].next(t)
		for i := range 9 { // each at another node than the one before
			d.say(t, fmt.Sprintf("\x00%d", i))
			expectPoll(t, n[i%3].public, query, fmt.Sprintf(`200 application/octet-stream "\x00%d"`, i))
		}
		var latest *poll
		for i := range 6 {
			answer := startPoll(t.Context(), n[i%3].public, query)
			latest = d.waitingAfter(t, latest)
			d.say(t, "x")
			expectAnswer(t, answer, `200 application/octet-stream "x"`)
		}
		// A poll is replaced by one at another node, and loses nothing.
		older := startPoll(t.Context(), n[1].public, query)
		latest = d.waitingAfter(t, latest)
		newer := startPoll(t.Context(), n[2].public, query)
		expectAnswer(t, older, `204 text/plain ""`)
		latest = d.waitingAfter(t, latest)
		d.say(t, "y")
		expectAnswer(t, newer, `200 application/octet-stream "y"`)
		// A client that leaves leaves the other node too.
		ctx, leave := context.WithCancel(t.Context())
		left := startPoll(ctx, n[1].public, query)
		latest = d.waitingAfter(t, latest)
		leave()
		<-left
		await.Until(t, "no poll waits", func() error {
			p := d.carrier.(*polls)
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.current != nil {
				return errors.New("one does")
			}
			return nil
		})
		last := startPoll(t.Context(), n[1].public, query)
		d.waitingAfter(t, latest)
		mustRequest(t, n[2].public, "DELETE", query, "", 202)
		expectAnswer(t, last, `204 text/plain ""`)
		d.expect(t, "disconnected")
		for _, node := range n {
			await.Until(t, "polls find nothing", func() error {
				if got := pollOnce(t.Context(), node.public, query); got.String() != `404 text/plain "No Connection with that ID"` {
					return errors.New(got.String())
				}
				return nil
			})
		}
	})
}

// waitingAfter waits for a poll that is not the one before, which may still be there for a
// moment when it has been answered.
func (d *diary) waitingAfter(t *testing.T, before *poll) (current *poll) {
	t.Helper()
	await.Until(t, "another poll waits", func() error {
		if current = d.waiting(t); current == before {
			return errors.New("the one before does")
		}
		return nil
	})
	return current
}

// A stateful connection is resumed by way of any node.
func TestStatefulReconnectOverNodes(t *testing.T) {
	onEach(t, 3, func(t *testing.T, n []*node) {
		query := newToken(t, n[0], "useStatefulReconnect=true")
		conn, _ := dial(t, n[0].public, query)
		d := n[0].next(t)
		for i := range 6 {
			send(t, conn, fmt.Sprint(i))
			d.expectTold(t, i+1, i, i)
			if i%2 == 0 { // otherwise the socket is cut when the next one opens
				conn.NetConn().Close()
				d.expectTold(t, i+1, i+1, i)
			}
			before := conn
			next, answer := dial(t, n[(i+1)%3].public, query)
			if answer.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("round %d: reconnect answered %d", i, answer.StatusCode)
			}
			d.expectTold(t, i+1, i+1, i+1)
			if _, _, err := before.ReadMessage(); i%2 != 0 && !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
				t.Errorf("round %d: the socket before ends with %v", i, err)
			}
			conn = next
			if err := d.using().Write([][]byte{[]byte(fmt.Sprint("answer ", i))}, protocol.Text); err != nil {
				t.Fatal(err)
			}
			if _, p, err := conn.ReadMessage(); err != nil || string(p) != fmt.Sprint("answer ", i) {
				t.Fatalf("round %d: got %q, %v", i, p, err)
			}
		}
		if err := conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, "")); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, 1000) {
			t.Errorf("closed with %v", err)
		}
		await.Until(t, "the session is told of the end", func() error {
			if got := d.String(); !strings.HasSuffix(got, " disconnected") {
				return errors.New(got)
			}
			return nil
		})
		for _, node := range n {
			if _, answer := dial(t, node.public, query); answer.StatusCode != http.StatusNotFound {
				t.Errorf("a client that comes back is answered %d", answer.StatusCode)
			}
		}
	})
}

// expectTold waits until the session has received that many bytes, the numbers in their
// order, and has been told that often that it was interrupted and resumed. The order of
// these two is not fixed.
func (d *diary) expectTold(t *testing.T, received, interrupted, resumed int) {
	t.Helper()
	await.Until(t, "the session has been told", func() error {
		got, next := d.String(), 0
		for entry := range strings.FieldsSeq(got) {
			if number, is := strings.CutPrefix(entry, "received:"); is {
				if number != fmt.Sprint(next) {
					t.Fatalf("received in another order: %s", got)
				}
				next++
			}
		}
		if next != received || strings.Count(got, "interrupted") != interrupted || strings.Count(got, "resumed") != resumed {
			return errors.New(got)
		}
		return nil
	})
}

// What one node answers to a request for its connection, another one does.
func TestStatusesOverNodes(t *testing.T) {
	const unknown = "No Connection with that ID"
	get := func(n *node, query string) (int, string) { return opened(t, n, query, "") }
	stream := func(n *node, query string) (int, string) { return opened(t, n, query, "text/event-stream") }
	socket := func(n *node, query string) (int, string) { return opened(t, n, query, "websocket") }
	with := func(method string) func(n *node, query string) (int, string) {
		return func(n *node, query string) (int, string) { return request(t, n.public, method, query, "") }
	}
	for _, tt := range []struct {
		name   string
		first  standing
		then   func(n *node, query string) (int, string)
		status int
		text   string
	}{
		{"WebSocket twice", onWebSocket, socket, 409, ""},
		{"stream twice", onEventStream, stream, 409, ""},
		{"stream after WebSocket", onWebSocket, stream, 400, "Cannot change transports mid-connection"},
		{"poll after WebSocket", onWebSocket, get, 400, "Cannot change transports mid-connection"},
		{"WebSocket after stream", onEventStream, socket, 400, "Cannot change transports mid-connection"},
		{"WebSocket after polls", onPolls, socket, 400, "Cannot change transports mid-connection"},
		{"POST to WebSocket", onWebSocket, with("POST"), 405, "POST requests are not allowed for WebSocket connections."},
		{"DELETE of WebSocket", onWebSocket, with("DELETE"), 400, "Cannot terminate this connection using the DELETE endpoint."},
		{"DELETE of polls", onPolls, with("DELETE"), 202, ""},
		{"WebSocket again", ended(onWebSocket), socket, 404, unknown},
		{"stream again", ended(onEventStream), stream, 404, unknown},
		{"poll again", ended(onPolls), get, 404, unknown},
		{"POST after the end", ended(onPolls), with("POST"), 404, unknown},
		{"DELETE after the end", ended(onPolls), with("DELETE"), 404, unknown},
		{"WebSocket after a POST", posted, socket, 101, ""},
		{"poll after a POST", posted, get, 200, ""},
		{"after its time", abandoned, get, 404, unknown},
		{"not used yet", negotiated, get, 200, ""},
		{"connection still ending", stuck, get, 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var bus backplane.Bus
			one, two := join(t, bus.Join()), join(t, bus.Join())
			query := newToken(t, two, "")
			tt.first(t, one.m, one.public, query, one.opened)
			if status, text := tt.then(two, query); status != tt.status || text != tt.text {
				t.Errorf("got %d %q, want %d %q", status, text, tt.status, tt.text)
			}
		})
	}
}

// opened asks for a transport and returns what it is answered with.
func opened(t *testing.T, n *node, query, transport string) (status int, text string) {
	t.Helper()
	switch transport {
	case "websocket":
		r, err := http.NewRequestWithContext(t.Context(), "GET", n.public.URL+"/hub?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = upgrade()
		answer, err := n.public.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		if answer.StatusCode == http.StatusSwitchingProtocols {
			return answer.StatusCode, ""
		}
		return answer.StatusCode, bodyOf(t, answer)
	case "text/event-stream":
		s := openStream(t, n.public, query)
		if s.StatusCode == http.StatusOK {
			return s.StatusCode, ""
		}
		return s.StatusCode, bodyOf(t, s.Response)
	default:
		p := pollOnce(t.Context(), n.public, query)
		if p.err != nil {
			t.Fatal(p.err)
		}
		return p.status, p.body
	}
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A connection that has ended stays so on all nodes, those that never heard of it too.
func TestEndedOnAllNodes(t *testing.T) {
	onEach(t, 3, func(t *testing.T, n []*node) {
		for _, first := range []standing{onEventStream, onPolls, posted, onWebSocket} {
			query := newToken(t, n[0], "useStatefulReconnect=true")
			ended(first)(t, n[0].m, n[0].public, query, n[0].opened)
			n[0].sweep(time.Now())
			id := n[0].m.idOf(t, query)
			if h, found, err := n[1].homes.Locate(t.Context(), id); err != nil || !found || !h.Ended() {
				t.Fatalf("the record is %+v, %v, %v", h, found, err)
			}
			for _, node := range []*node{n[1], n[2], n[1], n[0]} {
				for _, kind := range []string{"websocket", "text/event-stream", ""} {
					if status, text := opened(t, node, query, kind); status != 404 || text != "No Connection with that ID" || node.m.find(id) != nil {
						t.Errorf("%q: got %d %q", kind, status, text)
					}
				}
			}
		}
	})
}

// A node that has the wrong idea of where a connection is finds it all the same, unless it
// cannot say again what the client sent.
func TestConnectionIsNotWhereItWas(t *testing.T) {
	onEach(t, 3, func(t *testing.T, n []*node) {
		query := newToken(t, n[0], "")
		expectPoll(t, n[0].public, query, `200 application/octet-stream ""`)
		d, id := n[0].next(t), n[0].m.idOf(t, query)
		believe := func() { n[1].m.cluster.located.put(id, n[2].plane.NodeID()) }

		believe()
		d.say(t, "x")
		expectPoll(t, n[1].public, query, `200 application/octet-stream "x"`)
		believe()
		mustRequest(t, n[1].public, "POST", query, "1", 404)
		mustRequest(t, n[1].public, "POST", query, "2", 200)
		d.expect(t, "received:2")
		believe()
		mustRequest(t, n[1].public, "DELETE", query, "", 202)
	})
}

// A WebSocket goes where the connection is, and not first where it was: that node may be
// there no more.
func TestWebSocketGoesWhereTheConnectionIs(t *testing.T) {
	var bus backplane.Bus
	home, before, n := join(t, bus.Join()), join(t, bus.Join()), join(t, bus.Join())
	query := newToken(t, home, "useStatefulReconnect=true")
	onWebSocket(t, home.m, home.public, query, home.opened)
	before.plane.Advertise("http://127.0.0.1:1")
	n.m.cluster.located.put(home.m.idOf(t, query), before.plane.NodeID())
	mustRequest(t, n.public, "POST", query, "", 502)
	if status, _ := opened(t, n, query, "websocket"); status != 101 {
		t.Errorf("got %d", status)
	}
}

// Whoever else has a user's token does not get at the connection, and does not disturb it.
func TestAnotherUserOverNodes(t *testing.T) {
	onEach(t, 2, func(t *testing.T, n []*node) {
		for _, first := range []standing{onEventStream, onPolls, onWebSocket} {
			query := newToken(t, n[1], "user=ada")
			first(t, n[0].m, n[0].public, query+"&user=ada", n[0].opened)
			c := n[0].m.connectionOf(t, query)
			calls := n[1].homes.calls.Load()
			for _, method := range []string{"GET", "POST", "DELETE"} {
				for _, user := range []string{"", "&user=ben"} {
					if text := mustRequest(t, n[1].public, method, query+user, "", 403); text != "" {
						t.Errorf("%s: got %q", method, text)
					}
				}
			}
			if n[1].homes.calls.Load() != calls {
				t.Error("it is asked where the connection is")
			}
			if n[0].m.find(c.id) != c || c.Identity().Subject != "ada" || c.in != nil {
				t.Error("the connection is not what it was")
			}
		}
	})
}

// However many nodes a token is attached to at once, it makes one connection.
func TestAttachedAtOnce(t *testing.T) {
	const rounds = 75
	for name, start := range clusters {
		t.Run(name, func(t *testing.T) {
			n := start(t, 3)
			for round := range rounds {
				kind := []string{"websocket", "text/event-stream", "mixed"}[round%3]
				query := newToken(t, n[round%3], []string{"", "useStatefulReconnect=false"}[round%2])
				statuses := make([]int, 6)
				var at sync.WaitGroup
				begin := make(chan struct{})
				for i := range statuses {
					at.Go(func() {
						<-begin
						how := kind
						if kind == "mixed" {
							how = []string{"websocket", "text/event-stream"}[i%2]
						}
						statuses[i], _ = opened(t, n[i%3], query, how)
					})
				}
				close(begin)
				at.Wait()
				won := 0
				for _, status := range statuses {
					switch status {
					case 101, 200:
						won++
					case 409:
					case 400:
						if kind != "mixed" {
							t.Errorf("round %d: %s answered %d", round, kind, status)
						}
					default:
						t.Errorf("round %d: %s answered %d", round, kind, status)
					}
				}
				live := 0
				for _, node := range n {
					id := node.m.idOf(t, query)
					if c := node.m.find(id); c != nil {
						live++
						defer c.cut()
					}
				}
				if won != 1 || live > 1 {
					t.Fatalf("round %d, %s: answered %v, and there are %d connections", round, kind, statuses, live)
				}
				sessions := 0
				await.Until(t, "a session is made", func() error {
					for _, node := range n {
						for ; len(node.opened) > 0; sessions++ {
							<-node.opened
						}
					}
					if sessions == 0 {
						return errors.New("there is none")
					}
					return nil
				})
				if sessions != 1 {
					t.Fatalf("round %d, %s: %d sessions", round, kind, sessions)
				}
			}
		})
	}
}

func (m *Manager) idOf(t *testing.T, query string) string {
	t.Helper()
	token, err := m.Keys.open(m.Hub, strings.TrimPrefix(query, "id="))
	if err != nil {
		t.Fatal(err)
	}
	return idString(token.id)
}
