package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/protocol"
)

func TestReconnectGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, protocol.JSON, func(p *peer) { expect[*protocol.Invocation](p) })
		var at []int
		var start time.Time
		c, err := s.dial(WithAutomaticReconnect())
		dial := c.dialer.NetDialContext
		c.dialer.NetDialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			at = append(at, since(t, start))
			return dial(ctx, network, address)
		}
		var reasons []error
		c.OnReconnecting(func(reason error) {
			reasons = append(reasons, reason)
			if c.State() != Reconnecting {
				t.Errorf("state %v", c.State())
			}
			if err := c.Send(t.Context(), "Method"); !errors.Is(err, ErrNotConnected) {
				t.Errorf("Send: %v", err)
			}
		})
		c.OnReconnected(func(context.Context, string) { t.Error("reconnected") })
		start = time.Now()
		started(t, c, err)
		at = nil
		s.setCut(true)
		if err := c.Invoke(t.Context(), "End"); !errors.Is(err, ErrConnectionLost) {
			t.Errorf("Invoke: %v", err)
		}
		<-c.Done()
		if want := []int{0, 2, 12, 42}; !slices.Equal(at, want) {
			t.Errorf("attempts after %v s, want %v", at, want)
		}
		if len(reasons) != 1 || !errors.Is(c.Err(), reasons[0]) {
			t.Errorf("reasons %v, ended with %v", reasons, c.Err())
		}
		if c.State() != Closed {
			t.Errorf("state %v", c.State())
		}
	})
}

func TestReconnectPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, protocol.JSON, func(p *peer) { expect[*protocol.Invocation](p) })
		refused := errors.New("no token")
		var token error
		var asked []string
		c := s.start(
			WithAccessToken(func(context.Context) (string, error) { return "", token }),
			WithReconnectPolicy(func(attempt int, err error) (time.Duration, bool) {
				asked = append(asked, fmt.Sprint(attempt, errors.Is(err, refused)))
				return time.Hour, attempt < 2
			}),
		)
		token = refused
		start := time.Now()
		c.Send(t.Context(), "End")
		<-c.Done()
		if got := time.Since(start); got != 2*time.Hour {
			t.Errorf("gave up after %v", got)
		}
		if want := []string{"0 false", "1 true", "2 true"}; !slices.Equal(asked, want) {
			t.Errorf("asked %v", asked)
		}
		if !errors.Is(c.Err(), refused) {
			t.Errorf("ended with %v", c.Err())
		}
	})
}

// Callbacks run between the handlers, may call the hub, and come with every outage.
func TestReconnect(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		synctest.Test(t, func(t *testing.T) {
			const outages = 3
			connections := 0
			s := script(t, proto, func(p *peer) {
				connections++
				if connections > 1 {
					m := expect[*protocol.Invocation](p)
					p.send(&protocol.Invocation{Target: "event", Arguments: []any{"early"}})
					p.send(&protocol.Completion{InvocationID: m.InvocationID})
				}
				p.send(&protocol.Invocation{Target: "event", Arguments: []any{"late"}})
				switch connections {
				case 1: // cut
				case 2:
					p.send(&protocol.Close{Error: "drain", AllowReconnect: true})
					p.drain()
				case 3:
					p.write([]byte("garbage\x1e"))
					p.drain()
				default:
					keepAlive(p)
				}
			})
			c, err := s.dial(WithAutomaticReconnect())
			var events []string
			mustOn(t, c, "event", func(text string) {
				time.Sleep(time.Second)
				events = append(events, text)
			})
			c.OnReconnecting(func(error) { events = append(events, "reconnecting") })
			c.OnReconnected(func(ctx context.Context, _ string) {
				if err := c.Invoke(ctx, "Join"); err != nil {
					t.Error(err)
				}
				events = append(events, "reconnected")
			})
			started(t, c, err)
			time.Sleep(time.Minute)
			synctest.Wait()
			want := []string{"late"}
			for range outages {
				want = append(want, "reconnecting", "reconnected", "early", "late")
			}
			if !slices.Equal(events, want) {
				t.Errorf("events %q,\n  want %q", events, want)
			}
			if c.State() != Connected || connections != outages+1 {
				t.Errorf("state %v, %d connections", c.State(), connections)
			}
			assertIdle(t, c)
		})
	})
}

