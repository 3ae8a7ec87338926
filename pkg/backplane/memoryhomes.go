package backplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// minSwept is how many records there must be before it is worth looking which of them
// have come to the end of their lives.
const minSwept = 1024

// errLife reports a time to live that no record can have.
var errLife = errors.New("a record lives for at least a millisecond")

// A homeTable has the home records of the nodes of one [Bus]. It keeps no more than
// twice those that are alive. The zero table is empty.
type homeTable struct {
	mu      sync.Mutex
	records map[homeKey]homeRecord
	sweep   int // when there are so many records, those that have ended are removed
}

// A homeKey is a connection id behind the prefix of its hub.
type homeKey struct{ prefix, connection string }

type homeRecord struct {
	home Home
	ends time.Time
}

// find returns the record that is alive; mu is held.
func (t *homeTable) find(key homeKey) (Home, bool) {
	r, ok := t.records[key]
	if !ok || !time.Now().Before(r.ends) {
		return Home{}, false
	}
	return r.home, true
}

// set is called with mu held.
func (t *homeTable) set(key homeKey, h Home, life time.Duration) {
	if t.records == nil {
		t.records = make(map[homeKey]homeRecord)
	}
	now := time.Now()
	if len(t.records) >= max(t.sweep, minSwept) {
		for k, r := range t.records {
			if !now.Before(r.ends) {
				delete(t.records, k)
			}
		}
		t.sweep = 2 * len(t.records)
	}
	t.records[key] = homeRecord{h, now.Add(life)}
}

// memoryHomes implements [Homes] for one attachment.
type memoryHomes struct{ of *attachment }

// Homes implements [Attachment].
func (a *attachment) Homes() Homes { return memoryHomes{a} }

// Claim implements [Homes].
func (m memoryHomes) Claim(ctx context.Context, connection string, life time.Duration) (h Home, won bool, err error) {
	err = m.do(ctx, "claim connection", life, func(t *homeTable) {
		if found, ok := t.find(m.key(connection)); ok {
			h = found
			return
		}
		h, won = m.home(1), true
		t.set(m.key(connection), h, life)
	})
	return h, won, err
}

// Locate implements [Homes].
func (m memoryHomes) Locate(ctx context.Context, connection string) (h Home, found bool, err error) {
	err = m.do(ctx, "locate connection", time.Millisecond, func(t *homeTable) {
		h, found = t.find(m.key(connection))
	})
	return h, found, err
}

// Renew implements [Homes].
func (m memoryHomes) Renew(ctx context.Context, life time.Duration, epochs map[string]uint64) (lost []string, err error) {
	err = m.do(ctx, "renew homes of connections", life, func(t *homeTable) {
		for connection, epoch := range epochs {
			if m.holds(t, connection, epoch) {
				t.set(m.key(connection), m.home(epoch), life)
			} else {
				lost = append(lost, connection)
			}
		}
	})
	return lost, err
}

// End implements [Homes].
func (m memoryHomes) End(ctx context.Context, connection string, epoch uint64, life time.Duration) error {
	remove := life == 0
	if remove {
		life = time.Millisecond
	}
	return m.do(ctx, "end connection", life, func(t *homeTable) {
		switch {
		case !m.holds(t, connection, epoch):
		case remove:
			delete(t.records, m.key(connection))
		default:
			t.set(m.key(connection), Home{Epoch: epoch}, life)
		}
	})
}

// Move implements [Homes].
func (m memoryHomes) Move(ctx context.Context, connection string, epoch uint64, to string, life time.Duration) (moved bool, err error) {
	if to == "" {
		return false, fmt.Errorf("move connection: %q is not the id of a node", to)
	}
	err = m.do(ctx, "move connection", life, func(t *homeTable) {
		if h, ok := t.find(m.key(connection)); ok && h == m.home(epoch) {
			t.set(m.key(connection), Home{Node: to, Epoch: epoch + 1}, life)
			moved = true
		}
	})
	return moved, err
}

// do calls f with the table locked, unless there is something wrong.
func (m memoryHomes) do(ctx context.Context, what string, life time.Duration, f func(t *homeTable)) error {
	err := ctx.Err()
	switch {
	case m.of.hasEnded():
		err = ErrClosed
	case life < time.Millisecond:
		err = errLife
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	t := &m.of.node.bus.homes
	t.mu.Lock()
	defer t.mu.Unlock()
	f(t)
	return nil
}

// holds reports whether the record is this node's with the epoch, or missing; the
// table's mu is held.
func (m memoryHomes) holds(t *homeTable, connection string, epoch uint64) bool {
	h, ok := t.find(m.key(connection))
	return !ok || h == m.home(epoch)
}

func (m memoryHomes) key(connection string) homeKey { return homeKey{m.of.prefix, connection} }

func (m memoryHomes) home(epoch uint64) Home { return Home{Node: m.of.node.id, Epoch: epoch} }
