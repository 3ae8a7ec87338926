package transport

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
)

// What becomes of requests whose home node is not where it was, or not at all.
func TestHomeIsGone(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer stranger.Close()
	for _, tt := range []struct {
		name   string
		happen func(home, other *node)
		status int
		text   string
	}{
		{"left the roster", func(home, _ *node) { home.plane.Close() }, 404, "No Connection with that ID"},
		{"another node has its address", func(home, other *node) {
			p, err := peer.New(peer.Config{Self: "the next", Keys: [][]byte{key('k')}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.Close)
			next := httptest.NewServer(p.Handler(other.public.Config.Handler))
			t.Cleanup(next.Close)
			home.plane.Advertise(next.URL)
		}, 404, "No Connection with that ID"},
		{"nobody is there", func(home, _ *node) { home.plane.Advertise("http://" + nobody.Addr().String()) }, 502, ""},
		{"something else is there", func(home, _ *node) { home.plane.Advertise(stranger.URL) }, 502, ""},
		{"no address", func(home, _ *node) { home.plane.Advertise("") }, 502, ""},
		{"its public address", func(home, _ *node) { home.plane.Advertise(home.public.URL) }, 508, ""},
		{"another's public address", func(home, other *node) { home.plane.Advertise(other.public.URL) }, 508, ""},
		{"the roster is away", func(_, other *node) {
			other.m.cluster.Node = func(context.Context, string) (backplane.NodeState, bool, error) {
				return backplane.NodeState{}, false, backplane.ErrUnavailable
			}
		}, 503, ""},
		{"this node is leaving", func(_, other *node) { other.peers.Close() }, 503, ""},
		{"it has forgotten", func(home, _ *node) { home.m.Abort() }, 404, "No Connection with that ID"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var bus backplane.Bus
			home, other := join(t, bus.Join()), join(t, bus.Join())
			query, unknown := newToken(t, home, ""), newToken(t, home, "")
			onEventStream(t, home.m, home.public, query, home.opened)
			tt.happen(home, other)
			for _, method := range []string{"POST", "GET", "DELETE"} {
				await.Until(t, "answered", func() error {
					if status, text := request(t, other.public, method, query, ""); status != tt.status || text != tt.text {
						return fmt.Errorf("%s: got %d %q, want %d %q", method, status, text, tt.status, tt.text)
					}
					return nil
				})
			}
			if strings.HasPrefix(tt.name, "the roster") || strings.HasPrefix(tt.name, "this node") {
				return
			}
			// Who has nothing to do with it does not notice.
			mustRequest(t, other.public, "POST", unknown, "x", 200)
		})
	}
}

