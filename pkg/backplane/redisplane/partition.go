package redisplane

import (
	"context"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A partition is the part of the channels that share one order: they are at one Redis, and
// this node publishes on them over one connection, and hears them over another.
type partition struct {
	plane      *Plane
	began      time.Time
	health     *health // whether this node hears the partition
	site       *site
	lane       *lane
	subscriber *subscriber
	prober     *prober
	commands   *commander // for the operations that are kept, and what else is in Redis
	keeper     *keeper

	// The receive loop's alone:

	demanded *backplane.EnvelopeKeys // one must have signed what arrives; nil: none need have
	gate     gate
}

// newPartition returns partition n, which does nothing before it is started.
func newPartition(plane *Plane, o Options, t target, l *lookout, n int) *partition {
	if len(t.layout.tags) > 1 {
		o.Logger = o.Logger.With("partition", n)
	}
	h := newHealth(o.Logger)
	h.later = n > 0
	h.changed = func() { plane.roster.announce() }
	s := newSite(t, l, n, h)
	p := &partition{plane: plane, began: time.Now(), health: h, site: s}
	if o.RequireSigned {
		p.demanded = o.envelopeKeys()
	}
	p.lane = newLane(o, s, plane.id, plane.incarnation, plane.metrics)
	p.subscriber = newSubscriber(o, s, string(backplane.Node(plane.id)), plane.metrics, h)
	p.prober = newProber(o, p.lane, p.subscriber, h)
	p.commands = newCommander(o, s)
	p.keeper = newKeeper(o, plane.id, p.commands, p.subscriber, p.prober)
	p.keeper.ledger = func(of *attachment) *ledger { return of.ledger(p) }

	h.proven = p.prober.lag.proven
	p.prober.renewed = p.commands.renew
	p.subscriber.connecting = p.shut
	p.subscriber.connected = p.prober.probe
	p.subscriber.deliver = p.arrive
	p.subscriber.restored = p.keeper.read
	p.subscriber.settled = p.prober.probe
	if !plane.withoutClients {
		p.keeper.performing = plane.attachments.all
	}
	return p
}

// start starts the partition's goroutines, which end with ctx, or with close.
func (p *partition) start(ctx context.Context, wg *sync.WaitGroup) {
	wg.Go(p.lane.run)
	wg.Go(func() { p.subscriber.run(ctx) })
	wg.Go(func() { p.prober.run(ctx) })
	wg.Go(func() { p.keeper.run(ctx) })
}

// close ends what is published and what is asked of Redis. What waits is not sent; what is
// in flight is given a second.
func (p *partition) close() {
	p.lane.close()
	p.commands.close()
}
