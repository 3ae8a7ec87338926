package transport

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
)

// A Cluster is what a manager needs to know of the other nodes. All fields are required.
type Cluster struct {
	// Self is this node's id.
	Self string
	// Homes says where connections are.
	Homes backplane.Homes
	// Node says where nodes are, as [backplane.Attachment] does.
	Node func(ctx context.Context, id string) (n backplane.NodeState, known bool, err error)
	// Peers carry requests there. The manager does not close them.
	Peers *peer.Peers
}

// A HomeLoser is a session that ends the connection in its own way when that has no home
// on this node any more: another node has become it, or the connection has ended as far
// as the others know. A session that is no HomeLoser is cut.
type HomeLoser interface {
	// HomeLost must not block.
	HomeLost()
}

const (
	// homeLife is how long the record of a connection lives that can be met again over
	// HTTP, and renewInterval how often it is renewed.
	homeLife      = time.Minute
	renewInterval = 20 * time.Second
	// keepTimeout bounds what is done at once about records.
	keepTimeout = 10 * time.Second
	// maximumEndings bounds the records that wait to be ended. Beyond it they are left to
	// come to the end of their lives.
	maximumEndings = 1 << 14
)

// cluster sees to the records of the connections that are here.
//
// A plain WebSocket needs its record for as long as its token could be attached, and no
// longer: nobody comes back to it. The others' records are renewed while they live and
// are tombstones then, until the token cannot be attached. Its mu may be taken with the
// manager's held; nothing is called under it.
type cluster struct {
	Cluster
	manager *Manager
	located locatedHomes

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup // keep, one at a time

	mu       sync.Mutex
	kept     map[string]keptHome // records that are renewed, by connection id
	endings  []ending
	renewed  time.Time // when renewing began last
	failed   bool      // it has to be tried again
	keeping  bool      // keep is running
	isClosed bool
}

type keptHome struct {
	epoch  uint64
	before time.Time // until when the token can be attached
}

type ending struct {
	connection string
	keptHome
	remove bool // instead of leaving a tombstone
}

// Join makes the manager one of several: connections then have one home in the cluster,
// wherever their requests arrive, and what arrives here for another node's connection is
// passed on to it. It has to be called before the first request; Close then has to be
// called before the [Cluster] is. Without it, all that arrives is for this node.
func (m *Manager) Join(c Cluster) {
	joined := &cluster{Cluster: c, manager: m, kept: make(map[string]keptHome)}
	joined.ctx, joined.cancel = context.WithCancel(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cluster = joined
}

// Close ends what the manager does for the connections' records. It is for use after
// Wait. Records that are left come to the end of their lives.
func (m *Manager) Close() {
	m.mu.Lock()
	c := m.cluster
	m.mu.Unlock()
	if c == nil {
		return
	}
	c.mu.Lock()
	c.isClosed = true
	c.mu.Unlock()
	c.cancel()
	c.work.Wait()
}

// hold has the record of a connection renewed from now on, if renew is set and the
// connection lives. If it does not live, the record is ended.
func (c *cluster) hold(id string, h keptHome, renew bool) {
	c.manager.mu.Lock()
	defer c.manager.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.manager.live[id] == nil {
		c.endLater(ending{connection: id, keptHome: h, remove: c.manager.closing})
	} else if _, held := c.kept[id]; renew && !held {
		c.kept[id] = h
	}
}

// release stops renewing a connection's record without ending it, and returns the epoch,
// which is 0 if it was not renewed.
func (c *cluster) release(id string) (epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	epoch = c.kept[id].epoch
	delete(c.kept, id)
	return epoch
}

// ended is called when a connection has ended, with the manager's mu held.
func (c *cluster) ended(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h, held := c.kept[id]; held {
		delete(c.kept, id)
		c.endLater(ending{connection: id, keptHome: h})
	}
}

// endLater is called with mu held.
func (c *cluster) endLater(e ending) {
	if len(c.endings) < maximumEndings {
		c.endings = append(c.endings, e)
	}
}

// sweep starts what is due, in a goroutine that it owns: one at a time, so that no record
// is renewed and ended at once. Close joins it.
func (c *cluster) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := len(c.kept) > 0 && (c.failed || now.Sub(c.renewed) >= renewInterval)
	if c.isClosed || c.keeping || !due && len(c.endings) == 0 {
		return
	}
	endings := c.endings
	c.endings = nil
	epochs := make(map[string]uint64)
	if due {
		c.renewed, c.failed = now, false
		for id, h := range c.kept {
			epochs[id] = h.epoch
		}
	}
	c.keeping = true
	c.work.Go(func() { c.keep(endings, epochs) })
}

