package backplane_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/backplanetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBus(t *testing.T) {
	backplanetest.Run(t, func(*testing.T) backplanetest.Cluster {
		var bus backplane.Bus
		return backplanetest.Cluster{
			Node: func(*testing.T) backplane.Backplane { return bus.Join() },
		}
	})
}

// receiverFunc is a receiver made of a function.
type receiverFunc func(ch backplane.Channel, body []byte)

func (f receiverFunc) Deliver(ch backplane.Channel, body []byte) { f(ch, body) }

// join adds a node to the bus, attaches to it, and closes it in the end.
func join(t testing.TB, bus *backplane.Bus, r receiverFunc) (*backplane.Memory, backplane.Attachment) {
	t.Helper()
	m := bus.Join()
	a, err := m.Attach("", r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, a
}

func ignore(backplane.Channel, []byte) {}

func TestNewMemoryIsAlone(t *testing.T) {
	for range 2 {
		m := backplane.NewMemory()
		bodies := make(chan string, 2)
		a, err := m.Attach("", receiverFunc(func(_ backplane.Channel, body []byte) { bodies <- string(body) }))
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := a.Publish(t.Context(), []byte(m.NodeID()), backplane.All); err != nil {
			t.Fatal(err)
		}
		if got := <-bodies; got != m.NodeID() {
			t.Errorf("%q received what %q sent", m.NodeID(), got)
		}
	}
}

// A slowBus has a node whose queue is full, since it does not return from Deliver
// until it is opened. It lives in a synctest bubble.
type slowBus struct {
	open   func()
	slow   atomic.Int64 // calls of the slow node's Deliver
	quick  atomic.Int64 // calls of the other node's Deliver
	sent   int64        // bodies of 1 MiB, to both
	sender *backplane.Memory
	from   backplane.Attachment // the sender's
}

func newSlowBus(t *testing.T) *slowBus {
	var bus backplane.Bus
	opened := make(chan struct{})
	s := &slowBus{open: sync.OnceFunc(func() { close(opened) })}
	join(t, &bus, func(backplane.Channel, []byte) {
		s.slow.Add(1)
		<-opened
	})
	join(t, &bus, func(backplane.Channel, []byte) { s.quick.Add(1) })
	s.sender, s.from = join(t, &bus, ignore)
	t.Cleanup(s.open) // before Close, which waits for Deliver

	fill := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second) // of the bubble's time
		defer cancel()
		return s.from.Publish(ctx, make([]byte, 1<<20), backplane.All)
	}
	for s.sent < 100 && fill() == nil {
		s.sent++
		synctest.Wait() // until the receive loops have taken what they can
	}
	return s
}

func TestPublishWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowBus(t)
		if s.sent < 8 || s.sent > 10 {
			t.Errorf("%d MiB wait or are in delivery, want about 8", s.sent)
		}
		var published error
		var group sync.WaitGroup
		group.Go(func() { published = s.from.Publish(t.Context(), []byte("waits"), backplane.All) })
		synctest.Wait()
		if n := s.quick.Load(); n != s.sent {
			t.Errorf("the other node got %d, want %d: all get a body or none", n, s.sent)
		}
		s.open()
		group.Wait()
		synctest.Wait()
		if published != nil {
			t.Error(published)
		}
		if slow, quick := s.slow.Load(), s.quick.Load(); slow != s.sent+1 || quick != s.sent+1 {
			t.Errorf("the nodes got %d and %d, want %d", slow, quick, s.sent+1)
		}
	})
}

func TestPublishGivesUpWaiting(t *testing.T) {
	tests := []struct {
		name string
		end  func(s *slowBus, cancel func())
		want error
	}{
		{"context", func(_ *slowBus, cancel func()) { cancel() }, context.Canceled},
		{"detach", func(s *slowBus, _ func()) { s.from.Detach() }, backplane.ErrClosed},
		{"close", func(s *slowBus, _ func()) { s.sender.Close() }, backplane.ErrClosed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSlowBus(t)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var published error
				var group sync.WaitGroup
				group.Go(func() { published = s.from.Publish(ctx, []byte("waits"), backplane.All) })
				synctest.Wait()
				test.end(s, cancel)
				group.Wait()
				if !errors.Is(published, backplane.ErrNotSent) || !errors.Is(published, test.want) {
					t.Errorf("error %v, want %v and %v", published, backplane.ErrNotSent, test.want)
				}
				s.open()
				synctest.Wait()
				if slow, quick := s.slow.Load(), s.quick.Load(); slow != s.sent || quick != s.sent {
					t.Errorf("the nodes got %d and %d, want %d", slow, quick, s.sent)
				}
			})
		})
	}
}

func TestFullQueueHoldsUpOnlyItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSlowBus(t)
		if err := s.from.Publish(t.Context(), []byte("to nobody"), "nobody"); err != nil {
			t.Error(err)
		}
	})
}

func TestReceiversShareOneCopy(t *testing.T) {
	var bus backplane.Bus
	bodies := make(chan []byte, 2)
	_, a := join(t, &bus, func(_ backplane.Channel, body []byte) { bodies <- body })
	join(t, &bus, func(_ backplane.Channel, body []byte) { bodies <- body })
	sent := []byte("body")
	if err := a.Publish(t.Context(), sent, backplane.All); err != nil {
		t.Fatal(err)
	}
	one, two := <-bodies, <-bodies
	if &one[0] != &two[0] || &one[0] == &sent[0] {
		t.Error("not one copy")
	}
}

// All nodes of a bus see one order over all channels, whoever publishes.
func TestBusHasOneOrder(t *testing.T) {
	const nodes, messages = 3, 300
	var bus backplane.Bus
	var received [nodes][]string
	var planes [nodes]*backplane.Memory
	var attachments [nodes]backplane.Attachment
	var arrived sync.WaitGroup
	arrived.Add(nodes * nodes * messages)
	for i := range nodes {
		planes[i], attachments[i] = join(t, &bus, func(_ backplane.Channel, body []byte) {
			received[i] = append(received[i], string(body))
			arrived.Done()
		})
		attachments[i].Subscribe("a", "b")
	}
	var group sync.WaitGroup
	for i, a := range attachments {
		group.Go(func() {
			for m := range messages {
				ch := []backplane.Channel{backplane.All, "a", "b"}[m%3]
				if err := a.Publish(t.Context(), []byte(fmt.Sprint(i, " ", m)), ch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	arrived.Wait()
	for i := range nodes {
		if err := planes[i].Close(); err != nil { // after which its receive loop has ended
			t.Error(err)
		}
		if !slices.Equal(received[i], received[0]) {
			t.Errorf("nodes 0 and %d see different orders", i)
		}
	}
}

func TestCheckPrefix(t *testing.T) {
	for prefix, valid := range map[string]bool{"": true, "Chat-1_b/": true, "chat": false, "user:/": false, "a/b/": false, "/": false} {
		if err := backplane.CheckPrefix(prefix); (err == nil) != valid {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
}
