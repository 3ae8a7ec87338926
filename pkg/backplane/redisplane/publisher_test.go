package redisplane

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

func startPublisher(t testing.TB, prefix, url string, options ...func(*Options)) *Publisher {
	t.Helper()
	o := Options{URL: url, Logger: slog.New(slog.DiscardHandler)}
	for _, set := range options {
		set(&o)
	}
	p, err := NewPublisher(prefix, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// Nodes that demand signatures hear a publisher with the key, in order, and no other; and
// nobody takes it for a node.
func TestPublisher(t *testing.T) {
	redis := redistest.Start(t)
	n := start(t, redis.URL(), keyed(firstKey), demanding)
	n.join(t, "a")
	registry := prometheus.NewRegistry()
	p := startPublisher(t, "", redis.URL(), keyed(firstKey), func(o *Options) { o.Registerer = registry })
	stranger := startPublisher(t, "", redis.URL(), keyed(secondKey))
	other := startPublisher(t, "chat/", redis.URL(), keyed(firstKey))
	var want []string
	for i := range 100 {
		for _, publisher := range []*Publisher{stranger, other, p} {
			if err := publisher.Publish(inTime(t), fmt.Append(nil, i), "a", "nobody's"); err != nil {
				t.Fatal(err)
			}
		}
		want = append(want, fmt.Sprint("a ", i))
	}
	n.expect(t, want...)
	nodes, err := n.Nodes(inTime(t))
	if err != nil || len(nodes) != 1 {
		t.Errorf("roster is %v, %v", nodes, err)
	}
	ids, err := redis.Client().SMembers(inTime(t), rosterKey).Result()
	if err != nil || len(ids) != 1 {
		t.Errorf("Redis has %q, %v", ids, err)
	}
	if got := testutil.ToFloat64(p.metrics.published); got != 200 {
		t.Errorf("%v published", got)
	}
	p.Close()
	if left, err := testutil.GatherAndCount(registry); err != nil || left != 0 {
		t.Errorf("%d metrics are left, %v", left, err)
	}
}

// The errors are the lane's: surely not sent, or unknown.
func TestPublisherErrors(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	p := startPublisher(t, "", proxy.URL(), func(o *Options) { o.PublishTimeout = 100 * time.Millisecond })
	if err := p.Publish(inTime(t), nil, "a"); err != nil {
		t.Fatal(err)
	}
	redis.Pause()
	expectError(t, "no answer", p.Publish(inTime(t), nil, "a"), backplane.ErrUnknown)
	redis.Resume()
	proxy.Refuse(true)
	proxy.Cut()
	expectError(t, "no connection", p.Publish(inTime(t), nil, "a"), backplane.ErrNotSent)
	p.Close()
	p.Close()
	expectError(t, "closed", p.Publish(inTime(t), nil, "a"), backplane.ErrNotSent, backplane.ErrClosed)
}

func TestPublisherRefuses(t *testing.T) {
	if _, err := NewPublisher("no prefix", Options{URL: "redis://localhost"}); err == nil {
		t.Error("took a prefix that is none")
	}
	if _, err := NewPublisher("", Options{URL: "http://localhost"}); err == nil {
		t.Error("took a URL that is none")
	}
}
