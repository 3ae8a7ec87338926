package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/protocol"
)

const offer = `"availableTransports":[{"transport":"LongPolling","transferFormats":["Text"]},{"transport":"WebSockets","transferFormats":["Text","Binary"]}]`

// A log of requests: method, path with query, and credentials.
type requests []string

func (l *requests) add(r *http.Request) {
	*l = append(*l, fmt.Sprintf("%s %s [%s] [%s]", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("X-Tenant")))
}

func TestNegotiate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		address string
		answers []string // in turn
		want    requests
		id      string
	}{{
		name:    "version 1",
		address: "https://host/hub/?a=%20b",
		answers: []string{`{"negotiateVersion":1,"connectionId":"public","connectionToken":"se/cret",` + offer + `}`},
		want: requests{
			"POST /hub/negotiate?a=%20b&negotiateVersion=1 [Bearer t1] [x]",
			"GET /hub/?a=%20b&id=se%2Fcret [Bearer t1] [x]",
		},
		id: "public",
	}, {
		name:    "version 0",
		address: "ws://host/hub",
		answers: []string{`{"connectionId":"both",` + offer + `}`},
		want: requests{
			"POST /hub/negotiate?negotiateVersion=1 [Bearer t1] [x]",
			"GET /hub?id=both [Bearer t1] [x]",
		},
		id: "both",
	}, {
		name:    "redirects",
		address: "http://host",
		answers: []string{
			`{"url":"http://other/hub?x=1","accessToken":"t2"}`,
			`{"url":"http://third/"}`,
			`{"negotiateVersion":1,"connectionId":"public","connectionToken":"secret",` + offer + `}`,
		},
		want: requests{
			"POST /negotiate?negotiateVersion=1 [Bearer t1] [x]",
			"POST /hub/negotiate?x=1&negotiateVersion=1 [Bearer t2] [x]",
			"POST /negotiate?negotiateVersion=1 [Bearer t2] [x]",
			"GET /?id=secret [Bearer t2] [x]",
		},
		id: "public",
	}} {
		t.Run(tt.name, func(t *testing.T) {
			var got requests
			s := script(t, protocol.JSON, (*peer).drain)
			s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				got.add(r)
				if r.Method != http.MethodPost {
					return false
				}
				if r.Header.Get("X-Requested-With") != "XMLHttpRequest" {
					t.Error("server may answer with a login page")
				}
				io.WriteString(w, tt.answers[0])
				tt.answers = tt.answers[1:]
				return true
			}
			c, err := s.dial(
				WithAccessToken(func(context.Context) (string, error) { return "t1", nil }),
				WithHeader(http.Header{"X-Tenant": {"x"}}),
			)
			if err != nil {
				t.Fatal(err)
			}
			c.skipNegotiation = false
			if c.address, err = parseAddress(strings.Replace(tt.address, "https:", "http:", 1)); err != nil {
				t.Fatal(err)
			}
			started(t, c, err)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if c.ConnectionID() != tt.id {
				t.Errorf("connection id %q", c.ConnectionID())
			}
		})
	}
}

func TestNegotiateFails(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status int
		answer string
		want   string
	}{
		{"error", 200, `{"error":"told"}`, "told"},
		{"unauthorized", 401, "who are you", "server answered 401 Unauthorized: who are you"},
		{"no content", 204, "", "server answered 204 No Content"},
		{"no JSON", 200, `<html>`, "server's answer: "},
		{"endless", 200, strings.Repeat(" ", maxNegotiationBytes) + `{}`, "server's answer: "},
		{"other SignalR", 200, `{"ProtocolVersion":"1.5"}`, "ASP.NET SignalR"},
		{"no token", 200, `{"negotiateVersion":1,"connectionId":"x",` + offer + `}`, "no connection token"},
		{"no WebSockets", 200, `{"connectionId":"x","availableTransports":[{"transport":"LongPolling","transferFormats":["Text"]}]}`, "offers no WebSockets"},
		{"not in that format", 200, `{"connectionId":"x","availableTransports":[{"transport":"WebSockets","transferFormats":["Text"]}]}`, "transfer format Binary"},
		{"redirect to nowhere", 200, `{"url":"ftp://host"}`, "redirect: "},
		{"redirect in a circle", 200, `{"url":"http://server/hub"}`, "more than 100 redirects"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := script(t, protocol.MessagePack, (*peer).drain)
			s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.answer)
				return true
			}
			c, err := s.dial()
			if err != nil {
				t.Fatal(err)
			}
			c.skipNegotiation = false
			err = c.Start(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v", err)
			}
			if told, ok := errors.AsType[*Error](err); ok != (tt.name == "error") || ok && told.Message != "told" {
				t.Errorf("got %#v", err)
			}
			if refused, ok := errors.AsType[*StatusError](err); ok != (tt.status != 200) || ok && refused.StatusCode != tt.status {
				t.Errorf("got %#v", err)
			}
			s.refuse = nil
			c.skipNegotiation = true
			started(t, c, nil) // after an error it may be started again
		})
	}
}

func TestWebSocketIsRefused(t *testing.T) {
	s := script(t, protocol.JSON, nil)
	s.refuse = func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "No Connection with that ID", http.StatusNotFound)
		return true
	}
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	err = c.Start(t.Context())
	if refused, ok := errors.AsType[*StatusError](err); !ok || refused.StatusCode != 404 || !strings.Contains(refused.Body, "No Connection") {
		t.Errorf("got %v", err)
	}
}

func TestHandshakeIsRefused(t *testing.T) {
	address := serveHub(t, hub.WithProtocols(protocol.JSON))
	c, err := New(address, quiet(WithProtocol(protocol.MessagePack))...)
	if err != nil {
		t.Fatal(err)
	}
	err = c.Start(t.Context())
	if told, ok := errors.AsType[*Error](err); !ok || told.Message != "The protocol 'messagepack' is not supported." {
		t.Errorf("got %v", err)
	}
}

// The WebSocket is opened with what the HTTP client is configured with.
func TestHTTPClient(t *testing.T) {
	h, err := hub.New(room{})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			http.SetCookie(w, &http.Cookie{Name: "affinity", Value: "node1", Secure: true})
		} else if cookie, err := r.Cookie("affinity"); err != nil || cookie.Value != "node1" {
			t.Errorf("cookie %v, %v", cookie, err)
		}
		h.ServeHTTP(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		if err := h.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	proxied := 0
	client := s.Client()
	client.Transport.(*http.Transport).Proxy = func(r *http.Request) (*url.URL, error) {
		proxied++
		return nil, nil
	}
	if client.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	c, err := New(s.URL, quiet(WithHTTPClient(client))...)
	started(t, c, err)
	if sum, err := Invoke[int](t.Context(), c, "Add", 1, 2); sum != 3 || err != nil {
		t.Errorf("got %d, %v", sum, err)
	}
	if proxied != 2 {
		t.Errorf("asked %d times for a proxy, want for the negotiation and the WebSocket", proxied)
	}
}
