package hub

import (
	"slices"
	"sync"
)

// maxIdleWorkers is how many goroutines with nothing to do a hub keeps.
const maxIdleWorkers = 64

// work runs what connections start: invocations, writes, ends. A goroutine that is done
// waits some seconds for more to do, since a new one begins with a stack that is too small
// for most of this, and growing that costs more than the rest of the start.
//
// The zero work is ready for use. It may be used concurrently.
type work struct {
	sync.WaitGroup // of what has been started and is not done; connections count, too

	mu     sync.Mutex
	idle   []chan func() // of workers that wait, the latest last: each takes one call
	least  int           // how many have been waiting since trim was called, at least
	closed bool

	workers sync.WaitGroup // joined by Shutdown
}

// Go runs f in a goroutine that Wait waits for. f may end the goroutine.
func (w *work) Go(f func()) {
	w.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if last := len(w.idle) - 1; last >= 0 { // whose memory is the most likely to be in a cache
		w.idle[last] <- f
		w.idle[last] = nil
		w.idle = w.idle[:last]
		w.least = min(w.least, last)
		return
	}
	w.workers.Go(func() { w.serve(f) })
}

// serve runs f, and what comes then until the hub has workers enough, or until close.
// Owner: the hub, which joins it.
func (w *work) serve(f func()) {
	next := make(chan func(), 1)
	for more := true; more; f, more = <-next {
		w.do(f)
		if !w.waitFor(next) {
			return
		}
	}
}

func (w *work) do(f func()) {
	defer w.Done()
	f()
}

// waitFor offers next to Go. It reports false if nothing will come.
func (w *work) waitFor(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(w.idle) == maxIdleWorkers {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// trim ends the workers that have had nothing to do since it was last called.
func (w *work) trim() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, next := range w.idle[:w.least] { // the last is the next to be used
		close(next)
	}
	w.idle = slices.Delete(w.idle, 0, w.least)
	w.least = len(w.idle)
}

// close ends the workers that wait, at once, and the others as soon as they are done.
func (w *work) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle, w.least = nil, 0
}
