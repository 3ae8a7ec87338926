package hub

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// leaky is a hub whose clients abandon what they began.
type leaky struct {
	streamer
	asker
}

func newLeaky() *leaky { return &leaky{streamer: streamer{ended: make(chan error, 1000)}} }

func (l *leaky) OnConnected(context.Context, *Caller) error { return nil }

func (l *leaky) Expire(ctx context.Context, c *Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group, Until(time.Now().Add(20*time.Millisecond)))
}

func (l *leaky) Extend(ctx context.Context, c *Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group, Until(time.Now().Add(time.Hour)))
}

func (l *leaky) Leave(ctx context.Context, c *Caller, group string) error {
	return c.Groups().Remove(ctx, c.ConnectionID(), group)
}

// AskTwice asks, gives up, and streams what it knows.
func (l *leaky) AskTwice(ctx context.Context, c *Caller) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for range 2 {
			if n, err := l.AskInVain(ctx, c); !yield(n, err) || err != nil {
				return
			}
		}
	}
}

// An abandonment is something that a client begins, and how it ends while the client
// stays. Where it may also go at once, nothing of it may stay either.
type abandonment struct {
	name  string
	begin []protocol.Message
	end   []protocol.Message
	// answers is how many completions the client gets of it.
	answers int
}

func abandonments() []abandonment {
	call := func(target string, arguments ...any) *protocol.Invocation {
		return &protocol.Invocation{InvocationID: "1", Target: target, Arguments: arguments}
	}
	stream := func(target string, arguments ...any) *protocol.StreamInvocation {
		return &protocol.StreamInvocation{Invocation: *call(target, arguments...)}
	}
	with := func(m *protocol.Invocation, streams ...string) *protocol.Invocation {
		m.StreamIDs = streams
		return m
	}
	item := func(v any) protocol.Message { return &protocol.StreamItem{InvocationID: "s", Item: v} }
	ended := &protocol.Completion{InvocationID: "s"}
	broken := &protocol.Completion{InvocationID: "s", HasError: true, Error: "oops"}
	cancel := &protocol.CancelInvocation{InvocationID: "1"}
	return []abandonment{
		{"stream that is canceled", []protocol.Message{stream("Wait")}, []protocol.Message{cancel}, 1},
		{"stream of which nobody takes more", []protocol.Message{stream("Endless", strings.Repeat("x", 1000))}, []protocol.Message{cancel}, 1},
		{"stream that is canceled and does not look", []protocol.Message{stream("Heedless")}, []protocol.Message{cancel}, 1},
		{"channel that is canceled", []protocol.Message{stream("Channel", 1_000_000)}, []protocol.Message{cancel}, 1},
		{"stream that fails", []protocol.Message{stream("CountThenFail", 3, false)}, nil, 1},
		{"stream that panics", []protocol.Message{stream("CountThenPanic", 3)}, nil, 1},
		{"upload that ends", []protocol.Message{with(call("Sum", 0), "s"), item(1)}, []protocol.Message{ended}, 1},
		{"upload that breaks", []protocol.Message{with(call("Sum", 0), "s"), item(1)}, []protocol.Message{broken}, 1},
		{"upload of the wrong items", []protocol.Message{with(call("Sum", 0), "s"), item(1)}, []protocol.Message{item("x"), item(2), ended}, 1},
		{"upload that the method leaves", []protocol.Message{with(call("First"), "s"), item(1), item(2)}, []protocol.Message{item(3), ended}, 1},
		{"upload whose invocation is canceled", []protocol.Message{with(call("ReadAll"), "s"), item(1)}, []protocol.Message{cancel, item(2)}, 1},
		{"uploads into a stream that is canceled", []protocol.Message{
			&protocol.StreamInvocation{Invocation: *with(call("Zip", "-"), "s", "t")}, item(1), item(2), item(3),
		}, []protocol.Message{cancel, ended}, 1},
		{"question that is not answered", []protocol.Message{call("AskInVain")}, nil, 1},
		{"question that is not answered, in a stream", []protocol.Message{stream("AskTwice")}, nil, 1},
		{"question that is canceled", []protocol.Message{call("AskMe", "colour?")}, []protocol.Message{cancel}, 1},
		{"membership that expires", []protocol.Message{call("Expire", "room")}, nil, 1},
		{"membership that is extended, and ended", []protocol.Message{call("Extend", "room"), call("Extend", "room"), call("Leave", "room")}, nil, 3},
		{"invocation of nothing", []protocol.Message{with(call("Nope"), "s"), item(1)}, []protocol.Message{ended}, 1},
	}
}