func (c *cluster) keep(endings []ending, epochs map[string]uint64) {
	ctx, cancel := context.WithTimeout(c.ctx, keepTimeout)
	defer cancel()
	c.end(ctx, endings)
	if len(epochs) > 0 {
		c.renew(ctx, epochs)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keeping = false
}

// end ends records. One that cannot be ended comes to the end of its life: until then it
// says that the connection is here, and it is not.
func (c *cluster) end(ctx context.Context, endings []ending) {
	for i, e := range endings {
		life := time.Until(e.before)
		if e.remove || life < time.Millisecond {
			life = 0
		}
		err := c.Homes.End(ctx, e.connection, e.epoch, life)
		if err != nil && !errors.Is(err, backplane.ErrForeign) {
			c.manager.Logger.Debug("records of ended connections are left to expire", "records", len(endings)-i, "error", err)
			return
		}
	}
}

func (c *cluster) renew(ctx context.Context, epochs map[string]uint64) {
	lost, err := c.Homes.Renew(ctx, homeLife, epochs)
	if err != nil {
		c.manager.Logger.Debug("homes of connections not renewed", "connections", len(epochs), "error", err)
		c.mu.Lock()
		c.failed = !errors.Is(err, backplane.ErrForeign)
		c.mu.Unlock()
	}
	for _, id := range lost {
		c.lose(id, epochs[id])
	}
}

// lose ends a connection whose record is not this node's any more, unless the connection
// has gone, or moved, since the record was to be renewed.
func (c *cluster) lose(id string, epoch uint64) {
	c.mu.Lock()
	h, held := c.kept[id]
	current := held && h.epoch == epoch
	if current {
		delete(c.kept, id)
	}
	c.mu.Unlock()
	lost := c.manager.find(id)
	if !current || lost == nil {
		return
	}
	c.manager.Logger.Warn("a connection has another home, and is closed here")
	lost.mu.Lock()
	session := lost.session
	lost.mu.Unlock()
	if s, ok := session.(HomeLoser); ok {
		s.HomeLost()
	} else {
		lost.cut()
	}
}

// locatedHomes remembers where connections of other nodes are, for requests of which
// there are many. It forgets what nobody has asked for in longestForgotten, and at the
// latest in twice that; or sooner, where there are too many. The zero value is ready.
type locatedHomes struct {
	mu             sync.Mutex
	recent, before map[string]locatedHome
	swapped        time.Time
}

type locatedHome struct {
	node string
	at   time.Time
}

const (
	// locatedFor is for how long a home is taken to be where it was. Only WebSockets move,
	// which do not rely on it.
	locatedFor = 20 * time.Second
	// longestForgotten is longer than a client takes between two requests, so that homes
	// are known while the backplane is away.
	longestForgotten = 2 * time.Minute
	maximumLocated   = 1 << 14
)

// get returns the node that a connection was last on, if that is known, and whether it is
// so recent that it need not be asked.
func (l *locatedHomes) get(id string) (node string, isRecent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, found := l.recent[id]
	if !found {
		h = l.before[id]
	}
	return h.node, time.Since(h.at) < locatedFor
}

func (l *locatedHomes) put(id, node string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.recent) >= maximumLocated || now.Sub(l.swapped) >= longestForgotten {
		l.recent, l.before, l.swapped = nil, l.recent, now
	}
	if l.recent == nil {
		l.recent = make(map[string]locatedHome)
	}
	l.recent[id] = locatedHome{node, now}
}

func (l *locatedHomes) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.recent, id)
	delete(l.before, id)
}
