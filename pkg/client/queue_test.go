package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestQueue(t *testing.T) {
	q := newQueue[int]()
	var got []int
	popped := make(chan error)
	go func() {
		for {
			v, err := q.pop(t.Context())
			if err != nil {
				popped <- err
				return
			}
			got = append(got, v)
		}
	}()
	var want []int
	for i := range 10_000 {
		if !q.push(i) {
			t.Fatal("refused")
		}
		want = append(want, i)
	}
	q.end()
	if q.push(0) {
		t.Error("taken after the end")
	}
	if err := receive(t, "the end", popped); !errors.Is(err, errEnded) || !slices.Equal(got, want) {
		t.Errorf("got %d values, then %v", len(got), err)
	}

	q = newQueue[int]()
	q.push(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.pop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("pop: %v", err)
	}
	if left := q.drain(); !slices.Equal(left, []int{1}) || q.push(2) {
		t.Errorf("drained %v", left)
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 30 * time.Second
		b := newBudget(10)
		take := func(n int) error { return b.take(t.Context(), n, patience) }
		if err := errors.Join(take(5), take(4), take(100)); err != nil { // the last goes beyond it
			t.Fatal(err)
		}
		go func() {
			for _, n := range []int{5, 4, 100} {
				time.Sleep(20 * time.Second)
				b.give(n)
			}
		}()
		start := time.Now()
		if err := take(10); err != nil { // since something is given all the time
			t.Fatal(err)
		}
		if got := since(t, start); got != 60 {
			t.Errorf("took %d s, want 60", got)
		}
		start = time.Now()
		if err := take(1); err == nil || since(t, start) != 30 {
			t.Errorf("after %d s: %v", since(t, start), err)
		}
		reason := errors.New("reason")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(reason)
		if err := b.take(ctx, 1, patience); !errors.Is(err, reason) {
			t.Errorf("got %v", err)
		}
	})
}
