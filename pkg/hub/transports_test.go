package hub

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/transport"
)

// guest is a client without WebSocket: it speaks the hub protocol by requests.
type guest struct {
	t      *testing.T
	kind   transport.Kind
	base   string // URL of the hub
	query  string
	id     string
	header http.Header

	body   io.ReadCloser // of the event stream
	lines  *bufio.Reader
	frames []string // received and not yet taken
	over   bool     // nothing more will come
}

// visit negotiates and opens the transport. The address is that which serve returns.
func visit(t *testing.T, address, query string, kind transport.Kind) *guest {
	t.Helper()
	g := &guest{t: t, kind: kind, base: "http" + strings.TrimPrefix(address, "ws"), query: query, header: http.Header{}}
	var n struct{ ConnectionID, ConnectionToken string }
	status, body := g.request("POST", "/negotiate?negotiateVersion=1&"+query, "")
	if err := json.Unmarshal([]byte(body), &n); err != nil || status != 200 {
		t.Fatalf("negotiation: %d %s", status, body)
	}
	g.id = n.ConnectionID
	g.query += "&id=" + n.ConnectionToken
	if kind == transport.LongPolling {
		if status, body := g.request("GET", "?"+g.query, ""); status != 200 || body != "" {
			t.Fatalf("first poll: %d %s", status, body)
		}
		t.Cleanup(func() { // or the hub would wait for the client to come for what is left
			r, err := http.NewRequest("DELETE", g.base+"?"+g.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := http.DefaultClient.Do(r); err == nil {
				answer.Body.Close()
			}
		})
		return g
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", g.base+"?"+g.query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { answer.Body.Close() })
	g.body, g.lines = answer.Body, bufio.NewReader(answer.Body)
	return g
}

func (g *guest) request(method, target, body string) (status int, text string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.base+target, strings.NewReader(body))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header = g.header
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

func (g *guest) write(frames ...string) {
	g.t.Helper()
	if status, body := g.request("POST", "?"+g.query, strings.Join(frames, "\x1e")+"\x1e"); status != 200 {
		g.t.Fatalf("post: %d %s", status, body)
	}
}

// read returns the next frame, or how the transport ended.
func (g *guest) read() string {
	g.t.Helper()
	for len(g.frames) == 0 && !g.over {
		var data string
		if g.kind == transport.LongPolling {
			status, body := g.request("GET", "?"+g.query, "")
			data, g.over = body, status == 204
			if status != 200 && status != 204 {
				g.t.Fatalf("poll: %d %s", status, body)
			}
		} else {
			line, err := g.lines.ReadString('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				g.t.Fatal(err)
			}
			g.over = err != nil
			data, _ = strings.CutPrefix(strings.TrimSpace(line), "data: ")
			if data == line || !strings.Contains(line, "data: ") {
				continue
			}
		}
		if data == "" {
			continue
		}
		whole, found := strings.CutSuffix(data, "\x1e")
		if !found {
			g.t.Fatalf("%q does not end a frame", data)
		}
		g.frames = strings.Split(whole, "\x1e")
	}
	if len(g.frames) == 0 {
		return "over"
	}
	frame := g.frames[0]
	g.frames = g.frames[1:]
	return frame
}

func (g *guest) expect(frames ...string) {
	g.t.Helper()
	for _, want := range frames {
		got := g.read()
		for got == `{"type":6}` && want != got {
			got = g.read()
		}
		if got != want {
			g.t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

func (g *guest) shake() {
	g.t.Helper()
	g.write(`{"protocol":"json","version":1}`)
	g.expect(`{}`)
}

// leave ends the transport as official clients do.
func (g *guest) leave() {
	g.t.Helper()
	if g.kind == transport.LongPolling {
		if status, body := g.request("DELETE", "?"+g.query, ""); status != 202 {
			g.t.Fatalf("delete: %d %s", status, body)
		}
		return
	}
	g.body.Close()
}

// withoutWebSocket runs a test on both other transports.
func withoutWebSocket(t *testing.T, test func(*testing.T, transport.Kind)) {
	for _, kind := range []transport.Kind{transport.ServerSentEvents, transport.LongPolling} {
		t.Run(string(kind), func(t *testing.T) { test(t, kind) })
	}
}

func TestWithoutWebSocket(t *testing.T) {
	withoutWebSocket(t, func(t *testing.T, kind transport.Kind) {
		r := &room{disconnected: make(chan error, 1)}
		h, address := serve(t, r)
		ada, ben := visit(t, address, "user=ada", kind), connect(t, address, "ben")
		ada.shake()
		ada.write(
			`{"type":1,"invocationId":"1","target":"ID","arguments":[]}`,
			`{"type":1,"invocationId":"2","target":"Join","arguments":["room"]}`,
		)
		ada.expect(`{"type":3,"invocationId":"1","result":"`+ada.id+`"}`, `{"type":3,"invocationId":"2","result":null}`)
		if got := ben.invoke("Say", "room", "hi"); got != done {
			t.Fatal(got)
		}
		ada.expect(`{"type":1,"target":"Said","arguments":["hi"]}`)
		if err := h.Clients().User("ada").Send(t.Context(), "Greet"); err != nil {
			t.Fatal(err)
		}
		ada.expect(`{"type":1,"target":"Greet","arguments":[]}`)
		ada.leave()
		if err := <-r.disconnected; err != nil {
			t.Errorf("OnDisconnected was told %v", err)
		}
		await.Until(t, "the connection is forgotten", func() error {
			if h.registry.connection(ada.id) != nil {
				return errors.New("it is there")
			}
			return nil
		})
	})
}

// What the hub says at the end still arrives, then the transport ends.
func TestEndWithoutWebSocket(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options []Option
		do      func(*guest)
		want    []string
	}{
		{
			name: "refused handshake",
			do:   func(g *guest) { g.write(`{"protocol":"smoke","version":1}`) },
			want: []string{`{"error":"The protocol 'smoke' is not supported."}`},
		},
		{
			name:    "no handshake",
			options: []Option{WithHandshakeTimeout(50 * time.Millisecond)},
			do:      func(*guest) {},
			want:    []string{`{"error":"Handshake was canceled."}`},
		},
		{
			name: "abort",
			do: func(g *guest) {
				g.shake()
				g.write(`{"type":1,"target":"Abort","arguments":[]}`)
			},
			want: []string{`{"type":7}`},
		},
		{
			name: "nonsense",
			do: func(g *guest) {
				g.shake()
				g.write(`{"type":`)
			},
			want: []string{`{"type":7,"error":"Connection closed with an error.","allowReconnect":true}`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			withoutWebSocket(t, func(t *testing.T, kind transport.Kind) {
				_, address := serve(t, &room{}, tt.options...)
				g := visit(t, address, "", kind)
				tt.do(g)
				g.expect(append(tt.want, "over")...)
			})
		})
	}
}

// Event streams carry text alone.
func TestMessagePackNeedsABinaryTransport(t *testing.T) {
	_, address := serve(t, &room{})
	g := visit(t, address, "", transport.ServerSentEvents)
	g.write(`{"protocol":"messagepack","version":1}`)
	g.expect(`{"error":"Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format."}`, "over")

	g = visit(t, address, "", transport.LongPolling)
	g.write(`{"protocol":"messagepack","version":1}`)
	g.expect(`{}`)
}

// Event streams have pings; polls are sign of life enough, from either side.
func TestKeepAliveWithoutWebSocket(t *testing.T) {
	options := []Option{WithKeepAliveInterval(50 * time.Millisecond), WithClientTimeoutInterval(100 * time.Millisecond)}
	t.Run("event stream", func(t *testing.T) {
		_, address := serve(t, &room{}, options...)
		g := visit(t, address, "", transport.ServerSentEvents)
		g.shake()
		for range 3 {
			if got := g.read(); got != `{"type":6}` {
				t.Fatalf("got %s", got)
			}
		}
		g.write(`{"type":6}`) // from now on it can be timed out
		g.expect(`{"type":7,"error":"Connection closed with an error.","allowReconnect":true}`, "over")
	})
	t.Run("long polling", func(t *testing.T) {
		h, address := serve(t, &room{}, append(options, WithEndpointOptions(transport.LongPollingTimeout(300*time.Millisecond)))...)
		g := visit(t, address, "", transport.LongPolling)
		g.shake()
		g.write(`{"type":6}`)
		if status, body := g.request("GET", "?"+g.query, ""); status != 200 || body != "" {
			t.Errorf("a poll that waited for long is answered %d %s", status, body)
		}
		if h.registry.connection(g.id) == nil {
			t.Error("the connection has ended")
		}
	})
}

// A client that polls no more has gone.
func TestAbandonedPolling(t *testing.T) {
	r := &room{disconnected: make(chan error, 1)}
	_, address := serve(t, r, WithDisconnectTimeout(200*time.Millisecond))
	g := visit(t, address, "", transport.LongPolling)
	g.shake()
	select {
	case <-r.disconnected:
	case <-time.After(deadline):
		t.Fatal("OnDisconnected is not called")
	}
	if status, body := g.request("GET", "?"+g.query, ""); status != 404 {
		t.Errorf("then a poll is answered %d %s", status, body)
	}
}

func TestShutdownWithoutWebSocket(t *testing.T) {
	withoutWebSocket(t, func(t *testing.T, kind transport.Kind) {
		h, address := serve(t, &room{})
		g := visit(t, address, "", kind)
		g.shake()
		down := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			down <- h.Shutdown(ctx)
		}()
		g.expect(`{"type":7,"allowReconnect":true}`, "over")
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
}

// New credentials replace what the connection's say, if they are the same user's.
func TestRefresh(t *testing.T) {
	h, address := serve(t, &room{}, WithAuthenticator(auth.AuthenticatorFunc(byRole)), WithEndpointOptions(
		transport.EnableAuthenticationRefresh(), transport.CloseOnAuthenticationExpiration()))
	g := visit(t, address, "user=ada&role=guest", transport.LongPolling)
	g.shake()
	c := h.registry.connection(g.id)
	if role, _ := c.caller.Claims().First("role"); role != "guest" {
		t.Fatalf("role %q", role)
	}
	token := strings.TrimPrefix(g.query, "user=ada&role=guest")
	for _, tt := range []struct{ query, want string }{
		{"user=ada&role=admin", `200 {"tokenLifetimeSeconds":35`}, // some of 3600
		{"user=ben&role=admin", `403 {"error":"permission_change_rejected"}`},
	} {
		status, body := g.request("POST", "/refresh?"+tt.query+token, "")
		if got := fmt.Sprint(status, " ", body); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.query, got, tt.want)
		}
		if role, _ := c.caller.Claims().First("role"); role != "admin" || c.user != "ada" {
			t.Errorf("%s: then %s has the role %q", tt.query, c.user, role)
		}
	}
	if expires := c.link.Expires(); time.Until(expires) < time.Minute {
		t.Errorf("expires at %v", expires)
	}
}

// byRole takes all for the same subject, with the role that the query names.
func byRole(r *http.Request) (*auth.Identity, error) {
	return &auth.Identity{
		Subject: "somebody", Authenticated: true, Expires: time.Now().Add(time.Hour),
		Claims: auth.Claims{"role": r.URL.Query().Get("role")},
	}, nil
}
