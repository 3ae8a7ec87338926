package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// count streams the numbers below the invocation's argument.
func count(p *peer, m *protocol.StreamInvocation) {
	var n int
	arguments(p, &m.Invocation, &n)
	for i := range n {
		p.send(&protocol.StreamItem{InvocationID: m.InvocationID, Item: i})
	}
}

func TestStream(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		s := script(t, proto, func(p *peer) {
			for range 2 {
				m := expect[*protocol.StreamInvocation](p)
				if m.Target != "Count" || m.InvocationID == "" {
					t.Errorf("got %+v", m)
				}
				count(p, m)
				p.send(&protocol.Completion{InvocationID: m.InvocationID})
			}
			p.drain()
		})
		c := s.start()
		numbers := Stream[int](t.Context(), c, "Count", 500)
		for range 2 { // every loop invokes the method
			var got []int
			for n, err := range numbers {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, n)
			}
			if len(got) != 500 || !slices.IsSorted(got) {
				t.Errorf("got %v", got)
			}
		}
		assertIdle(t, c)
	})
}

// assertIdle fails the test if calls left something behind.
func assertIdle(t *testing.T, c *Client) {
	t.Helper()
	conn, err := c.connected()
	if err != nil {
		t.Fatal(err)
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	if n := len(conn.calls); n != 0 {
		t.Errorf("%d calls are left", n)
	}
	c.waiting.mu.Lock()
	defer c.waiting.mu.Unlock()
	if c.waiting.used != 0 {
		t.Errorf("%d bytes are still waiting", c.waiting.used)
	}
}

func TestStreamEndsWithAnError(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer func(p *peer, id string)
		check  func(error) bool
		cancel bool // the server is told to stop
	}{{
		name: "the server's",
		answer: func(p *peer, id string) {
			p.send(&protocol.Completion{InvocationID: id, Error: "told"})
		},
		check: func(err error) bool {
			told, ok := errors.AsType[*Error](err)
			return ok && told.Message == "told"
		},
	}, {
		name: "an item of another type",
		answer: func(p *peer, id string) {
			p.send(&protocol.StreamItem{InvocationID: id, Item: "text"})
		},
		check: func(err error) bool {
			_, ok := errors.AsType[*protocol.Error](err)
			return ok
		},
		cancel: true,
	}, {
		name:   "the connection is lost",
		answer: func(p *peer, _ string) { p.conn.Close() },
		check:  func(err error) bool { return errors.Is(err, ErrConnectionLost) },
	}} {
		t.Run(tt.name, func(t *testing.T) {
			inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
				s := script(t, proto, func(p *peer) {
					m := expect[*protocol.StreamInvocation](p)
					count(p, m)
					tt.answer(p, m.InvocationID)
					if tt.cancel {
						if got := expect[*protocol.CancelInvocation](p); got.InvocationID != m.InvocationID {
							t.Errorf("got %+v", got)
						}
					}
					p.drain()
				})
				c := s.start()
				var items int
				var last error
				for _, err := range Stream[int](t.Context(), c, "Count", 3) {
					if last != nil {
						t.Error("goes on after an error")
					}
					if last = err; err == nil {
						items++
					}
				}
				if items != 3 || !tt.check(last) {
					t.Errorf("%d items, then %v", items, last)
				}
			})
		})
	}
}

// Leaving the loop, and the end of the context, tell the server to stop, and later items
// do no harm.
func TestStreamIsCancelled(t *testing.T) {
	for _, leave := range []bool{true, false} {
		inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
			s := script(t, proto, func(p *peer) {
				m := expect[*protocol.StreamInvocation](p)
				count(p, m)
				if got := expect[*protocol.CancelInvocation](p); got.InvocationID != m.InvocationID {
					t.Errorf("got %+v", got)
				}
				count(p, m)
				p.send(&protocol.Completion{InvocationID: m.InvocationID})
				invoked := expect[*protocol.Invocation](p)
				p.send(&protocol.Completion{InvocationID: invoked.InvocationID})
				p.drain()
			})
			c := s.start()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var last error
			items := 0
			for _, err := range Stream[int](ctx, c, "Count", 10) {
				if last = err; err != nil {
					break
				}
				if items++; items == 5 {
					if leave {
						break
					}
					cancel()
				}
			}
			if want := (error)(nil); leave && !errors.Is(last, want) || !leave && !errors.Is(last, context.Canceled) {
				t.Errorf("ended with %v", last)
			}
			if items != 5 {
				t.Errorf("%d items", items)
			}
			if err := c.Invoke(t.Context(), "After"); err != nil {
				t.Error(err)
			}
			assertIdle(t, c)
		})
	}
}

