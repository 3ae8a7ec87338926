package hub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// A mute is a node that has a connection, or so it seems. It knows at most that.
type mute struct {
	plane      backplane.Backplane
	attachment backplane.Attachment
	exists     atomic.Bool // it says that the connection is there
}

// withMutes starts a hub, and nodes beside it that are subscribed for the connection
// "mute".
func withMutes(t *testing.T, n int, options ...Option) (*Hub, []*mute) {
	t.Helper()
	var bus backplane.Bus
	plane := bus.Join()
	t.Cleanup(func() { plane.Close() })
	h, _ := serve(t, &remote{}, append([]Option{WithBackplane(plane), WithClusterKeys(make([]byte, 32))}, options...)...)
	mutes := make([]*mute, n)
	for i := range mutes {
		m := &mute{plane: bus.Join()}
		t.Cleanup(func() { m.plane.Close() })
		var err error
		if m.attachment, err = m.plane.Attach("", m); err != nil {
			t.Fatal(err)
		}
		mutes[i] = m
	}
	mutes[0].attachment.Subscribe(backplane.Connection("mute"))
	return h, mutes
}

func (m *mute) Deliver(ch backplane.Channel, body []byte) {
	keys := [][]byte{make([]byte, 32)}
	o, err := backplane.ParseOperation(body, keys, ch)
	if err != nil || o.Kind != backplane.OpExists || !m.exists.Load() {
		return
	}
	to := backplane.Node(o.Asker)
	reply := backplane.AppendReply(nil, keys, to, backplane.Reply{ID: o.ID, Node: m.plane.NodeID(), Outcome: backplane.OutcomeDone})
	go m.attachment.Publish(context.Background(), reply, to) // ends with the plane
}

// onMute is what can be done to a connection of another node.
func onMute(t *testing.T, h *Hub) map[string]func() error {
	return map[string]func() error{
		"close":           func() error { return h.CloseConnection(t.Context(), "mute") },
		"add":             func() error { return h.Groups().Add(t.Context(), "mute", "room") },
		"remove":          func() error { return h.Groups().Remove(t.Context(), "mute", "room") },
		"remove from all": func() error { return h.Groups().RemoveFromAll(t.Context(), "mute") },
		"ask": func() error {
			_, err := Invoke[int](t.Context(), h.Clients().Client("mute"), "Answer")
			return err
		},
	}
}

// The node of a connection that does not answer is named: if it is found to be the one,
// it alone, and else all that it may be.
func TestUnansweredOperationOnConnection(t *testing.T) {
	h, mutes := withMutes(t, 2, WithOperationTimeout(300*time.Millisecond))
	for _, known := range []bool{false, true} {
		mutes[0].exists.Store(known)
		want := []string{mutes[0].plane.NodeID()}
		if !known {
			want = slices.Sorted(slices.Values([]string{mutes[0].plane.NodeID(), mutes[1].plane.NodeID()}))
		}
		for name, do := range onMute(t, h) {
			err := do()
			unanswered, ok := errors.AsType[*UnansweredError](err)
			if !ok || !slices.Equal(unanswered.Nodes, want) || !errors.Is(err, backplane.ErrUnavailable) {
				t.Errorf("%s, known %v: got %v, want %q named", name, known, err, want)
			}
		}
	}
}

