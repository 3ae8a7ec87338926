package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/internal/await"
)

// gathering is a session that gathers what it receives.
type gathering struct {
	diary
	bytes bytes.Buffer // guarded by the diary's mu
}

func (g *gathering) Receive(p []byte) {
	if g.block != nil {
		<-g.block
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.bytes.Write(p)
}

func (g *gathering) length() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bytes.Len()
}

func gatherings(block chan struct{}) (Accept, chan *gathering) {
	opened := make(chan *gathering, 1)
	return func(c *Connection, _ *http.Request) Session {
		g := &gathering{diary: diary{c: c, carrier: c.Carrier(), block: block}}
		opened <- g
		return g
	}, opened
}

// connection returns what the manager has under a token of negotiate version 1.
func (m *Manager) connectionOf(t *testing.T, query string) *Connection {
	t.Helper()
	token, err := m.Keys.open(m.Hub, strings.TrimPrefix(query, "id="))
	if err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[idString(token.id)]
}

func TestPostBeforeTheTransport(t *testing.T) {
	for _, kind := range []Kind{ServerSentEvents, LongPolling} {
		t.Run(string(kind), func(t *testing.T) {
			accept, opened := diaries()
			_, s := serve(t, Config{Accept: accept})
			query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
			mustRequest(t, s, "POST", query, "one", 200)
			mustRequest(t, s, "POST", query, "", 200)
			mustRequest(t, s, "POST", query, "two", 200)
			if kind == LongPolling {
				expectPoll(t, s, query, `200 application/octet-stream ""`)
			} else {
				openStream(t, s, query).expect(t, ":")
			}
			(<-opened).expect(t, "received:one received:two")
		})
	}
}

// A connection for which no transport comes is forgotten, with all that was sent to it.
func TestPostAndNoTransport(t *testing.T) {
	m, s := serve(t, Config{})
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	mustRequest(t, s, "POST", query, strings.Repeat("x", 60_000), 200)
	c := m.connectionOf(t, query)
	answer := make(chan int, 1)
	go func() {
		status, _ := request(t, s, "POST", query, strings.Repeat("x", 60_000))
		answer <- status
	}()
	await.Until(t, "the second request waits", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.in.room == nil {
			return errors.New("it does not")
		}
		return nil
	})
	m.Sweep(time.Now().Add(m.DisconnectTimeout - time.Second))
	if err := m.forgotten(c.id); err == nil {
		t.Fatal("forgotten too early")
	}
	m.Sweep(time.Now().Add(m.DisconnectTimeout + time.Second))
	if got := <-answer; got != 404 {
		t.Errorf("the request that waited was answered %d", got)
	}
	await.Until(t, "the connection is forgotten", func() error { return m.forgotten(c.id) })
	mustRequest(t, s, "POST", query, "", 404)
}

// However a large body is cut, and however slow the session is, it gets all bytes in
// order, and little more than it has taken waits for it.
func TestPostHoldsTheClientUp(t *testing.T) {
	const size = 4 << 20
	block := make(chan struct{})
	accept, opened := gatherings(block)
	m, s := serve(t, Config{Accept: accept})
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	openStream(t, s, query)
	g := <-opened
	var body bytes.Buffer
	for i := 0; body.Len() < size; i++ {
		fmt.Fprintln(&body, i)
	}
	sent := body.String()
	answer := make(chan int, 1)
	go func() {
		status, _ := request(t, s, "POST", query, sent)
		answer <- status
	}()
	for range 8 {
		c := m.connectionOf(t, query)
		await.Until(t, "the request waits", func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch {
			case c.in == nil || c.in.room == nil:
				return errors.New("it does not")
			case c.in.cost > 4*inputBytes:
				t.Fatalf("%d bytes wait", c.in.cost)
			}
			return nil
		})
		select {
		case status := <-answer:
			t.Fatalf("answered %d before all was taken", status)
		default:
		}
		block <- struct{}{}
	}
	close(block)
	if got := <-answer; got != 200 {
		t.Fatalf("answered %d", got)
	}
	await.Until(t, "all is received", func() error {
		if n := g.length(); n != len(sent) {
			return fmt.Errorf("%d bytes of %d", n, len(sent))
		}
		return nil
	})
	if g.bytes.String() != sent {
		t.Error("received other bytes than sent")
	}
}

