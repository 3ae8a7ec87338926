package transport

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/peer"
)

func TestNewOrigins(t *testing.T) {
	for _, tt := range []struct {
		origins     []string
		credentials bool
		err         string // is contained
	}{
		{[]string{"https://app.example.com", "http://localhost:3000", "app://phone", "http://[::1]:8080"}, true, ""},
		{nil, true, ""},
		{[]string{"*"}, false, ""},
		{[]string{"*"}, true, "one by one"},
		{[]string{"https://app.example.com", "*"}, true, "one by one"},
		{[]string{"null"}, false, "scheme and a host"},
		{[]string{""}, false, "scheme and a host"},
		{[]string{"app.example.com"}, false, "scheme and a host"},
		{[]string{"https://"}, false, "scheme and a host"},
		{[]string{"https://:443"}, false, "scheme and a host"},
		{[]string{"https://app.example.com/"}, false, "slash"},
		{[]string{"https://app.example.com/chat"}, false, "slash"},
		{[]string{"https://ada@app.example.com"}, false, "slash"},
		{[]string{"https://app.example.com?"}, false, "slash"},
		{[]string{"https://*.example.com"}, false, "whole host"},
		{[]string{"https://bücher.example"}, false, "ASCII"},
		{[]string{"https://app.example.com:port"}, false, "port"},
	} {
		_, err := NewOrigins(tt.credentials, tt.origins...)
		switch {
		case tt.err == "" && err != nil:
			t.Errorf("%q: %v", tt.origins, err)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%q: got %v, want an error that contains %q", tt.origins, err, tt.err)
		}
	}
}

func origins(t *testing.T, credentials bool, list ...string) *Origins {
	t.Helper()
	o, err := NewOrigins(credentials, list...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// What browsers ask for the official client, before and with its requests.
func TestCrossOriginRequests(t *testing.T) {
	const (
		page    = "https://app.example.com"
		allow   = "Access-Control-Allow-"
		headers = "authorization,content-type,x-requested-with,x-signalr-user-agent"
	)
	preflight := func(method string) http.Header {
		return http.Header{
			"Access-Control-Request-Method":  {method},
			"Access-Control-Request-Headers": {headers},
		}
	}
	granted := map[string]string{allow + "Origin": page, allow + "Credentials": "true"}
	none := map[string]string{allow + "Origin": "", allow + "Credentials": ""}
	for _, tt := range []struct {
		name           string
		origins        *Origins
		method, origin string
		header         http.Header
		status         int
		want           map[string]string // headers of the answer; "": not there
	}{
		{"preflight", origins(t, true, page), "OPTIONS", page, preflight("POST"), 204,
			map[string]string{allow + "Origin": page, allow + "Credentials": "true", allow + "Methods": "POST", allow + "Headers": headers}},
		{"preflight of a DELETE", origins(t, true, page), "OPTIONS", page, preflight("DELETE"), 204,
			map[string]string{allow + "Origin": page, allow + "Methods": "DELETE"}},
		{"preflight of what there is not", origins(t, true, page), "OPTIONS", page, preflight("PATCH"), 204, none},
		{"preflight for another page", origins(t, true, page), "OPTIONS", "https://evil.example", preflight("POST"), 204, none},
		{"preflight for a page of the same host by another scheme", origins(t, true, page), "OPTIONS", "http://app.example.com", preflight("POST"), 204, none},
		{"preflight for a host that begins alike", origins(t, true, page), "OPTIONS", page + ".evil.example", preflight("POST"), 204, none},
		{"preflight for nobody's page", origins(t, true, page), "OPTIONS", "null", preflight("POST"), 204, none},
		{"preflight, of a list by other words", origins(t, true, "https://other.example", "https://APP.example.com:443"), "OPTIONS", page, preflight("POST"), 204,
			map[string]string{allow + "Origin": page}},
		{"preflight, all allowed", origins(t, false, "*"), "OPTIONS", page, preflight("POST"), 204,
			map[string]string{allow + "Origin": page, allow + "Credentials": ""}},
		{"preflight, none allowed", new(Origins), "OPTIONS", page, preflight("POST"), 401, none},
		{"OPTIONS that is no preflight", origins(t, true, page), "OPTIONS", page, nil, 401, granted},
		{"refused, for the page to see", origins(t, true, page), "POST", page, nil, 401, granted},
		{"taken", origins(t, true, page), "POST", page, http.Header{"Authorization": {"Bearer good"}}, 200, granted},
		{"taken, for a page that may not see it", origins(t, true, page), "POST", "https://evil.example", http.Header{"Authorization": {"Bearer good"}}, 200, none},
		{"taken, without credentials", origins(t, false, page), "POST", page, http.Header{"Authorization": {"Bearer good"}}, 200,
			map[string]string{allow + "Origin": page, allow + "Credentials": ""}},
		{"same host", origins(t, true, page), "POST", "https://hub.example.com", http.Header{"Authorization": {"Bearer good"}}, 200, none},
		{"no browser", origins(t, true, page), "POST", "", http.Header{"Authorization": {"Bearer good"}}, 200, none},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := NewManager(Config{Authenticator: bearer{}})
			e := m.Endpoint(RequireAuthenticated(), AllowedOrigins(tt.origins))
			r := httptest.NewRequest(tt.method, "https://hub.example.com/chat/negotiate", nil)
			for name, values := range tt.header {
				r.Header[name] = values
			}
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Code != tt.status {
				t.Errorf("status %d, want %d", w.Code, tt.status)
			}
			for name, want := range tt.want {
				if got := strings.Join(w.Header().Values(name), "; "); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if tt.want[allow+"Origin"] != "" && !strings.Contains(strings.Join(w.Header().Values("Vary"), ","), "Origin") {
				t.Errorf("a cache may give the answer to another page: Vary is %q", w.Header().Values("Vary"))
			}
		})
	}
}

// bearer knows one token.
type bearer struct{}

func (bearer) Authenticate(r *http.Request) (*auth.Identity, error) {
	if r.Header.Get("Authorization") == "Bearer good" {
		return &auth.Identity{Subject: "ada", Authenticated: true}, nil
	}
	return auth.Anonymous, nil
}

func TestOriginOfWebSocket(t *testing.T) {
	const page = "https://app.example.com"
	for _, tt := range []struct {
		name    string
		origins *Origins
		origin  string // HOST: the endpoint's
		status  int
	}{
		{"no browser", new(Origins), "", 101},
		{"same host", new(Origins), "http://HOST", 101},
		{"same host, behind what ends TLS", new(Origins), "https://HOST", 101},
		{"none allowed", new(Origins), page, 403},
		{"allowed", origins(t, true, page), page, 101},
		{"allowed, without credentials", origins(t, false, page), page, 101},
		{"same host beside a list", origins(t, true, page), "http://HOST", 101},
		{"not allowed", origins(t, true, page), "https://evil.example", 403},
		{"by another scheme", origins(t, true, page), "http://app.example.com", 403},
		{"at another port", origins(t, true, page), page + ":8443", 403},
		{"nobody's page", origins(t, true, page), "null", 403},
		{"all allowed", origins(t, false, "*"), "https://anybody.example", 101},
		{"all allowed, nobody's page", origins(t, false, "*"), "null", 101},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, s := serve(t, Config{}, AllowedOrigins(tt.origins))
			header := http.Header{}
			if tt.origin != "" {
				header.Set("Origin", strings.ReplaceAll(tt.origin, "HOST", s.Listener.Addr().String()))
			}
			conn, answer, err := websocket.DefaultDialer.Dial(strings.Replace(s.URL, "http", "ws", 1)+"/hub", header)
			if err == nil {
				defer conn.Close()
			}
			if answer == nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != tt.status {
				t.Errorf("status %d, want %d", answer.StatusCode, tt.status)
			}
		})
	}
}

