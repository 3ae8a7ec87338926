package transport

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/internal/await"
)

// Where a connection stands when a request for it comes.
type standing func(t *testing.T, m *Manager, s *httptest.Server, query string, opened chan *diary)

func negotiated(*testing.T, *Manager, *httptest.Server, string, chan *diary) {}

func posted(t *testing.T, _ *Manager, s *httptest.Server, query string, _ chan *diary) {
	mustRequest(t, s, "POST", query, "x", 200)
}

func onWebSocket(t *testing.T, _ *Manager, s *httptest.Server, query string, opened chan *diary) {
	dial(t, s, query)
	<-opened
}

func onEventStream(t *testing.T, _ *Manager, s *httptest.Server, query string, opened chan *diary) {
	openStream(t, s, query).expect(t, ":")
	<-opened
}

func onPolls(t *testing.T, _ *Manager, s *httptest.Server, query string, opened chan *diary) {
	expectPoll(t, s, query, `200 application/octet-stream ""`)
	<-opened
}

// ended closes what another standing has opened.
func ended(open standing) standing {
	return func(t *testing.T, m *Manager, s *httptest.Server, query string, opened chan *diary) {
		open(t, m, s, query, opened)
		c := m.connectionOf(t, query)
		c.cut()
		await.Until(t, "the connection is forgotten", func() error { return m.forgotten(c.id) })
	}
}

// stuck is a connection that has ended, and is there as long as its session does not
// return from what it is doing.
func stuck(t *testing.T, m *Manager, s *httptest.Server, query string, opened chan *diary) {
	onPolls(t, m, s, query, opened)
	c := m.connectionOf(t, query)
	c.mu.Lock()
	c.holds++
	c.mu.Unlock()
	c.end()
	t.Cleanup(c.letGo)
}

func refused(t *testing.T, m *Manager, _ *httptest.Server, _ string, _ chan *diary) { m.Refuse() }

// abandoned is a connection whose time has passed before its transport came.
func abandoned(t *testing.T, m *Manager, s *httptest.Server, query string, opened chan *diary) {
	posted(t, m, s, query, opened)
	c := m.connectionOf(t, query)
	m.Sweep(time.Now().Add(m.DisconnectTimeout + time.Second))
	await.Until(t, "the connection is forgotten", func() error { return m.forgotten(c.id) })
}

