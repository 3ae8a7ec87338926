package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

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

// deadline is for what takes as long only if it does not happen at all.
const deadline = 20 * time.Second

// inEachProtocol runs the test once for each.
func inEachProtocol(t *testing.T, test func(t *testing.T, p protocol.Protocol)) {
	for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
		t.Run(p.Name(), func(t *testing.T) { test(t, p) })
	}
}

// quiet are the options of most clients in tests.
func quiet(options ...Option) []Option {
	return append([]Option{WithLogger(slog.New(slog.DiscardHandler))}, options...)
}

// started returns a client that is started, and closed at the end of the test.
func started(t testing.TB, c *Client, err error) *Client {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
	return c
}

// mustOn registers a handler.
func mustOn(t testing.TB, c *Client, method string, f any) {
	t.Helper()
	if err := c.On(method, f); err != nil {
		t.Fatal(err)
	}
}

// receive takes a value from the channel.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(deadline):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// A scripted server plays a script to every WebSocket that is opened, over a network in
// memory.
type scripted struct {
	t        testing.TB
	protocol protocol.Protocol
	script   func(p *peer)
	conns    chan net.Conn // dialled and not yet accepted
	server   http.Server
	done     chan struct{}
	peers    sync.WaitGroup // connections whose script has not ended
	refuse   func(w http.ResponseWriter, r *http.Request) bool
	silent   bool          // the handshake is not answered
	greeting func(p *peer) // what a silent server sends instead
	cut      bool          // dialling fails
	mu       sync.Mutex
}

// A peer is the server's end of a connection, after the handshake.
type peer struct {
	t        testing.TB
	conn     *websocket.Conn
	protocol protocol.Protocol
	unread   []byte
	pings    []time.Time // of those that next skipped
	writing  sync.Mutex
}

// script serves with a script, until the end of the test.
func script(t testing.TB, p protocol.Protocol, script func(p *peer)) *scripted {
	s := &scripted{t: t, protocol: p, script: script, conns: make(chan net.Conn), done: make(chan struct{})}
	s.server.Handler = s
	go s.server.Serve(s)
	t.Cleanup(func() {
		s.server.Close()
		s.peers.Wait()
	})
	return s
}

// dial returns a client of the server, without negotiation, that is not started.
func (s *scripted) dial(options ...Option) (*Client, error) {
	transport := &http.Transport{DialContext: s.dialContext, DisableKeepAlives: true}
	return New("http://server/hub", quiet(append([]Option{
		WithProtocol(s.protocol),
		WithoutNegotiation(),
		WithHTTPClient(&http.Client{Transport: transport}),
	}, options...)...)...)
}

// start returns a client of the server that is started.
func (s *scripted) start(options ...Option) *Client {
	s.t.Helper()
	c, err := s.dial(options...)
	return started(s.t, c, err)
}

func (s *scripted) dialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	s.mu.Lock()
	cut := s.cut
	s.mu.Unlock()
	if cut {
		return nil, errors.New("network is cut")
	}
	client, server := net.Pipe()
	s.peers.Add(1)
	served := &servedConn{Conn: server, closed: sync.OnceFunc(s.peers.Done)}
	select {
	case s.conns <- served:
		return client, nil
	case <-s.done:
		served.Close()
		return nil, net.ErrClosed
	case <-ctx.Done():
		served.Close()
		return nil, ctx.Err()
	}
}

// A servedConn says when the server closes it, which it does after the script.
type servedConn struct {
	net.Conn
	closed func()
}

func (c *servedConn) Close() error {
	defer c.closed()
	return c.Conn.Close()
}

func (s *scripted) setCut(cut bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = cut
}

// Accept, Close and Addr make it a net.Listener.
func (s *scripted) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *scripted) Close() error {
	close(s.done)
	return nil
}

func (s *scripted) Addr() net.Addr { return &net.UnixAddr{Name: "server", Net: "pipe"} }

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refuse != nil && s.refuse(w, r) {
		return
	}
	var upgrader websocket.Upgrader
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	p := &peer{t: s.t, conn: conn, protocol: s.protocol}
	if s.silent {
		if s.greeting != nil && p.read() == nil { // the network has no buffer
			s.greeting(p)
		}
		for p.read() == nil {
		}
		return
	}
	if s.script != nil && p.shake() {
		s.script(p)
	}
}

// shake answers the handshake.
func (p *peer) shake() bool {
	for {
		request, n, err := protocol.ParseHandshakeRequest(p.unread, 0)
		switch {
		case errors.Is(err, protocol.ErrIncomplete):
		case err != nil || request.Protocol != p.protocol.Name() || request.Version != 1:
			p.t.Errorf("handshake %+v, %v", request, err)
			return false
		default:
			p.unread = p.unread[n:]
			p.write(protocol.AppendHandshakeResponse(nil, ""))
			return true
		}
		if p.read() != nil {
			return false
		}
	}
}

