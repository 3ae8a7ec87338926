package hub

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		d        time.Duration
		n        int
		most     int           // calls in any second
		last     time.Duration // when the last one is made, give or take a step
		canceled time.Duration // 0: not
		calls    int
	}{
		{d: 10 * time.Second, n: 0, last: 0},
		{d: 10 * time.Second, n: 1, most: 1, last: 0, calls: 1},
		{d: 10 * time.Second, n: 11, most: 2, last: 10 * time.Second, calls: 11},
		{d: 10 * time.Second, n: 5000, most: 520, last: 10 * time.Second, calls: 5000},
		{d: 0, n: 5000, most: 5000, last: 0, calls: 5000},
		{d: 10 * time.Second, n: 11, most: 2, last: 5 * time.Second, canceled: 5500 * time.Millisecond, calls: 6},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.canceled > 0 {
				time.AfterFunc(tt.canceled, cancel)
			}
			start := time.Now()
			var last time.Duration
			seconds := make([]int, 12)
			next := 0
			spread(ctx, tt.d, tt.n, func(i int) {
				if i != next {
					t.Fatalf("call %d, want %d", i, next)
				}
				next++
				last = time.Since(start)
				seconds[int(last/time.Second)]++
			})
			if next != tt.calls || last < tt.last-spreadStep || last > tt.last+spreadStep || slices.Max(seconds) > tt.most {
				t.Errorf("%d over %v: %d calls, the last after %v, by second %v", tt.n, tt.d, next, last, seconds)
			}
		})
	}
}

func TestDrain(t *testing.T) {
	h, address := serve(t, &room{})
	clients := []*client{connect(t, address, "ada"), connect(t, address, "ben"), connect(t, address, "cem")}
	h.Drain(t.Context(), 50*time.Millisecond)
	for _, c := range clients {
		c.expect(`{"type":7,"allowReconnect":true}`, "closed 1000")
	}
	if err := dialError(address); err == nil {
		t.Error("a connection was taken after the drain had begun")
	}
}
