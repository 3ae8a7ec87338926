package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/protocol"
)

func TestMain(m *testing.M) {
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

const deadline = 10 * time.Second

// echo is a session that sends everything back, each byte as a frame if it is told to
// split. It closes the connection on "close" and aborts it on "abort".
type echo struct {
	c     *Connection
	split bool

	mu   sync.Mutex
	gone int // calls of Disconnected
}

func (e *echo) Receive(p []byte) {
	switch string(p) {
	case "close":
		e.c.Carrier().Close()
		return
	case "abort":
		e.c.Carrier().Abort()
		return
	}
	format := protocol.Text
	if p[0] >= 0x80 {
		format = protocol.Binary
	}
	frames := [][]byte{p}
	if e.split {
		frames = slices.Collect(slices.Chunk(p, 1))
	}
	if err := e.c.Carrier().Write(frames, format); err != nil {
		e.c.Carrier().Abort()
	}
}

func (e *echo) Interrupted(Carrier) {}
func (e *echo) Resumed(Carrier)     {}

func (e *echo) Disconnected() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gone++
}

func dial(t *testing.T, s *httptest.Server, query string) (*websocket.Conn, *http.Response) {
	t.Helper()
	conn, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http")+"/hub?"+query, nil)
	if err != nil && answer == nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if err == nil {
		t.Cleanup(func() { conn.Close() })
		conn.SetReadDeadline(time.Now().Add(deadline))
	}
	return conn, answer
}

func TestWebSocketCarriesBothFormats(t *testing.T) {
	_, s := serve(t, Config{Accept: func(c *Connection, _ *http.Request) Session { return &echo{c: c, split: true} }})
	conn, _ := dial(t, s, "")
	for _, tt := range []struct {
		name         string
		sent         int // the type of the message sent, which is ignored
		payload      string
		receivedType int
	}{
		{"text", websocket.TextMessage, "hello", websocket.TextMessage},
		{"text sent as binary", websocket.BinaryMessage, "hello", websocket.TextMessage},
		{"binary", websocket.BinaryMessage, "\x80\x00\xff", websocket.BinaryMessage},
	} {
		if err := conn.WriteMessage(tt.sent, []byte(tt.payload)); err != nil {
			t.Fatal(err)
		}
		kind, got, err := conn.ReadMessage()
		if err != nil || kind != tt.receivedType || string(got) != tt.payload {
			t.Fatalf("%s: got type %d %q, %v", tt.name, kind, got, err)
		}
	}
}

func TestWebSocketMessagesAreAStreamOfBytes(t *testing.T) {
	received := make(chan []byte, 1)
	_, s := serve(t, Config{Accept: func(*Connection, *http.Request) Session { return &collector{want: 300_000, done: received} }})
	conn, _ := dial(t, s, "")
	var sent []byte
	for size := 1; len(sent) < 300_000; size *= 3 { // shorter and longer than any buffer, fragmented too
		part := []byte(strings.Repeat(string(rune('a'+size%26)), min(size, 300_000-len(sent))))
		sent = append(sent, part...)
		w, err := conn.NextWriter(websocket.BinaryMessage)
		if err != nil {
			t.Fatal(err)
		}
		for chunk := range slices.Chunk(part, 1000) {
			if _, err := w.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if err := conn.WriteMessage(websocket.TextMessage, nil); err != nil { // empty: nothing
			t.Fatal(err)
		}
	}
	select {
	case got := <-received:
		if string(got) != string(sent) {
			t.Fatal("received other bytes than sent")
		}
	case <-time.After(deadline):
		t.Fatal("not all bytes arrived")
	}
}

type collector struct {
	got  []byte
	want int
	done chan []byte
}

func (c *collector) Receive(p []byte) {
	c.got = append(c.got, p...)
	if len(c.got) == c.want {
		c.done <- c.got
	}
}
func (c *collector) Interrupted(Carrier) {}
func (c *collector) Resumed(Carrier)     {}
func (c *collector) Disconnected()       {}

func TestWebSocketCloses(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*websocket.Conn) error
		code int // 0: the socket ends without a close frame
	}{
		{"session closes", func(c *websocket.Conn) error { return c.WriteMessage(1, []byte("close")) }, 1000},
		{"session aborts", func(c *websocket.Conn) error { return c.WriteMessage(1, []byte("abort")) }, 0},
		{"client closes", func(c *websocket.Conn) error { return c.WriteMessage(8, websocket.FormatCloseMessage(1000, "bye")) }, 1000},
		{"client closes with another code", func(c *websocket.Conn) error { return c.WriteMessage(8, websocket.FormatCloseMessage(4321, "")) }, 1000},
		{"client closes without a code", func(c *websocket.Conn) error { return c.WriteMessage(8, nil) }, 1000},
		{"client vanishes", func(c *websocket.Conn) error { return c.NetConn().Close() }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			session := make(chan *echo, 1)
			m, s := serve(t, Config{Accept: func(c *Connection, _ *http.Request) Session {
				e := &echo{c: c}
				session <- e
				return e
			}})
			conn, _ := dial(t, s, "")
			if err := tt.end(conn); err != nil {
				t.Fatal(err)
			}
			_, _, err := conn.ReadMessage()
			closed, ok := errors.AsType[*websocket.CloseError](err)
			switch {
			case tt.code == 0 && ok && closed.Code != websocket.CloseAbnormalClosure, tt.code != 0 && (!ok || closed.Code != tt.code):
				t.Errorf("client reads %v, want code %d", err, tt.code)
			}
			conn.Close()
			e := <-session
			await.Until(t, "the session is told once", func() error {
				e.mu.Lock()
				defer e.mu.Unlock()
				if e.gone != 1 {
					return fmt.Errorf("told %d times", e.gone)
				}
				return nil
			})
			await.Until(t, "the manager has forgotten the connection", func() error {
				m.mu.Lock()
				defer m.mu.Unlock()
				if len(m.live) != 0 {
					return errors.New("it is there")
				}
				return nil
			})
		})
	}
}

