package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// FuzzDispatch sends a hub what the bytes of the input are made into: frames that are
// well-formed, some that are nearly so, and whatever else. A connection whose client
// said nothing wrong is alive afterwards; one whose client did was closed with a Close
// message. Nothing is left of either.
func FuzzDispatch(f *testing.F) {
	for _, seed := range []string{
		"",
		"\x00\x0b{\"type\":6}\x1e", "\x00\x03\x02\x91\x06", "\x00\x05[1,2\x1e", "\x00\x01\x1e", "\x00\x02\x01\x90",
		"\x01\x00\x01\x01\x02\x00",                                      // Echo
		"\x01\x03\x02\x01\x01\x01s\x03\x06\x02\x03\x06\x03\x04\x06\x00", // Sum with an upload, two items, its end
		"\x02\x06\x01\x01\x02\x00\x05\x01",                              // Count, canceled
		"\x02\x07\x01\x00\x00\x02\x07\x01\x00\x00\x02\x08\x02\x00\x00",  // Wait twice under one id, Fail
		"\x01\x09\x01\x00\x00\x04\x03\x01\x02",                          // Ask, answered
		"\x01\x0a\x01\x01\x04\x00\x01\x0b\x01\x00\x00\x01\x0c\x02\x00\x00",
		"\x06\x00\x06\x01",
		"\x01\x10\x01\x01\x00\x00\x01\x10\x02\x00\x00",     // Take
		"\x01\x11\x01\x00\x00",                             // Give
		"\x02\x12\x01\x00\x00",                             // Items
		"\x01\x13\x01\x00\x01\x05\x03\x06\x00",             // Upload, and an item
		"\x01\x14\x01\x00\x00\x01\x00\x02\x01\x00\x00",     // Required, Echo
		"\x02\x15\x01\x01\x00\x00\x02\x15\x02\x01\x03\x00", // Odd
		"\x01\x16\x01\x01\x00\x00\x01\x16\x02\x01\x03\x00", // Bend
		"\x01\x17\x01\x01\x00\x00",                         // Twist
		"\x07\x02\x05\x01\x02\x01\x00\x07\x10\xff\x03\x06\x02\x07\x00\x80\x04\x06\x00",
	} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, pack bool) {
		var p protocol.Protocol = protocol.JSON
		if pack {
			p = protocol.MessagePack
		}
		s := script{rest: data[:min(len(data), 4096)], protocol: p}
		h := &fuzzed{}
		c := dialFuzzed(t, h, p)
		defer c.close()
		var sent []byte
		for len(s.rest) > 0 {
			frame := s.frame()
			sent = append(sent, frame...)
			c.write(frame)
		}
		switch rest, ends, may := outcome(p, sent, h.hub.maxMessage); {
		case may: // either is right
		case ends:
			c.expectClose()
		case rest == 0:
			final := &protocol.Invocation{InvocationID: "final", Target: "Echo", Arguments: []any{"alive"}}
			c.write(encoded(p, final))
			c.expectCompletion("final")
		}
	})
}

// outcome says what a hub has to make of the bytes: whether they end the connection, and
// else how many of them are the beginning of a frame. It may end if methods were invoked
// whose results cannot be encoded.
func outcome(p protocol.Protocol, sent []byte, limit int) (rest int, ends, may bool) {
	for len(sent) > 0 {
		m, n, err := p.Parse(sent, limit)
		if errors.Is(err, protocol.ErrIncomplete) {
			break
		}
		if _, closes := m.(*protocol.Close); err != nil || closes {
			return 0, true, may
		}
		if i, ok := m.(*protocol.Invocation); ok {
			may = may || strings.EqualFold(i.Target, "Give") || strings.EqualFold(i.Target, "Twist")
		}
		sent = sent[n:]
	}
	return len(sent), false, may
}

// A script makes frames of bytes.
type script struct {
	rest     []byte
	protocol protocol.Protocol
}

func (s *script) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b
}

func pick[T any](s *script, from []T) T { return from[int(s.next())%len(from)] }