// Requests at the same time are taken one after the other, each as a whole.
func TestParallelPosts(t *testing.T) {
	accept, opened := gatherings(nil)
	_, s := serve(t, Config{Accept: accept})
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	openStream(t, s, query)
	g := <-opened
	const requests, size = 20, 200_000
	var clients sync.WaitGroup
	for i := range requests {
		clients.Go(func() {
			if status, text := request(t, s, "POST", query, strings.Repeat(string(rune('a'+i)), size)); status != 200 {
				t.Errorf("answered %d %q", status, text)
			}
		})
	}
	clients.Wait()
	await.Until(t, "all is received", func() error {
		if n := g.length(); n != requests*size {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
	for got := g.bytes.Bytes(); len(got) > 0; got = got[size:] {
		if want := bytes.Repeat(got[:1], size); !bytes.HasPrefix(got, want) {
			t.Fatal("bodies are mixed")
		}
	}
}

// Of a flood of requests few wait, and the rest is refused at once.
func TestPostFlood(t *testing.T) {
	block := make(chan struct{})
	accept, opened := gatherings(block)
	_, s := serve(t, Config{Accept: accept})
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	openStream(t, s, query)
	<-opened
	var mu sync.Mutex
	answers := make(map[int]int)
	refused := make(chan struct{}, 1000)
	var clients sync.WaitGroup
	for range 3 * maximumRequests {
		clients.Go(func() {
			status, _ := request(t, s, "POST", query, strings.Repeat("x", 60_000))
			mu.Lock()
			defer mu.Unlock()
			answers[status]++
			if status == http.StatusTooManyRequests {
				refused <- struct{}{}
			}
		})
	}
	for range 3*maximumRequests - maximumRequests - 3 { // some are taken: one by the session, one waits for it
		select {
		case <-refused:
		case <-time.After(deadline):
			mu.Lock()
			t.Fatalf("too few are refused: %v", answers)
		}
	}
	close(block)
	clients.Wait()
	if answers[200] < maximumRequests || answers[200]+answers[429] != 3*maximumRequests {
		t.Errorf("answers: %v", answers)
	}
}

func TestPostTooLarge(t *testing.T) {
	_, s := serve(t, Config{}, MaximumRequestBody(1000))
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	mustRequest(t, s, "POST", query, strings.Repeat("x", 1000), 200)
	mustRequest(t, s, "POST", query, strings.Repeat("x", 1001), 413)
	mustRequest(t, s, "POST", query, "y", 200)
}

// A request that the client breaks off leaves nothing behind.
func TestPostBrokenOff(t *testing.T) {
	accept, opened := diaries()
	m, s := serve(t, Config{Accept: accept})
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	openStream(t, s, query)
	d := <-opened
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /hub?%s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", query)
	await.Until(t, "the request has its turn", func() error {
		c := m.connectionOf(t, query)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.in == nil || c.in.requests == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	conn.(*net.TCPConn).CloseWrite()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != 400 {
		t.Errorf("answered %d", answer.StatusCode)
	}
	mustRequest(t, s, "POST", query, "whole", 200)
	d.expect(t, "received:whole")
}

// serveInBubble serves on pipes, so that a test's own clock rules: it returns a function
// that makes a network connection. The server has ended when the bubble has.
func serveInBubble(t *testing.T, m *Manager, configure ...func(*http.Server)) (dial func() net.Conn) {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := &http.Server{
		Handler: m.Endpoint(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Protocols: new(http.Protocols),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	for _, f := range configure {
		f(s)
	}
	var serving sync.WaitGroup
	serving.Go(func() { s.Serve(l) })
	t.Cleanup(func() {
		m.Refuse()
		m.Abort()
		s.Close()
		serving.Wait()
	})
	return func() net.Conn {
		client, server := net.Pipe()
		l.conns <- server
		t.Cleanup(func() { client.Close() })
		return client
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// fresh returns the query of a token that has not been used.
func (m *Manager) fresh() string {
	return "id=" + m.Keys.mint(m.Hub, connectionToken{id: newConnectionID(), before: time.Now().Add(m.DisconnectTimeout), user: tag("")})
}

// A body has to come at a rate; what the session makes it wait does not count.
func TestSlowPost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		bytes  int // at a time
		every  time.Duration
		status int
	}{
		{"nothing", 0, time.Second, 408},
		{"too slow", 100, time.Second, 408},
		{"fast enough", 300, time.Second, 200},
		{"in bursts", 2000, 8 * time.Second, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				accept, _ := gatherings(nil)
				m := NewManager(Config{Accept: accept, Logger: slog.New(slog.DiscardHandler)})
				conn := serveInBubble(t, m)()
				const size = 20_000
				fmt.Fprintf(conn, "POST /hub?%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", m.fresh(), size)
				var sending sync.WaitGroup
				sending.Go(func() {
					for sent := 0; tt.bytes > 0 && sent < size; sent += tt.bytes {
						if _, err := conn.Write(make([]byte, min(tt.bytes, size-sent))); err != nil {
							return
						}
						time.Sleep(tt.every)
					}
				})
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				answer.Body.Close()
				if answer.StatusCode != tt.status {
					t.Errorf("answered %d, want %d", answer.StatusCode, tt.status)
				}
				conn.Close()
				sending.Wait()
			})
		})
	}
}

// A session that takes its time does not cost the client its request, nor those after it
// on the same network connection.
func TestSlowSession(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				block := make(chan struct{})
				accept, _ := gatherings(block)
				m := NewManager(Config{Accept: accept, Logger: slog.New(slog.DiscardHandler)})
				connect := serveInBubble(t, m)
				client := &http.Transport{
					Protocols:   new(http.Protocols),
					DialContext: func(context.Context, string, string) (net.Conn, error) { return connect(), nil },
				}
				client.Protocols.SetHTTP1(protocol == "HTTP/1.1")
				client.Protocols.SetUnencryptedHTTP2(protocol != "HTTP/1.1")
				do := func(method, query, body string) *http.Response {
					r, err := http.NewRequest(method, "http://pipe/hub?"+query, strings.NewReader(body))
					if err != nil {
						t.Fatal(err)
					}
					answer, err := client.RoundTrip(r)
					if err != nil {
						t.Fatal(err)
					}
					return answer
				}
				query := m.fresh()
				do("GET", query, "").Body.Close()

				done := make(chan struct{})
				var session sync.WaitGroup
				session.Go(func() { // takes a chunk every hour
					for {
						time.Sleep(time.Hour)
						select {
						case block <- struct{}{}:
						case <-done:
							return
						}
					}
				})
				for range 3 {
					answer := do("POST", query, strings.Repeat("x", 3_000_000)) // more than HTTP/2 has in advance
					answer.Body.Close()
					if answer.StatusCode != 200 || answer.Proto != protocol {
						t.Errorf("answered %d over %s", answer.StatusCode, answer.Proto)
					}
				}
				close(done)
				session.Wait()
				close(block)
				client.CloseIdleConnections()
			})
		})
	}
}

// Whoever waits for its turn leaves when its client does.
func TestTurnIsGivenUp(t *testing.T) {
	m := NewManager(Config{})
	c, _ := m.findOrMake("c", nil, nil)
	done, refused := c.takeTurn(t.Context())
	if refused != granted {
		t.Fatal(refused)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, refused := c.takeTurn(ctx); refused != aborted {
		t.Errorf("got %v", refused)
	}
	c.end()
	if _, refused := c.takeTurn(t.Context()); refused != alreadyEnded {
		t.Errorf("after the end: %v", refused)
	}
	done()
	if c.in.requests != 0 {
		t.Errorf("%d requests are left", c.in.requests)
	}
	if err := m.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
