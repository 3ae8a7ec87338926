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
	registerer  prometheus.Registerer // nil: none
	registered  []prometheus.Collector
	metrics     *metrics
	health      *health
	lane        *lane
	subscriber  *subscriber
	prober      *prober
	roster      *roster
	commands    *commander // for the homes of connections, and the operations that are kept
	keeper      *keeper
	site        *site
	attachments attachments

	withoutClients bool // as in the options

	// The receive loop's alone:

	window   backplane.Window
	demanded *backplane.EnvelopeKeys // one must have signed what arrives; nil: none need have
	gate     gate

	stop context.CancelFunc // ends the subscriber, the prober and the roster
	wg   sync.WaitGroup     // all goroutines but the site's

	leave context.CancelFunc // ends the site, which the others need to the end
	away  sync.WaitGroup     // the site's goroutine

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
	r := newSite(t, o, h)

	id := uuid.NewString()
	p := &Plane{id: id, withoutClients: o.WithoutClients, registerer: o.Registerer, site: r, metrics: newMetrics(), health: h}
	incarnation := uint64(time.Now().UnixNano())
	if o.RequireSigned {
		p.demanded = o.envelopeKeys()
	}
	p.lane = newLane(o, r, id, incarnation, p.metrics)
	p.subscriber = newSubscriber(o, r, string(backplane.Node(id)), p.metrics, p.health)
	p.prober = newProber(o, p.lane, p.subscriber, p.health)
	p.health.proven = p.prober.lag.proven
	p.subscriber.deliver = p.arrive
	p.subscriber.connected = func() {
		p.prober.probe()
		p.roster.renew() // it may be another Redis, or an empty one
	}
	p.subscriber.settled = p.prober.probe
	p.roster = newRoster(o, r, id, incarnation, p.health)
	p.roster.served = p.served
	p.roster.gone = p.nodeGone
	p.health.changed = p.roster.announce
	p.commands = newCommander(o, r)
	p.prober.renewed = p.commands.renew
	p.keeper = newKeeper(o, id, p.commands, p.subscriber, p.prober)
	if !p.withoutClients {
		p.keeper.performing = p.attachments.all
	}
	p.subscriber.connecting = p.shut
	p.subscriber.restored = p.keeper.read
	if p.registered, err = register(p.registerer, p.collectors()...); err != nil {
		return nil, fmt.Errorf("redis backplane: register metrics: %w", err)
	}

	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	here, leave := context.WithCancel(context.Background())
	p.leave = leave
	p.away.Go(func() { r.run(here) })
	p.wg.Go(p.lane.run)
	p.wg.Go(func() { p.subscriber.run(ctx) })
	p.wg.Go(func() { p.prober.run(ctx) })
	p.wg.Go(func() { p.roster.run(ctx) })
	p.wg.Go(func() { p.keeper.run(ctx) })
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
func (p *Plane) Healthy() error { return p.health.check() }

// Heard implements [backplane.Backplane], by the node's own probe.
func (p *Plane) Heard() time.Time { return p.prober.lag.proven() }

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
		p.lane.close()
		p.commands.close()
		p.wg.Wait()
		p.leave()
		p.away.Wait()
		p.health.close()
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
		p.health.logger.Warn("node died", "node", of.ID)
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
