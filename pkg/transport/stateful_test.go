package transport

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// diary is a session that allows reconnects and writes down what happens to it.
type diary struct {
	c *Connection

	mu      sync.Mutex
	entries []string
	carrier Carrier
	block   chan struct{} // Receive waits for it to be closed, if it is there
}

func (d *diary) write(format string, a ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries = append(d.entries, fmt.Sprintf(format, a...))
}

func (d *diary) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.entries, " ")
}

func (d *diary) Receive(p []byte) {
	d.write("received:%s", p)
	if d.block != nil {
		<-d.block
	}
}
func (d *diary) Interrupted(Carrier) { d.write("interrupted") }
func (d *diary) Resumed(by Carrier)  { d.use(by); d.write("resumed") }
func (d *diary) Disconnected()       { d.write("disconnected") }

func (d *diary) use(ca Carrier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.carrier = ca
}

func (d *diary) using() Carrier {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.carrier
}

func (d *diary) expect(t *testing.T, want string) {
	t.Helper()
	await.Until(t, "the session has been told", func() error {
		if got := d.String(); got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// stateful starts an endpoint that grants stateful reconnect, and negotiates it.
func stateful(t *testing.T, c Config) (m *Manager, s *httptest.Server, token string, sessions chan *diary) {
	t.Helper()
	sessions = make(chan *diary, 1)
	c.Accept = func(c *Connection, _ *http.Request) Session {
		d := &diary{c: c, carrier: c.Carrier()}
		c.AllowReconnect()
		sessions <- d
		return d
	}
	m, s = serve(t, c, AllowStatefulReconnects())
	n := negotiate(t, s, "negotiateVersion=1&useStatefulReconnect=True")
	if !n.StatefulReconnect {
		t.Fatal("stateful reconnect was not granted")
	}
	return m, s, n.ConnectionToken, sessions
}

func send(t *testing.T, conn *websocket.Conn, text string) {
	t.Helper()
	if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestStatefulReconnectIsGranted(t *testing.T) {
	for _, tt := range []struct {
		name, query string
		options     []EndpointOption
		want        bool
	}{
		{"asked", "negotiateVersion=1&useStatefulReconnect=true", []EndpointOption{AllowStatefulReconnects()}, true},
		{"asked in other words", "negotiateVersion=1&USEstatefulReconnect=TRUE", []EndpointOption{AllowStatefulReconnects()}, true},
		{"not asked", "negotiateVersion=1", []EndpointOption{AllowStatefulReconnects()}, false},
		{"declined", "negotiateVersion=1&useStatefulReconnect=false", []EndpointOption{AllowStatefulReconnects()}, false},
		{"nonsense", "negotiateVersion=1&useStatefulReconnect=perhaps", []EndpointOption{AllowStatefulReconnects()}, false},
		{"a number", "negotiateVersion=1&useStatefulReconnect=1", []EndpointOption{AllowStatefulReconnects()}, false},
		{"not allowed", "negotiateVersion=1&useStatefulReconnect=true", nil, false},
		{"where the id is the token", "useStatefulReconnect=true", []EndpointOption{AllowStatefulReconnects()}, false},
		{"without WebSockets", "negotiateVersion=1&useStatefulReconnect=true", []EndpointOption{AllowStatefulReconnects(), Transports(LongPolling)}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, s := serve(t, Config{}, tt.options...)
			if got := negotiate(t, s, tt.query).StatefulReconnect; got != tt.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestResume(t *testing.T) {
	_, s, token, sessions := stateful(t, Config{})
	one, _ := dial(t, s, "id="+token)
	d := <-sessions
	send(t, one, "1")
	d.expect(t, "received:1")
	one.NetConn().Close()
	d.expect(t, "received:1 interrupted")
	two, _ := dial(t, s, "id="+token)
	send(t, two, "2")
	d.expect(t, "received:1 interrupted resumed received:2")
	if err := d.using().Write([][]byte{[]byte("3")}, protocol.Text); err != nil {
		t.Fatal(err)
	}
	if _, got, err := two.ReadMessage(); err != nil || string(got) != "3" {
		t.Fatalf("got %q, %v", got, err)
	}
	if err := two.WriteMessage(websocket.CloseMessage, nil); err != nil {
		t.Fatal(err)
	}
	d.expect(t, "received:1 interrupted resumed received:2 disconnected")
	if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusNotFound {
		t.Errorf("after the end: %d", answer.StatusCode)
	}
}

// A client may come back before the node has noticed that it was away, and while the
// session still has to do with what it sent before.
func TestResumeWhileTheOldCarrierLooksAlive(t *testing.T) {
	_, s, token, sessions := stateful(t, Config{})
	one, _ := dial(t, s, "id="+token)
	d := <-sessions
	d.block = make(chan struct{})
	send(t, one, "1")
	d.expect(t, "received:1")
	two, _ := dial(t, s, "id="+token)
	d.expect(t, "received:1 resumed")
	if _, _, err := one.ReadMessage(); err == nil {
		t.Error("the old socket is open")
	}
	send(t, two, "2")
	if err := d.using().Write([][]byte{[]byte("3")}, protocol.Text); err != nil {
		t.Fatal(err)
	}
	if _, got, err := two.ReadMessage(); err != nil || string(got) != "3" {
		t.Fatalf("got %q, %v", got, err)
	}
	close(d.block)
	d.expect(t, "received:1 resumed interrupted received:2")
}

// However often a client comes back to a session that is busy, few sockets wait for it.
func TestResumesAreBounded(t *testing.T) {
	_, s, token, sessions := stateful(t, Config{})
	one, _ := dial(t, s, "id="+token)
	d := <-sessions
	d.block = make(chan struct{})
	defer close(d.block)
	send(t, one, "1")
	d.expect(t, "received:1")
	for range 2 * maximumHolds {
		if _, answer := dial(t, s, "id="+token); answer.StatusCode == http.StatusConflict {
			return
		}
	}
	t.Error("all are taken")
}

func TestAbandonedConnectionEnds(t *testing.T) {
	m, s, token, sessions := stateful(t, Config{})
	conn, _ := dial(t, s, "id="+token)
	d := <-sessions
	conn.NetConn().Close()
	d.expect(t, "interrupted")
	m.Sweep(time.Now().Add(m.DisconnectTimeout - time.Second))
	two, _ := dial(t, s, "id="+token)
	two.NetConn().Close()
	d.expect(t, "interrupted resumed interrupted")
	m.Sweep(time.Now().Add(m.DisconnectTimeout + time.Second))
	d.expect(t, "interrupted resumed interrupted disconnected")
	if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusNotFound {
		t.Errorf("after the end: %d", answer.StatusCode)
	}
}

func TestDisableReconnect(t *testing.T) {
	t.Run("with a carrier", func(t *testing.T) {
		_, s, token, sessions := stateful(t, Config{})
		conn, _ := dial(t, s, "id="+token)
		d := <-sessions
		d.c.DisableReconnect()
		d.c.AllowReconnect() // has no effect any more
		if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusConflict {
			t.Errorf("second socket: %d", answer.StatusCode)
		}
		conn.NetConn().Close()
		d.expect(t, "disconnected")
		if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusNotFound {
			t.Errorf("after the end: %d", answer.StatusCode)
		}
	})
	t.Run("without a carrier", func(t *testing.T) {
		_, s, token, sessions := stateful(t, Config{})
		conn, _ := dial(t, s, "id="+token)
		d := <-sessions
		conn.NetConn().Close()
		d.expect(t, "interrupted")
		d.c.DisableReconnect()
		d.expect(t, "interrupted disconnected")
		if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusNotFound {
			t.Errorf("after the end: %d", answer.StatusCode)
		}
	})
}

// Whoever comes first, a socket that is opened while reconnecting is disabled neither
// lives on nor keeps the connection alive.
func TestDisableReconnectRaces(t *testing.T) {
	for range 50 {
		_, s, token, sessions := stateful(t, Config{})
		one, _ := dial(t, s, "id="+token)
		d := <-sessions
		one.NetConn().Close()
		d.expect(t, "interrupted")
		var disabling sync.WaitGroup
		disabling.Go(d.c.DisableReconnect)
		two, answer := dial(t, s, "id="+token)
		disabling.Wait()
		if answer.StatusCode == http.StatusSwitchingProtocols {
			two.NetConn().Close()
		}
		await.Until(t, "the connection has ended", func() error {
			if got := d.String(); !strings.HasSuffix(got, "disconnected") {
				return fmt.Errorf("diary: %s", got)
			}
			return nil
		})
	}
}

// fickle is a session that wants no other carrier once it sees one come.
type fickle struct{ diary }

func (f *fickle) Renew(*http.Request, *auth.Identity) bool {
	f.c.DisableReconnect()
	return true
}

func TestDisableReconnectWhileASocketOpens(t *testing.T) {
	for _, away := range []bool{false, true} {
		sessions := make(chan *fickle, 1)
		_, s := serve(t, Config{Accept: func(c *Connection, _ *http.Request) Session {
			f := &fickle{diary{c: c, carrier: c.Carrier()}}
			c.AllowReconnect()
			sessions <- f
			return f
		}}, AllowStatefulReconnects())
		query := "user=ada&id=" + negotiate(t, s, "user=ada&negotiateVersion=1&useStatefulReconnect=true").ConnectionToken
		conn, _ := dial(t, s, query)
		f := <-sessions
		want := "disconnected"
		if away {
			conn.NetConn().Close()
			f.expect(t, "interrupted")
			want = "interrupted disconnected"
		}
		if _, answer := dial(t, s, query+"&claim=new"); answer.StatusCode != http.StatusNoContent {
			t.Errorf("away %v: answered %d", away, answer.StatusCode)
		}
		if !away {
			conn.NetConn().Close()
		}
		f.expect(t, want)
	}
}

// A connection that is not stateful, or whose hub does not allow it, has one carrier.
func TestNoReconnectUnlessAllowed(t *testing.T) {
	for _, query := range []string{"negotiateVersion=1", "negotiateVersion=1&useStatefulReconnect=true"} {
		sessions := make(chan *diary, 1)
		_, s := serve(t, Config{Accept: func(c *Connection, _ *http.Request) Session {
			d := &diary{c: c}
			if !c.Stateful() {
				c.AllowReconnect()
			}
			sessions <- d
			return d
		}}, AllowStatefulReconnects())
		token := negotiate(t, s, query).ConnectionToken
		conn, _ := dial(t, s, "id="+token)
		d := <-sessions
		if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusConflict {
			t.Errorf("%s: second socket: %d", query, answer.StatusCode)
		}
		conn.NetConn().Close()
		d.expect(t, "disconnected")
	}
}

// An upgrade that fails leaves the token as it was.
func TestFailedUpgrade(t *testing.T) {
	_, s := serve(t, Config{})
	token := negotiate(t, s, "negotiateVersion=1").ConnectionToken
	r, err := http.NewRequest("GET", s.URL+"/hub?id="+token, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = upgrade()
	r.Header.Set("Sec-Websocket-Version", "12")
	if status, _, _ := do(t, r); status != http.StatusBadRequest {
		t.Errorf("got %d", status)
	}
	if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusSwitchingProtocols {
		t.Errorf("then: %d", answer.StatusCode)
	}
}