func (s *script) frame() []byte {
	switch kind := s.next() % 8; kind {
	case 0: // anything
		n := min(int(s.next()), len(s.rest))
		raw := s.rest[:n]
		s.rest = s.rest[n:]
		return raw
	case 7: // something with a byte changed, or cut off
		frame := encoded(s.protocol, s.message(s.next()%6+1))
		at, b := int(s.next())%len(frame), s.next()
		if b == 0 {
			return frame[:at]
		}
		frame[at] ^= b
		return frame
	default:
		return encoded(s.protocol, s.message(kind))
	}
}

func encoded(p protocol.Protocol, m protocol.Message) []byte {
	frame, err := p.Append(nil, m)
	if err != nil {
		panic(err) // all values in it can be encoded
	}
	return frame
}

var (
	fuzzTargets = []string{"Echo", "echo", "Nope", "Sum", "Zip", "First", "Count", "Wait", "Fail", "Ask", "Join", "Panic", "Linger", "Gaps", "OnConnected", "",
		"Take", "Give", "Items", "Upload", "Required", "Odd", "Bend", "Twist"}
	fuzzIDs    = []string{"", "1", "2", "s1", "s2", "f", "u", "v"}
	fuzzValues = []any{1, nil, "x", -1, 7.5, true, []any{1, "y"}, map[string]any{"a": []any{}}, strings.Repeat("long", 50), int64(1) << 60, 2, 3, 4, 5, 6, 7, 8, 9, 10}
)

// message makes a message. It has a target and an id where the protocols want one.
func (s *script) message(kind byte) protocol.Message {
	switch kind {
	case 1, 2:
		m := protocol.Invocation{Target: pick(s, fuzzTargets), InvocationID: pick(s, fuzzIDs), Arguments: []any{}}
		for range s.next() % 4 {
			m.Arguments = append(m.Arguments, pick(s, fuzzValues))
		}
		for range s.next() % 3 {
			m.StreamIDs = append(m.StreamIDs, pick(s, fuzzIDs[1:]))
		}
		if kind == 2 {
			return &protocol.StreamInvocation{Invocation: m}
		}
		return &m
	case 3:
		return &protocol.StreamItem{InvocationID: pick(s, fuzzIDs), Item: pick(s, fuzzValues)}
	case 4:
		m := &protocol.Completion{InvocationID: pick(s, fuzzIDs)}
		switch s.next() % 3 {
		case 1:
			m.HasResult, m.Result = true, pick(s, fuzzValues)
		case 2:
			m.HasError, m.Error = true, "client's"
		}
		return m
	case 5:
		return &protocol.CancelInvocation{InvocationID: pick(s, fuzzIDs)}
	default:
		if s.next() == 1 {
			return &protocol.Close{}
		}
		return &protocol.Ping{}
	}
}

// fuzzed is a hub with methods of all kinds. None of them runs for long when its client
// does nothing, but for those that stream, which others need not wait for.
type fuzzed struct {
	hub     *Hub
	running atomic.Int32 // methods and sequences, which the hub waits for
}

func (f *fuzzed) enter() (leave func()) {
	f.running.Add(1)
	return func() { f.running.Add(-1) }
}

func (f *fuzzed) Echo(_ context.Context, _ *Caller, v any) any { return v }

func (f *fuzzed) Sum(_ context.Context, _ *Caller, sum int, items iter.Seq2[int, error]) (int, error) {
	defer f.enter()()
	for item, err := range items {
		if err != nil {
			return 0, err
		}
		sum += item
	}
	return sum, nil
}

func (f *fuzzed) First(_ context.Context, _ *Caller, items iter.Seq2[any, error]) (any, error) {
	defer f.enter()()
	for item, err := range items {
		return item, err
	}
	return nil, nil
}

func (f *fuzzed) Zip(_ context.Context, _ *Caller, a, b iter.Seq2[any, error]) iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		defer f.enter()()
		next, stop := iter.Pull2(b)
		defer stop()
		for item, err := range a {
			other, _, _ := next()
			if !yield([]any{item, other}, err) || err != nil {
				return
			}
		}
	}
}

func (f *fuzzed) Count(_ context.Context, _ *Caller, n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		defer f.enter()()
		for i := range min(n, 100) {
			if !yield(i) {
				return
			}
		}
	}
}

