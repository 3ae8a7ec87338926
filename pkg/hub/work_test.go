package hub

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
)

// startWork returns one whose workers are joined at the end of the test.
func startWork(t *testing.T) *work {
	w := new(work)
	t.Cleanup(func() {
		w.Wait()
		w.close()
		w.workers.Wait()
	})
	return w
}

func (w *work) idleWorkers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.idle)
}

func (w *work) awaitIdle(t *testing.T, want int) {
	t.Helper()
	await.Until(t, "workers wait", func() error {
		if n := w.idleWorkers(); n != want {
			return fmt.Errorf("%d of them, want %d", n, want)
		}
		return nil
	})
}

func TestWorkersAreUsedAgain(t *testing.T) {
	w := startWork(t)
	for range 10 {
		w.Go(func() {})
		w.awaitIdle(t, 1)
	}
}

func TestIdleWorkersAreBounded(t *testing.T) {
	w := startWork(t)
	release := make(chan struct{})
	for range 3 * maxIdleWorkers {
		w.Go(func() { <-release }) // each has a goroutine, whatever the others do
	}
	close(release)
	w.Wait()
	w.awaitIdle(t, maxIdleWorkers)
}

func TestIdleWorkersEnd(t *testing.T) {
	w := startWork(t)
	var busy, both sync.WaitGroup
	both.Add(2)
	for range 2 { // two workers
		w.Go(func() {
			both.Done()
			both.Wait()
		})
	}
	w.awaitIdle(t, 2)
	w.trim()
	if n := w.idleWorkers(); n != 2 {
		t.Errorf("%d workers wait, of 2 that had something to do", n)
	}
	busy.Add(1)
	w.Go(busy.Wait)
	busy.Done()
	w.awaitIdle(t, 2)
	w.trim()
	if n := w.idleWorkers(); n != 1 {
		t.Errorf("%d workers wait, of 1 that had something to do", n)
	}
	w.trim()
	w.awaitIdle(t, 0)
	w.workers.Wait()
}

func TestWorkMayEndItsGoroutine(t *testing.T) {
	w := startWork(t)
	for range 10 {
		w.Go(runtime.Goexit)
	}
	w.Wait()
	if n := w.idleWorkers(); n != 0 {
		t.Errorf("%d workers wait, but all have ended", n)
	}
	done := make(chan struct{})
	w.Go(func() { close(done) })
	<-done
}

func TestWorkAfterClose(t *testing.T) {
	w := startWork(t)
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() { w.Go(func() {}) })
	}
	w.close()
	group.Wait()
	w.Wait()
	w.workers.Wait() // none waits for more
}