// When the node goes that had the connection, nobody waits for it.
func TestOperationOnConnectionOfNodeThatLeaves(t *testing.T) {
	for name := range onMute(t, nil) {
		t.Run(name, func(t *testing.T) {
			h, mutes := withMutes(t, 2, WithOperationTimeout(time.Hour))
			ended := make(chan error, 1)
			go func() { ended <- onMute(t, h)[name]() }()
			await.Until(t, "it is under way", func() error {
				if h.left(nil) == nil {
					return errors.New("it is not")
				}
				return nil
			})
			for _, m := range slices.Backward(mutes) { // that the other leaves means nothing
				m.plane.Close()
			}
			if err := <-ended; !errors.Is(err, ErrNoConnection) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A node that leaves in order is not waited for, nor is one that died.
func TestOperationWhileANodeLeaves(t *testing.T) {
	for name, leave := range map[string]func(*Hub, *mute){
		"closed":   func(_ *Hub, m *mute) { m.plane.Close() },
		"detached": func(_ *Hub, m *mute) { m.attachment.Detach() },
		"died":     func(h *Hub, m *mute) { receiver{h}.NodeDied(m.plane.NodeID()) },
	} {
		t.Run(name, func(t *testing.T) {
			h, mutes := withMutes(t, 1, WithOperationTimeout(10*time.Second))
			ended := make(chan error, 1)
			go func() { ended <- h.Groups().RemoveUser(t.Context(), "ada", "room") }()
			await.Until(t, "it waits for the other node", func() error {
				h.operations.mu.Lock()
				defer h.operations.mu.Unlock()
				for _, p := range h.operations.pending {
					if p.waiting[mutes[0].plane.NodeID()] {
						return nil
					}
				}
				return errors.New("it does not")
			})
			leave(h, mutes[0])
			if err := <-ended; err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A node that has gone between the look at the roster and the wait is not waited for.
func TestNodeGoneBeforeItIsWaitedFor(t *testing.T) {
	var o operations
	p := o.expect()
	o.nodeGone("gone")
	p.waitFor([]string{"there", "gone"})
	if _, waiting := p.look(); !slices.Equal(waiting, []string{"there"}) {
		t.Errorf("waits for %q", waiting)
	}
}

// isReply reports whether something is one to another node's operation.
func isReply(ch backplane.Channel, body []byte) bool {
	return strings.HasPrefix(string(ch), "node:") && backplane.IsReply(body)
}

// A reply that cannot be published is published again.
func TestReplyIsRepeated(t *testing.T) {
	failures := make(chan error, 10)
	c := newTapped(t, func(ch backplane.Channel, body []byte) error {
		if !isReply(ch, body) {
			return nil
		}
		select {
		case err := <-failures:
			return err
		default:
			return nil
		}
	}, WithOperationTimeout(10*time.Second))
	for range 3 {
		failures <- backplane.ErrNotSent
		failures <- backplane.ErrUnknown
		if err := c.hubs[0].Groups().Add(t.Context(), c.benID, "room"); err != nil {
			t.Fatal(err)
		}
		if err := c.hubs[0].Groups().RemoveUser(t.Context(), "ben", "room"); err != nil {
			t.Fatal(err)
		}
	}
	id, ended := c.ask(t.Context())
	failures <- backplane.ErrNotSent
	c.ben.write(result(id, "1"))
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(failures) > 0 {
		t.Errorf("%d replies did not have to fail", len(failures))
	}
}

// A hub that is shut down answers first what it has been asked for.
func TestShutdownWaitsForReplies(t *testing.T) {
	replying, goOn := make(chan error), make(chan error)
	var node backplane.Channel
	c := newTapped(t, func(ch backplane.Channel, body []byte) error {
		if ch == node && isReply(ch, body) {
			replying <- nil
			return <-goOn
		}
		return nil
	}, WithOperationTimeout(time.Minute))
	one, two := c.hubs[0], c.hubs[1]
	node = backplane.Node(c.planes[0].NodeID())
	ended := make(chan error, 1)
	go func() { ended <- one.CloseConnection(t.Context(), c.benID) }()
	<-replying
	left := make(chan error, 1)
	c.ben.conn.Close() // which the transport would wait for
	go func() { left <- two.Shutdown(t.Context()) }()
	await.Until(t, "no more operations are taken", func() error {
		two.operations.mu.Lock()
		defer two.operations.mu.Unlock()
		if !two.operations.closed {
			return errors.New("they are")
		}
		return nil
	})
	if two.ctx.Err() != nil {
		t.Error("the hub has ended before it has answered")
	}
	goOn <- nil
	if err := <-ended; err != nil {
		t.Errorf("got %v", err)
	}
	if err := <-left; err != nil {
		t.Error(err)
	}
}

// The wait is bounded by the context of the shutdown.
func TestShutdownGivesUpReplies(t *testing.T) {
	replying := make(chan error, 100)
	var node backplane.Channel
	c := newTapped(t, func(ch backplane.Channel, body []byte) error {
		if ch == node && isReply(ch, body) {
			replying <- nil
			return backplane.ErrNotSent
		}
		return nil
	}, WithOperationTimeout(time.Hour))
	one, two := c.hubs[0], c.hubs[1]
	node = backplane.Node(c.planes[0].NodeID())
	ended := make(chan error, 1)
	go func() { ended <- one.CloseConnection(t.Context(), c.benID) }()
	<-replying
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := two.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shut down: %v", err)
	}
	if err := <-ended; !errors.Is(err, ErrNoConnection) { // as the node has left
		t.Errorf("got %v", err)
	}
}
