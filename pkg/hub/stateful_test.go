package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// A ledger is a hub that writes down what each client says, and says it back.
type ledger struct {
	mu    sync.Mutex
	said  map[string][]int // by connection
	gone  []error          // what OnDisconnected was told
	began chan struct{}
	hold  chan struct{} // Wait returns when it is closed
}

func newLedger() *ledger {
	return &ledger{said: make(map[string][]int), began: make(chan struct{}, 100), hold: make(chan struct{})}
}

func (l *ledger) OnDisconnected(_ context.Context, _ *Caller, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = append(l.gone, err)
	return nil
}

func (l *ledger) Say(ctx context.Context, c *Caller, n int) (int, error) {
	l.mu.Lock()
	l.said[c.ConnectionID()] = append(l.said[c.ConnectionID()], n)
	l.mu.Unlock()
	return n, c.Clients().Caller().Send(ctx, "Heard", n)
}

func (l *ledger) Join(ctx context.Context, c *Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

func (l *ledger) Wait(ctx context.Context, _ *Caller) {
	l.began <- struct{}{}
	select {
	case <-l.hold:
	case <-ctx.Done():
	}
}

// Count streams the numbers below n.
func (l *ledger) Count(_ context.Context, _ *Caller, n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// Add returns the sum of a stream, each of whose items is one more than the last.
func (l *ledger) Add(_ context.Context, _ *Caller, items iter.Seq2[int, error]) (sum int, err error) {
	next := 0
	for i, err := range items {
		if err != nil {
			return 0, err
		}
		if i != next {
			return 0, &Error{Message: fmt.Sprintf("%d in place of %d", i, next)}
		}
		next++
		sum += i
	}
	return sum, nil
}

func (l *ledger) of(id string) []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said[id])
}

func (l *ledger) left() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.gone)
}

// serveStateful starts a hub whose clients may have stateful reconnect.
func serveStateful(t testing.TB, value any, options ...Option) (*Hub, string) {
	t.Helper()
	return serve(t, value, append([]Option{WithEndpointOptions(transport.AllowStatefulReconnects())}, options...)...)
}

func say(n int) protocol.Message {
	return &protocol.Invocation{InvocationID: fmt.Sprint(n), Target: "Say", Arguments: []any{n}}
}

// short is a message as the tests compare it.
func (s *survivor) short(m protocol.Message) string {
	switch m := m.(type) {
	case *protocol.Invocation:
		var n int
		if err := s.protocol.BindArguments(m.RawArguments, &n); err != nil {
			return err.Error()
		}
		return fmt.Sprint(m.Target, n)
	case *protocol.Completion:
		return "answer" + m.InvocationID + m.Error
	case *protocol.Close:
		return fmt.Sprintf("close%q,%v", m.Error, m.AllowReconnect)
	}
	return fmt.Sprintf("%T", m)
}

// take returns the next message, or why there is none.
func (s *survivor) take() string {
	select {
	case m := <-s.messages:
		return s.short(m)
	case <-time.After(await.Deadline):
		return "late"
	case <-s.ended: // with what came before
	}
	select {
	case m := <-s.messages:
		return s.short(m)
	default:
		return fmt.Sprint("ended: ", s.err)
	}
}

// expect takes the messages that arrive.
func (s *survivor) expect(want ...string) {
	s.t.Helper()
	for i, w := range want {
		if got := s.take(); got != w {
			s.t.Fatalf("message %d is %s, want %s", i+1, got, w)
		}
	}
}

// Wherever sockets break within a conversation, each message of either side arrives
// once, and in order.
func TestCutAtEveryByte(t *testing.T) {
	const words = 3
	l := newLedger()
	h, address := serveStateful(t, l)
	for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
		for _, way := range []string{"from the client", "to the client", "both ways, again and again"} {
			t.Run(p.Name()+"/"+way, func(t *testing.T) {
				for at := int64(0); ; at++ {
					fuses := 0
					s := survive(t, address, "", p, func() (out, in int64) {
						fuses++
						switch {
						case way == "both ways, again and again" && fuses <= 4:
							return at, at + 7 // so many bytes are enough for some progress only at times
						case way == "from the client" && fuses == 1:
							return at, -1
						case way == "to the client" && fuses == 1:
							return -1, at
						}
						return -1, -1
					})
					for n := range words {
						s.send(say(n))
						s.expect(fmt.Sprint("Heard", n), fmt.Sprint("answer", n))
						s.acknowledge()
					}
					if got := l.of(s.id); !slices.Equal(got, []int{0, 1, 2}) {
						t.Fatalf("cut after %d bytes: the hub heard %v", at, got)
					}
					cuts := s.cuts.Load()
					s.send(&protocol.Invocation{InvocationID: "last", Target: "Say", Arguments: []any{9}})
					s.expect("Heard9", "answerlast")
					s.close()
					if t.Failed() {
						t.Fatalf("cut after %d bytes", at)
					}
					if cuts == 0 {
						if at < 50 {
							t.Fatalf("the whole conversation took %d bytes", at)
						}
						break
					}
				}
			})
		}
	}
	await.Until(t, "the hub knows that they went", func() error {
		if n := testutil.ToFloat64(h.metrics.interrupted); n == 0 {
			return errors.New("nobody is away")
		}
		return nil
	})
	if testutil.ToFloat64(h.metrics.reconnects) == 0 {
		t.Error("no reconnects were counted")
	}
}

