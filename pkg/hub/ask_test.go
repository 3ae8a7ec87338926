package hub

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// ask has the first node ask ben, and returns what he is asked under and how it ends.
func (c *cluster) ask(ctx context.Context) (id string, ended <-chan error) {
	c.t.Helper()
	results := make(chan error, 1)
	go func() { // ends with the question
		_, err := Invoke[int](ctx, c.hubs[0].Clients().Client(c.benID), "Answer")
		results <- err
	}()
	frame := c.ben.read()
	rest, ok := strings.CutPrefix(frame, `{"type":1,"invocationId":"`)
	if !ok {
		c.t.Fatalf("ben got %s", frame)
	}
	id, _, _ = strings.Cut(rest, `"`)
	return id, results
}

// Nothing stays with the node of a client that was asked when nobody waits any more,
// although the client never answers.
func TestQuestionIsForgottenElsewhere(t *testing.T) {
	c := newCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	late, ended := c.ask(ctx)
	c.awaitHeld(1, 1)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	c.awaitIdle()

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, ended = c.ask(short)
	if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	c.awaitIdle()

	for _, gone := range []func(receiver, string){receiver.NodeDied, receiver.NodeLeft} {
		ctx, cancel := context.WithCancel(t.Context())
		_, ended = c.ask(ctx)
		gone(receiver{c.hubs[1]}, "another node")
		c.awaitHeld(1, 1)
		gone(receiver{c.hubs[1]}, c.planes[0].NodeID())
		c.awaitHeld(1, 0)
		if err := c.hubs[1].left(nil); err != nil {
			t.Error(err)
		}
		cancel()
		<-ended
	}
	c.ben.write(result(late, "1")) // is of no use to anybody
	c.ben.invoke("ID")
	c.awaitIdle()
}

// A client may take its time: the node that asks says that it still waits.
func TestQuestionIsKept(t *testing.T) {
	var asked counter
	c := newTapped(t, asked.tap, leased(300*time.Millisecond))
	id, ended := c.ask(t.Context())
	asked.awaitMore(t, backplane.OpKeep, 2*leaseRenewals)
	c.ben.write(result(id, "1"))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	c.awaitIdle()
}

// Who asks does not wait for ever for an answer that was lost on its way, or that the
// client's node does not wait for any more.
func TestQuestionThatIsLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(c *cluster, id string)
		want error
	}{
		{"forgotten", func(c *cluster, _ string) { c.hubs[1].holdings.dropAll() }, backplane.ErrUnavailable},
		{"the connection with it", func(c *cluster, _ string) {
			c.hubs[1].holdings.dropAll()
			c.ben.conn.Close()
		}, ErrDisconnected},
		{"its node has died", func(c *cluster, _ string) { receiver{c.hubs[0]}.NodeDied(c.planes[1].NodeID()) }, ErrDisconnected},
		{"its node has left", func(c *cluster, _ string) { receiver{c.hubs[0]}.NodeLeft(c.planes[1].NodeID()) }, ErrDisconnected},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t, leased(100*time.Millisecond))
			id, ended := c.ask(t.Context())
			await.Until(t, "who asks knows that he was asked", func() error { return c.hubs[0].hasAsked() })
			tt.lose(c, id)
			if err := <-ended; !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			c.awaitIdle()
		})
	}
}

// hasAsked returns nil if a client of another node is known to have been asked.
func (h *Hub) hasAsked() error {
	h.operations.mu.Lock()
	defer h.operations.mu.Unlock()
	for _, p := range h.operations.pending {
		if p.asked != "" {
			return nil
		}
	}
	return errors.New("nobody is")
}

// A hub that is shut down waits for no answer.
func TestQuestionEndsWithTheHub(t *testing.T) {
	c := newCluster(t)
	_, ended := c.ask(t.Context())
	await.Until(t, "ben has been asked", func() error { return c.hubs[0].hasAsked() })
	c.ada.conn.Close()
	if err := c.hubs[0].Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	c.awaitHeld(1, 0)
}

// Over Redis, nothing stays either: neither of a question that was given up, nor of those
// of a node that has died.
func TestQuestionsOfTheFleetAreForgotten(t *testing.T) {
	f := newFleet(t, 2, 200*time.Millisecond)
	ask := func() (cancel context.CancelFunc, ended <-chan error) {
		ada := f.nodes[1].board(t, "ada", protocol.JSON)
		asked := ada.puzzle(t)
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan error, 1)
		go func() { // ends with ctx
			_, err := Invoke[int](ctx, f.nodes[0].Clients().Client(ada.id), "Puzzle")
			results <- err
		}()
		<-asked
		await.Until(t, "the question is held", func() error {
			if f.nodes[1].left(nil) == nil {
				return errors.New("it is not")
			}
			return nil
		})
		return cancel, results
	}
	forgotten := func() {
		await.Until(t, "it is forgotten", func() error { return f.nodes[1].left(nil) })
	}
	cancel, ended := ask()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	forgotten()

	cancel, ended = ask()
	f.nodes[0].proxy.Freeze()
	t.Cleanup(f.nodes[0].proxy.Thaw)
	forgotten()
	cancel()
	<-ended
}
