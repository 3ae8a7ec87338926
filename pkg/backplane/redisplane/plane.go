package redisplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A Plane is one node's access to a cluster whose nodes share a Redis. It implements
// [backplane.Backplane].
type Plane struct {
	id          string
	incarnation uint64
	registerer  prometheus.Registerer // nil: none
	registered  []prometheus.Collector
	metrics     *metrics
	layout      layout
	partitions  *shelf[partition]
	first       *partition // of them
	roster      *roster
	attachments attachments

	withoutClients   bool          // as in the options
	subscribeTimeout time.Duration // as in the options

	// arrivals is held while the receive loop of a partition takes in what has arrived: so
	// receivers are called one at a time. It guards window too.
	arrivals sync.Mutex
	window   backplane.Window

	stop context.CancelFunc // ends the goroutines of the partitions, and the roster's
	wg   sync.WaitGroup     // all goroutines but the lookout's

	leave context.CancelFunc // ends the lookout, which the others need to the end
	away  sync.WaitGroup     // the lookout's goroutine

	once sync.Once // of Close
}

var _ backplane.Backplane = (*Plane)(nil)

// New returns a Plane, which connects in the background, now and whenever the
// connection is lost: that Redis cannot be reached is no error. An option that is not
// valid is one. Close it when it is no longer used.
func New(options Options) (*Plane, error) {
	o, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("redis backplane: %w", err)
	}
	t, err := o.target()
	if err != nil {
		return nil, fmt.Errorf("redis backplane: URL: %w", err)
	}
	logLibrary(o.Logger)
	p := &Plane{
		id:               uuid.NewString(),
		incarnation:      uint64(time.Now().UnixNano()),
		registerer:       o.Registerer,
		metrics:          newMetrics(),
		layout:           t.layout,
		withoutClients:   o.WithoutClients,
		subscribeTimeout: o.SubscribeTimeout,
	}
	l := newLookout(t, o)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	p.partitions = newShelf(len(t.layout.tags), func(n int) *partition {
		q := newPartition(p, o, t, l, n)
		q.start(ctx, &p.wg)
		return q
	})
	p.first = newPartition(p, o, t, l, 0)
	p.partitions.things[0].Store(p.first)
	p.roster = newRoster(o, p.first.site, p.id, p.incarnation)
	if p.layout.isSharded() {
		p.roster.self.Partitions = len(p.layout.tags)
	}
	p.roster.served = p.served
	p.roster.gone = p.nodeGone
	p.roster.hears = func() bool { return p.Healthy() == nil }
	p.first.subscriber.connected = func() {
		p.first.prober.probe()
		p.roster.renew() // it may be another Redis, or an empty one
	}
	if p.registered, err = register(p.registerer, p.collectors()...); err != nil {
		stop()
		return nil, fmt.Errorf("redis backplane: register metrics: %w", err)
	}

	here, leave := context.WithCancel(context.Background())
	p.leave = leave
	p.away.Go(func() { l.run(here) })
	p.first.start(ctx, &p.wg)
	p.wg.Go(func() { p.roster.run(ctx) })
	return p, nil
}

// Advertise implements [backplane.Backplane]. The address goes into the node's signed
// announcement.
func (p *Plane) Advertise(address string) { p.roster.advertise(address) }

// NodeID implements [backplane.Backplane].
func (p *Plane) NodeID() string { return p.id }

// Healthy implements [backplane.Backplane]. A node hears when, in each partition in use, all
// that it holds is subscribed, it has taken in the operations that it had missed, and its own
// probe has come back over that connection; and when it has the channels where those nodes
// have them that were there before it.
func (p *Plane) Healthy() error {
	for n, q := range p.partitions.all() {
		err := q.health.check()
		if deaf, ok := errors.AsType[*backplane.DeafError](err); ok && len(p.layout.tags) > 1 {
			return &backplane.DeafError{Since: deaf.Since, Err: fmt.Errorf("partition %d: %w", n, deaf.Err)}
		}
		if err != nil {
			return err
		}
	}
	return p.roster.agreement.check()
}

// Heard implements [backplane.Backplane], by the node's own probes: that in the partition
// where the last one that was heard is the oldest.
func (p *Plane) Heard() time.Time {
	oldest := p.first.prober.lag.proven()
	for _, q := range p.partitions.all() {
		if heard := q.prober.lag.proven(); !heard.IsZero() && heard.Before(oldest) {
			oldest = heard
		}
	}
	return oldest
}

// Others implements [backplane.Backplane].
func (p *Plane) Others() []backplane.NodeState { return p.roster.directory.others(p.id) }

// Attach implements [backplane.Backplane].
func (p *Plane) Attach(prefix string, r backplane.Receiver) (backplane.Attachment, error) {
	if err := backplane.CheckPrefix(prefix); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	a := &attachment{plane: p, prefix: prefix, receiver: r, began: time.Now(), ledgers: make(map[*partition]*ledger)}
	a.ctx, a.end = context.WithCancel(context.Background())
	if err := p.attachments.add(a); err != nil {
		a.end()
		return nil, fmt.Errorf("attach: %w", err)
	}
	if !p.withoutClients {
		a.Subscribe(backplane.All)
	}
	p.roster.announce()
	return a, nil
}

// Close implements [backplane.Backplane]. What waits to be published is not sent; what
// is in flight is given a second, and so is telling the others that the node has left.
func (p *Plane) Close() error {
	p.once.Do(func() {
		for _, a := range p.attachments.close() {
			a.Detach()
		}
		p.partitions.close()
		p.stop()
		var closing sync.WaitGroup
		for _, q := range p.partitions.all() {
			closing.Go(q.close)
		}
		closing.Wait()
		p.wg.Wait()
		p.leave()
		p.away.Wait()
		for _, q := range p.partitions.all() {
			q.health.close()
		}
		unregister(p.registerer, p.registered)
	})
	return nil
}

// laneOf returns the lane of a partition; nil if there is none and the plane is closed.
func (p *Plane) laneOf(n int) *lane {
	if q := p.partitions.get(n); q != nil {
		return q.lane
	}
	return nil
}

// served returns the prefixes of hubs that others have to ask this node about.
func (p *Plane) served() []string {
	if p.withoutClients {
		return nil
	}
	return p.attachments.prefixes()
}

// nodeGone tells those whose hub the node served; the roster calls it.
func (p *Plane) nodeGone(of announcement, died bool) {
	if died {
		p.roster.logger.Warn("node died", "node", of.ID)
	}
	for _, prefix := range of.Prefixes {
		a := p.attachments.find(prefix)
		if a == nil || a.isDetached() {
			continue
		}
		w, ok := a.receiver.(backplane.NodeWatcher)
		switch {
		case !ok:
		case died:
			w.NodeDied(of.ID)
		default:
			w.NodeLeft(of.ID)
		}
	}
}
