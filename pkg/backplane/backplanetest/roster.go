package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// PublishCounted tells how many subscribers it was handed to: where there are none, no
// node was subscribed.
func testPublishCounted(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("counted")
	sender, one, two := start(t, cluster), start(t, cluster), start(t, cluster)
	other := attach(t, startPlane(t, cluster), "other/")
	count := func(body string) (n int) {
		t.Helper()
		err := inTime(t, func(ctx context.Context) (err error) {
			n, err = sender.PublishCounted(ctx, []byte(body), ch)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	other.subscribe(t, ch)
	if n := count("nobody"); n != 0 {
		t.Errorf("%d subscribers, want none", n)
	}
	one.subscribe(t, ch)
	if n := count("one"); n != 1 {
		t.Errorf("%d subscribers, want 1", n)
	}
	two.subscribe(t, ch)
	sender.subscribe(t, ch)
	if n := count("three"); n != 3 {
		t.Errorf("%d subscribers, want 3", n)
	}
	for _, n := range []*node{one, two, sender} {
		n.Unsubscribe(ch)
	}
	await.Until(t, "nobody is subscribed", func() error {
		if n := count(newMarker()); n != 0 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	sender.flush(t, one, two, sender)
	one.expect(t, message{ch, "one"}, message{ch, "three"})
	two.expect(t, message{ch, "three"})
	sender.expect(t, message{ch, "three"})
	other.expect(t)
}

// PublishCounted fails as Publish does.
func testPublishCountedFails(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	receiver := start(t, cluster)
	receiver.subscribe(t, ch)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	plane := startPlane(t, cluster)
	detached, closed := attach(t, plane, ""), attach(t, plane, "closed/")
	fails := func(n *node, ctx context.Context, want error) {
		t.Helper()
		subscribers, err := n.PublishCounted(ctx, []byte("not sent"), ch)
		expectError(t, "publish", err, backplane.ErrNotSent, want)
		if subscribers != 0 {
			t.Errorf("it was not sent, to %d subscribers", subscribers)
		}
	}
	fails(detached, cancelled, context.Canceled)
	detached.Detach()
	fails(detached, t.Context(), backplane.ErrClosed)
	if err := plane.Close(); err != nil {
		t.Fatal(err)
	}
	fails(closed, t.Context(), backplane.ErrClosed)
	receiver.flush(t, receiver)
	receiver.expect(t)
}

// A node is in the roster of each of its prefixes from the first confirmed subscription
// on, and until it is closed.
func testNodes(t *testing.T, cluster Cluster) {
	one, two, three := startPlane(t, cluster), startPlane(t, cluster), startPlane(t, cluster)
	a1, b1 := attach(t, one, "a/"), attach(t, one, "b/")
	expectNodes(t, a1, one)
	a2 := attach(t, two, "a/")
	expectNodes(t, a1, one, two)
	expectNodes(t, a2, one, two)
	expectNodes(t, b1, one)
	b3 := attach(t, three, "b/")
	attach(t, three, "")
	expectNodes(t, a1, one, two)
	expectNodes(t, b1, one, three)
	expectNodes(t, b3, one, three)

	b3.Detach()
	awaitNodes(t, b1, one)
	expectNodes(t, attach(t, three, "b/"), one, three)
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	expectNodes(t, a1, one)
	expectNodes(t, b1, one, three)
	for _, plane := range []backplane.Backplane{one, three} {
		if err := plane.Close(); err != nil {
			t.Fatal(err)
		}
	}
	last := startPlane(t, cluster)
	expectNodes(t, attach(t, last, "b/"), last)
}

// Who has left is told to the others that serve the prefix, whether the node was closed
// or the attachment alone.
func testNodeLeft(t *testing.T, cluster Cluster) {
	one, two, three := startPlane(t, cluster), startPlane(t, cluster), startPlane(t, cluster)
	a1, b1 := attach(t, one, "a/"), attach(t, one, "b/")
	a2, b2 := attach(t, two, "a/"), attach(t, two, "b/")
	a3 := attach(t, three, "a/")
	for _, n := range []*node{a1, a2, a3} {
		expectNodes(t, n, one, two, three) // who has been returned is told of
	}
	for _, n := range []*node{b1, b2} {
		expectNodes(t, n, one, two)
	}

	a2.Detach()
	a1.awaitLeft(t, two)
	a3.awaitLeft(t, two)
	if err := three.Close(); err != nil {
		t.Fatal(err)
	}
	a1.awaitLeft(t, two, three)
	b2.Detach()
	b1.awaitLeft(t, two)
	b2.awaitLeft(t)
	a2.awaitLeft(t)
	a3.awaitLeft(t, two)
}

// Nodes that hear are in the roster as such.
func testNodesHear(t *testing.T, cluster Cluster) {
	one, two := startPlane(t, cluster), startPlane(t, cluster)
	a1 := attach(t, one, "")
	attach(t, two, "")
	for _, plane := range []backplane.Backplane{one, two} {
		await.Until(t, "the node is healthy", plane.Healthy)
		want := backplane.NodeState{ID: plane.NodeID(), Hearing: true}
		await.Until(t, "the node is known to hear", func() error {
			nodes, err := a1.Nodes(t.Context())
			if err == nil && !slices.Contains(nodes, want) {
				err = fmt.Errorf("the roster is %v", nodes)
			}
			return err
		})
	}
}

// Nodes fails where there is no attachment any more.
func testNodesFails(t *testing.T, cluster Cluster) {
	plane := startPlane(t, cluster)
	detached, closed := attach(t, plane, ""), attach(t, plane, "closed/")
	detached.Detach()
	if err := closedError(detached); err != nil {
		t.Errorf("after Detach: %v", err)
	}
	if err := plane.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{detached, closed} {
		if err := closedError(n); err != nil {
			t.Errorf("after Close: %v", err)
		}
	}
}

// closedError returns nil if Nodes says that it is closed, and no more.
func closedError(n *node) error {
	nodes, err := n.Nodes(context.Background())
	if !errors.Is(err, backplane.ErrClosed) || nodes != nil {
		return fmt.Errorf("the roster is %v, error %w", nodes, err)
	}
	return nil
}

// expectNodes fails the test if the roster is not this.
func expectNodes(t *testing.T, n *node, want ...backplane.Backplane) {
	t.Helper()
	if err := nodesAre(t, n, want); err != nil {
		t.Error(err)
	}
}

// awaitNodes waits until the roster is this.
func awaitNodes(t *testing.T, n *node, want ...backplane.Backplane) {
	t.Helper()
	await.Until(t, "the roster is as it should be", func() error { return nodesAre(t, n, want) })
}

func nodesAre(t *testing.T, n *node, want []backplane.Backplane) error {
	var ids, wanted []string
	err := inTime(t, func(ctx context.Context) error {
		nodes, err := n.Nodes(ctx)
		for _, of := range nodes {
			ids = append(ids, of.ID)
		}
		return err
	})
	for _, plane := range want {
		wanted = append(wanted, plane.NodeID())
	}
	slices.Sort(ids)
	slices.Sort(wanted)
	if err == nil && !slices.Equal(ids, wanted) {
		err = fmt.Errorf("the roster is %q, want %q", ids, wanted)
	}
	return err
}