// The same of many at once, with sends to the connection, its user and its group, while
// sockets break at random.
func TestStormOfCuts(t *testing.T) {
	const clients, rounds = 8, 300
	l := newLedger()
	h, address := serveStateful(t, l)
	var all sync.WaitGroup
	for i := range clients {
		p := []protocol.Protocol{protocol.JSON, protocol.MessagePack}[i%2]
		user := fmt.Sprint("user", i)
		s := survive(t, address, "user="+user, p, func() (out, in int64) { return rand.Int64N(10_000), rand.Int64N(200_000) })
		s.send(&protocol.Invocation{InvocationID: "join", Target: "Join", Arguments: []any{user}})
		s.expect("answerjoin")
		unanswered := make(chan struct{}, 20)
		all.Go(func() {
			for n := range rounds {
				select {
				case unanswered <- struct{}{}:
					s.send(say(n))
				case <-s.ended:
				}
			}
		})
		all.Go(func() {
			for n := range rounds {
				for target, to := range map[string]ClientProxy{
					"ToClient": h.Clients().Client(s.id).ClientProxy, "ToUser": h.Clients().User(user), "ToGroup": h.Clients().Group(user),
				} {
					if err := to.Send(t.Context(), target, n); err != nil {
						t.Error(err)
					}
				}
			}
		})
		all.Go(func() {
			next := map[string]int{}
			defer s.close()
			for range rounds * 5 {
				text := s.take()
				kind := strings.TrimRight(text, "0123456789")
				if want := fmt.Sprint(kind, next[kind]); text != want {
					t.Errorf("%s: got %s, want %s; had %v", user, text, want, next)
					return
				}
				next[kind]++
				if kind == "answer" {
					<-unanswered
				}
				if rand.IntN(30) == 0 {
					s.acknowledge()
				}
				if rand.IntN(100) == 0 {
					s.cut()
				}
			}
			for kind, n := range next {
				if n != rounds {
					t.Errorf("%s: %d of %s", user, n, kind)
				}
			}
			for i, n := range l.of(s.id) {
				if i != n {
					t.Errorf("%s: the hub heard %d in place of %d", user, n, i)
				}
			}
			if s.cuts.Load() == 0 {
				t.Errorf("%s: was never cut", user)
			}
		})
	}
	all.Wait()
}