// The status codes and texts of the reference implementation, which clients and their
// tests rely on, and those that it does not have.
func TestAnswers(t *testing.T) {
	const (
		plain     = "text/plain"
		noID      = "Connection ID required"
		unknown   = "No Connection with that ID"
		changed   = "Cannot change transports mid-connection"
		onlyPolls = "Cannot terminate this connection using the DELETE endpoint."
		noPost    = "POST requests are not allowed for WebSocket connections."
	)
	disabled := func(k Kind) string { return string(k) + " transport not supported by this end point type" }
	only := func(kinds ...Kind) []EndpointOption { return []EndpointOption{Transports(kinds...)} }
	events := http.Header{"Accept": {"text/html, text/event-stream"}}
	both := upgrade()
	both.Set("Accept", "text/event-stream")
	other := "other" // a query parameter of the application, passed through

	for _, tt := range []struct {
		name    string
		options []EndpointOption
		at      standing // nil: there is no connection, the query is what add says
		method  string
		add     string // to the query
		path    string // below the hub
		header  http.Header
		status  int
		kind    string
		body    string
	}{
		{name: "upgrade of a new connection", method: "GET", header: upgrade(), status: 101},
		{name: "event stream without id", method: "GET", header: events, status: 400, kind: plain, body: noID},
		{name: "poll without id", method: "GET", status: 400, kind: plain, body: noID},
		{name: "post without id", method: "POST", status: 400, kind: plain, body: noID},
		{name: "delete without id", method: "DELETE", status: 400, kind: plain, body: noID},
		{name: "poll with an empty id", method: "GET", add: "id=", status: 400, kind: plain, body: noID},
		{name: "upgrade with an empty id", method: "GET", add: "id=", header: upgrade(), status: 101},

		{name: "event stream with an unknown id", method: "GET", add: "id=x", header: events, status: 404, kind: plain, body: unknown},
		{name: "poll with an unknown id", method: "GET", add: "id=x", status: 404, kind: plain, body: unknown},
		{name: "post with an unknown id", method: "POST", add: "id=x", status: 404, kind: plain, body: unknown},
		{name: "delete with an unknown id", method: "DELETE", add: "id=x", status: 404, kind: plain, body: unknown},
		{name: "upgrade with an unknown id", method: "GET", add: "id=x", header: upgrade(), status: 404, kind: plain, body: unknown},
		{name: "upgrade with an unknown id, without WebSockets", options: only(LongPolling), method: "GET", add: "id=x", header: upgrade(), status: 404, kind: plain, body: unknown},

		{name: "upgrade, without WebSockets", options: only(LongPolling), method: "GET", header: upgrade(), status: 404, kind: plain, body: disabled(WebSockets)},
		{name: "upgrade of a negotiated one, without WebSockets", options: only(LongPolling), at: negotiated, method: "GET", header: upgrade(), status: 404, kind: plain, body: disabled(WebSockets)},
		{name: "event stream, without event streams", options: only(WebSockets), at: negotiated, method: "GET", header: events, status: 404, kind: plain, body: disabled(ServerSentEvents)},
		{name: "poll, without polls", options: only(WebSockets), at: negotiated, method: "GET", status: 404, kind: plain, body: disabled(LongPolling)},
		{name: "poll, without polls, of another transport", options: only(WebSockets), at: onWebSocket, method: "GET", status: 404, kind: plain, body: disabled(LongPolling)},

		{name: "upgrade", at: negotiated, method: "GET", header: upgrade(), status: 101},
		{name: "upgrade after a post", at: posted, method: "GET", header: upgrade(), status: 101},
		{name: "what is both", at: onWebSocket, method: "GET", header: both, status: 400, kind: plain, body: changed},
		{name: "event stream instead of a WebSocket", at: onWebSocket, method: "GET", header: events, status: 400, kind: plain, body: changed},
		{name: "poll instead of a WebSocket", at: onWebSocket, method: "GET", status: 400, kind: plain, body: changed},
		{name: "upgrade instead of an event stream", at: onEventStream, method: "GET", header: upgrade(), status: 400, kind: plain, body: changed},
		{name: "poll instead of an event stream", at: onEventStream, method: "GET", status: 400, kind: plain, body: changed},
		{name: "upgrade instead of a poll", at: onPolls, method: "GET", header: upgrade(), status: 400, kind: plain, body: changed},
		{name: "event stream instead of a poll", at: onPolls, method: "GET", header: events, status: 400, kind: plain, body: changed},
		{name: "second WebSocket", at: onWebSocket, method: "GET", header: upgrade(), status: 409},
		{name: "second event stream", at: onEventStream, method: "GET", header: events, status: 409},

		{name: "poll", at: negotiated, method: "GET", status: 200, kind: "application/octet-stream"},
		{name: "poll of an ended one", at: stuck, method: "GET", status: 404, kind: plain},
		{name: "post to an ended one", at: stuck, method: "POST", status: 404},
		{name: "post to a forgotten one", at: ended(onPolls), method: "POST", status: 404, kind: plain, body: unknown},
		{name: "poll of a forgotten one", at: ended(onPolls), method: "GET", status: 404, kind: plain, body: unknown},
		{name: "event stream of a forgotten one", at: ended(onEventStream), method: "GET", header: events, status: 404, kind: plain, body: unknown},
		{name: "upgrade of a forgotten one", at: ended(onWebSocket), method: "GET", header: upgrade(), status: 404, kind: plain, body: unknown},
		{name: "delete of a forgotten one", at: ended(onPolls), method: "DELETE", status: 404, kind: plain, body: unknown},
		{name: "poll, too late", at: abandoned, method: "GET", status: 404, kind: plain, body: unknown},

		{name: "post", at: negotiated, method: "POST", status: 200, kind: plain},
		{name: "post to an event stream", at: onEventStream, method: "POST", status: 200, kind: plain},
		{name: "post to polls", at: onPolls, method: "POST", status: 200, kind: plain},
		{name: "post to a WebSocket", at: onWebSocket, method: "POST", status: 405, kind: plain, body: noPost},
		{name: "post of what the connection is not asked for", at: onPolls, method: "POST", add: "&" + other + "=1", status: 200, kind: plain},

		{name: "delete", at: onPolls, method: "DELETE", status: 202, kind: plain},
		{name: "delete of a negotiated one", at: negotiated, method: "DELETE", status: 400, kind: plain, body: onlyPolls},
		{name: "delete of a WebSocket", at: onWebSocket, method: "DELETE", status: 400, kind: plain, body: onlyPolls},
		{name: "delete of an event stream", at: onEventStream, method: "DELETE", status: 400, kind: plain, body: onlyPolls},

		{name: "put", at: negotiated, method: "PUT", status: 405, kind: plain},
		{name: "head", method: "HEAD", status: 405, kind: plain},
		{name: "get of the negotiation", method: "GET", path: "/negotiate", status: 405, kind: plain},
		{name: "negotiation with no number", method: "POST", path: "/negotiate", add: "negotiateVersion=one", status: 200, kind: "application/json", body: `{"error":"The client requested a non-integer protocol version."}`},
		{name: "negotiation below the minimum", method: "POST", path: "/negotiate", add: "negotiateVersion=-1", status: 200, kind: "application/json", body: `{"error":"The client requested version '-1', but the server does not support this version."}`},
		{name: "negotiation with forged credentials", method: "POST", path: "/negotiate", add: "user=forged", status: 401},
		{name: "poll with forged credentials", at: onPolls, method: "GET", add: "&user=forged", status: 401},
		{name: "poll without any, where they are required", options: []EndpointOption{RequireAuthenticated()}, method: "GET", status: 401},

		{name: "upgrade by another user", at: negotiated, method: "GET", add: "&user=ada", header: upgrade(), status: 403},
		{name: "event stream by another user", at: negotiated, method: "GET", add: "&user=ada", header: events, status: 403},
		{name: "poll by another user", at: onPolls, method: "GET", add: "&user=ada", status: 403},
		{name: "post by another user", at: onPolls, method: "POST", add: "&user=ada", status: 403},
		{name: "delete by another user", at: onPolls, method: "DELETE", add: "&user=ada", status: 403},
		{name: "upgrade of another user's WebSocket", at: onWebSocket, method: "GET", add: "&user=ada", header: upgrade(), status: 403},

		{name: "poll of a node that leaves", at: refused, method: "GET", status: 503},
		{name: "post to a node that leaves", at: refused, method: "POST", status: 503},
		{name: "upgrade at a node that leaves", at: refused, method: "GET", header: upgrade(), status: 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			accept, opened := diaries()
			m, s := serve(t, Config{Accept: accept}, tt.options...)
			query := tt.add
			if tt.at != nil {
				query = "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
				tt.at(t, m, s, query, opened)
				query += tt.add
			}
			r, err := http.NewRequestWithContext(t.Context(), tt.method, s.URL+"/hub"+tt.path+"?"+query, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.header != nil {
				r.Header = tt.header
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			var body []byte
			if answer.StatusCode != http.StatusSwitchingProtocols {
				if body, err = io.ReadAll(answer.Body); err != nil {
					t.Fatal(err)
				}
			}
			kind := answer.Header.Get("Content-Type")
			if tt.body == "" && tt.kind == "" {
				kind = "" // of nothing
			}
			if answer.StatusCode != tt.status || kind != tt.kind || string(body) != tt.body {
				t.Errorf("got %d %q %q, want %d %q %q", answer.StatusCode, kind, body, tt.status, tt.kind, tt.body)
			}
		})
	}
}

// By another user a connection is not touched.
func TestOtherUsersTouchNothing(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept})
	query := "user=ada&id=" + negotiate(t, s, "negotiateVersion=1&user=ada").ConnectionToken
	others := strings.Replace(query, "ada", "ben", 1)
	expectPoll(t, s, query, `200 application/octet-stream ""`)
	d := <-opened
	answer := startPoll(t.Context(), s, query)
	d.waiting(t)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		if text := mustRequest(t, s, method, others, "x", 403); text != "" {
			t.Errorf("%s: %q", method, text)
		}
	}
	d.say(t, "one")
	expectAnswer(t, answer, `200 application/octet-stream "one"`)
	if got := d.String(); got != "" || d.c.Identity().Subject != "ada" {
		t.Errorf("diary of %s: %s", d.c.Identity().Subject, got)
	}
}

