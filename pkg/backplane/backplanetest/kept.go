package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A node that hears gets what is kept as it gets anything else: once, in order, and by
// Deliver. Who publishes it learns how many subscribers there were.
func testPublishKept(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, receiver, stranger := start(t, cluster), start(t, cluster), start(t, cluster)
	sender.subscribe(t, ch)
	receiver.subscribe(t, ch)
	var want []message
	for i := range 100 {
		m := message{ch, strconv.Itoa(i)}
		want = append(want, m)
		if i%2 == 0 {
			sender.publish(t, m.body, ch)
			continue
		}
		var subscribers int
		err := inTime(t, func(ctx context.Context) (err error) {
			subscribers, err = sender.PublishKept(ctx, []byte(m.body), ch)
			return err
		})
		if err != nil || subscribers != 2 {
			t.Fatalf("handed to %d subscribers, %v; want 2", subscribers, err)
		}
	}
	for _, n := range []*node{sender, receiver} {
		n.awaitCount(t, len(want))
		n.Unsubscribe(ch)
		n.expectOn(t, want...)
	}
	if got := stranger.bodiesOn(ch); got != nil {
		t.Errorf("a node that is not subscribed got %q", got)
	}
}

// What is kept fails as what is not, when it is asked for under an end.
func testPublishKeptFails(t *testing.T, cluster Cluster) {
	n := start(t, cluster)
	n.Detach()
	err := inTime(t, func(ctx context.Context) error {
		subscribers, err := n.PublishKept(ctx, []byte("late"), backplane.All)
		if subscribers != 0 {
			err = errors.Join(err, fmt.Errorf("handed to %d subscribers", subscribers))
		}
		return err
	})
	if !errors.Is(err, backplane.ErrClosed) || !errors.Is(err, backplane.ErrNotSent) {
		t.Errorf("error %v, want %v and %v", err, backplane.ErrNotSent, backplane.ErrClosed)
	}
}
