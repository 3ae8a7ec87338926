package redistest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func TestServer(t *testing.T) {
	s := Start(t)
	subscriber := dial(t, s.Addr())
	subscriber.send("SUBSCRIBE", "a", "b")
	await.Until(t, "both channels are subscribed", func() error {
		if channels := s.Channels(t); !slices.Equal(channels, []string{"a", "b"}) {
			return fmt.Errorf("channels are %q", channels)
		}
		return nil
	})
	if n := s.Subscribers(t, "a"); n != 1 {
		t.Errorf("channel a has %d subscribers, want 1", n)
	}
	if n := s.Subscribers(t, "c"); n != 0 {
		t.Errorf("channel c has %d subscribers, want 0", n)
	}

	s.Pause()
	if err := s.answers(); err == nil {
		t.Error("a paused server answers")
	}
	s.Resume()
	await.Until(t, "the resumed server answers", s.answers)

	addr := s.Addr()
	s.Kill()
	if err := s.answers(); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart()
	if s.Addr() != addr {
		t.Errorf("restarted at %s, want %s", s.Addr(), addr)
	}
	if channels := s.Channels(t); len(channels) != 0 {
		t.Errorf("a new server has channels %q", channels)
	}
	s.Pause()
	s.Stop()
}

func TestServerWithPassword(t *testing.T) {
	s := Start(t, "--requirepass", "secret")
	if err := s.Client().Ping(t.Context()).Err(); err == nil {
		t.Error("a client without the password gets an answer")
	}
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), Password: "secret"})
	defer c.Close()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestProxyPassesAndCuts(t *testing.T) {
	s := Start(t)
	p := NewProxy(t, s)
	c := dial(t, strings.TrimPrefix(p.URL(), "redis://"))
	c.send("PING")
	c.expect("+PONG")
	if n := len(p.Others()); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	p.Cut()
	c.expectEnd()
	await.Until(t, "the pipe is gone", func() error {
		if n := len(p.all()); n != 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})

	p.Refuse(true)
	dial(t, strings.TrimPrefix(p.URL(), "redis://")).expectEnd()
	p.Refuse(false)
	c = dial(t, strings.TrimPrefix(p.URL(), "redis://"))
	c.send("PING")
	c.expect("+PONG")
}

func TestProxyRedirects(t *testing.T) {
	one, two := Start(t), Start(t)
	p := NewProxy(t, one)
	before := dial(t, strings.TrimPrefix(p.URL(), "redis://"))
	before.send("SET", "a", "one")
	before.expect("+OK")
	p.Redirect(two)
	after := dial(t, strings.TrimPrefix(p.URL(), "redis://"))
	after.send("SET", "a", "two")
	after.expect("+OK")
	before.send("GET", "a")
	before.expect("$3")
	before.expect("one")
}

func TestProxyFreezes(t *testing.T) {
	s := Start(t)
	p := NewProxy(t, s)
	c := dial(t, strings.TrimPrefix(p.URL(), "redis://"))
	c.send("PING")
	c.expect("+PONG")
	p.Freeze()
	c.send("PING")
	c.expectNothing()
	p.Thaw()
	c.expect("+PONG")

	pipe := p.Others()[0]
	pipe.Freeze(ToServer)
	c.send("SET", "late", "1")
	c.conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), await.Deadline)
	defer cancel()
	if err := s.Client().Get(ctx, "late").Err(); err != redis.Nil {
		t.Errorf("what was held back arrived: %v", err)
	}
	pipe.Thaw(ToServer)
	await.Until(t, "what was held back arrives, although its sender is gone", func() error {
		return s.Client().Get(ctx, "late").Err()
	})
}

func TestProxyCutsAfterBytes(t *testing.T) {
	s := Start(t)
	p := NewProxy(t, s)
	addr := strings.TrimPrefix(p.URL(), "redis://")

	over := p.CutAfter(ToClient, len("+PONG\r\n+PO"))
	c := dial(t, addr)
	c.send("PING")
	c.expect("+PONG")
	c.send("PING")
	<-over
	if rest, _ := io.ReadAll(c.r); string(rest) != "+PO" {
		t.Errorf("before the end came %q", rest)
	}

	over = p.CutAfter(ToServer, len("*3\r\n$3\r\nSET\r\n"))
	c = dial(t, addr)
	c.send("SET", "cut", "1")
	<-over
	c.expectEnd()
	if err := s.Client().Get(t.Context(), "cut").Err(); err != redis.Nil {
		t.Errorf("what was cut arrived: %v", err)
	}
	c = dial(t, addr)
	c.send("PING")
	c.expect("+PONG")
}

func TestProxyDelays(t *testing.T) {
	const delay = 50 * time.Millisecond
	p := NewProxy(t, Start(t))
	c := dial(t, strings.TrimPrefix(p.URL(), "redis://"))
	p.Delay(delay)
	start := time.Now()
	c.send("PING")
	c.expect("+PONG")
	if d := time.Since(start); d < 2*delay {
		t.Errorf("a reply came after %v, want at least %v", d, 2*delay)
	}
}

func TestProxyDelaysSubscribersAlone(t *testing.T) {
	const delay = 200 * time.Millisecond
	s := Start(t)
	p := NewProxy(t, s)
	p.DelaySubscribers(delay)
	addr := strings.TrimPrefix(p.URL(), "redis://")
	other, subscriber := dial(t, addr), dial(t, addr)

	start := time.Now()
	subscriber.send("SUBSCRIBE", "a")
	other.send("PING")
	other.expect("+PONG")
	if n := s.Subscribers(t, "a"); n != 0 && time.Since(start) < delay {
		t.Error("the subscription was not delayed")
	}
	subscriber.expect("*3")
	if d := time.Since(start); d < delay {
		t.Errorf("the subscription was confirmed after %v, want at least %v", d, delay)
	}
	if n := len(p.Subscribers()); n != 1 {
		t.Errorf("%d subscribers, want 1", n)
	}
}

// A conversation is a connection that speaks the protocol of Redis by hand.
type conversation struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func dial(t *testing.T, addr string) *conversation {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &conversation{t, conn, bufio.NewReader(conn)}
}

func (c *conversation) send(arguments ...string) {
	c.t.Helper()
	command := fmt.Appendf(nil, "*%d\r\n", len(arguments))
	for _, a := range arguments {
		command = fmt.Appendf(command, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := c.conn.Write(command); err != nil {
		c.t.Fatal(err)
	}
}

func (c *conversation) expect(line string) {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(await.Deadline))
	got, err := c.r.ReadString('\n')
	if err != nil || strings.TrimSuffix(got, "\r\n") != line {
		c.t.Fatalf("got %q, %v, want %q", got, err, line)
	}
}

func (c *conversation) expectEnd() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(await.Deadline))
	if b, err := c.r.ReadByte(); err == nil {
		c.t.Fatalf("got byte %q, want the end", b)
	} else if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		c.t.Fatal("the connection was not closed")
	}
}

func (c *conversation) expectNothing() {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if b, err := c.r.ReadByte(); err == nil {
		c.t.Fatalf("got byte %q, want none", b)
	}
}
