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

// A Plane is one node's access to a cluster whose nodes share a Redis. It implements
// [backplane.Backplane].
type Plane struct {
	id          string
	incarnation uint64
	registerer  prometheus.Registerer // nil: none
	registered  []prometheus.Collector
	metrics     *metrics
	first       *partition
	roster      *roster
	attachments attachments

	withoutClients bool // as in the options

	window backplane.Window // the receive loop's alone

	stop context.CancelFunc // ends the partition's goroutines, and the roster's
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
	h := newHealth(o.Logger)
	l := newLookout(t, o)
	r := newSite(t, l, 0, h)

	p := &Plane{
		id:             uuid.NewString(),
		incarnation:    uint64(time.Now().UnixNano()),
		registerer:     o.Registerer,
		metrics:        newMetrics(),
		withoutClients: o.WithoutClients,
	}
	p.first = newPartition(p, o, r, h)
	p.roster = newRoster(o, r, p.id, p.incarnation, h)
	p.roster.served = p.served
	p.roster.gone = p.nodeGone
	h.changed = p.roster.announce
	p.first.subscriber.connected = func() {
		p.first.prober.probe()
		p.roster.renew() // it may be another Redis, or an empty one
	}
	if p.registered, err = register(p.registerer, p.collectors()...); err != nil {
		return nil, fmt.Errorf("redis backplane: register metrics: %w", err)
	}

	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
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

// Healthy implements [backplane.Backplane]. A node hears when all that it holds is
// subscribed, it has taken in the operations that it had missed, and its own probe has come
// back over that connection.
func (p *Plane) Healthy() error { return p.first.health.check() }

// Heard implements [backplane.Backplane], by the node's own probe.
func (p *Plane) Heard() time.Time { return p.first.prober.lag.proven() }

// Others implements [backplane.Backplane].
func (p *Plane) Others() []backplane.NodeState { return p.roster.directory.others(p.id) }

// Attach implements [backplane.Backplane].
func (p *Plane) Attach(prefix string, r backplane.Receiver) (backplane.Attachment, error) {
	if err := backplane.CheckPrefix(prefix); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	a := &attachment{plane: p, prefix: prefix, receiver: r, ledger: newLedger()}
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
		p.stop()
		p.first.close()
		p.wg.Wait()
		p.leave()
		p.away.Wait()
		p.first.health.close()
		unregister(p.registerer, p.registered)
	})
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
