package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/pkg/protocol"
)

func TestOnRefusesWhatCannotBeCalled(t *testing.T) {
	c, err := New("http://host")
	if err != nil {
		t.Fatal(err)
	}
	for what, f := range map[string]any{
		"nil":                   nil,
		"no function":           1,
		"nil function":          (func())(nil),
		"variadic":              func(...string) {},
		"channel parameter":     func(chan int) {},
		"function parameter":    func(context.Context, func()) {},
		"context not first":     func(int, context.Context) {},
		"interface with method": func(fmt.Stringer) {},
		"two values":            func() (int, int) { return 0, 0 },
		"three results":         func() (int, int, error) { return 0, 0, nil },
		"two errors":            func() (error, error) { return nil, nil },
		"channel result":        func() chan int { return nil },
	} {
		if err := c.On("method", f); err == nil {
			t.Errorf("%s accepted", what)
		}
	}
	for what, f := range map[string]any{
		"nothing":  func() {},
		"context":  func(context.Context) {},
		"raw":      func(protocol.Raw) protocol.Raw { return protocol.Raw{} },
		"anything": func(any) (any, error) { return nil, nil },
		"error":    func(context.Context, []string, map[string]int, *note) error { return nil },
	} {
		if err := c.On(what, f); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := c.On("NOTHING", func() {}); err == nil {
		t.Error("two handlers for one method")
	}
}

// The server gets a result, or the text that says why there is none.
func TestClientResults(t *testing.T) {
	handlers := map[string]any{
		"Add":         func(a, b int) int { return a + b },
		"Context":     func(ctx context.Context, n *note) (string, error) { return n.Text, ctx.Err() },
		"Fail":        func() (int, error) { return 1, errors.New("broken") },
		"Void":        func() {},
		"VoidError":   func() error { return nil },
		"Nil":         func() *note { return nil },
		"Unencodable": func() any { return complex(1, 2) },
		"Panic":       func() (int, error) { panic("secret") },
	}
	for _, tt := range []struct {
		target    string
		arguments []any
		result    any
		err       string // a prefix
	}{
		{"Add", []any{40, 2}, 42, ""},
		{"aDD", []any{40, 2}, 42, ""},
		{"Context", []any{note{Text: "x"}}, "x", ""},
		{"Nil", nil, nil, ""},
		{"Fail", nil, nil, "broken"},
		{"Void", nil, nil, "Client didn't provide a result."},
		{"VoidError", nil, nil, "Client didn't provide a result."},
		{"Nope", nil, nil, "Client didn't provide a result."},
		{"Add", []any{1}, nil, "Client failed to parse argument(s)."},
		{"Add", []any{1, "x"}, nil, "Client failed to parse argument(s)."},
		{"Unencodable", nil, nil, "encode result: "},
		{"Panic", nil, nil, "Client handler panicked."},
	} {
		t.Run(tt.target, func(t *testing.T) {
			inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
				answers := make(chan *protocol.Completion, 1)
				s := script(t, proto, func(p *peer) {
					// Without an id, so without an answer.
					p.send(&protocol.Invocation{Target: tt.target, Arguments: tt.arguments})
					p.send(&protocol.Invocation{InvocationID: "s1", Target: tt.target, Arguments: tt.arguments})
					answers <- expect[*protocol.Completion](p)
					p.drain()
				})
				c, err := s.dial()
				for method, f := range handlers {
					mustOn(t, c, method, f)
				}
				started(t, c, err)
				got := receive(t, "the answer", answers)
				if got.InvocationID != "s1" || !strings.HasPrefix(got.Error, tt.err) || (got.Error == "") != (tt.err == "") {
					t.Fatalf("got %+v", got)
				}
				if tt.err != "" {
					return
				}
				var result any
				if err := proto.BindValue(got.RawResult, &result); err != nil || fmt.Sprint(result) != fmt.Sprint(tt.result) {
					t.Errorf("result %v, %v", result, err)
				}
			})
		})
	}
}

// A handler may call the hub, and answers pass invocations that wait for it.
func TestHandlerInvokes(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		s := script(t, proto, func(p *peer) {
			for range 100 {
				p.send(&protocol.Invocation{Target: "ask"})
			}
			for range 100 {
				m := expect[*protocol.Invocation](p)
				p.send(&protocol.Completion{InvocationID: m.InvocationID, HasResult: true, Result: 1})
			}
			p.drain()
		})
		c, err := s.dial()
		results := make(chan error, 100)
		running := 0
		mustOn(t, c, "ask", func(ctx context.Context) {
			if running++; running > 1 {
				t.Error("two handlers at once")
			}
			defer func() { running-- }()
			results <- second(Invoke[int](ctx, c, "Answer"))
		})
		started(t, c, err)
		for range 100 {
			if err := receive(t, "an answer", results); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestHandlerCloses(t *testing.T) {
	s := script(t, protocol.JSON, func(p *peer) {
		p.send(&protocol.Invocation{Target: "bye"}, &protocol.Invocation{Target: "late"})
		p.drain()
	})
	c, err := s.dial()
	mustOn(t, c, "bye", func(ctx context.Context) {
		c.Close()
		if ctx.Err() == nil {
			t.Error("the context goes on")
		}
	})
	mustOn(t, c, "late", func() { t.Error("handled after Close") })
	started(t, c, err)
	receive(t, "the end", c.Done())
}

// What the server does not learn is logged, and what it does is not.
func TestFailuresAreLogged(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		s := script(t, proto, func(p *peer) {
			for _, id := range []string{"", "s1"} {
				p.send(
					&protocol.Invocation{InvocationID: id, Target: "fail"},
					&protocol.Invocation{InvocationID: id, Target: "unknown"},
					&protocol.Invocation{InvocationID: id, Target: "fail", Arguments: []any{"secret"}},
				)
			}
			p.send(&protocol.Close{})
			p.drain()
		})
		var log bytes.Buffer
		c, err := s.dial(WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		mustOn(t, c, "fail", func() error { return errors.New("broken") })
		started(t, c, err)
		receive(t, "the end", c.Done())
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		for i, want := range []string{"method=fail error=broken", "method=unknown error=\"there is no handler\"", "method=fail error="} {
			if len(lines) != 3 || !strings.Contains(lines[i], want) || strings.Contains(lines[i], "secret") {
				t.Fatalf("logged %q", lines)
			}
		}
	})
}