// A public request does not become one of another node by its headers.
func TestForgedForwarding(t *testing.T) {
	var bus backplane.Bus
	one, two := join(t, bus.Join()), join(t, bus.Join())
	const forged = "1 forward 1700000000 AQIDAAAAAAAAAAAAAAAAAA -edge -home -192.0.2.1%3A5000 " +
		"BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	for _, n := range []*node{one, two} { // where the connection comes to be, and elsewhere
		query := newToken(t, one, "")
		mustRequest(t, one.public, "POST", query, "1", 200)
		r, err := http.NewRequestWithContext(t.Context(), "GET", n.public.URL+"/hub?"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/event-stream")
		for _, name := range []string{"Heliograph-Peer", "Heliograph-Proof", "Heliograph-Elsewhere"} {
			r.Header.Set(name, forged)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode != 200 {
			t.Errorf("got %d", answer.StatusCode)
		}
		for name := range answer.Header {
			if strings.HasPrefix(name, "Heliograph-") {
				t.Errorf("the client gets %s", name)
			}
		}
		one.next(t).expect(t, "received:1")
	}
}

// A node that takes no more connections still passes requests on, and still serves those
// that it has.
func TestLeavingNodePassesOn(t *testing.T) {
	var bus backplane.Bus
	stays, leaves := join(t, bus.Join()), join(t, bus.Join())
	there, here, nowhere := newToken(t, stays, ""), newToken(t, leaves, ""), newToken(t, leaves, "")
	onPolls(t, stays.m, stays.public, there, stays.opened)
	onPolls(t, leaves.m, leaves.public, here, leaves.opened)
	leaves.m.Refuse()
	mustRequest(t, leaves.public, "POST", there, "x", 200)
	mustRequest(t, stays.public, "POST", here, "x", 200)
	mustRequest(t, leaves.public, "POST", nowhere, "x", 503)
	mustRequest(t, stays.public, "POST", nowhere, "x", 200) // nothing was claimed in vain
}

// While the backplane is away WebSockets are taken, and what is known is used.
func TestBackplaneAway(t *testing.T) {
	for name, away := range map[string]func(t *testing.T) (nodes []*node, leave, back func()){
		"in process": func(t *testing.T) ([]*node, func(), func()) {
			n := clusters["in process"](t, 2)
			set := func(away bool) func() {
				return func() {
					for _, node := range n {
						node.homes.away.Store(away)
					}
				}
			}
			return n, set(true), set(false)
		},
		"Redis": func(t *testing.T) ([]*node, func(), func()) {
			n, redis := onRedis(t, 2)
			return n, redis.Stop, redis.Restart
		},
	} {
		t.Run(name, func(t *testing.T) {
			n, leave, comeBack := away(t)
			known, unknown := newToken(t, n[0], ""), newToken(t, n[0], "")
			onEventStream(t, n[0].m, n[0].public, known, n[0].opened)
			onEventStream(t, n[0].m, n[0].public, unknown, n[0].opened)
			mustRequest(t, n[1].public, "POST", known, "1", 200)
			n[1].m.cluster.located.recent[n[0].m.idOf(t, known)] = locatedHome{n[0].plane.NodeID(), time.Now().Add(-locatedFor)}
			leave()

			mustRequest(t, n[1].public, "POST", known, "2", 200)
			mustRequest(t, n[0].public, "POST", unknown, "here", 200)
			mustRequest(t, n[1].public, "POST", unknown, "who knows where", 503)
			fresh := newToken(t, n[1], "")
			for _, transport := range []string{"", "text/event-stream"} {
				if status, _ := opened(t, n[1], fresh, transport); status != 503 {
					t.Errorf("%q: got %d", transport, status)
				}
			}
			if status, _ := opened(t, n[1], fresh, "websocket"); status != 101 {
				t.Errorf("WebSocket: got %d", status)
			}
			n[1].next(t)
			if status, _ := opened(t, n[1], fresh, "websocket"); status != 409 {
				t.Errorf("another WebSocket: got %d", status)
			}
			stateful := newToken(t, n[1], "useStatefulReconnect=true")
			if status, _ := opened(t, n[1], stateful, "websocket"); status != 101 {
				t.Errorf("stateful WebSocket: got %d", status)
			}
			n[1].next(t)
			if status, _ := opened(t, n[0], known, "websocket"); status != 400 {
				t.Error("the home does not know its connection")
			}

			comeBack()
			// What has no record gets one, so that others find it.
			await.Until(t, "the connection has a record", func() error {
				n[1].m.cluster.sweep(time.Now())
				if _, found, err := n[0].homes.Locate(t.Context(), n[1].m.idOf(t, stateful)); err != nil || !found {
					return fmt.Errorf("found %v, %v", found, err)
				}
				return nil
			})
			mustRequest(t, n[0].public, "POST", stateful, "", 405)
		})
	}
}

// A loser is a session that is told that its home is lost.
type loser struct{ diary }

func (l *loser) HomeLost() { l.write("home lost"); l.c.cut() }

// A connection that has another home is closed here.
func TestHomeIsLost(t *testing.T) {
	onEach(t, 2, func(t *testing.T, n []*node) {
		now := time.Now()
		for _, tell := range []bool{true, false} {
			n[0].m.Accept = func(c *Connection, _ *http.Request) Session {
				l := &loser{diary{c: c, carrier: c.Carrier()}}
				n[0].opened <- &l.diary
				if tell {
					return l
				}
				return &l.diary
			}
			query := newToken(t, n[0], "")
			onEachPoll := func(n *node) { expectPoll(t, n.public, query, `200 application/octet-stream ""`) }
			onEachPoll(n[0])
			d := n[0].next(t)
			c := n[0].m.connectionOf(t, query)

			now = now.Add(renewInterval)
			n[0].sweep(now)
			if n[0].m.find(c.id) == nil {
				t.Fatal("renewing has ended the connection")
			}
			if moved, err := n[0].homes.Move(t.Context(), c.id, 1, n[1].plane.NodeID(), homeLife); err != nil || !moved {
				t.Fatal(moved, err)
			}
			now = now.Add(renewInterval)
			n[0].sweep(now)
			if tell {
				d.expect(t, "home lost disconnected")
			} else {
				d.expect(t, "disconnected")
			}
			// That does not end the record of the other node.
			await.Until(t, "the connection is forgotten", func() error { return n[0].m.forgotten(c.id) })
			n[0].sweep(now)
			if h, found, err := n[1].homes.Locate(t.Context(), c.id); err != nil || !found || h.Node != n[1].plane.NodeID() || h.Epoch != 2 {
				t.Errorf("got %+v, %v, %v", h, found, err)
			}
		}
	})
}

// Records live as long as their connections can be met, and tell then that they ended.
func TestRecords(t *testing.T) {
	type state string
	const (
		here  state = "here"
		ended state = "ended"
		none  state = "none"
	)
	for _, tt := range []struct {
		name             string
		socket, stateful bool
		// After a minute of life; when it has ended at once; when it has ended after a minute.
		alive, early, late state
		requests           int64 // to the directory, in that minute
	}{
		{"WebSocket", true, false, none, here, none, 0},
		{"stateful WebSocket", true, true, here, ended, none, 4},
		{"other transport", false, false, here, ended, none, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var bus backplane.Bus
				begin := func(plane backplane.Backplane) (*Manager, *lossyHomes) {
					attachment, err := plane.Attach("", nothing{})
					if err != nil {
						t.Fatal(err)
					}
					m := NewManager(Config{Keys: Keys{key('k')}, Logger: slog.New(slog.DiscardHandler)})
					homes := &lossyHomes{Homes: attachment.Homes()}
					m.Join(Cluster{Self: plane.NodeID(), Homes: homes, Node: attachment.Node})
					return m, homes
				}
				plane, otherPlane := bus.Join(), bus.Join()
				defer plane.Close()
				defer otherPlane.Close()
				m, homes := begin(plane)
				other, _ := begin(otherPlane)
				defer m.Close()
				defer other.Close()
				seen := func(id string) state {
					switch h, found, err := other.cluster.Homes.Locate(t.Context(), id); {
					case err != nil:
						t.Fatal(err)
					case !found:
						return none
					case h.Ended():
						return ended
					case h.Node != plane.NodeID():
						t.Fatalf("it is at %q", h.Node)
					}
					return here
				}
				pass := func(d time.Duration) {
					for end := time.Now().Add(d); time.Now().Before(end); {
						time.Sleep(time.Second)
						m.cluster.sweep(time.Now())
						synctest.Wait()
					}
				}
				open := func() (*Connection, *question) {
					id := newConnectionID()
					q := &question{id: idString(id), identity: auth.Anonymous, socket: tt.socket, token: &connectionToken{
						id: id, before: time.Now().Add(m.DisconnectTimeout), stateful: tt.stateful,
					}}
					if home, refused := m.cluster.place(t.Context(), q); home != "" || refused != granted {
						t.Fatalf("it is at %q, %v", home, refused)
					}
					if got := seen(q.id); got != here {
						t.Fatalf("at first it is %s", got)
					}
					if home, refused := other.cluster.place(t.Context(), q); home != plane.NodeID() || refused != granted {
						t.Fatalf("to the other node it is at %q, %v", home, refused)
					}
					return m.find(q.id), q
				}

				c, q := open()
				c.cut()
				synctest.Wait()
				pass(2 * time.Second)
				if got := seen(q.id); got != tt.early {
					t.Errorf("ended early: %s, want %s", got, tt.early)
				}
				// By then its token is spent for everybody: at a node whose clock is late by
				// clockLeeway, which allows for as much by itself.
				for end := q.token.before.Add(2*clockLeeway - time.Second); time.Now().Before(end); {
					if got := seen(q.id); got != tt.early {
						t.Fatalf("ended, with a token that may be used: %s, want %s", got, tt.early)
					}
					if other.cluster.located.forget(q.id); other.wouldTake(q.token) {
						home, refused := other.cluster.place(t.Context(), q)
						if refused != granted || other.find(q.id) != nil || home == otherPlane.NodeID() {
							t.Fatalf("it comes back, at %q, %v", home, refused)
						}
					}
					pass(time.Second)
				}
				pass(2 * time.Second)
				if got := seen(q.id); got != none {
					t.Errorf("long ended: %s", got)
				}

				c, q = open()
				calls := homes.calls.Load()
				pass(time.Minute + time.Second)
				if got := seen(q.id); got != tt.alive {
					t.Errorf("alive: %s, want %s", got, tt.alive)
				}
				if n := homes.calls.Load() - calls; n > tt.requests {
					t.Errorf("alive: %d requests to the directory, want %d at most", n, tt.requests)
				}
				c.cut()
				synctest.Wait()
				pass(2 * time.Second)
				if got := seen(q.id); got != tt.late {
					t.Errorf("ended late: %s, want %s", got, tt.late)
				}
				if n := len(m.cluster.kept) + len(m.cluster.endings); n > 0 {
					t.Errorf("%d records are kept", n)
				}
			})
		})
	}
}

