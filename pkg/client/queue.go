package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errEnded is what pop returns when there is nothing left and nothing will come.
var errEnded = errors.New("queue has ended")

// A queue hands values from one goroutine to another in order. It has no bound of its
// own: a [budget] is what those who push stay within.
type queue[T any] struct {
	ready chan struct{} // capacity 1; wakes the one goroutine that pops

	mu     sync.Mutex
	values []T
	ended  bool
}

func newQueue[T any]() *queue[T] { return &queue[T]{ready: make(chan struct{}, 1)} }

// push adds v, or reports false if the queue has ended.
func (q *queue[T]) push(v T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	q.values = append(q.values, v)
	q.wake()
	return true
}

// end lets nothing more in. What is there can still be popped.
func (q *queue[T]) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.wake()
}

// drain ends the queue and returns what was left in it.
func (q *queue[T]) drain() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	left := q.values
	q.values = nil
	return left
}

func (q *queue[T]) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// pop waits for the next value. The error is the context's, at once when that has ended,
// or errEnded.
func (q *queue[T]) pop(ctx context.Context) (v T, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		q.mu.Lock()
		if len(q.values) > 0 {
			var none T
			v, q.values[0] = q.values[0], none
			if q.values = q.values[1:]; len(q.values) == 0 {
				q.values = nil
			}
			q.mu.Unlock()
			return v, nil
		}
		ended := q.ended
		q.mu.Unlock()
		if ended {
			return v, errEnded
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
		}
	}
}

// messageOverhead is what a waiting message counts beyond its payload.
const messageOverhead = 128

// A budget bounds the bytes that wait in several queues together.
type budget struct {
	limit int
	given chan struct{} // capacity 1; wakes the one goroutine that takes

	mu   sync.Mutex
	used int
}

func newBudget(limit int) *budget { return &budget{limit: limit, given: make(chan struct{}, 1)} }

// take waits until less than the limit is in use and then takes n, so that a message of
// any size gets through. It fails when the context ends, with its cause, and when nothing
// was given back for as long as patience.
func (b *budget) take(ctx context.Context, n int, patience time.Duration) error {
	if b.tryTake(n) {
		return nil
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-b.given:
			if b.tryTake(n) {
				return nil
			}
			timer.Reset(patience)
		case <-timer.C:
			return fmt.Errorf("inbound queue was full for %v: a handler, or the loop over a stream, is stuck", patience)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (b *budget) tryTake(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used >= b.limit {
		return false
	}
	b.used += n
	return true
}

// give gives back n that were taken.
func (b *budget) give(n int) {
	b.mu.Lock()
	b.used -= n
	b.mu.Unlock()
	select {
	case b.given <- struct{}{}:
	default:
	}
}