// Cookies of a page that may not use them have no effect: browsers send those of
// WebSockets and of simple requests unasked.
func TestCookiesOfOtherOrigins(t *testing.T) {
	const page = "https://app.example.com"
	for _, tt := range []struct {
		name    string
		origins *Origins
		origin  string
		kept    bool
	}{
		{"no browser", new(Origins), "", true},
		{"same host", origins(t, false, "*"), "https://hub.example.com", true},
		{"with credentials", origins(t, true, page), page, true},
		{"with credentials, for another page", origins(t, true, page), "https://evil.example", false},
		{"without credentials", origins(t, false, page), page, false},
		{"all allowed", origins(t, false, "*"), page, false},
		{"none allowed", new(Origins), page, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var seen string
			m := NewManager(Config{Authenticator: auth.AuthenticatorFunc(func(r *http.Request) (*auth.Identity, error) {
				seen = r.Header.Get("Cookie")
				return auth.Anonymous, nil
			})})
			r := httptest.NewRequest("POST", "https://hub.example.com/chat/negotiate", nil)
			r.Header.Set("Cookie", "session=ada")
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			m.Endpoint(AllowedOrigins(tt.origins)).ServeHTTP(httptest.NewRecorder(), r)
			if kept := seen != ""; kept != tt.kept {
				t.Errorf("the cookie that was seen is %q", seen)
			}
			if r.Header.Get("Cookie") == "" {
				t.Error("the caller's request was changed")
			}
		})
	}
}

// A request that another node forwards has been admitted there, by its list: while a list
// is changed, nodes have different ones.
func TestForwardedRequestIsAdmittedOnce(t *testing.T) {
	const page = "https://app.example.com"
	peers := func(self string) *peer.Peers {
		p, err := peer.New(peer.Config{Self: self, Keys: [][]byte{key('k')}, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	for name, list := range map[string]*Origins{"the same list": origins(t, true, page), "no list yet": new(Origins)} {
		t.Run(name, func(t *testing.T) {
			_, s := serve(t, Config{}, AllowedOrigins(list))
			home := httptest.NewServer(peers("home").Handler(s.Config.Handler))
			defer home.Close()
			away := peers("away")
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r = origins(t, true, page).admit(w, r); r == nil {
					return
				}
				if err := away.Forward(w, r, peer.Node{ID: "home", Address: home.URL}); err != nil {
					t.Error(err)
				}
			}))
			defer front.Close()

			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, front.URL+"/chat/negotiate", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Origin", page)
			answer, err := front.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			for name, want := range map[string]string{"Access-Control-Allow-Origin": page, "Access-Control-Allow-Credentials": "true"} {
				if got := strings.Join(answer.Header.Values(name), ", "); got != want || answer.StatusCode != http.StatusOK {
					t.Errorf("%s with %s: %q, want %q", answer.Status, name, got, want)
				}
			}

			for origin, status := range map[string]int{page: http.StatusSwitchingProtocols, "https://evil.example": http.StatusForbidden} {
				conn, answer, err := websocket.DefaultDialer.Dial(strings.Replace(front.URL, "http", "ws", 1)+"/chat", http.Header{"Origin": {origin}})
				if answer == nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				if answer.StatusCode != status {
					t.Errorf("a WebSocket of %s: %s, want %d", origin, answer.Status, status)
				}
				if err == nil {
					conn.Close()
				}
			}
		})
	}
}
