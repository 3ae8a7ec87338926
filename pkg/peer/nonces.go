package peer

import (
	"sync"
	"time"
)

// maxNonces bounds each of the two tables of used nonces: some ten thousand requests a
// second, and tens of megabytes then.
const maxNonces = 1 << 20

// generation is how long a nonce is of use: its seal may be from a clock that is ahead.
const generation = 2 * Tolerance

// nonces remembers what has been used, for at least one generation and at most two. Its
// methods may be called concurrently.
type nonces struct {
	max int

	mu         sync.Mutex
	used       map[nonce]struct{}
	usedBefore map[nonce]struct{}
	swapped    time.Time
}

func newNonces(most int) *nonces {
	return &nonces{max: most, used: make(map[nonce]struct{}), swapped: time.Now()}
}

// use reports whether n has not been used, which it then is, and whether it could be
// remembered.
func (u *nonces) use(n nonce, now time.Time) (first, room bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.swapped) >= generation {
		u.used, u.usedBefore, u.swapped = make(map[nonce]struct{}), u.used, now
	}
	_, used := u.used[n]
	_, before := u.usedBefore[n]
	switch {
	case used || before:
		return false, true
	case len(u.used) >= u.max:
		return false, false
	}
	u.used[n] = struct{}{}
	return true, true
}
