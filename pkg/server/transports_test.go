package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
)

// Event streams and polls work over HTTP/2 as over HTTP/1.1, and outlast their deadlines
// of writing by far.
func TestTransportsWithTLS(t *testing.T) {
	a := newAuthority(t)
	plane := backplane.NewMemory()
	h, err := hub.New(emptyHub{}, hub.WithBackplane(plane), hub.WithLogger(slog.New(slog.DiscardHandler)),
		hub.WithSendTimeout(50*time.Millisecond), hub.WithKeepAliveInterval(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, Config{Handler: h, Hubs: []*hub.Hub{h}, Backplane: plane, TLS: a.load(t.TempDir(), "127.0.0.1").ServerTLS()})
	for _, http2 := range []bool{true, false} {
		transport := &http.Transport{TLSClientConfig: trusting(a, ""), ForceAttemptHTTP2: http2}
		c := &caller{t: t, base: "https://" + n.public + "/", client: &http.Client{Transport: transport}, http2: http2}
		t.Run(fmt.Sprintf("event stream, HTTP/2 %v", http2), c.listens)
		t.Run(fmt.Sprintf("polls, HTTP/2 %v", http2), c.polls)
		transport.CloseIdleConnections()
	}
	n.ends()
}

// A caller makes the requests of a client.
type caller struct {
	t      *testing.T
	base   string // URL of the hub
	client *http.Client
	http2  bool
}

func (c *caller) do(t *testing.T, method, path, accept, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", accept)
	answer, err := c.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.ProtoMajor == 2 != c.http2 {
		t.Errorf("%s came by %s", method, answer.Proto)
	}
	return answer
}

// is checks what a request is answered, to its end.
func (c *caller) is(t *testing.T, answer *http.Response, status int, want string) {
	t.Helper()
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != status || string(body) != want {
		t.Fatalf("got %s %q, %v, want %d %q", answer.Status, body, err, status, want)
	}
}

// negotiate returns the query of the connection's requests.
func (c *caller) negotiate(t *testing.T) string {
	t.Helper()
	answer := c.do(t, "POST", "negotiate?negotiateVersion=1", "", "")
	defer answer.Body.Close()
	var negotiated struct {
		ConnectionToken string `json:"connectionToken"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&negotiated); err != nil {
		t.Fatal(err)
	}
	return "?id=" + url.QueryEscape(negotiated.ConnectionToken)
}

const handshake = `{"protocol":"json","version":1}` + "\x1e"

func (c *caller) listens(t *testing.T) {
	id := c.negotiate(t)
	stream := c.do(t, "GET", id, "text/event-stream", "")
	defer stream.Body.Close()
	events := bufio.NewScanner(stream.Body)
	next := func(want string) {
		t.Helper()
		for events.Scan() {
			if text, is := strings.CutPrefix(events.Text(), "data: "); is {
				if text != want {
					t.Fatalf("got %q, want %q", text, want)
				}
				return
			}
		}
		t.Fatalf("the stream has ended: %v", events.Err())
	}
	c.is(t, c.do(t, "POST", id, "", handshake), 200, "")
	next("{}\x1e")
	for range 3 {
		next(`{"type":6}` + "\x1e")
	}
}

func (c *caller) polls(t *testing.T) {
	id := c.negotiate(t)
	c.is(t, c.do(t, "GET", id, "", ""), 200, "")
	c.is(t, c.do(t, "POST", id, "", handshake), 200, "")
	c.is(t, c.do(t, "GET", id, "", ""), 200, "{}\x1e")
	remove, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, c.base+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	removed := make(chan error, 1)
	time.AfterFunc(500*time.Millisecond, func() { // while the client polls
		answer, err := c.client.Do(remove)
		if err == nil {
			err = answer.Body.Close()
		}
		removed <- err
	})
	c.is(t, c.do(t, "GET", id, "", ""), 204, "")
	if err := <-removed; err != nil {
		t.Error(err)
	}
}
