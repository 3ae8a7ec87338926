package peer

import (
	"encoding/binary"
	"sync"
	"time"
)

// maxNonces bounds each of the two tables of used nonces: 34,000 requests a second, and
// something like 100 MB then.
const maxNonces = 1 << 22

// generation is how long a nonce is of use: its seal may be from a clock that is ahead.
const generation = 2 * Tolerance

// nonces remembers what has been used, by its first half, which is as good as unique; for
// at least one generation and at most two. Its methods may be called concurrently.
type nonces struct {
	max int

	mu         sync.Mutex
	used       map[uint64]struct{}
	usedBefore map[uint64]struct{}
	swapped    time.Time
}

func newNonces(most int) *nonces {
	return &nonces{max: most, used: make(map[uint64]struct{}), swapped: time.Now()}
}

// use reports whether n has not been used, which it then is, and whether it could be
// remembered.
func (u *nonces) use(n nonce, now time.Time) (first, room bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.swapped) >= generation {
		u.used, u.usedBefore, u.swapped = make(map[uint64]struct{}), u.used, now
	}
	half := binary.BigEndian.Uint64(n[:])
	_, used := u.used[half]
	_, before := u.usedBefore[half]
	switch {
	case used || before:
		return false, true
	case len(u.used) >= u.max:
		return false, false
	}
	u.used[half] = struct{}{}
	return true, true
}