// A client that does not answer the server's close frame is cut off.
func TestCloseTimeout(t *testing.T) {
	m, s := serve(t, Config{CloseTimeout: 50 * time.Millisecond})
	conn, _ := dial(t, s, "")
	if err := conn.WriteMessage(1, []byte("close")); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the connection has ended", func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		if len(m.live) != 0 {
			return errors.New("it is there")
		}
		return nil
	})
}

func TestSendTimeout(t *testing.T) {
	opened := make(chan *Connection, 1)
	_, s := serve(t, Config{SendTimeout: 100 * time.Millisecond, Accept: func(c *Connection, _ *http.Request) Session {
		opened <- c
		return &echo{c: c}
	}})
	dial(t, s, "") // and reads nothing
	c := <-opened
	frame := make([]byte, 1<<20)
	for range 1000 { // more than any system buffers
		if err := c.Carrier().Write([][]byte{frame}, protocol.Binary); err != nil {
			if !errors.Is(err, ErrSendTimeout) {
				t.Fatalf("got %v", err)
			}
			return
		}
	}
	t.Fatal("a gigabyte was taken by a client that does not read")
}

func TestTokenAttachesOnce(t *testing.T) {
	for _, version := range []string{"0", "1"} {
		t.Run("version "+version, func(t *testing.T) {
			opened := make(chan *Connection, 2)
			_, s := serve(t, Config{Accept: func(c *Connection, _ *http.Request) Session {
				opened <- c
				return &echo{c: c}
			}})
			n := negotiate(t, s, "user=ada&negotiateVersion="+version)
			token := n.ConnectionToken
			if version == "0" {
				token = n.ConnectionID
			}
			conn, _ := dial(t, s, "user=ada&id="+token)
			if c := <-opened; c.ID() != n.ConnectionID || c.Identity().Subject != "ada" {
				t.Errorf("connection is %q of %q, negotiated %q", c.ID(), c.Identity().Subject, n.ConnectionID)
			}
			if _, answer := dial(t, s, "user=ada&id="+token); answer.StatusCode != http.StatusConflict {
				t.Errorf("second attachment: %d", answer.StatusCode)
			}
			conn.Close()
			await.Until(t, "the token is of no more use", func() error {
				if _, answer := dial(t, s, "user=ada&id="+token); answer.StatusCode != http.StatusNotFound {
					return fmt.Errorf("status %d", answer.StatusCode)
				}
				return nil
			})
		})
	}
}

// A public id of version 0 is no token of version 1, though both are tokens inside.
func TestVersionZeroIDIsNoTokenOfVersionOne(t *testing.T) {
	_, s := serve(t, Config{})
	id := negotiate(t, s, "").ConnectionID
	if _, answer := dial(t, s, "id="+strings.TrimPrefix(id, versionZeroMark)); answer.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", answer.StatusCode)
	}
	token := negotiate(t, s, "negotiateVersion=1").ConnectionToken
	if _, answer := dial(t, s, "id="+versionZeroMark+token); answer.StatusCode != http.StatusNotFound {
		t.Errorf("got %d", answer.StatusCode)
	}
}
