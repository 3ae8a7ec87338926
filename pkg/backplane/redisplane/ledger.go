package redisplane

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// maxHeard is how many operations a ledger notes between two readings. Beyond it, it no
// longer knows which of those that are kept were heard.
const maxHeard = 65536

// A digest tells operations apart, channel included.
type digest [sha256.Size]byte

func digestOf(ch backplane.Channel, body []byte) (d digest) {
	h := sha256.New()
	h.Write([]byte(ch))
	h.Write([]byte{0}) // a body begins with another byte: no two pairs are alike
	h.Write(body)
	h.Sum(d[:0])
	return d
}

// A ledger is what is known of the operations of one prefix in one partition: up to which entry of the
// stream all have been performed here, and which beyond that. So each is performed once,
// whether it is heard or read, or both.
type ledger struct {
	mu       sync.Mutex // never held across I/O or Deliver
	position string     // id of that entry; empty: not known
	began    time.Time  // what counts without a position is from then on
	taken    bool       // a reading has been taken
	// What was heard since the last reading began, and before it since the last one that
	// was taken. Neither has more than maxHeard.
	heard, before map[digest]struct{}
	overrun       bool // more was heard than could be noted
	// What was read and had not been heard: it may come late. The oldest is overwritten.
	read     map[digest]struct{}
	readRing []digest
	readNext int
}

func newLedger(began time.Time) *ledger {
	return &ledger{
		began:  began,
		heard:  make(map[digest]struct{}),
		before: make(map[digest]struct{}),
		read:   make(map[digest]struct{}),
	}
}

// isNew reports whether no reading has been taken yet.
func (l *ledger) isNew() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.taken
}

// hears notes an operation that has been heard. It returns false if that has been
// performed already.
func (l *ledger) hears(d digest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.read[d]; ok {
		return false
	}
	if len(l.heard) == maxHeard {
		l.overrun = true
		clear(l.heard)
	}
	l.heard[d] = struct{}{}
	return true
}

// unhear takes that back: it was not performed.
func (l *ledger) unhear(d digest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.heard, d)
	delete(l.before, d)
}

// begin begins a reading, and returns the entry from which on to read, and whether
// another reading had to end before this could be known.
func (l *ledger) begin() (position string, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.before)+len(l.heard) > maxHeard {
		l.overrun = true
		clear(l.before)
	}
	for d := range l.heard {
		l.before[d] = struct{}{}
	}
	clear(l.heard)
	if l.overrun {
		return "", true
	}
	return l.position, false
}

func (l *ledger) age() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.began)
}

// take takes in a part of a reading, and returns what of it is to be performed.
func (l *ledger) take(p part) (missed []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range p.entries {
		if e.body == nil {
			continue
		}
		d := digestOf(e.channel, e.body)
		if !l.overrun && !l.knows(d) {
			missed = append(missed, e)
			l.remember(d)
		}
	}
	if l.position = p.end; l.position == "" {
		l.began = time.Now()
	}
	l.overrun, l.taken = false, true
	clear(l.before)
	return missed
}

// knows is called with mu held.
func (l *ledger) knows(d digest) bool {
	for _, m := range []map[digest]struct{}{l.heard, l.before, l.read} {
		if _, ok := m[d]; ok {
			return true
		}
	}
	return false
}

// remember is called with mu held.
func (l *ledger) remember(d digest) {
	if len(l.readRing) < maxKept {
		l.readRing = append(l.readRing, d)
	} else {
		delete(l.read, l.readRing[l.readNext])
		l.readRing[l.readNext] = d
		l.readNext = (l.readNext + 1) % maxKept
	}
	l.read[d] = struct{}{}
}
