package redisplane

import (
	"slices"
	"sync"
	"time"
)

// maxUnheard is how many probes a lag remembers that have not been heard. The oldest
// counts, so later ones need not be.
const maxUnheard = 32

// A lag is how far the node is behind with what it hears, by its own probes. Its zero
// value has seen none.
type lag struct {
	mu      sync.Mutex
	unheard []time.Time // when probes were sent after latest, at most maxUnheard, oldest first
	latest  time.Time   // when the latest one that was heard had been sent
	took    time.Duration
}

// sent notes that a probe is sent at the time.
func (l *lag) sent(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unheard) < maxUnheard {
		l.unheard = append(l.unheard, at)
	}
}

// heard notes that the probe that was sent at the time has been heard now, and returns how
// long it took. Those before it will not be heard any more.
func (l *lag) heard(at time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latest, l.took = at, time.Since(at)
	l.unheard = slices.DeleteFunc(l.unheard, func(sent time.Time) bool { return !sent.After(at) })
	return l.took
}

// now returns the age of the oldest probe that has not been heard, or else how long the
// last one took.
func (l *lag) now() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.unheard) > 0 {
		return max(l.took, time.Since(l.unheard[0]))
	}
	return l.took
}

// proven returns when the latest probe that was heard had been sent.
func (l *lag) proven() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}