func (p *peer) read() error {
	_, data, err := p.conn.ReadMessage()
	p.unread = append(p.unread, data...)
	return err
}

func (p *peer) write(data []byte) {
	kind := websocket.TextMessage
	if p.protocol.TransferFormat() == protocol.Binary {
		kind = websocket.BinaryMessage
	}
	p.writing.Lock()
	defer p.writing.Unlock()
	p.conn.WriteMessage(kind, data) // the client may be gone, which is for the test to notice
}

// send sends the messages in one message of the WebSocket.
func (p *peer) send(messages ...protocol.Message) {
	var data []byte
	for _, m := range messages {
		var err error
		if data, err = p.protocol.Append(data, m); err != nil {
			p.t.Error(err)
		}
	}
	p.write(data)
}

// next returns the client's next message that is no ping, or nil at the end.
func (p *peer) next() protocol.Message {
	for {
		m, n, err := p.protocol.Parse(p.unread, 0)
		switch {
		case errors.Is(err, protocol.ErrIncomplete):
			if p.read() != nil {
				return nil
			}
			continue
		case err != nil:
			p.t.Error(err)
			return nil
		}
		p.unread = bytes.Clone(p.unread[n:])
		if _, ping := m.(*protocol.Ping); !ping {
			return m
		}
		p.pings = append(p.pings, time.Now())
	}
}

// drain reads until the end.
func (p *peer) drain() {
	for p.next() != nil {
	}
}

// drained drains in another goroutine and says when that is done.
func (p *peer) drained() <-chan struct{} {
	end := make(chan struct{})
	go func() {
		defer close(end)
		p.drain()
	}()
	return end
}

// expect returns the next message, which must be an M.
func expect[M protocol.Message](p *peer) M {
	m := p.next()
	got, ok := m.(M)
	if !ok {
		p.t.Errorf("got message %#v, want a %T", m, got)
		panic(http.ErrAbortHandler)
	}
	return got
}

// arguments decodes the arguments of an invocation.
func arguments(p *peer, m *protocol.Invocation, dst ...any) {
	if err := p.protocol.BindArguments(m.RawArguments, dst...); err != nil {
		p.t.Errorf("arguments of %s: %v", m.Target, err)
	}
}

// item decodes the item of a stream.
func item[T any](p *peer, m *protocol.StreamItem) (v T) {
	if err := p.protocol.BindValue(m.RawItem, &v); err != nil {
		p.t.Error(err)
	}
	return v
}

func TestNewRefusesWhatCannotBeMet(t *testing.T) {
	for _, tt := range []struct {
		name    string
		address string
		option  Option
	}{
		{"scheme", "ftp://host/hub", nil},
		{"no host", "http:///hub", nil},
		{"user", "http://a:b@host/hub", nil},
		{"malformed", "http://host\x00", nil},
		{"protocol", "http://host", WithProtocol(nil)},
		{"token", "http://host", WithAccessToken(nil)},
		{"HTTP client", "http://host", WithHTTPClient(nil)},
		{"round tripper", "http://host", WithHTTPClient(&http.Client{Transport: roundTripper{}})},
		{"policy", "http://host", WithReconnectPolicy(nil)},
		{"keep-alive", "http://host", WithKeepAliveInterval(0)},
		{"server time-out", "http://host", WithServerTimeout(-1)},
		{"handshake time-out", "http://host", WithHandshakeTimeout(0)},
		{"message size", "http://host", WithMaximumReceiveMessageSize(-1)},
		{"queue", "http://host", WithInboundQueue(0)},
		{"logger", "http://host", WithLogger(nil)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			options := []Option{}
			if tt.option != nil {
				options = append(options, tt.option)
			}
			if _, err := New(tt.address, options...); err == nil {
				t.Error("accepted")
			}
		})
	}
}

type roundTripper struct{}

func (roundTripper) RoundTrip(*http.Request) (*http.Response, error) { return nil, io.EOF }