// A token is good for one connection of the hub and the cluster that it was made for.
func TestTokensOfOthers(t *testing.T) {
	m, s := serve(t, Config{})
	token := connectionToken{id: newConnectionID(), before: farAhead(), user: tag("")}
	for _, query := range []string{
		"id=" + m.Keys.mint("other", token),
		"id=" + RandomKey().mint("test", token),
		"id=" + m.Keys.mint("test", connectionToken{id: token.id, user: token.user, before: time.Now().Add(-time.Minute)}),
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if text := mustRequest(t, s, method, query, "", 404); text != "No Connection with that ID" {
				t.Errorf("%s: %q", method, text)
			}
		}
	}
}

// Where the id is the token, which others may know, it is good for one WebSocket.
func TestPublicTokenIsForAWebSocket(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept})
	query := "id=" + negotiate(t, s, "").ConnectionID
	if text := mustRequest(t, s, "GET", query, "", 404); text != "LongPolling transport not supported by this end point type" {
		t.Errorf("poll: %q", text)
	}
	mustRequest(t, s, "POST", query, "", 405)
	mustRequest(t, s, "DELETE", query, "", 400)
	dial(t, s, query)
	<-opened
}

// Of transports that are opened with one token at the same time one is.
func TestOpeningRaces(t *testing.T) {
	accept, opened := diaries()
	m, s := serve(t, Config{Accept: accept}, LongPollingTimeout(time.Millisecond))
	for range 20 {
		query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
		type outcome struct {
			kind   Kind
			status int
		}
		outcomes := make(chan outcome)
		open := map[Kind]func() int{
			WebSockets: func() int {
				conn, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http")+"/hub?"+query, nil)
				if err == nil {
					t.Cleanup(func() { conn.Close() })
				}
				return answer.StatusCode
			},
			ServerSentEvents: func() int {
				r, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/hub?"+query, nil)
				r.Header.Set("Accept", "text/event-stream")
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					return 0
				}
				t.Cleanup(func() { answer.Body.Close() })
				return answer.StatusCode
			},
			LongPolling: func() int {
				p := pollOnce(t.Context(), s, query)
				if p.status == 200 && p.kind == "text/plain" {
					return 409 // the connection's second poll, which waited for nothing
				}
				return p.status
			},
		}
		for kind, try := range open {
			for range 2 {
				go func() { outcomes <- outcome{kind, try()} }()
			}
		}
		var won []Kind
		for range 2 * len(open) {
			switch o := <-outcomes; {
			case o.status == 101 || o.status == 200:
				won = append(won, o.kind)
			case o.status != 400 && o.status != 409:
				t.Errorf("%s was answered %d", o.kind, o.status)
			}
		}
		if len(won) != 1 {
			t.Fatalf("opened: %v", won)
		}
		d := <-opened
		if d.c.kind != won[0] || len(opened) != 0 {
			t.Errorf("the session is on %s, and %s was opened", d.c.kind, won)
		}
		d.c.cut()
		await.Until(t, "the connection is forgotten", func() error { return m.forgotten(d.c.id) })
	}
}

// When all have gone nothing is kept of them.
func TestNothingIsLeft(t *testing.T) {
	accept, opened := diaries()
	m, s := serve(t, Config{Accept: accept}, AllowStatefulReconnects())
	for _, open := range []standing{onWebSocket, onEventStream, onPolls} {
		for range 3 {
			open(t, m, s, "id="+negotiate(t, s, "negotiateVersion=1&useStatefulReconnect=true").ConnectionToken, opened)
		}
	}
	m.Refuse()
	m.Abort()
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Sweep(time.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.live) != 0 || len(m.watched) != 0 {
		t.Errorf("%d connections, %d watched", len(m.live), len(m.watched))
	}
}
