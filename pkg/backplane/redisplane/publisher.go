package redisplane

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A Publisher publishes on the channels of one hub, for a program that is no node: it
// hears nothing, is not in the roster, and has one connection to Redis, or in a Redis Cluster
// one for each partition in which it has published. What it publishes
// has the promises of [Plane]: in the order of the calls, at most once, and never repeated.
// Its methods may be called concurrently.
type Publisher struct {
	prefix     string
	layout     layout
	lanes      *shelf[lane] // of the partitions in which something has been published
	metrics    *metrics
	registerer prometheus.Registerer  // nil: none
	registered []prometheus.Collector // unregistered by Close

	leave context.CancelFunc // ends the lookout's goroutine
	wg    sync.WaitGroup     // the lanes' goroutines
	away  sync.WaitGroup     // the lookout's
	once  sync.Once          // of Close
}

// NewPublisher returns a Publisher for the hub whose channels have the prefix, as in
// [Plane.Attach]. It connects when it first publishes, and whenever the connection was
// lost. Of the options, SubscribeTimeout, ProbeInterval and RequireSigned do not matter.
// With Keys, it signs what it publishes, as nodes do. That its URL has other partitions than
// those of nodes, nobody notices but who misses its messages. Close it when it is no longer used.
func NewPublisher(prefix string, options Options) (*Publisher, error) {
	if err := backplane.CheckPrefix(prefix); err != nil {
		return nil, fmt.Errorf("redis publisher: %w", err)
	}
	o, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("redis publisher: %w", err)
	}
	t, err := o.target()
	if err != nil {
		return nil, fmt.Errorf("redis publisher: URL: %w", err)
	}
	logLibrary(o.Logger)
	p := &Publisher{prefix: prefix, layout: t.layout, metrics: newMetrics(), registerer: o.Registerer}
	l := newLookout(t, o)
	name, incarnation := uuid.NewString(), uint64(time.Now().UnixNano())
	p.lanes = newShelf(len(t.layout.tags), func(n int) *lane {
		at := newSite(t, l, n, newHealth(o.Logger)) // nobody asks whether it hears
		one := newLane(o, at, name, incarnation, p.metrics)
		p.wg.Go(one.run)
		return one
	})
	if p.registered, err = register(o.Registerer, p.metrics.published, p.metrics.pipelines, p.metrics.errors); err != nil {
		return nil, fmt.Errorf("redis publisher: register metrics: %w", err)
	}
	here, leave := context.WithCancel(context.Background())
	p.leave = leave
	p.away.Go(func() { l.run(here) })
	return p, nil
}

// Publish hands body to the nodes subscribed to each of the channels, with the errors of
// [backplane.Attachment]. That there is no such node is no error.
func (p *Publisher) Publish(ctx context.Context, body []byte, channels ...backplane.Channel) error {
	_, err := publish(ctx, p.layout, p.lanes.get, body, p.prefix, channels)
	p.metrics.publishError(err)
	return err
}

// Close ends the Publisher and its goroutines. What waits to be published is not sent, and
// its Publish calls fail; what is in flight is given a second. Further calls of Close do
// nothing.
func (p *Publisher) Close() error {
	p.once.Do(func() {
		p.lanes.close()
		for _, l := range p.lanes.all() {
			p.wg.Go(l.close)
		}
		p.wg.Wait()
		p.leave()
		p.away.Wait()
		unregister(p.registerer, p.registered)
	})
	return nil
}
