package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// A node is one attachment to a backplane, and what it has received.
type node struct {
	backplane.Attachment
	*recorder
}

// start starts a backplane and attaches to it without a prefix.
func start(t *testing.T, cluster Cluster) *node {
	t.Helper()
	return attach(t, startPlane(t, cluster), "")
}

// startPlane starts a backplane and closes it at the end of the test.
func startPlane(t *testing.T, cluster Cluster) backplane.Backplane {
	t.Helper()
	plane := cluster.Node(t)
	t.Cleanup(func() {
		if err := plane.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return plane
}

// attach returns when the node hears what is published on All.
func attach(t *testing.T, plane backplane.Backplane, prefix string) *node {
	t.Helper()
	r := newRecorder(t)
	return attachReceiver(t, plane, prefix, r, r)
}

// attachReceiver attaches a receiver that passes on to the recorder.
func attachReceiver(t *testing.T, plane backplane.Backplane, prefix string, receiver backplane.Receiver, r *recorder) *node {
	t.Helper()
	a, err := plane.Attach(prefix, receiver)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{a, r}
	n.subscribe(t, backplane.All)
	return n
}

// subscribe returns when the subscriptions are in force.
func (n *node) subscribe(t *testing.T, channels ...backplane.Channel) {
	t.Helper()
	if err := inTime(t, n.Subscribe(channels...)); err != nil {
		t.Fatal(err)
	}
}

// publish may be used by goroutines of the test, so it does not end it.
func (n *node) publish(t *testing.T, body string, channels ...backplane.Channel) {
	t.Helper()
	err := inTime(t, func(ctx context.Context) error { return n.Publish(ctx, []byte(body), channels...) })
	if err != nil {
		t.Errorf("publish %.40q: %v", body, err)
	}
}

// flush returns when what n has published before has arrived at the others, as far as
// it will.
func (n *node) flush(t *testing.T, others ...*node) {
	t.Helper()
	for _, ch := range n.partitions() {
		for _, other := range others {
			if ch != backplane.All {
				other.subscribe(t, ch)
				defer other.Unsubscribe(ch)
			}
		}
		marker := message{ch, newMarker()}
		n.publish(t, marker.body, marker.channel)
		for _, other := range others {
			other.await(t, marker)
		}
	}
}

// partitions returns a channel of each partition, All of its own: of as many as some
// hundred channels lie in.
func (n *node) partitions() []backplane.Channel {
	channels := []backplane.Channel{backplane.All}
	seen := map[int]bool{n.Partition(backplane.All): true}
	for i := range 512 {
		ch := backplane.Channel(fmt.Sprint("flush ", i))
		if p := n.Partition(ch); !seen[p] {
			seen[p] = true
			channels = append(channels, ch)
		}
	}
	return channels
}

// untilHeard waits until what n publishes on each of the channels arrives at the other.
func (n *node) untilHeard(t *testing.T, other *node, channels ...backplane.Channel) {
	t.Helper()
	n.probe(t, other, channels, true)
}

// untilUnheard waits until what n publishes on the channels arrives at the other on
// none of them.
func (n *node) untilUnheard(t *testing.T, other *node, channels ...backplane.Channel) {
	t.Helper()
	n.probe(t, other, channels, false)
}

func (n *node) probe(t *testing.T, other *node, channels []backplane.Channel, heard bool) {
	t.Helper()
	await.Until(t, fmt.Sprintf("channels are heard: %v", heard), func() error {
		body := newMarker()
		n.publish(t, body, channels...)
		n.flush(t, other)
		for _, ch := range channels {
			if other.has(message{ch, body}) != heard {
				return fmt.Errorf("%.40q is not so", string(ch))
			}
		}
		return nil
	})
}

// inTime calls f with a context that ends only if the test has failed.
func inTime(t *testing.T, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(t.Context(), await.Deadline)
	defer cancel()
	return f(ctx)
}

// returns fails the test if f does not return.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	returned := make(chan struct{})
	go func() { // left behind where the test fails
		defer close(returned)
		f()
	}()
	select {
	case <-returned:
	case <-time.After(await.Deadline):
		t.Fatalf("%s did not return within %v", what, await.Deadline)
	}
}

// expectError fails the test if err is not all of want.
func expectError(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: error %v, want %v", what, err, w)
		}
	}
}
