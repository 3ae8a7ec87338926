package client

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// since returns the time since start, in the whole seconds that all delays here are.
func since(t testing.TB, start time.Time) int {
	t.Helper()
	d := time.Since(start)
	if d%time.Second != 0 {
		t.Errorf("%v are no whole seconds", d)
	}
	return int(d / time.Second)
}

// keepAlive sends pings every 10 seconds, until the connection ends, while it reads.
func keepAlive(p *peer) {
	for ended := p.drained(); ; {
		select {
		case <-time.After(10 * time.Second):
			p.send(&protocol.Ping{})
		case <-ended:
			return
		}
	}
}

func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pings []time.Time
		s := script(t, protocol.JSON, func(p *peer) {
			keepAlive(p)
			pings = p.pings
		})
		start := time.Now()
		c := s.start()
		time.Sleep(40 * time.Second)
		c.Close()
		s.peers.Wait()
		var got []int
		for _, at := range pings {
			got = append(got, int(at.Sub(start)/time.Second))
		}
		if want := []int{0, 15, 30}; !slices.Equal(got, want) {
			t.Errorf("pings after %v seconds, want %v", got, want)
		}
	})
}

func TestServerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, protocol.JSON, func(p *peer) {
			time.Sleep(20 * time.Second)
			p.send(&protocol.Ping{})
			p.drain()
		})
		start := time.Now()
		c := s.start()
		pending := make(chan error, 1)
		go func() { pending <- c.Invoke(t.Context(), "Method") }()
		<-c.Done()
		if got := since(t, start); got != 50 {
			t.Errorf("lost after %d s, want 50", got)
		}
		if err := <-pending; !errors.Is(err, ErrConnectionLost) || !strings.Contains(err.Error(), "server sent nothing for 30s") {
			t.Errorf("call ended with %v", err)
		}
		if c.Err() == nil {
			t.Error("no reason is given")
		}
	})
}

// Every step of connecting has its time.
func TestHandshakeTimeout(t *testing.T) {
	silent := func(_ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	}
	for _, tt := range []struct {
		name      string
		refuse    func(http.ResponseWriter, *http.Request) bool
		negotiate bool
		shake     bool
	}{
		{"negotiate", silent, true, false},
		{"open WebSocket", silent, false, false},
		{"handshake", nil, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := script(t, protocol.JSON, nil)
				s.refuse = tt.refuse
				if tt.refuse == nil {
					s.silent = true
				}
				c, err := s.dial()
				if err != nil {
					t.Fatal(err)
				}
				c.skipNegotiation = !tt.negotiate
				start := time.Now()
				err = c.Start(t.Context())
				if got := since(t, start); got != 15 {
					t.Errorf("failed after %d s, want 15", got)
				}
				if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tt.name) {
					t.Errorf("got %v", err)
				}

				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errors.New("no time"))
				defer cancel()
				start = time.Now()
				if err = c.Start(ctx); err == nil || !strings.Contains(err.Error(), "no time") {
					t.Errorf("got %v", err)
				}
				if got := since(t, start); got != 1 {
					t.Errorf("failed after %d s, want 1", got)
				}
			})
		})
	}
}

// Close waits for the server to close its side, but not for long.
func TestCloseTimeout(t *testing.T) {
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			end := make(chan struct{})
			s := script(t, protocol.JSON, func(p *peer) {
				p.conn.SetCloseHandler(func(int, string) error { return nil })
				if reads {
					p.drain()
				}
				<-end
			})
			c := s.start()
			synctest.Wait()
			start := time.Now()
			c.Close()
			if got := since(t, start); got != 5 {
				t.Errorf("closed after %d s, want 5", got)
			}
			<-c.Done()
			close(end)
		})
	}
}

