package redisplane

import (
	"iter"
	"sync"
	"sync/atomic"
)

// A shelf has one thing for each partition in use: made when it is first asked for, and
// there from then on. It may be used concurrently.
type shelf[T any] struct {
	produce func(n int) *T // called with mu held
	things  []atomic.Pointer[T]

	mu     sync.Mutex // guards changing things, and closed
	closed bool
}

func newShelf[T any](size int, produce func(n int) *T) *shelf[T] {
	return &shelf[T]{produce: produce, things: make([]atomic.Pointer[T], size)}
}

// get returns that of partition n; nil if there is none and the shelf is closed.
func (s *shelf[T]) get(n int) *T {
	if thing := s.things[n].Load(); thing != nil {
		return thing
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.things[n].Load() == nil && !s.closed {
		s.things[n].Store(s.produce(n))
	}
	return s.things[n].Load()
}

// find returns that of partition n, if there is one.
func (s *shelf[T]) find(n int) *T { return s.things[n].Load() }

// all returns those that there are, by partition.
func (s *shelf[T]) all() iter.Seq2[int, *T] {
	return func(yield func(int, *T) bool) {
		for n := range s.things {
			if thing := s.things[n].Load(); thing != nil && !yield(n, thing) {
				return
			}
		}
	}
}

// close lets no more be made.
func (s *shelf[T]) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}