// Items that a loop leaves behind take no room.
func TestStreamIsLeftWithItemsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, protocol.JSON, func(p *peer) {
			count(p, expect[*protocol.StreamInvocation](p))
			p.drain()
		})
		c := s.start()
		for range Stream[int](t.Context(), c, "Count", 10) {
			synctest.Wait()
			if c.waiting.used == 0 {
				t.Error("nothing waits")
			}
			break
		}
		assertIdle(t, c)
	})
}

// A call that nobody waits for any more is cancelled, and its answer dropped.
func TestInvokeIsCancelled(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := script(t, proto, func(p *peer) {
			m := expect[*protocol.Invocation](p)
			cancel()
			if got := expect[*protocol.CancelInvocation](p); got.InvocationID != m.InvocationID {
				t.Errorf("got %+v", got)
			}
			p.send(&protocol.Completion{InvocationID: m.InvocationID, HasResult: true, Result: "late"})
			m = expect[*protocol.Invocation](p)
			p.send(&protocol.Completion{InvocationID: m.InvocationID, HasResult: true, Result: "in time"})
			p.drain()
		})
		c := s.start()
		if err := c.Invoke(ctx, "Slow"); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if v, err := Invoke[string](t.Context(), c, "Fast"); v != "in time" || err != nil {
			t.Errorf("got %q, %v", v, err)
		}
		assertIdle(t, c)
	})
}

// Answers find their calls in whatever order they come.
func TestInvokeConcurrently(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		const calls = 50
		s := script(t, proto, func(p *peer) {
			var answers []protocol.Message
			for range calls {
				m := expect[*protocol.Invocation](p)
				var n int
				arguments(p, m, &n)
				answers = append(answers, &protocol.Completion{InvocationID: m.InvocationID, HasResult: true, Result: n})
			}
			slices.Reverse(answers)
			p.send(answers...)
			p.drain()
		})
		c := s.start()
		results := make(chan error)
		for i := range calls {
			go func() {
				n, err := Invoke[int](t.Context(), c, "Identity", i)
				if err == nil && n != i {
					err = errors.New("got another call's answer")
				}
				results <- err
			}()
		}
		for range calls {
			if err := receive(t, "an answer", results); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestInvokeOfAMethodThatStreams(t *testing.T) {
	s := script(t, protocol.JSON, func(p *peer) {
		m := expect[*protocol.Invocation](p)
		p.send(&protocol.StreamItem{InvocationID: m.InvocationID, Item: 1})
		expect[*protocol.CancelInvocation](p)
		p.drain()
	})
	c := s.start()
	if n, err := Invoke[int](t.Context(), c, "Streams"); err == nil {
		t.Errorf("got %d", n)
	}
	assertIdle(t, c)
}

// Messages that mean nothing to a client are ignored.
func TestUselessMessages(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		s := script(t, proto, func(p *peer) {
			m := expect[*protocol.Invocation](p)
			p.send(
				&protocol.Ping{},
				&protocol.Ack{SequenceID: 1},
				&protocol.Sequence{SequenceID: 1},
				&protocol.StreamItem{InvocationID: "unknown", Item: 1},
				&protocol.Completion{InvocationID: "unknown"},
				&protocol.CancelInvocation{InvocationID: m.InvocationID},
				&protocol.StreamInvocation{Invocation: protocol.Invocation{InvocationID: "1", Target: "x"}},
				&protocol.Completion{InvocationID: m.InvocationID},
			)
			p.drain()
		})
		c := s.start()
		if err := c.Invoke(t.Context(), "Method"); err != nil {
			t.Error(err)
		}
	})
}
