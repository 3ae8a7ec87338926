package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

func testNodeID(t *testing.T, cluster Cluster) {
	seen := make(map[string]bool)
	for range 3 {
		n := startPlane(t, cluster)
		id := n.NodeID()
		if id == "" || len(id) > backplane.MaxPublisher {
			t.Errorf("node identifier %q has %d bytes", id, len(id))
		}
		if seen[id] {
			t.Errorf("two nodes are %q", id)
		}
		seen[id] = true
		if again := n.NodeID(); again != id {
			t.Errorf("node %q calls itself %q later", id, again)
		}
	}
}

func testHealthy(t *testing.T, cluster Cluster) {
	n := cluster.Node(t)
	await.Until(t, "the node is healthy", n.Healthy)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	expectError(t, "healthy after Close", n.Healthy(), backplane.ErrClosed)
}

func testPrefixes(t *testing.T, cluster Cluster) {
	n := startPlane(t, cluster)
	for _, prefix := range []string{"", "a/", "0/", "-/", "_/", "Chat_1-b/"} {
		if a, err := n.Attach(prefix, newRecorder(t)); err != nil {
			t.Errorf("prefix %q: %v", prefix, err)
		} else {
			a.Detach()
		}
	}
	for _, prefix := range []string{"a", "/", "a//", "/a/", "a/b/", "a b/", "a:/", "ä/", "a/\n", "\na/", "*/", "a/ ", "\x00/", "user:a/"} {
		if _, err := n.Attach(prefix, newRecorder(t)); err == nil {
			t.Errorf("prefix %q was accepted", prefix)
		}
	}
}

// It is an error to attach two receivers under one prefix, until Detach gives it up.
func testPrefixTaken(t *testing.T, cluster Cluster) {
	one, two := startPlane(t, cluster), startPlane(t, cluster)
	for _, prefix := range []string{"", "test/"} {
		var taken atomic.Pointer[backplane.Attachment]
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() {
				if a, err := one.Attach(prefix, newRecorder(t)); err == nil && taken.Swap(&a) != nil {
					t.Errorf("prefix %q was attached twice", prefix)
				}
			})
		}
		group.Wait()
		if taken.Load() == nil {
			t.Fatalf("prefix %q could not be attached", prefix)
		}
		attach(t, two, prefix)
		(*taken.Load()).Detach()
		attach(t, one, prefix)
	}
}

// What is published under one prefix arrives under no other.
func testPrefixesIsolate(t *testing.T, cluster Cluster) {
	planes := []backplane.Backplane{startPlane(t, cluster), startPlane(t, cluster)}
	prefixes := []string{"", "a/", "A/", "aa/", "a-a/"}
	nodes := make(map[string][]*node)
	for _, prefix := range prefixes {
		for _, plane := range planes {
			n := attach(t, plane, prefix)
			n.subscribe(t, "channel", backplane.User("a/"))
			nodes[prefix] = append(nodes[prefix], n)
		}
	}
	for _, prefix := range prefixes {
		nodes[prefix][0].publish(t, prefix, "channel", backplane.User("a/"), backplane.All)
	}
	for _, prefix := range prefixes {
		for _, n := range nodes[prefix] {
			nodes[prefix][0].flush(t, n)
			n.awaitCount(t, 3)
			n.expect(t, message{"channel", prefix}, message{backplane.User("a/"), prefix}, message{backplane.All, prefix})
		}
	}
}

// Detach gives up everything held, and ends what the attachment can do.
func testDetach(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, plane := start(t, cluster), startPlane(t, cluster)
	gone, other := attach(t, plane, ""), attach(t, plane, "other/")
	gone.subscribe(t, ch)
	other.subscribe(t, ch)
	wait := gone.Subscribe("later")
	gone.Detach()
	gone.Detach()

	expectError(t, "publish", gone.Publish(t.Context(), nil, ch), backplane.ErrClosed, backplane.ErrNotSent)
	expectError(t, "wait", inTime(t, gone.Subscribe(ch)), backplane.ErrClosed)
	if err := inTime(t, wait); err != nil { // it may have been in force in time
		expectError(t, "wait from before", err, backplane.ErrClosed)
	}
	gone.Unsubscribe(ch, "later", "never", backplane.All)

	// The next under the prefix begins with nothing, and the others keep what they have.
	next := attach(t, plane, "")
	sender.publish(t, "after", ch, "later")
	attach(t, startPlane(t, cluster), "other/").publish(t, "to other", ch)
	other.await(t, message{ch, "to other"})
	sender.flush(t, next)
	gone.expect(t)
	next.subscribe(t, ch)
	sender.publish(t, "to next", ch)
	next.await(t, message{ch, "to next"})
	gone.expect(t)
}