func TestCallsNeedAConnection(t *testing.T) {
	s := script(t, protocol.JSON, (*peer).drain)
	c, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	check := func(want error) {
		t.Helper()
		if err := c.Invoke(t.Context(), "Method"); !errors.Is(err, want) {
			t.Errorf("Invoke: %v, want %v", err, want)
		}
		if err := c.Send(t.Context(), "Method"); !errors.Is(err, want) {
			t.Errorf("Send: %v, want %v", err, want)
		}
		for _, err := range Stream[int](t.Context(), c, "Method") {
			if !errors.Is(err, want) {
				t.Errorf("Stream: %v, want %v", err, want)
			}
		}
	}
	check(ErrNotConnected)
	if c.State() != Disconnected {
		t.Errorf("state %v", c.State())
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.State() != Connected {
		t.Errorf("state %v", c.State())
	}
	if err := c.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	c.Close()
	c.Close()
	check(ErrClosed)
	<-c.Done()
	if c.State() != Closed || c.Err() != nil {
		t.Errorf("state %v, error %v", c.State(), c.Err())
	}
	if err := c.Start(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("Start: %v", err)
	}
}

func TestCloseOfAClientThatWasNotStarted(t *testing.T) {
	c, err := New("http://host")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-c.Done()
	c.Close()
}

func TestCloseWhileStarting(t *testing.T) {
	asked := make(chan struct{})
	c, err := New("http://host", WithAccessToken(func(ctx context.Context) (string, error) {
		close(asked)
		<-ctx.Done()
		return "", ctx.Err()
	}))
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() { result <- c.Start(t.Context()) }()
	<-asked
	c.Close()
	<-c.Done()
	if err := receive(t, "the end of Start", result); !errors.Is(err, ErrClosed) {
		t.Errorf("Start: %v", err)
	}
}

// Close sends what was sent before it, says so, and ends calls.
func TestClose(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		got := make(chan string, 100)
		begun := make(chan struct{})
		s := script(t, proto, func(p *peer) {
			defer close(got)
			expect[*protocol.Invocation](p)
			close(begun)
			for m := p.next(); m != nil; m = p.next() {
				got <- fmt.Sprintf("%T", m)
			}
			p.send(&protocol.Close{})
		})
		c := s.start()
		pending := make(chan error)
		go func() { pending <- c.Invoke(t.Context(), "Pending") }()
		<-begun
		for range 10 {
			if err := c.Send(t.Context(), "Last"); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		if err := receive(t, "the call's end", pending); !errors.Is(err, ErrConnectionLost) || !errors.Is(err, ErrClosed) {
			t.Errorf("call ended with %v", err)
		}
		want := append(slices.Repeat([]string{"*protocol.Invocation"}, 10), "*protocol.Close")
		var all []string
		for m := range got {
			all = append(all, m)
		}
		if !slices.Equal(all, want) {
			t.Errorf("server got %v", all)
		}
	})
}

// However much the server sends, and however little is handled, it is told.
func TestCloseDuringAFlood(t *testing.T) {
	for _, target := range []string{"stuck", "unknown"} {
		synctest.Test(t, func(t *testing.T) {
			var told protocol.Message
			s := script(t, protocol.JSON, func(p *peer) {
				flood := make(chan struct{})
				go func() {
					defer close(flood)
					for range 10_000 {
						p.send(&protocol.Invocation{Target: target})
					}
				}()
				told = p.next()
				p.drain()
				<-flood
			})
			c, err := s.dial(WithInboundQueue(1000))
			mustOn(t, c, "stuck", func(ctx context.Context) { <-ctx.Done() })
			started(t, c, err)
			if target == "stuck" {
				synctest.Wait() // until the queue is full
			}
			c.Close()
			s.peers.Wait()
			if _, ok := told.(*protocol.Close); !ok {
				t.Errorf("%s: server got %#v", target, told)
			}
		})
	}
}

// What the server sends before its Close message is handled.
func TestServerCloses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		message protocol.Close
		options []Option
		text    string // of an *Error; empty for none
	}{
		{"in order", protocol.Close{}, nil, ""},
		{"with an error", protocol.Close{Error: "told"}, nil, "told"},
		{"without leave to reconnect", protocol.Close{Error: "told"}, []Option{WithAutomaticReconnect()}, "told"},
		{"with leave, but no policy", protocol.Close{AllowReconnect: true}, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var closeCode int
			s := script(t, protocol.JSON, func(p *peer) {
				p.conn.SetCloseHandler(func(code int, _ string) error {
					closeCode = code
					return nil
				})
				for range 3 {
					p.send(&protocol.Invocation{Target: "last"})
				}
				p.send(&tt.message)
				p.drain()
			})
			c, err := s.dial(tt.options...)
			handled := 0
			mustOn(t, c, "last", func() { handled++ })
			started(t, c, err)
			receive(t, "the end", c.Done())
			told, _ := errors.AsType[*Error](c.Err())
			if c.Err() == nil || (told != nil) != (tt.text != "") || told != nil && told.Message != tt.text {
				t.Errorf("ended with %v", c.Err())
			}
			if handled != 3 {
				t.Errorf("%d of 3 invocations handled", handled)
			}
			s.peers.Wait()
			if closeCode != websocket.CloseNormalClosure {
				t.Errorf("server got close code %d", closeCode)
			}
		})
	}
}