// awaitGone waits until OnDisconnected has been called, and checks with what.
func (l *ledger) awaitGone(t *testing.T, want error) {
	t.Helper()
	await.Until(t, "OnDisconnected has been called", func() error {
		if len(l.left()) == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	if got := l.left(); len(got) != 1 || !errors.Is(got[0], want) {
		t.Errorf("OnDisconnected was told %v, want %v, once", got, want)
	}
}

// awaitAway waits until the hub knows that the client is away.
func (s *survivor) awaitAway(h *Hub) {
	s.t.Helper()
	await.Until(s.t, "the hub knows that the client is away", func() error {
		if c := h.registry.connection(s.id); c == nil || !c.out.away() {
			return errors.New("it does not")
		}
		return nil
	})
}

// leave breaks the socket and does not come back.
func (s *survivor) leave(h *Hub) {
	s.close()
	s.awaitAway(h)
}

func TestClientThatStaysAway(t *testing.T) {
	l := newLedger()
	h, address := serveStateful(t, l, WithDisconnectTimeout(time.Second), WithClientTimeoutInterval(50*time.Millisecond))
	s := survive(t, address, "user=ada", protocol.JSON, noFuse)
	s.send(&protocol.Invocation{InvocationID: "1", Target: "Join", Arguments: []any{"room"}})
	s.expect("answer1")
	s.mu.Lock()
	s.write(encode(t, s.protocol, &protocol.Ping{})) // so that it could be timed out, were it not away
	s.mu.Unlock()
	s.leave(h)
	await.Until(t, "it is counted", func() error {
		if n := testutil.ToFloat64(h.metrics.interrupted); n != 1 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	if found, err := h.ConnectionExists(t.Context(), s.id); !found || err != nil {
		t.Errorf("while it is away: %v, %v", found, err)
	}
	l.awaitGone(t, errNotResumed)
	if _, err := s.dial(); err == nil || err.Error() != "404 Not Found" {
		t.Errorf("afterwards: %v", err)
	}
}

// What is sent to a client that is away waits for it, up to the queue's bound.
func TestSlowConsumerWhileAway(t *testing.T) {
	l := newLedger()
	h, address := serveStateful(t, l, WithOutboundQueue(1000, 10))
	s := survive(t, address, "user=ada", protocol.JSON, noFuse)
	s.leave(h)
	for n := range 11 {
		if len(l.left()) > 0 {
			t.Fatalf("gone after %d messages", n)
		}
		if err := h.Clients().User("ada").Send(t.Context(), "Heard", n); err != nil {
			t.Fatal(err)
		}
	}
	l.awaitGone(t, errSlowConsumer)
	if n := testutil.ToFloat64(h.metrics.slowConsumers); n != 1 {
		t.Errorf("%v slow consumers", n)
	}
}

// A client that reads but acknowledges nothing is sent no more than is kept, and given
// up after some time. One that does is sent all.
func TestClientThatDoesNotAcknowledge(t *testing.T) {
	l := newLedger()
	h, address := serveStateful(t, l, WithStatefulReconnectBufferSize(200), WithDetailedErrors(), WithKeepAliveInterval(50*time.Millisecond))
	s := survive(t, address, "user=ada", protocol.JSON, noFuse)
	for n := range 20 {
		if err := h.Clients().User("ada").Send(t.Context(), "Heard", n); err != nil {
			t.Fatal(err)
		}
	}
	s.expect("Heard0", "Heard1", "Heard2", "Heard3", "Heard4") // of 44 bytes each
	s.acknowledge()
	s.expect("Heard5", "Heard6", "Heard7", "Heard8", "Heard9")
	s.cut() // which is no acknowledgement, but the client may say what it has
	s.send(say(1))
	for n := 10; n < 20; n++ {
		s.expect(fmt.Sprint("Heard", n))
		s.acknowledge()
	}
	s.expect("Heard1", "answer1")
	s.acknowledge()
	for n := range 20 {
		if err := h.Clients().User("ada").Send(t.Context(), "Heard", n); err != nil {
			t.Fatal(err)
		}
	}
	s.expect("Heard0", "Heard1", "Heard2", "Heard3", "Heard4",
		`close"Connection closed with an error. client does not acknowledge what is sent to it",true`)
	l.awaitGone(t, errNotAcknowledged)
	if testutil.ToFloat64(h.metrics.ackPauses) < 2 {
		t.Error("pauses were not counted")
	}
}

// A connection that the hub closes cannot be resumed.
func TestClosedConnectionIsNotResumed(t *testing.T) {
	for name, away := range map[string]bool{"while the client is there": false, "while it is away": true} {
		t.Run(name, func(t *testing.T) {
			l := newLedger()
			h, address := serveStateful(t, l)
			s := survive(t, address, "user=ada", protocol.MessagePack, noFuse)
			if away {
				s.leave(h)
			}
			if err := h.CloseUser(t.Context(), "ada", AllowReconnect()); err != nil {
				t.Fatal(err)
			}
			if !away {
				s.expect(`close"",true`)
			}
			l.awaitGone(t, nil)
			await.Until(t, "its place is given up", func() error {
				if _, err := s.dial(); err == nil || err.Error() != "404 Not Found" {
					return fmt.Errorf("attached again: %v", err)
				}
				return nil
			})
		})
	}
}

// A client cannot skip messages that it has not sent.
func TestSequenceBeyondWhatCame(t *testing.T) {
	l := newLedger()
	_, address := serveStateful(t, l, WithDetailedErrors())
	s := survive(t, address, "", protocol.JSON, noFuse)
	s.send(say(1))
	s.expect("Heard1", "answer1")
	s.mu.Lock()
	s.write(encode(t, s.protocol, &protocol.Sequence{SequenceID: 2})) // as it is
	s.write(encode(t, s.protocol, &protocol.Sequence{SequenceID: 1})) // message 1 comes again
	s.mu.Unlock()
	s.send(say(2))
	s.send(say(3))
	s.expect("Heard3", "answer3")
	s.mu.Lock()
	s.write(encode(t, s.protocol, &protocol.Sequence{SequenceID: 4}))
	s.mu.Unlock()
	s.expect(`close"Connection closed with an error. InvalidOperationException: Sequence ID greater than amount of messages we've received.",true`)
	l.awaitGone(t, errSequence)
	if got := l.of(s.id); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("the hub heard %v", got)
	}
}

// Without stateful reconnect Ack and Sequence mean nothing, whatever they say.
func TestUnsolicitedSequenceAndAck(t *testing.T) {
	_, address := serveStateful(t, newLedger())
	c := connect(t, address, "")
	c.write(`{"type":9,"sequenceId":100}`, `{"type":8,"sequenceId":100}`, `{"type":8,"sequenceId":0}`)
	if got := c.invokeSay(); got != `"result":7` {
		t.Errorf("got %s", got)
	}
}

func (c *client) invokeSay() string {
	id := c.start("Say", 7)
	c.expect(`{"type":1,"target":"Heard","arguments":[7]}`)
	return strings.TrimSuffix(strings.TrimPrefix(c.read(), `{"type":3,"invocationId":"`+id+`",`), "}")
}

// What a client began goes on while it is away, and what it asked is answered.
func TestOperationsWhileAway(t *testing.T) {
	l := newLedger()
	h, address := serveStateful(t, l)
	s := survive(t, address, "user=ada", protocol.JSON, noFuse)
	s.send(&protocol.Invocation{InvocationID: "wait", Target: "Wait"})
	<-l.began
	s.leave(h)
	if err := h.Groups().Add(t.Context(), s.id, "room"); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() { // ends when the client has answered
		n, err := Invoke[int](t.Context(), h.Clients().Client(s.id), "Heard", 1)
		if err == nil && n != 42 {
			err = fmt.Errorf("answered %d", n)
		}
		asked <- err
	}()
	await.Until(t, "it is asked", func() error {
		h.results.mu.Lock()
		defer h.results.mu.Unlock()
		if len(h.results.pending) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	if err := h.Clients().Group("room").Send(t.Context(), "Heard", 2); err != nil {
		t.Fatal(err)
	}
	close(l.hold)

	again := &survivor{
		t: t, protocol: s.protocol, nodes: s.nodes, query: s.query, id: s.id, fuse: noFuse,
		messages: make(chan protocol.Message, 100), ended: make(chan struct{}), unacked: s.unacked,
	}
	again.cuts.Store(1)
	if err := again.resume(); err != nil {
		t.Fatal(err)
	}
	go again.run(nil)
	t.Cleanup(again.close)
	seen := map[string]bool{}
	for range 3 {
		m := <-again.messages
		seen[again.short(m)] = true
		if i, ok := m.(*protocol.Invocation); ok && i.InvocationID != "" {
			again.send(&protocol.Completion{InvocationID: i.InvocationID, HasResult: true, Result: 42})
		}
	}
	for _, want := range []string{"Heard1", "Heard2", "answerwait"} {
		if !seen[want] {
			t.Errorf("%s has not come: %v", want, seen)
		}
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
}

// Streams, either way, go on over another socket where they were interrupted.
func TestStreamsAcrossCuts(t *testing.T) {
	const items = 3000
	_, address := serveStateful(t, newLedger())
	for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
		t.Run(p.Name(), func(t *testing.T) {
			s := survive(t, address, "", p, noFuse)
			s.send(&protocol.StreamInvocation{Invocation: protocol.Invocation{InvocationID: "down", Target: "Count", Arguments: []any{items}}})
			s.send(&protocol.Invocation{InvocationID: "up", Target: "Add", StreamIDs: []string{"s"}})
			var sending sync.WaitGroup
			sending.Go(func() {
				for i := range items {
					s.send(&protocol.StreamItem{InvocationID: "s", Item: i})
					if i%100 == 50 {
						s.cut()
					}
				}
				s.send(&protocol.Completion{InvocationID: "s"})
			})
			next, ended := 0, 0
			for ended < 2 {
				select {
				case m := <-s.messages:
					switch m := m.(type) {
					case *protocol.StreamItem:
						var i int
						if err := p.BindValue(m.RawItem, &i); err != nil || i != next {
							t.Fatalf("item %d, %v, in place of %d", i, err, next)
						}
						if next++; next%100 == 0 {
							s.acknowledge()
						}
					case *protocol.Completion:
						ended++
						var sum int
						if m.InvocationID == "down" && (m.HasError || next != items) {
							t.Errorf("the stream ended after %d items: %q", next, m.Error)
						}
						if m.InvocationID == "up" && (p.BindValue(m.RawResult, &sum) != nil || sum != items*(items-1)/2) {
							t.Errorf("the items of the upload make %d: %q", sum, m.Error)
						}
					}
				case <-time.After(await.Deadline):
					t.Fatalf("nothing comes after %d items", next)
				case <-s.ended:
					t.Fatalf("ended after %d items: %v", next, s.err)
				}
			}
			sending.Wait()
			if s.cuts.Load() == 0 {
				t.Error("was never cut")
			}
		})
	}
}