func TestCloseWhileReconnecting(t *testing.T) {
	for what, delay := range map[string]time.Duration{"waiting": time.Hour, "connecting": 0} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, protocol.JSON, func(p *peer) { expect[*protocol.Invocation](p) })
			hang := false
			c := s.start(WithAutomaticReconnect(delay), WithAccessToken(func(ctx context.Context) (string, error) {
				if hang {
					<-ctx.Done()
				}
				return "", ctx.Err()
			}))
			hang = true
			if err := c.Invoke(t.Context(), "End"); !errors.Is(err, ErrConnectionLost) {
				t.Errorf("Invoke: %v", err)
			}
			synctest.Wait()
			if c.State() != Reconnecting {
				t.Fatalf("%s: state %v", what, c.State())
			}
			start := time.Now()
			c.Close()
			<-c.Done()
			if d := time.Since(start); d != 0 || c.Err() != nil || c.State() != Closed {
				t.Errorf("%s: closed after %v, error %v, state %v", what, d, c.Err(), c.State())
			}
		})
	}
}

// A cluster is one address that a hub is served at, whose sockets can be cut.
type cluster struct {
	hub    atomic.Pointer[hub.Hub]
	server *httptest.Server
	mu     sync.Mutex
	conns  []net.Conn
}

func newCluster(t *testing.T) *cluster {
	k := new(cluster)
	k.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := k.hub.Load(); h != nil {
			h.ServeHTTP(w, r)
			return
		}
		http.Error(w, "no node", http.StatusServiceUnavailable)
	}))
	k.server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateHijacked {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.conns = append(k.conns, conn)
		}
	}
	k.server.Start()
	t.Cleanup(k.server.Close)
	k.serve(t)
	return k
}

// serve puts a new node in the place of the last one, which is shut down.
func (k *cluster) serve(t *testing.T) {
	h, err := hub.New(room{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.shutdown(t, h) })
	k.shutdown(t, k.hub.Swap(h))
}

func (k *cluster) shutdown(t *testing.T, h *hub.Hub) {
	if h == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := h.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func (k *cluster) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, conn := range k.conns {
		conn.Close()
	}
	k.conns = nil
}

func TestHubReconnect(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		k := newCluster(t)
		c, err := New(k.server.URL, quiet(WithProtocol(p), WithAutomaticReconnect(0, 10*time.Millisecond, 100*time.Millisecond))...)
		said := make(chan string, 10)
		mustOn(t, c, "Said", func(_, text string) { said <- text })
		reconnected := make(chan string, 1)
		c.OnReconnected(func(ctx context.Context, id string) {
			if err := c.Invoke(ctx, "Join", "room"); err != nil {
				t.Error(err)
			}
			reconnected <- id
		})
		started(t, c, err)
		for what, outage := range map[string]func(){
			"cut":      k.cut,
			"new node": func() { k.serve(t) },
		} {
			before := c.ConnectionID()
			outage()
			after := receive(t, "the connection after "+what, reconnected)
			if before == "" || after == before || after != c.ConnectionID() {
				t.Errorf("%s: connection ids %q, then %q and %q", what, before, after, c.ConnectionID())
			}
			if err := c.Invoke(t.Context(), "ToGroup", "room", what); err != nil {
				t.Error(err)
			}
			if text := receive(t, "what is said in the group", said); text != what {
				t.Errorf("got %q", text)
			}
		}

		// No node is left, but an address that refuses.
		k.shutdown(t, k.hub.Swap(nil))
		await.Until(t, "the client gives up", func() error {
			if c.State() != Closed {
				return fmt.Errorf("state %v", c.State())
			}
			return nil
		})
		if refused, ok := errors.AsType[*StatusError](c.Err()); !ok || refused.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("ended with %v", c.Err())
		}
	})
}