// A node that has claimed a connection and cannot make it leaves the record to others, or
// as one of a connection that has ended.
func TestClaimedInVain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		happen func(m *Manager, t *connectionToken) // between the two
		found  bool
	}{
		{"the node leaves", func(m *Manager, _ *connectionToken) { m.Refuse() }, false},
		{"it was here, and has ended", (*Manager).spend, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var bus backplane.Bus
			n := join(t, bus.Join())
			id := newConnectionID()
			q := &question{id: idString(id), identity: auth.Anonymous, token: &connectionToken{id: id, before: time.Now().Add(time.Minute)}}
			h, _, won, err := n.m.cluster.ask(t.Context(), q, true)
			if err != nil || !won {
				t.Fatal(won, err)
			}
			tt.happen(n.m, q.token)
			n.m.cluster.take(q, h.Epoch)
			n.sweep(time.Now())
			if h, found, err := n.homes.Locate(t.Context(), q.id); err != nil || found != tt.found || found && !h.Ended() {
				t.Errorf("found %+v, %v, %v", h, found, err)
			}
		})
	}
}

// What cannot be done for records is tried again, and gives way where there is too much.
func TestRecordsWhileTheBackplaneIsAway(t *testing.T) {
	var bus backplane.Bus
	n := join(t, bus.Join())
	var session loser
	n.m.Accept = func(c *Connection, _ *http.Request) Session {
		session.c = c
		n.opened <- &session.diary
		return &session
	}
	query := newToken(t, n, "")
	onEventStream(t, n.m, n.public, query, n.opened)
	id := n.m.idOf(t, query)
	now := time.Now().Add(renewInterval)
	n.homes.away.Store(true)
	n.sweep(now)
	if !n.m.cluster.failed {
		t.Fatal("it is not known that renewing failed")
	}
	n.homes.away.Store(false)
	calls := n.homes.calls.Load()
	n.sweep(now) // at once, although it is not yet time again
	if n.homes.calls.Load() != calls+1 || n.m.cluster.failed {
		t.Error("it is not tried again")
	}
	n.sweep(now)
	if n.homes.calls.Load() != calls+1 {
		t.Error("it is renewed all the time")
	}
	n.m.cluster.mu.Lock()
	for i := range 2 * maximumEndings {
		n.m.cluster.endLater(ending{connection: fmt.Sprint(i)})
	}
	if len(n.m.cluster.endings) != maximumEndings {
		t.Errorf("%d endings wait", len(n.m.cluster.endings))
	}
	n.m.cluster.endings = nil
	n.m.cluster.mu.Unlock()
	n.m.cluster.lose(id, 7) // of an epoch that is over
	if got := session.String(); n.m.find(id) == nil || got != "" {
		t.Errorf("the connection has ended: %s", got)
	}
}

