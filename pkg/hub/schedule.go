package hub

import (
	"context"
	"sync"
)

// invocations are the calls of one connection that wait for their turn. As many run at
// a time as there are permits, started in order, each in a runner that lives only while
// there are any.
type invocations struct {
	permits int // constant

	mu      sync.Mutex
	waiting []*invocation
	taken   int           // permits in use: runners, but for those whose invocation gave it back
	moved   chan struct{} // made by who waits for the next to begin or to end, closed then
	closed  bool          // nothing more is taken
}

// keptInvocations is how many places an empty queue may have that are used again.
const keptInvocations = 4

// push adds an invocation, and reports whether it was taken and whether a runner is to
// be started.
func (q *invocations) push(i *invocation) (taken, start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false, false
	}
	q.waiting = append(q.waiting, i)
	if q.taken == q.permits {
		return true, false
	}
	q.taken++
	return true, true
}

// pop takes the next invocation for a runner that holds a permit. None means that it
// holds it no more, and must end.
func (q *invocations) pop() *invocation {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tell()
	if len(q.waiting) == 0 {
		if cap(q.waiting) > keptInvocations {
			q.waiting = nil
		}
		q.taken--
		return nil
	}
	i := q.waiting[0]
	q.waiting[0] = nil
	if len(q.waiting) == 1 { // the place is free for the next, most often the only one again
		q.waiting = q.waiting[:0]
	} else {
		q.waiting = q.waiting[1:]
	}
	return i
}

// progress returns a channel that is closed when an invocation has begun or ended, or
// what waits was dropped: twice, but nil where none waits, and nil where none runs.
// Those that gave their permit back do not count.
func (q *invocations) progress() (waiting, running <-chan struct{}) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.moved == nil {
		q.moved = make(chan struct{})
	}
	if len(q.waiting) > 0 {
		waiting = q.moved
	}
	if q.taken > 0 {
		running = q.moved
	}
	return waiting, running
}

// close takes nothing more, and returns what waits, which will not be run.
func (q *invocations) close() []*invocation {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	dropped := q.waiting
	q.waiting = nil
	q.tell()
	return dropped
}

// tell is called with mu held.
func (q *invocations) tell() {
	if q.moved != nil {
		close(q.moved)
		q.moved = nil
	}
}

// giveBack takes a runner's permit from it, and reports whether a new one, which then
// has it, is to be started.
func (q *invocations) giveBack() (start bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tell()
	if len(q.waiting) > 0 {
		return true
	}
	q.taken--
	return false
}

// A budget bounds what waits of a connection's input, in bytes of memory, roughly (see
// charge): invocations and items of streams. One alone always fits.
type budget struct {
	max int // constant

	mu   sync.Mutex
	used int
	room chan struct{} // made by who waits, closed when something was released
}

// acquire waits until n more bytes may wait, or until ctx ends, whose error it then
// returns.
func (b *budget) acquire(ctx context.Context, n int) error {
	for {
		b.mu.Lock()
		if b.used == 0 || b.used+n <= b.max {
			b.used += n
			b.mu.Unlock()
			return nil
		}
		if b.room == nil {
			b.room = make(chan struct{})
		}
		room := b.room
		b.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *budget) release(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}
