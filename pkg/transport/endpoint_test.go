package transport

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
)

// serve starts an endpoint at /hub whose requests' query parameters user, expires and
// claim are their identity, and whose sessions send back what they receive.
func serve(t *testing.T, c Config, options ...EndpointOption) (*Manager, *httptest.Server) {
	t.Helper()
	if c.Accept == nil {
		c.Accept = func(c *Connection, _ *http.Request) Session { return &echo{c: c} }
	}
	if c.Hub == "" {
		c.Hub = "test"
	}
	c.Logger = slog.New(slog.DiscardHandler)
	c.Authenticator = auth.AuthenticatorFunc(func(r *http.Request) (*auth.Identity, error) {
		switch user := r.URL.Query().Get("user"); user {
		case "":
			return auth.Anonymous, nil
		case "forged":
			return nil, auth.ErrUnauthenticated
		default:
			identity := &auth.Identity{Subject: user, Authenticated: true, Claims: auth.Claims{"claim": r.URL.Query().Get("claim")}}
			switch r.URL.Query().Get("expires") {
			case "in an hour":
				identity.Expires = time.Now().Add(time.Hour + time.Second/2)
			case "in two hours":
				identity.Expires = time.Now().Add(2*time.Hour + time.Second/2)
			}
			return identity, nil
		}
	})
	m := NewManager(c)
	s := httptest.NewUnstartedServer(m.Endpoint(options...))
	s.EnableHTTP2 = true
	if c.Hub == secureHub {
		s.StartTLS()
	} else {
		s.Start()
	}
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

// secureHub is the name of a hub that is served over TLS, with HTTP/2.
const secureHub = "secure"

func negotiate(t *testing.T, s *httptest.Server, query string) (r negotiateResponse) {
	t.Helper()
	answer, err := s.Client().Post(s.URL+"/hub/negotiate?"+query, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
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
		want := "[{WebSockets [Text Binary]} {ServerSentEvents [Text]} {LongPolling [Text Binary]}]"
		if tt.version == 0 { // where the token is public, nothing else would be safe
			want = "[{WebSockets [Text Binary]}]"
		}
		if got := fmt.Sprint(r.AvailableTransports); got != want {
			t.Errorf("%s: transports %v", tt.query, got)
		}
	}
}

// Clients in the field depend on the names, and some on the order, of the fields.
func TestNegotiateResponseOnTheWire(t *testing.T) {
	const (
		webSockets = `{"transport":"WebSockets","transferFormats":["Text","Binary"]}`
		events     = `{"transport":"ServerSentEvents","transferFormats":["Text"]}`
		polling    = `{"transport":"LongPolling","transferFormats":["Text","Binary"]}`
	)
	for _, tt := range []struct {
		name             string
		options          []EndpointOption
		query            string
		before           string // the version
		lifetime, offers string
	}{
		{name: "all", offers: webSockets + "," + events + "," + polling},
		{name: "one", options: []EndpointOption{Transports(ServerSentEvents)}, offers: events},
		{name: "two, whatever their order", options: []EndpointOption{Transports(LongPolling, WebSockets)}, offers: webSockets + "," + polling},
		{name: "none", options: []EndpointOption{Transports()}},
		{
			name: "stateful", options: []EndpointOption{AllowStatefulReconnects(), Transports(WebSockets)}, query: "&useStatefulReconnect=true",
			before: `"useStatefulReconnect":true,`, offers: webSockets,
		},
		{
			name: "refresh", options: []EndpointOption{EnableAuthenticationRefresh(), Transports(WebSockets)}, query: "&user=ada&expires=in+an+hour",
			lifetime: `"tokenLifetimeSeconds":3600,`, offers: webSockets,
		},
		{
			name: "refresh of what does not end", options: []EndpointOption{EnableAuthenticationRefresh(), Transports(WebSockets)}, query: "&user=ada",
			offers: webSockets,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, s := serve(t, Config{}, tt.options...)
			r, err := http.Post(s.URL+"/hub/negotiate?negotiateVersion=1"+tt.query, "", nil)
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
			if n.TokenLifetime == 3599 { // a second has passed
				tt.lifetime = strings.Replace(tt.lifetime, "3600", "3599", 1)
			}
			want := `{` + tt.before + `"negotiateVersion":1,"connectionId":"` + n.ConnectionID + `","connectionToken":"` + n.ConnectionToken +
				`",` + tt.lifetime + `"availableTransports":[` + tt.offers + `]}`
			if string(body) != want || r.ContentLength != int64(len(want)) || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got  %s\nwant %s", body, want)
			}
		})
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