// A server that does not read holds calls up as long as their contexts allow, and it may
// take its time.
func TestServerThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		received := 0
		s := script(t, protocol.JSON, func(p *peer) {
			for range 10 {
				time.Sleep(10 * time.Second)
				p.send(&protocol.Ping{})
			}
			for p.next() != nil {
				received++
			}
		})
		c := s.start()
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		sent := 0
		var err error
		for err == nil {
			if err = c.Send(ctx, "Method"); err == nil {
				sent++
			}
		}
		if !errors.Is(err, context.DeadlineExceeded) || since(t, start) != 7 {
			t.Errorf("after %d s: %v", since(t, start), err)
		}
		if sent == 0 || sent > outgoingFrames+1 {
			t.Errorf("%d messages are waiting", sent)
		}
		for range sent {
			if err := c.Send(t.Context(), "Method"); err != nil {
				t.Error(err)
			}
		}
		if got := since(t, start); got != 100 {
			t.Errorf("sent after %d s, want 100", got)
		}
		c.Close()
		s.peers.Wait()
		if received != 2*sent+1 { // and the Close message
			t.Errorf("server received %d messages, want %d", received, 2*sent+1)
		}
	})
}

// A handler delays neither answers nor pings.
func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, protocol.JSON, func(p *peer) {
			p.send(&protocol.Invocation{Target: "slow"})
			m := expect[*protocol.Invocation](p)
			p.send(&protocol.Completion{InvocationID: m.InvocationID})
			keepAlive(p)
			if len(p.pings) != 5 { // after 0, 15, 30, 45 and 60 seconds
				t.Errorf("%d pings", len(p.pings))
			}
		})
		c, err := s.dial()
		release := make(chan struct{})
		mustOn(t, c, "slow", func() { <-release })
		started(t, c, err)
		synctest.Wait()
		start := time.Now()
		if err := c.Invoke(t.Context(), "Method"); err != nil {
			t.Error(err)
		}
		if got := since(t, start); got != 0 {
			t.Errorf("answered after %d s", got)
		}
		time.Sleep(70 * time.Second)
		if c.State() != Connected {
			t.Error("connection was lost")
		}
		close(release)
	})
}

// What a handler does not take makes the server wait, and is not lost.
func TestBackPressure(t *testing.T) {
	for _, kind := range []string{"handler", "stream"} {
		synctest.Test(t, func(t *testing.T) {
			const messages, limit = 100, 10 * (messageOverhead + 10)
			var sent atomic.Int32
			s := script(t, protocol.JSON, func(p *peer) {
				m := expect[*protocol.StreamInvocation](p)
				ended := p.drained()
				for i := range messages {
					if kind == "stream" {
						p.send(&protocol.StreamItem{InvocationID: m.InvocationID, Item: i})
					} else {
						p.send(&protocol.Invocation{Target: "take", Arguments: []any{i}})
					}
					sent.Add(1)
				}
				p.send(&protocol.Completion{InvocationID: m.InvocationID})
				<-ended
			})
			c, err := s.dial(WithInboundQueue(limit))
			release := make(chan struct{})
			var got []int
			mustOn(t, c, "take", func(i int) {
				<-release
				got = append(got, i)
			})
			started(t, c, err)
			ended := make(chan error, 1)
			go func() {
				var last error
				for i, err := range Stream[int](t.Context(), c, "Method") {
					<-release
					got, last = append(got, i), err
				}
				ended <- last
			}()
			synctest.Wait()
			if n := sent.Load(); n < 8 || n > 16 {
				t.Errorf("%s: server could send %d messages", kind, n)
			}
			close(release)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if len(got) != messages || !slices.IsSorted(got) {
				t.Errorf("%s: got %v", kind, got)
			}
			assertIdle(t, c)
		})
	}
}

// A full queue that nothing leaves ends the connection, and so a call that waits for an
// answer behind it.
func TestStalledQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := script(t, protocol.JSON, func(p *peer) {
			ended := p.drained()
			for range 100 {
				p.send(&protocol.Invocation{Target: "ask"})
			}
			<-ended
		})
		c, err := s.dial(WithInboundQueue(1000))
		var failures []error
		mustOn(t, c, "ask", func(ctx context.Context) {
			failures = append(failures, c.Invoke(ctx, "Answer"))
		})
		start := time.Now()
		started(t, c, err)
		<-c.Done()
		if got := since(t, start); got != 30 {
			t.Errorf("given up after %d s, want 30", got)
		}
		if len(failures) == 0 || !errors.Is(failures[0], ErrConnectionLost) {
			t.Errorf("calls ended with %v", failures)
		}
		if !strings.Contains(c.Err().Error(), "inbound queue was full") {
			t.Errorf("ended with %v", c.Err())
		}
	})
}