// Detach does not wait for the Deliver call in progress, and none follows it.
func testDetachDuringDeliver(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, plane := start(t, cluster), startPlane(t, cluster)
	gate := newGate(t)
	gone, other := attachReceiver(t, plane, "", gate, gate.recorder), attach(t, plane, "other/")
	gone.subscribe(t, ch)
	sender.publish(t, holdGate, ch)
	gate.awaitHeld(t)
	for i := range 100 {
		sender.publish(t, strconv.Itoa(i), ch)
	}
	returns(t, "Detach during Deliver", gone.Detach)
	gate.open()
	// The same receive loop, if there is one, comes to this after the hundred.
	attach(t, startPlane(t, cluster), "other/").flush(t, other)
	if err := plane.Close(); err != nil {
		t.Error(err)
	}
	if n := gone.calls(); n != 0 {
		t.Errorf("Deliver was called %d times after Detach", n)
	}
}

// After Close all calls fail, and further ones of Close do nothing.
func testClose(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, plane := start(t, cluster), startPlane(t, cluster)
	closed, other := attach(t, plane, ""), attach(t, plane, "other/")
	closed.subscribe(t, ch)
	for range 2 {
		if err := plane.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if id := plane.NodeID(); id == "" {
		t.Error("no node identifier")
	}
	_, err := plane.Attach("new/", newRecorder(t))
	expectError(t, "attach", err, backplane.ErrClosed)
	_, err = plane.Attach("", newRecorder(t))
	expectError(t, "attach again", err, backplane.ErrClosed)
	for _, n := range []*node{closed, other} {
		expectError(t, "publish", n.Publish(t.Context(), nil, ch), backplane.ErrClosed, backplane.ErrNotSent)
		expectError(t, "wait", inTime(t, n.Subscribe(ch)), backplane.ErrClosed)
		n.Unsubscribe(ch, "never")
		n.Detach()
	}
	sender.publish(t, "after", ch)
	sender.flush(t, sender)
	closed.expect(t)
}

// Calls in progress end with ErrClosed or their result, and no Deliver follows.
func testCloseInTheMiddle(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, plane := start(t, cluster), startPlane(t, cluster)
	closed := attach(t, plane, "")
	closed.subscribe(t, ch)
	ctx, cancel := context.WithCancel(t.Context())
	var group, others sync.WaitGroup
	defer others.Wait()
	defer group.Wait()
	defer cancel()
	for g := range 4 {
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := closed.Subscribe(backplane.User(fmt.Sprint(g, " ", i)))(ctx); err != nil {
					expectError(t, "wait", err, backplane.ErrClosed)
					return
				}
				runtime.Gosched() // or, with one processor, little else happens
			}
		})
		group.Go(func() {
			for ctx.Err() == nil {
				if err := closed.Publish(ctx, []byte("own"), ch); err != nil {
					expectError(t, "publish", err, backplane.ErrClosed)
					return
				}
				runtime.Gosched()
			}
		})
	}
	others.Go(func() {
		for ctx.Err() == nil {
			sender.publish(t, "other", ch)
		}
	})
	closed.awaitCount(t, 100)
	if err := plane.Close(); err != nil {
		t.Error(err)
	}
	calls := closed.calls()
	returns(t, "a call in progress during Close", group.Wait)
	sender.flush(t, sender)
	if late := closed.calls() - calls; late != 0 {
		t.Errorf("Deliver was called %d times after Close", late)
	}
}

// Close waits for a Deliver call in progress.
func testCloseDuringDeliver(t *testing.T, cluster Cluster) {
	sender, plane := start(t, cluster), startPlane(t, cluster)
	gate := newGate(t)
	closed := attachReceiver(t, plane, "", gate, gate.recorder)
	sender.publish(t, holdGate, backplane.All)
	gate.awaitHeld(t)
	returned := make(chan bool)
	go func() {
		if err := plane.Close(); err != nil {
			t.Error(err)
		}
		returned <- gate.left.Load()
	}()
	await.Until(t, "Close has begun", func() error {
		if err := closed.Publish(t.Context(), nil, "nobody"); !errors.Is(err, backplane.ErrClosed) {
			return fmt.Errorf("publish: %v", err)
		}
		return nil
	})
	gate.open()
	var left bool
	returns(t, "Close", func() { left = <-returned })
	if !left {
		t.Error("Close returned while a Deliver call was in progress")
	}
}

// Close ends all goroutines.
func testCloseEndsGoroutines(t *testing.T, cluster Cluster) {
	before := goleak.IgnoreCurrent()
	for range 3 {
		one, two := startPlane(t, cluster), startPlane(t, cluster)
		sender, receiver := attach(t, one, ""), attach(t, two, "")
		receiver.subscribe(t, "channel")
		sender.publish(t, "hi", "channel")
		receiver.await(t, message{"channel", "hi"})
		for _, plane := range []backplane.Backplane{one, two} {
			if err := plane.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}
