package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

func TestSchedule(t *testing.T) {
	start := time.Unix(1000, 0)
	s := schedule{start: start, rate: 4, total: time.Second}
	for n, want := range []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond, 750 * time.Millisecond} {
		if due, ok := s.due(n); !ok || due.Sub(start) != want {
			t.Errorf("message %d is due after %v, %v, want %v", n, due.Sub(start), ok, want)
		}
	}
	if due, ok := s.due(4); ok {
		t.Errorf("message 4 is due at %v, after the end", due)
	}
	if _, ok := (schedule{start: start, rate: 1e6, total: 10 * time.Hour}).due(30_000_000_000); !ok {
		t.Error("large numbers overflow")
	}
}

func testSender(index, of int) (*sender, *scriptedCarrier) {
	s := newSender(index, of, "abcdefgh", time.Now(), minimumPayload, 2, func(target int, text string) *protocol.Invocation {
		return &protocol.Invocation{Target: "Send", Arguments: []any{fmt.Sprint("group ", target)}}
	})
	carrier := newScriptedCarrier()
	s.connection = &connection{protocol: protocol.JSON, carrier: carrier}
	return s, carrier
}

// Two senders share the messages, and each target's messages are numbered by sender.
func TestSenderRun(t *testing.T) {
	plan := schedule{start: time.Now(), rate: 1000, total: 5 * time.Millisecond}
	for index, want := range [][]string{
		{sent(0, 0), sent(2, 0), sent(4, 0)},
		{sent(1, 1), sent(3, 1)},
	} {
		s, carrier := testSender(index, 2)
		if err := s.run(t.Context(), plan, []uint64{10, 3}, plan.start.Add(2*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if got := carrier.sentSoFar(); !slices.Equal(got, want) {
			t.Errorf("sender %d sent %q, want %q", index, got, want)
		}
		n := uint64(len(want))
		if got := s.sofar(); got.Sent != n || got.Expected != n*[]uint64{10, 3}[index] {
			t.Errorf("sender %d has %+v", index, got)
		}
		if s.valid(index) != n || s.valid(1-index) != 0 {
			t.Errorf("sender %d is to have sent %d and %d", index, s.valid(0), s.valid(1))
		}
		if got := s.lag.histogram.TotalCount(); got != int64([]int{2, 1}[index]) {
			t.Errorf("sender %d has recorded %d lags", index, got)
		}
	}
}

func sent(n, target int) string {
	return fmt.Sprintf(`{"type":1,"invocationId":"%d","target":"Send","arguments":["group %d"]}`+"\x1e", n, target)
}

// What fails, at once or by the server's word, is not expected by anyone.
func TestSenderFailures(t *testing.T) {
	s, carrier := testSender(0, 1)
	plan := schedule{start: time.Now(), rate: 1e6, total: 4 * time.Microsecond}
	if err := s.run(t.Context(), plan, []uint64{10, 3}, plan.start); err != nil {
		t.Fatal(err)
	}
	for _, m := range []protocol.Message{
		&protocol.Completion{InvocationID: "0"},
		&protocol.Completion{InvocationID: "1", Error: "no", HasError: true},
		&protocol.Completion{InvocationID: "2", HasError: true},
		&protocol.Completion{InvocationID: "other"},
		&protocol.Invocation{InvocationID: "3"},
	} {
		s.handle(m)
	}
	if got, want := s.sofar(), (sendCounts{Sent: 2, Confirmed: 1, Failed: 2, Expected: 13}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if s.valid(0) != 1 || s.valid(1) != 1 {
		t.Errorf("%d and %d are valid, want 1 and 1", s.valid(0), s.valid(1))
	}

	close(carrier.closed)
	s.connection.ending.Do(func() { s.connection.cause = errNotOpened })
	plan.start = time.Now()
	if err := s.run(t.Context(), plan, []uint64{10, 3}, plan.start); err != nil {
		t.Fatal(err)
	}
	if got := s.sofar(); got.Failed != 6 || got.Expected != 13 {
		t.Errorf("without a connection: %+v", got)
	}
}

// A sender counts what it was too late for, but not what it was kept from.
func TestSenderEnds(t *testing.T) {
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, tt := range []struct {
		ctx    context.Context
		unsent uint64
	}{{late, 30}, {interrupted, 0}} {
		s, carrier := testSender(1, 2)
		plan := schedule{start: time.Now().Add(-time.Hour), rate: 1, total: time.Minute}
		if err := s.run(tt.ctx, plan, []uint64{1, 1}, plan.start); err != nil {
			t.Fatal(err)
		}
		if got := s.sofar(); got.Unsent != tt.unsent || got.Sent != 0 || len(carrier.sentSoFar()) > 0 {
			t.Errorf("%v: %+v", tt.ctx.Err(), got)
		}
	}
}

func TestPacer(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	p, err := newPacer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for _, d := range []time.Duration{-time.Second, 0, time.Microsecond, 3 * time.Millisecond, time.Millisecond} {
		due := time.Now().Add(d)
		if err := p.wait(due); err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		if ctx.Err() != nil {
			break
		}
		if early := time.Until(due); early > 0 {
			t.Errorf("a wait of %v ends %v early", d, early)
		}
	}
	for _, d := range []time.Duration{time.Hour, -time.Second} {
		if err := p.wait(time.Now().Add(d)); err != context.DeadlineExceeded {
			t.Errorf("a wait of %v got %v", d, err)
		}
	}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := wait(ctx, began.Add(time.Second)); err != nil || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := wait(ctx, began.Add(time.Hour)); err != context.DeadlineExceeded || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}