// idleWorkers are the hub's, and a bounded number.
var idleWorkers = goleak.IgnoreTopFunction("github.com/heliograph/heliograph/pkg/hub.(*work).serve")

// Nothing stays of what has ended, while the connection goes on.
func TestNothingStaysWithTheConnection(t *testing.T) {
	for _, a := range abandonments() {
		for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
			t.Run(a.name+"/"+p.Name(), func(t *testing.T) {
				h, address := serve(t, newLeaky())
				s := speak(t, address, p)
				s.invoke("ID")
				idle := goleak.IgnoreCurrent()
				for range 5 {
					for _, m := range append(a.begin, a.end...) {
						s.write(encoded(p, m))
					}
					for answers := 0; answers < a.answers; {
						if m, ok := s.read().(*protocol.Completion); ok && m.InvocationID == "1" {
							answers++
						}
					}
				}
				s.invoke("ID") // is alive
				await.Until(t, "nothing is left", func() error { return leftOf(h, true) })
				if err := goleak.Find(idle, idleWorkers); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// Nothing stays of what was going on when the connection broke.
func TestNothingStaysOfTheConnection(t *testing.T) {
	for _, a := range abandonments() {
		for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
			t.Run(a.name+"/"+p.Name(), func(t *testing.T) {
				h, address := serve(t, newLeaky())
				s := speak(t, address, p)
				s.invoke("ID") // and with it the HTTP server has begun
				s.conn.Close()
				await.Until(t, "the connection is gone", func() error { return leftOf(h, false) })
				idle := goleak.IgnoreCurrent()
				for range 5 {
					s := speak(t, address, p)
					for _, m := range a.begin {
						s.write(encoded(p, m))
					}
					s.invoke("ID") // so it has all been read
					s.conn.Close()
				}
				await.Until(t, "the connections are gone", func() error { return leftOf(h, false) })
				if err := goleak.Find(idle, idleWorkers); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// invoke waits for the completion, whatever comes before.
func (s *speaker) invoke(target string) {
	s.t.Helper()
	s.write(encoded(s.protocol, &protocol.Invocation{InvocationID: "invoke", Target: target}))
	for {
		if m, ok := s.read().(*protocol.Completion); ok && m.InvocationID == "invoke" {
			return
		}
	}
}

// leftOf says what there is besides connections that do nothing, or, if idle is not
// set, besides nothing.
func leftOf(h *Hub, idle bool) error {
	var all []*connection
	h.registry.each(func(c *connection) { all = append(all, c) })
	if channels := h.registry.channels(); channels > 0 || !idle && len(all) > 0 {
		return fmt.Errorf("%d connections, %d channels", len(all), channels)
	}
	return h.left(all)
}

// left says what there is besides the connections and their names.
func (h *Hub) left(all []*connection) error {
	h.results.mu.Lock()
	answers := len(h.results.pending)
	h.results.mu.Unlock()
	h.operations.mu.Lock()
	operations := len(h.operations.pending)
	h.operations.mu.Unlock()
	h.holdings.mu.Lock()
	held := len(h.holdings.held)
	h.holdings.mu.Unlock()
	if answers+operations+held > 0 {
		return fmt.Errorf("%d answers, %d operations awaited; %d held", answers, operations, held)
	}
	for _, c := range all {
		if err := c.left(); err != nil {
			return err
		}
	}
	return nil
}

// left says what a connection has besides its name.
func (c *connection) left() error {
	for what, n := range c.holds() {
		if n != 0 {
			return fmt.Errorf("connection has %d %s", n, what)
		}
	}
	return nil
}

func (c *connection) holds() map[string]int {
	c.invocations.mu.Lock()
	defer c.invocations.mu.Unlock()
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	c.waiting.mu.Lock()
	defer c.waiting.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	return map[string]int{
		"invocations waiting": len(c.invocations.waiting),
		"permits in use":      c.invocations.taken,
		"invocations":         len(c.calls.invocations),
		"uploads":             len(c.calls.uploads),
		"streams":             c.calls.streams,
		"bytes of input":      c.waiting.used,
		"memberships":         len(c.groups),
		"joins":               len(c.joinings),
	}
}
