package hub

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// Many operations at once wait for their turn, and all are performed.
func TestManyOperationsAtOnce(t *testing.T) {
	c := newCluster(t)
	var adding sync.WaitGroup
	for n := range 6000 {
		adding.Go(func() {
			if err := c.hubs[0].Groups().Add(t.Context(), c.benID, fmt.Sprint(n)); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
}

// Who asks for an operation for which there is no room is told so, and what was begun for
// it is undone. Of those that were taken all are performed.
func TestOperationWithoutRoom(t *testing.T) {
	c := newCluster(t)
	h := c.hubs[1]
	release := make(chan struct{})
	var performed sync.WaitGroup
	hold := func() { <-release }
	for range maxOperating {
		if !h.operations.queue(0, hold, nil) {
			t.Fatal("not taken")
		}
	}
	await.Until(t, "they run", func() error {
		h.operations.mu.Lock()
		defer h.operations.mu.Unlock()
		if n := len(h.operations.waiting); n > 0 {
			return fmt.Errorf("%d wait", n)
		}
		return nil
	})
	for range maxOperationQueue {
		performed.Add(1)
		if !h.operations.queue(0, performed.Done, nil) {
			t.Fatal("not taken")
		}
	}
	failed := make(chan error, 2)
	go func() { failed <- c.hubs[0].Groups().Add(t.Context(), c.benID, "room") }()
	go func() {
		_, err := Invoke[int](t.Context(), c.hubs[0].Clients().Client(c.benID), "Answer")
		failed <- err
	}()
	refusing := func() error {
		h.operations.mu.Lock()
		defer h.operations.mu.Unlock()
		if n := len(h.operations.refusals); n != 2 {
			return fmt.Errorf("%d are refused, want 2", n)
		}
		return nil
	}
	await.Until(t, "they are refused", refusing)
	close(release)
	for range 2 {
		err := <-failed
		if _, unanswered := errors.AsType[*UnansweredError](err); !errors.Is(err, backplane.ErrUnavailable) || unanswered {
			t.Errorf("got %v", err)
		}
	}
	performed.Wait()
	if h.isMember("room") {
		t.Error("ben is a member")
	}
}
