package redisplane

import (
	"slices"
	"testing"

	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

func withoutClients(o *Options) { o.WithoutClients = true }

// A node without clients sees the others and gets replies, and is neither seen nor
// subscribed to anything else.
func TestWithoutClients(t *testing.T) {
	redis := redistest.Start(t)
	n, other := start(t, redis.URL()), start(t, redis.URL(), withoutClients)
	own := backplane.Node(other.NodeID())
	other.join(t, own)
	n.join(t, backplane.All)
	for _, asks := range []*node{n, other} {
		nodes, err := asks.Nodes(inTime(t))
		if err != nil || len(nodes) != 1 || nodes[0].ID != n.NodeID() {
			t.Errorf("roster is %v, %v", nodes, err)
		}
	}
	expectError(t, "subscribe", other.Subscribe("a")(inTime(t)), backplane.ErrUnavailable)
	expectError(t, "subscribe to its own and others", other.Subscribe(own, backplane.All)(inTime(t)), backplane.ErrUnavailable)
	other.Unsubscribe("a", own)
	want := []string{"all", "node:" + n.NodeID(), "node:" + other.NodeID()}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(redis.Channels(t))); !slices.Equal(got, want) {
		t.Errorf("Redis has channels %q, want %q", got, want)
	}
	n.send(t, "to all", backplane.All)
	n.send(t, "a reply", own)
	other.expect(t, string(own)+" a reply")
	other.send(t, "asked", backplane.All)
	n.expect(t, "all to all", "all asked")
}
