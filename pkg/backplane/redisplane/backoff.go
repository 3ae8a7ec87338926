package redisplane

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	minPause = 50 * time.Millisecond
	maxPause = 2 * time.Second
)

// A backoff spaces attempts to connect, at random, so that the nodes of a cluster do
// not all come back at once. The zero backoff has seen no failure.
type backoff struct{ next time.Duration }

func (b *backoff) reset() { b.next = 0 }

// pause waits before the next attempt, or until ctx ends.
func (b *backoff) pause(ctx context.Context) {
	b.next = min(max(2*b.next, minPause), maxPause)
	timer := time.NewTimer(b.next/2 + rand.N(b.next/2))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