// A record that was lost, by its node or by the backplane, is made again.
func TestRecordIsLost(t *testing.T) {
	onEach(t, 2, func(t *testing.T, n []*node) {
		query := newToken(t, n[0], "")
		onEventStream(t, n[0].m, n[0].public, query, n[0].opened)
		token, err := n[0].m.Keys.open(n[0].m.Hub, strings.TrimPrefix(query, "id="))
		if err != nil {
			t.Fatal(err)
		}
		if err := n[0].homes.End(t.Context(), idString(token.id), 1, 0); err != nil {
			t.Fatal(err)
		}
		n[1].m.spend(&token) // or it would be taken for that of a new connection
		mustRequest(t, n[1].public, "POST", query, "", 404)
		n[0].sweep(time.Now().Add(renewInterval))
		mustRequest(t, n[1].public, "POST", query, "", 200)
	})
}

// A token that nobody used in time is of no use anywhere.
func TestTokenOfYesterday(t *testing.T) {
	onEach(t, 2, func(t *testing.T, n []*node) {
		query := "id=" + n[0].m.Keys.mint(n[0].m.Hub, connectionToken{
			id: newConnectionID(), before: time.Now().Add(-clockLeeway - time.Second), user: tag(""), stateful: true,
		})
		for _, node := range n {
			for _, kind := range []string{"websocket", "text/event-stream", ""} {
				if status, text := opened(t, node, query, kind); status != 404 || text != "No Connection with that ID" {
					t.Errorf("%q: got %d %q", kind, status, text)
				}
			}
		}
	})
}

func TestLocatedHomesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l locatedHomes
		expect := func(id, node string, recent bool) {
			t.Helper()
			if got, isRecent := l.get(id); got != node || node != "" && isRecent != recent {
				t.Errorf("%s: got %q, %v, want %q, %v", id, got, isRecent, node, recent)
			}
		}
		expect("a", "", false)
		l.put("a", "one")
		expect("a", "one", true)
		time.Sleep(locatedFor)
		expect("a", "one", false)
		time.Sleep(longestForgotten - locatedFor)
		l.put("b", "two")
		expect("a", "one", false) // a client that polls asks again by now
		l.put("a", "three")
		expect("a", "three", true)
		l.forget("a")
		expect("a", "", false)
		time.Sleep(longestForgotten)
		l.put("c", "two")
		time.Sleep(longestForgotten)
		l.put("d", "two")
		expect("b", "", false)
		for i := range 4 * maximumLocated {
			l.put(fmt.Sprint(i), "many")
		}
		if n := len(l.recent) + len(l.before); n > 2*maximumLocated {
			t.Errorf("%d are remembered", n)
		}
		expect(fmt.Sprint(4*maximumLocated-1), "many", true)
	})
}
