package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// uploaded reads the streams of an invocation until all have ended, and returns their
// items, and the error that each ended with.
func uploaded[T any](p *peer, m *protocol.Invocation) (items map[string][]T, ends map[string]string) {
	items, ends = make(map[string][]T), make(map[string]string)
	for len(ends) < len(m.StreamIDs) {
		switch m := p.next().(type) {
		case *protocol.StreamItem:
			items[m.InvocationID] = append(items[m.InvocationID], item[T](p, m))
		case *protocol.Completion:
			if m.HasResult {
				p.t.Error("a stream ended with a result")
			}
			ends[m.InvocationID] = m.Error
		default:
			p.t.Errorf("got %#v", m)
			return items, ends
		}
	}
	return items, ends
}

// numbers is the sequence of the numbers below n, and then of the error if there is one.
func numbers(n int, err error) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
		if err != nil {
			yield(0, err)
		}
	}
}

// Channels and sequences are uploads, in their order, wherever they stand.
func TestUploads(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		serve := func(p *peer, m *protocol.Invocation) string {
			var a, b string
			arguments(p, m, &a, &b)
			items, ends := uploaded[int](p, m)
			text := a + b
			for _, id := range m.StreamIDs {
				text += fmt.Sprint(items[id], ends[id])
			}
			return text
		}
		sent := make(chan string, 1)
		s := script(t, proto, func(p *peer) {
			m := expect[*protocol.Invocation](p)
			p.send(&protocol.Completion{InvocationID: m.InvocationID, HasResult: true, Result: serve(p, m)})

			streaming := expect[*protocol.StreamInvocation](p)
			p.send(&protocol.StreamItem{InvocationID: streaming.InvocationID, Item: serve(p, &streaming.Invocation)})
			p.send(&protocol.Completion{InvocationID: streaming.InvocationID})

			m = expect[*protocol.Invocation](p)
			if m.InvocationID != "" {
				t.Error("Send wants an answer")
			}
			sent <- serve(p, m)
			p.drain()
		})
		c := s.start()
		args := func() []any {
			channel := make(chan int, 3)
			for i := range 3 {
				channel <- i
			}
			close(channel)
			return []any{"a", (<-chan int)(channel), "b", slices.Values([]int{7, 8}), numbers(2, nil), numbers(1, errors.New("broken"))}
		}
		const want = "ab[0 1 2][7 8][0 1][0]broken"
		if got, err := Invoke[string](t.Context(), c, "Upload", args()...); got != want || err != nil {
			t.Errorf("Invoke: %q, %v", got, err)
		}
		for got, err := range Stream[string](t.Context(), c, "Upload", args()...) {
			if got != want || err != nil {
				t.Errorf("Stream: %q, %v", got, err)
			}
		}
		if err := c.Send(t.Context(), "Upload", args()...); err != nil {
			t.Error(err)
		}
		if got := receive(t, "what Send uploads", sent); got != want {
			t.Errorf("Send: %q", got)
		}
		assertIdle(t, c)
	})
}

// An upload that is longer than the call stops with it, and the server gets no more.
func TestUploadStopsWithTheAnswer(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		s := script(t, proto, func(p *peer) {
			m := expect[*protocol.Invocation](p)
			expect[*protocol.StreamItem](p)
			p.send(&protocol.Completion{InvocationID: m.InvocationID})
			for {
				switch m := p.next().(type) {
				case *protocol.StreamItem:
					continue // on its way already
				case *protocol.Invocation:
					p.send(&protocol.Completion{InvocationID: m.InvocationID})
					p.drain()
					return
				default:
					t.Errorf("got %#v", m)
					return
				}
			}
		})
		c := s.start()
		stopped := make(chan struct{})
		endless := func(yield func(int) bool) {
			defer close(stopped)
			for yield(1) {
			}
		}
		if err := c.Invoke(t.Context(), "First", iter.Seq[int](endless)); err != nil {
			t.Error(err)
		}
		receive(t, "the end of the sequence", stopped)
		if err := c.Invoke(t.Context(), "Second"); err != nil {
			t.Error(err)
		}
	})
}

// When the call's context ends, the streams end with an error.
func TestUploadIsCancelled(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		const invoke, send = "Invoke", "Send"
		for _, kind := range []string{invoke, send} {
			seen := make(chan map[string]string, 1)
			begun := make(chan struct{})
			s := script(t, proto, func(p *peer) {
				m := expect[*protocol.Invocation](p)
				expect[*protocol.StreamItem](p)
				close(begun)
				ends := make(map[string]string)
				for len(ends) < len(m.StreamIDs) {
					switch m := p.next().(type) {
					case *protocol.Completion:
						ends[m.InvocationID] = m.Error
					case *protocol.CancelInvocation: // comes before or after
					default:
						t.Errorf("got %#v", m)
						return
					}
				}
				seen <- ends
				p.drain()
			})
			c := s.start()
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-begun
				cancel()
			}()
			silent := make(chan int, 1)
			silent <- 1
			var err error
			if kind == invoke {
				err = c.Invoke(ctx, "Upload", silent, make(chan string))
			} else {
				err = c.Send(ctx, "Upload", silent, make(chan string))
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", kind, err)
			}
			ends := receive(t, "the ends of the streams", seen)
			for text := range maps.Values(ends) {
				if text != "upload cancelled" {
					t.Errorf("%s: stream ended with %q", kind, text)
				}
			}
		}
	})
}

func TestUploadOfWhatCannotBeEncoded(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, proto protocol.Protocol) {
		s := script(t, proto, func(p *peer) {
			for m := p.next(); m != nil; m = p.next() {
				if m, ok := m.(*protocol.Completion); ok && m.Error == "" {
					t.Errorf("stream ended with %+v", m)
				}
			}
		})
		c := s.start()
		bad := slices.Values([]complex128{1})
		for what, err := range map[string]error{
			"Invoke":      c.Invoke(t.Context(), "Upload", bad),
			"Send":        c.Send(t.Context(), "Upload", bad),
			"no sequence": c.Send(t.Context(), "Upload", func() {}),
			"pairs":       c.Send(t.Context(), "Upload", maps.All(map[int]int{1: 1})),
			"send only":   c.Send(t.Context(), "Upload", make(chan<- int)),
			"nil channel": c.Send(t.Context(), "Upload", (chan int)(nil)),
			"nil seq":     c.Send(t.Context(), "Upload", iter.Seq[int](nil)),
		} {
			if err == nil {
				t.Errorf("%s succeeded", what)
			}
		}
		if c.State() != Connected {
			t.Error("the connection did not outlive the errors")
		}
		assertIdle(t, c)
	})
}

func TestUploadOnALostConnection(t *testing.T) {
	s := script(t, protocol.JSON, func(p *peer) {
		expect[*protocol.Invocation](p)
		expect[*protocol.StreamItem](p)
	})
	c := s.start()
	waiting := make(chan int, 1)
	waiting <- 1
	if err := c.Send(t.Context(), "Upload", waiting); !errors.Is(err, ErrConnectionLost) {
		t.Errorf("got %v", err)
	}
	receive(t, "the end", c.Done())
}