func (f *fuzzed) Gaps(ctx context.Context, _ *Caller) <-chan string {
	items := make(chan string)
	go func() { // ends soon after the invocation, which does not wait for it
		defer close(items)
		for range 3 {
			select {
			case items <- "gap":
			case <-ctx.Done():
				return
			}
		}
	}()
	return items
}

func (f *fuzzed) Wait(ctx context.Context, _ *Caller) iter.Seq[int] {
	return func(func(int) bool) {
		defer f.enter()()
		<-ctx.Done()
	}
}

func (f *fuzzed) Fail(context.Context, *Caller) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		defer f.enter()()
		if yield(1, nil) {
			yield(0, errors.New("failed"))
		}
	}
}

func (f *fuzzed) Ask(ctx context.Context, c *Caller) (int, error) {
	defer f.enter()()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Millisecond)
	defer cancel()
	return Invoke[int](ctx, c.Clients().Caller(), "Answer")
}

func (f *fuzzed) Join(ctx context.Context, c *Caller, group string) error {
	defer f.enter()()
	return c.Groups().Add(ctx, c.ConnectionID(), group, Until(time.Now().Add(time.Hour)))
}

func (f *fuzzed) Panic(context.Context, *Caller) { panic(onPurpose) }

func (f *fuzzed) Linger(ctx context.Context, _ *Caller) {
	defer f.enter()()
	select {
	case <-ctx.Done():
	case <-time.After(time.Millisecond):
	}
}

// A bomb panics when it is encoded or decoded.
type bomb struct{}

func (bomb) MarshalJSON() ([]byte, error) { panic(onPurpose) }
func (*bomb) UnmarshalJSON([]byte) error  { panic(onPurpose) }

func (f *fuzzed) Take(context.Context, *Caller, bomb) {}

func (f *fuzzed) Give(context.Context, *Caller) bomb { return bomb{} }

func (f *fuzzed) Items(context.Context, *Caller) iter.Seq2[bomb, error] {
	return func(yield func(bomb, error) bool) {
		defer f.enter()()
		yield(bomb{}, nil)
	}
}

func (f *fuzzed) Upload(_ context.Context, _ *Caller, items iter.Seq2[bomb, error]) error {
	defer f.enter()()
	for _, err := range items {
		return err
	}
	return nil
}

func (f *fuzzed) Required(context.Context, *Caller) {}

func (f *fuzzed) Odd(context.Context, *Caller, int) iter.Seq[int] { return nil }

func (f *fuzzed) Bend(_ context.Context, _ *Caller, n int) int { return n }

func (f *fuzzed) Twist(_ context.Context, _ *Caller, n int) int { return n }

// wrong is what a filter may put in place of what it ought to.
var wrong = []any{
	"no stream", nil, 1, func() {}, func(int) bool { return true }, make(chan<- int), make(chan int), (iter.Seq[int])(nil),
	iter.Seq[bomb](func(yield func(bomb) bool) { yield(bomb{}) }),
	iter.Seq2[int, int](func(yield func(int, int) bool) { yield(1, 2) }),
	iter.Seq[int](func(func(int) bool) { panic(onPurpose) }),
}

// misled are options that have the hub's own code call what is not as it ought to be.
func misled() []Option {
	at := func(i *Invocation) int { return i.Arguments[0].(int) & 0xff }
	result := FilteredBy(Filter{Invoke: func(_ context.Context, i *Invocation, _ InvokeFunc) (any, error) {
		return wrong[at(i)%len(wrong)], nil
	}})
	arguments := FilteredBy(Filter{Invoke: func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
		switch n := at(i); n % 4 {
		case 0:
			i.Arguments[0] = wrong[n%len(wrong)]
		case 1:
			i.Arguments = wrong
		case 2:
			i.Method = fuzzTargets[n%len(fuzzTargets)]
		default:
			panic(onPurpose)
		}
		return next(ctx, i)
	}})
	panics := Requires(func(context.Context, *auth.Identity) error { panic(onPurpose) })
	return []Option{
		WithMethod("Odd", result), WithMethod("Twist", result), WithMethod("Bend", arguments), WithMethod("Required", panics),
	}
}

const onPurpose = "on purpose"

// panics notes panics that are reported to a logger.
type panics struct {
	slog.Handler
	t *testing.T
}

func (panics) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }

func (p panics) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "panic" && a.Value.String() != onPurpose {
			p.t.Errorf("panic: %v", r)
		}
		return true
	})
	return nil
}

// Write takes what the HTTP server logs, which recovers from panics.
func (p panics) Write(text []byte) (int, error) {
	p.t.Errorf("HTTP server: %s", text)
	return len(text), nil
}

// fuzzClient is a client of a hub of its own. Between them are pipes in place of
// sockets, of which a fuzzer would use up all that there are.
type fuzzClient struct {
	t        *testing.T
	value    *fuzzed
	protocol protocol.Protocol
	server   *http.Server
	serving  sync.WaitGroup // Serve, and the reader
	conn     *websocket.Conn
	of       *connection

	received chan protocol.Message // what matters of it; closed by the reader at the end
}

func dialFuzzed(t *testing.T, value *fuzzed, p protocol.Protocol) *fuzzClient {
	log := panics{slog.DiscardHandler, t}
	h, err := New(value, append(misled(), WithLogger(slog.New(log)))...)
	if err != nil {
		t.Fatal(err)
	}
	value.hub = h
	c := &fuzzClient{t: t, value: value, protocol: p, received: make(chan protocol.Message, 2)}
	c.server = &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(log, slog.LevelError)}
	c.server.ErrorLog.SetOutput(log)
	pipes := &pipeListener{accepted: make(chan net.Conn), closed: make(chan struct{})}
	c.serving.Go(func() { c.server.Serve(pipes) })
	dialer := websocket.Dialer{NetDialContext: pipes.dial}
	c.conn, _, err = dialer.Dial("ws://hub/", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.conn.SetReadDeadline(time.Now().Add(2 * deadline))
	c.conn.SetWriteDeadline(time.Now().Add(2 * deadline))
	c.write(protocol.AppendHandshakeRequest(nil, protocol.HandshakeRequest{Protocol: p.Name(), Version: 1}))
	if _, answer, err := c.conn.ReadMessage(); err != nil || string(answer) != "{}\x1e" {
		t.Fatalf("handshake: %q, %v", answer, err)
	}
	h.registry.each(func(of *connection) { c.of = of })
	c.serving.Go(c.read)
	return c
}

// write sends bytes; that the hub has closed the connection is for the reader to see.
func (c *fuzzClient) write(p []byte) { c.conn.WriteMessage(websocket.BinaryMessage, p) }

// read takes everything and keeps the final completion and the Close message.
func (c *fuzzClient) read() {
	defer close(c.received)
	final := false
	for {
		_, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		for len(data) > 0 {
			m, n, err := c.protocol.Parse(data, 0)
			if err != nil {
				c.t.Errorf("the hub sent %q: %v", data, err)
				return
			}
			data = data[n:]
			switch m := m.(type) {
			case *protocol.Completion:
				if m.InvocationID == "final" && !final {
					final = true
					c.received <- m
				}
			case *protocol.Close:
				c.received <- m
			}
		}
	}
}

func (c *fuzzClient) expectClose() {
	for m := range c.received {
		if _, ok := m.(*protocol.Close); ok {
			return
		}
	}
	c.t.Error("the connection ended without a Close message, or not at all")
}

func (c *fuzzClient) expectCompletion(id string) {
	if m, ok := (<-c.received).(*protocol.Completion); !ok || m.InvocationID != id {
		c.t.Error("the connection is dead")
	}
}

// close ends everything, and looks for what is left.
func (c *fuzzClient) close() {
	c.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*deadline)
	defer cancel()
	h := c.value.hub
	if err := h.Shutdown(ctx); err != nil {
		c.t.Error(err)
	}
	c.server.Close()
	for range c.received { // lets the reader end
	}
	c.serving.Wait()
	if err := errors.Join(leftOf(h, false), c.of.left()); err != nil {
		c.t.Errorf("left: %v", err)
	}
	if n := c.value.running.Load() + int32(len(h.handshakes.pending)); n != 0 {
		c.t.Errorf("left: %d methods and handshakes", n)
	}
}

// pipeListener accepts what is dialled within the process.
type pipeListener struct {
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.accepted <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Accept implements [net.Listener].
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: fmt.Sprintf("pipe %p", l)} }
