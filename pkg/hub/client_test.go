package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/pkg/auth"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError)
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const deadline = 5 * time.Second

// serve starts a hub whose user identifiers come from the query parameter user.
func serve(t testing.TB, value any, options ...Option) (*Hub, string) {
	t.Helper()
	options = append([]Option{
		WithUserIdentifier(func(r *http.Request, _ *auth.Identity) string { return r.URL.Query().Get("user") }),
		WithLogger(slog.New(slog.DiscardHandler)),
	}, options...)
	h, err := New(value, options...)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
		if n := h.registry.size() + h.registry.channels(); n != 0 {
			t.Errorf("registry still has %d entries", n)
		}
	})
	return h, "ws" + strings.TrimPrefix(s.URL, "http") + "/hub"
}

// client speaks the JSON protocol over a bare WebSocket.
type client struct {
	t      testing.TB
	conn   *websocket.Conn
	frames []string // received and not yet taken
	next   int      // invocation id
}

func dial(t testing.TB, address, user string) *client {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial(address+"?user="+url.QueryEscape(user), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn}
}

func dialError(address string) error {
	conn, _, err := websocket.DefaultDialer.Dial(address, nil)
	if err == nil {
		conn.Close()
	}
	return err
}

// connect dials and shakes hands.
func connect(t testing.TB, address, user string) *client {
	t.Helper()
	c := dial(t, address, user)
	c.write(`{"protocol":"json","version":1}`)
	c.expect(`{}`)
	return c
}

func (c *client) write(frames ...string) {
	c.t.Helper()
	text := strings.Join(frames, "\x1e") + "\x1e"
	if err := c.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// read returns the next frame, or "closed" and the close code.
func (c *client) read() string {
	c.t.Helper()
	for len(c.frames) == 0 {
		c.conn.SetReadDeadline(time.Now().Add(deadline))
		_, text, err := c.conn.ReadMessage()
		if closed, ok := err.(*websocket.CloseError); ok {
			return fmt.Sprint("closed ", closed.Code)
		}
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		whole, found := strings.CutSuffix(string(text), "\x1e")
		if !found {
			c.t.Fatalf("message %q does not end a frame", text)
		}
		c.frames = strings.Split(whole, "\x1e")
	}
	frame := c.frames[0]
	c.frames = c.frames[1:]
	return frame
}

// expect reads the frames given, ignoring pings.
func (c *client) expect(frames ...string) {
	c.t.Helper()
	for _, want := range frames {
		got := c.read()
		for got == `{"type":6}` && want != got {
			got = c.read()
		}
		if got != want {
			c.t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
}

// invoke calls a method and returns the completion without type and id.
func (c *client) invoke(target string, arguments ...any) string {
	c.t.Helper()
	id := c.start(target, arguments...)
	prefix := `{"type":3,"invocationId":"` + id + `"`
	frame := c.read()
	for frame == `{"type":6}` {
		frame = c.read()
	}
	rest, ok := strings.CutPrefix(frame, prefix)
	if !ok {
		c.t.Fatalf("got %s, want the completion of %s", frame, id)
	}
	return strings.TrimPrefix(strings.TrimSuffix(rest, "}"), ",")
}

// start invokes a method and does not wait for its completion.
func (c *client) start(target string, arguments ...any) (id string) {
	c.t.Helper()
	c.next++
	id = fmt.Sprint(c.next)
	if arguments == nil {
		arguments = []any{}
	}
	frame, err := json.Marshal(map[string]any{"type": 1, "invocationId": id, "target": target, "arguments": arguments})
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(string(frame))
	return id
}
