package hub

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// maxDepartures is how many connections are handed over at a time.
const maxDepartures = 32

// clientsReturn is for how long a node that has handed a connection over goes on to be
// there: the client comes back at once, but it may come here, and is then passed on.
const clientsReturn = time.Second

// Drain takes no more connections, and has those that there are leave, evenly spread over
// d, in no particular order: so that the nodes that they go to next get them one after
// the other. Those with stateful reconnect are handed over to other nodes, if there are
// any and the hub has peers ([WithPeers]): their clients lose nothing, and their streams
// and questions to them end with an error. The others are closed with the advice to
// reconnect, and so are those that cannot be handed over within 5s.
//
// It returns when the last one has been told, at once if there are none, or a second
// after the last one has been handed over: requests for it that arrive here meanwhile are
// passed on. It returns early when ctx ends. [Hub.Shutdown] is to follow.
func (h *Hub) Drain(ctx context.Context, d time.Duration) {
	h.connections.Refuse()
	var all []*connection
	h.registry.each(func(c *connection) { all = append(all, c) })
	leaving := h.departures(ctx, d, len(all))
	spread(ctx, d, len(all), func(i int) {
		if c := all[i]; c.stateful != nil && h.peers != nil {
			leaving.queue <- c
		} else {
			c.end(closing{allowReconnect: true})
		}
	})
	if leaving.finish() {
		sleep(ctx, clientsReturn)
	}
}

// departures hand connections over, some at a time.
type departures struct {
	hub     *Hub
	queue   chan *connection // has room for all
	workers sync.WaitGroup   // joined by finish
	cancel  context.CancelFunc

	handedOver atomic.Bool // at least one

	mu     sync.Mutex
	nodes  []backplane.NodeState // that may take connections
	looked time.Time             // when they were looked for
}

// departures begins to hand over what is put into the queue, of at most n connections.
func (h *Hub) departures(ctx context.Context, d time.Duration, n int) *departures {
	ctx, cancel := context.WithTimeout(ctx, d+handoverTime)
	leaving := &departures{hub: h, queue: make(chan *connection, n), cancel: cancel}
	for range min(n, maxDepartures) {
		leaving.workers.Go(func() { // ends with the queue
			for c := range leaving.queue {
				if h.handOver(ctx, c, leaving.successors(ctx)) {
					leaving.handedOver.Store(true)
				}
			}
		})
	}
	return leaving
}

// finish waits for those that are in the queue, and reports whether any connection has
// been handed over.
func (l *departures) finish() bool {
	close(l.queue)
	l.workers.Wait()
	l.cancel()
	return l.handedOver.Load()
}

// successors returns the nodes that may take connections, as they were a second ago at
// most. Whether they leave too is known only when they are asked.
func (l *departures) successors(ctx context.Context) []backplane.NodeState {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.looked) < time.Second {
		return l.nodes
	}
	all, err := l.hub.attachment.Nodes(ctx)
	if err != nil {
		l.hub.logger.Warn("no connections can be handed over", "hub", l.hub.name, "error", err)
	}
	l.nodes, l.looked = nil, time.Now()
	for _, n := range all {
		if n.ID != l.hub.plane.NodeID() && n.Hearing && n.Address != "" {
			l.nodes = append(l.nodes, n)
		}
	}
	return l.nodes
}

// spreadStep is the shortest time between two steps of spread: with many calls, each
// step makes several.
const spreadStep = 10 * time.Millisecond

// spread calls f for 0 to n-1, the first at once and the last after d, evenly between.
// It ends early with ctx.
func spread(ctx context.Context, d time.Duration, n int, f func(int)) {
	ticker := time.NewTicker(spreadStep)
	defer ticker.Stop()
	start := time.Now()
	for i := 0; i < n; {
		due := n
		if passed := time.Since(start); passed < d {
			due = 1 + int(float64(n-1)*float64(passed)/float64(d))
		}
		for ; i < due; i++ {
			f(i)
		}
		if i == n {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
