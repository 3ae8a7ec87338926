package redisplane

import (
	"maps"
	"slices"
	"sync"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// maxMissing is how many nodes are remembered that were looked for in vain.
const maxMissing = 1024

// A directory has the nodes of the last look at the roster, for who may not wait for
// another look. The zero directory knows nobody.
type directory struct {
	mu    sync.Mutex
	known map[string]announcement
	// missing are those that were looked for since the last look, found or not: what asks
	// for a dead node by the thousand must not read the roster as often.
	missing map[served]bool
}

// served is a node as one that serves a prefix.
type served struct{ prefix, id string }

// find returns the node if it serves the prefix. It is not settled if it is worth looking
// again whether that is so.
func (d *directory) find(prefix, id string) (n backplane.NodeState, known, settled bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	looked := d.missing[served{prefix, id}]
	if a, ok := d.known[id]; ok && slices.Contains(a.Prefixes, prefix) {
		// One that has just started announces itself before it has an address.
		return a.state(), true, a.Address != "" || looked
	}
	return backplane.NodeState{}, false, looked
}

// others returns those that are known, but for the node self.
func (d *directory) others(self string) []backplane.NodeState {
	d.mu.Lock()
	defer d.mu.Unlock()
	var others []backplane.NodeState
	for id, a := range d.known {
		if id != self {
			others = append(others, a.state())
		}
	}
	return others
}

// replace takes over who is known after a look.
func (d *directory) replace(known map[string]announcement) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known = maps.Clone(known)
	d.missing = nil
}

// add takes in who has been found by a look that tells nothing of those it has not found.
func (d *directory) add(present map[string]announcement) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[string]announcement)
	}
	for id, a := range present {
		if a.Left {
			delete(d.known, id)
		} else {
			d.known[id] = a
		}
	}
}

// miss notes that the node was looked for. If it has been found, with an address, that
// counts.
func (d *directory) miss(prefix, id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.missing == nil || len(d.missing) >= maxMissing {
		d.missing = make(map[served]bool)
	}
	d.missing[served{prefix, id}] = true
}
