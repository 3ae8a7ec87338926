package transport

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/pkg/auth"
)

// serve starts an endpoint at /hub whose requests' query parameter user is their
// identity, and whose sessions send back what they receive.
func serve(t *testing.T, c Config, options ...EndpointOption) (*Manager, *httptest.Server) {
	t.Helper()
	if c.Accept == nil {
		c.Accept = func(c *Connection, _ *http.Request) Session { return &echo{c: c} }
	}
	c.Hub = "test"
	c.Logger = slog.New(slog.DiscardHandler)
	c.Authenticator = auth.AuthenticatorFunc(func(r *http.Request) (*auth.Identity, error) {
		switch user := r.URL.Query().Get("user"); user {
		case "":
			return auth.Anonymous, nil
		case "forged":
			return nil, auth.ErrUnauthenticated
		default:
			return &auth.Identity{Subject: user, Authenticated: true}, nil
		}
	})
	m := NewManager(c)
	s := httptest.NewServer(m.Endpoint(options...))
	t.Cleanup(func() {
		m.Refuse()
		m.Abort()
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := m.Wait(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return m, s
}

func negotiate(t *testing.T, s *httptest.Server, query string) (r negotiateResponse) {
	t.Helper()
	answer, err := http.Post(s.URL+"/hub/negotiate?"+query, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRequestsThatOpenNothing(t *testing.T) {
	m, s := serve(t, Config{})
	minted := func(hub string, keys Keys) string {
		id := newConnectionID()
		return keys.mint(hub, connectionToken{id: id, before: farAhead(), user: tag("")})
	}
	token := negotiate(t, s, "negotiateVersion=1").ConnectionToken
	adas := negotiate(t, s, "negotiateVersion=1&user=ada").ConnectionToken
	const (
		plain   = "text/plain"
		unknown = "No Connection with that ID"
	)
	for _, tt := range []struct {
		name, method, target string
		header               http.Header
		status               int
		contentType, body    string
	}{
		{name: "no id", method: "GET", target: "/hub", status: 400, contentType: plain, body: "Connection ID required"},
		{name: "empty id", method: "GET", target: "/hub?id=", status: 400, contentType: plain, body: "Connection ID required"},
		{name: "event stream without id", method: "GET", target: "/hub", header: http.Header{"Accept": {"text/html, text/event-stream"}}, status: 400, contentType: plain, body: "Connection ID required"},
		{name: "post without id", method: "POST", target: "/hub", status: 400, contentType: plain, body: "Connection ID required"},
		{name: "delete without id", method: "DELETE", target: "/hub", status: 400, contentType: plain, body: "Connection ID required"},
		{name: "unknown id", method: "GET", target: "/hub?id=x", status: 404, contentType: plain, body: unknown},
		{name: "unknown id for upgrade", method: "GET", target: "/hub?id=x", header: upgrade(), status: 404, contentType: plain, body: unknown},
		{name: "post to unknown id", method: "POST", target: "/hub?id=x", status: 404, contentType: plain, body: unknown},
		{name: "delete of unknown id", method: "DELETE", target: "/hub?id=x", status: 404, contentType: plain, body: unknown},
		{name: "token of another hub", method: "GET", target: "/hub?id=" + minted("other", m.Keys), header: upgrade(), status: 404, contentType: plain, body: unknown},
		{name: "token of another cluster", method: "GET", target: "/hub?id=" + minted("test", RandomKey()), header: upgrade(), status: 404, contentType: plain, body: unknown},
		{name: "token of another user", method: "GET", target: "/hub?id=" + adas, header: upgrade(), status: 403},
		{name: "anonymous token, by a user", method: "GET", target: "/hub?user=ben&id=" + token, header: upgrade(), status: 403},
		{name: "long polling", method: "GET", target: "/hub?id=" + token, status: 404, contentType: plain, body: "LongPolling transport not supported by this end point type"},
		{name: "event stream", method: "GET", target: "/hub?ID=" + token, header: http.Header{"Accept": {"text/event-stream"}}, status: 404, contentType: plain, body: "ServerSentEvents transport not supported by this end point type"},
		{name: "post", method: "POST", target: "/hub?id=" + token, status: 405, contentType: plain, body: "POST requests are not allowed for WebSocket connections."},
		{name: "delete", method: "DELETE", target: "/hub?id=" + token, status: 400, contentType: plain, body: "Cannot terminate this connection using the DELETE endpoint."},
		{name: "other method", method: "PUT", target: "/hub", status: 405, contentType: plain},
		{name: "other method of negotiate", method: "GET", target: "/hub/negotiate", status: 405, contentType: plain},
		{name: "forged credentials", method: "POST", target: "/hub/negotiate?user=forged", status: 401},
		{name: "negotiate with no number", method: "POST", target: "/hub/negotiate?negotiateVersion=one", status: 200, contentType: "application/json", body: `{"error":"The client requested a non-integer protocol version."}`},
		{name: "negotiate below the minimum", method: "POST", target: "/hub/negotiate?negotiateVersion=-1", status: 200, contentType: "application/json", body: `{"error":"The client requested version '-1', but the server does not support this version."}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequest(tt.method, s.URL+tt.target, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != nil {
				r.Header = tt.header
			}
			status, contentType, body := do(t, r)
			if status != tt.status || contentType != tt.contentType || body != tt.body {
				t.Errorf("got %d %q %q, want %d %q %q", status, contentType, body, tt.status, tt.contentType, tt.body)
			}
		})
	}
}

func TestNegotiate(t *testing.T) {
	_, s := serve(t, Config{})
	for _, tt := range []struct {
		query   string
		version int
	}{
		{"", 0}, {"negotiateVersion=0", 0}, {"negotiateVersion=1", 1}, {"NEGOTIATEVERSION=1", 1}, {"negotiateVersion=7", 1},
	} {
		r := negotiate(t, s, tt.query)
		if r.NegotiateVersion != tt.version || r.ConnectionID == "" || (r.ConnectionToken != "") != (tt.version == 1) {
			t.Errorf("%s: got %+v", tt.query, r)
		}
		if url.QueryEscape(r.ConnectionID+r.ConnectionToken) != r.ConnectionID+r.ConnectionToken {
			t.Errorf("%s: clients send %q verbatim, and it is not safe in a URL", tt.query, r.ConnectionID+r.ConnectionToken)
		}
		if got, want := r.AvailableTransports, (availableTransport{WebSockets, []string{"Text", "Binary"}}); len(got) != 1 || got[0].Transport != want.Transport || strings.Join(got[0].TransferFormats, " ") != "Text Binary" {
			t.Errorf("%s: transports %v", tt.query, got)
		}
	}
}

// Clients in the field depend on the names, and some on the order, of the fields.
func TestNegotiateResponseOnTheWire(t *testing.T) {
	_, s := serve(t, Config{})
	r, err := http.Post(s.URL+"/hub/negotiate?negotiateVersion=1", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var n negotiateResponse
	if err := json.Unmarshal(body, &n); err != nil {
		t.Fatal(err)
	}
	want := `{"negotiateVersion":1,"connectionId":"` + n.ConnectionID + `","connectionToken":"` + n.ConnectionToken +
		`","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]}`
	if string(body) != want || r.ContentLength != int64(len(want)) {
		t.Errorf("got  %s\nwant %s", body, want)
	}
}

func TestEndpointOptions(t *testing.T) {
	_, s := serve(t, Config{}, RequireAuthenticated(), MinimumNegotiateVersion(1))
	for _, tt := range []struct {
		target string
		status int
		body   string
	}{
		{"/hub/negotiate?negotiateVersion=1", 401, ""},
		{"/hub/negotiate?user=ada", 200, `{"error":"The client requested version '0', but the server does not support this version."}`},
	} {
		r, err := http.NewRequest("POST", s.URL+tt.target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, body := do(t, r); status != tt.status || body != tt.body {
			t.Errorf("%s: got %d %q, want %d %q", tt.target, status, body, tt.status, tt.body)
		}
	}
}

func TestRefuse(t *testing.T) {
	m, s := serve(t, Config{})
	m.Refuse()
	for _, target := range []string{"/hub/negotiate?negotiateVersion=1", "/hub"} {
		r, err := http.NewRequest("POST", s.URL+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if target == "/hub" {
			r.Method, r.Header = "GET", upgrade()
		}
		if status, _, _ := do(t, r); status != http.StatusServiceUnavailable {
			t.Errorf("%s: got %d", target, status)
		}
	}
}

func do(t *testing.T, r *http.Request) (status int, contentType, body string) {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, answer.Header.Get("Content-Type"), string(b)
}

// upgrade is the header of a request to open a WebSocket.
func upgrade() http.Header {
	return http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
}
