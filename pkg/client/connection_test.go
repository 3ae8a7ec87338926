package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// Frames need not match the WebSocket's messages.
func TestFramesInPieces(t *testing.T) {
	const large = 1 << 20
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		for _, size := range []int{1, 7, 5000, 100_000, 10 << 20} {
			t.Run(fmt.Sprint(size), func(t *testing.T) {
				s := script(t, proto, nil)
				s.silent = true
				s.greeting = func(p *peer) {
					data := protocol.AppendHandshakeResponse(nil, "")
					texts := []string{"a", strings.Repeat("b", 3000), "", "c"}
					if size > 1000 {
						texts = append(texts, strings.Repeat("d", large), "e")
					}
					for _, text := range texts {
						var err error
						if data, err = proto.Append(data, &protocol.Invocation{Target: "take", Arguments: []any{text}}); err != nil {
							t.Error(err)
						}
					}
					for len(data) > 0 {
						n := min(size, len(data))
						p.write(data[:n])
						data = data[n:]
					}
				}
				c, err := s.dial()
				got := make(chan string, 10)
				mustOn(t, c, "take", func(text string) { got <- fmt.Sprint(text[:min(len(text), 1)], len(text)) })
				started(t, c, err)
				want := []string{"a1", "b3000", "0", "c1"}
				if size > 1000 {
					want = append(want, fmt.Sprint("d", large), "e1")
				}
				for _, w := range want {
					if g := receive(t, w, got); g != w {
						t.Errorf("got %s, want %s", g, w)
					}
				}
			})
		}
	})
}

func TestMaximumReceiveMessageSize(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		const limit = 1000
		s := script(t, proto, func(p *peer) {
			small := &protocol.Invocation{Target: "take", Arguments: []any{strings.Repeat("x", 400)}}
			p.send(small, small, small, small) // together they may be larger
			expect[*protocol.Invocation](p)
			p.send(&protocol.Invocation{Target: "take", Arguments: []any{strings.Repeat("x", limit)}})
			p.drain()
		})
		c, err := s.dial(WithMaximumReceiveMessageSize(limit))
		got := make(chan string, 10)
		mustOn(t, c, "take", func(text string) { got <- text })
		started(t, c, err)
		for range 4 {
			receive(t, "a message", got)
		}
		if err := c.Send(t.Context(), "Continue"); err != nil {
			t.Fatal(err)
		}
		receive(t, "the end", c.Done())
		if _, ok := errors.AsType[*protocol.Error](c.Err()); !ok || len(got) != 0 {
			t.Errorf("ended with %v, %d messages", c.Err(), len(got))
		}
	})
}

// A message that the protocol does not allow ends the connection.
func TestMalformedMessage(t *testing.T) {
	s := script(t, protocol.JSON, func(p *peer) {
		p.write([]byte(`{"type":1}` + "\x1e"))
		p.drain()
	})
	c := s.start()
	receive(t, "the end", c.Done())
	if _, ok := errors.AsType[*protocol.Error](c.Err()); !ok {
		t.Errorf("ended with %v", c.Err())
	}
}

func TestHandshakeAnswers(t *testing.T) {
	for _, tt := range []struct{ name, answer string }{
		{"another message", `{"type":6}` + "\x1e"},
		{"no JSON", "hello\x1e"},
		{"too large", strings.Repeat("x", 2000)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := script(t, protocol.JSON, nil)
			s.silent = true
			s.greeting = func(p *peer) { p.write([]byte(tt.answer)) }
			c, err := s.dial(WithMaximumReceiveMessageSize(1000))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Start(t.Context())
			if _, ok := errors.AsType[*protocol.Error](err); !ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The close frame alone ends a connection, like any loss.
func TestCloseFrame(t *testing.T) {
	s := script(t, protocol.JSON, func(p *peer) {
		p.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, ""))
		p.drain()
	})
	c := s.start()
	receive(t, "the end", c.Done())
	if !websocket.IsCloseError(errors.Unwrap(fmt.Errorf("%w", c.Err())), websocket.CloseGoingAway) {
		t.Errorf("ended with %v", c.Err())
	}
}

// What a call got is its own, whatever comes after it.
func TestResultIsKept(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		s := script(t, proto, func(p *peer) {
			m := expect[*protocol.Invocation](p)
			p.send(&protocol.Completion{InvocationID: m.InvocationID, HasResult: true, Result: "result"})
			p.send(&protocol.Invocation{Target: "overwrite", Arguments: []any{strings.Repeat("x", 100)}})
			p.drain()
		})
		c, err := s.dial()
		overwritten := make(chan struct{})
		mustOn(t, c, "overwrite", func(string) { close(overwritten) })
		started(t, c, err)
		call, err := c.begin(t.Context(), "Method", nil, false)
		if err != nil {
			t.Fatal(err)
		}
		receive(t, "the second message", overwritten)
		completion, _, err := call.wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		call.end()
		var got string
		if err := proto.BindValue(completion.RawResult, &got); got != "result" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// An item that comes while its call is being given up takes no room.
func TestItemOfACallThatEnds(t *testing.T) {
	s := script(t, protocol.JSON, (*peer).drain)
	c := s.start()
	call, err := c.begin(t.Context(), "Method", nil, true)
	if err != nil {
		t.Fatal(err)
	}
	call.answers.drain()
	if err := call.conn.queueItem(&protocol.StreamItem{InvocationID: call.id, RawItem: []byte("1")}); err != nil {
		t.Error(err)
	}
	call.end()
	assertIdle(t, c)
}

// A connWithoutWrites fails to write once it is broken.
type connWithoutWrites struct {
	net.Conn
	broken *atomic.Bool
}

func (c connWithoutWrites) Write(b []byte) (int, error) {
	if c.broken.Load() {
		return 0, errors.New("broken pipe")
	}
	return c.Conn.Write(b)
}

// When writing fails, what the server said before it went is still heeded, but not waited
// for very long.
func TestWriteFails(t *testing.T) {
	for _, says := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := script(t, protocol.JSON, func(p *peer) {
				ended := p.drained()
				time.Sleep(time.Second)
				if says {
					p.send(&protocol.Close{Error: "told"})
				}
				<-ended
			})
			c, err := s.dial()
			var broken atomic.Bool
			dial := c.dialer.NetDialContext
			c.dialer.NetDialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := dial(ctx, network, address)
				return connWithoutWrites{conn, &broken}, err
			}
			started(t, c, err)
			synctest.Wait()
			broken.Store(true)
			start := time.Now()
			if err := c.Send(t.Context(), "Method"); err != nil {
				t.Error(err)
			}
			<-c.Done()
			want := 5
			if says {
				want = 1
			}
			if got := since(t, start); got != want {
				t.Errorf("ended after %d s, want %d", got, want)
			}
			if _, told := errors.AsType[*Error](c.Err()); told != says || c.Err() == nil {
				t.Errorf("ended with %v", c.Err())
			}
		})
	}
}

// Nothing is taken for a connection that has ended.
func TestSendAfterTheEnd(t *testing.T) {
	s := script(t, protocol.JSON, (*peer).drain)
	c := s.start()
	conn, err := c.connected()
	if err != nil {
		t.Fatal(err)
	}
	conn.end(errors.New("reason"))
	for range 100 {
		if err := conn.send(t.Context(), &protocol.Ping{}); !errors.Is(err, ErrNotConnected) {
			t.Fatalf("got %v", err)
		}
	}
	if err := conn.remember(&call{}); !errors.Is(err, ErrNotConnected) {
		t.Errorf("got %v", err)
	}
	if conn.spawn(func() {}) {
		t.Error("a goroutine was started")
	}
}
