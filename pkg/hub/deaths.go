package hub

import (
	"slices"
	"sync"
)

// maxDeaths is how many nodes may have died that the application has not been told of:
// far more than a cluster has. Those beyond it is not told of.
const maxDeaths = 1024

// deaths are the nodes that have died of which the application is still to be told. It is
// told by a goroutine that is there while there are any: whoever brings the news must not
// wait for the application.
type deaths struct {
	telling sync.WaitGroup // counted up under mu, and never once closed

	mu      sync.Mutex
	pending []string // in the order in which they died
	running bool     // the goroutine
	closed  bool
}

// tellOfDeath has the application told of a node.
func (h *Hub) tellOfDeath(node string) {
	d := &h.deaths
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case h.nodeDied == nil || d.closed:
		return
	case len(d.pending) == maxDeaths:
		h.logger.Error("node died function not called: it does not return", "hub", h.name, "node", node)
		return
	}
	d.pending = append(d.pending, node)
	if !d.running {
		d.running = true
		d.telling.Go(h.tellOfDeaths)
	}
}

// tellOfDeaths tells of what is pending, one at a time. Owner: the hub, whose Shutdown
// joins it; it ends when nothing is pending.
func (h *Hub) tellOfDeaths() {
	told := false
	defer func() {
		if !told { // the function has ended the goroutine: another one goes on
			h.deaths.telling.Go(h.tellOfDeaths)
		}
	}()
	for node, ok := h.deaths.next(); ok; node, ok = h.deaths.next() {
		h.guard(func() error {
			h.nodeDied(node)
			return nil
		})
	}
	told = true
}

// next takes the next node, or says that the goroutine must end.
func (d *deaths) next() (node string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pending) == 0 {
		d.running, d.pending = false, nil
		return "", false
	}
	node = d.pending[0]
	d.pending = slices.Delete(d.pending, 0, 1)
	return node, true
}

// close tells of nothing more. A call that is running goes on: telling waits for it.
func (d *deaths) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed, d.pending = true, nil
}
