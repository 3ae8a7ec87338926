package redisplane

import (
	"cmp"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// An agreement is whether all nodes have the channels in the same partitions. Those that do
// not miss each other's messages. Of two, the one that started later counts itself deaf, as
// if it were its mistake: so what runs goes on, and nodes started with other settings do not
// take its place.
type agreement struct {
	told map[string]bool // the roster's alone: nodes that the log has told of

	mu    sync.Mutex
	err   error // nil: there was no other
	since time.Time
}

// check returns nil unless this node has the channels elsewhere than one that was there
// before.
func (g *agreement) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		return nil
	}
	return &backplane.DeafError{Since: g.since, Err: g.err}
}

// look looks at the nodes that are present, and tells of those that disagree. The roster
// calls it.
func (g *agreement) look(logger *slog.Logger, self announcement, present map[string]announcement) {
	told := make(map[string]bool)
	var reason error
	for id, other := range present {
		if other.Left || other.Partitions == self.Partitions {
			continue
		}
		err := fmt.Errorf("node %s has %s, this one %s", id, other.channels(), self.channels())
		if told[id] = true; !g.told[id] {
			logger.Error("nodes do not hear each other: all need the same kind of channels, in as many partitions", "error", err)
		}
		if cmp.Or(cmp.Compare(other.Incarnation, self.Incarnation), cmp.Compare(id, self.ID)) < 0 {
			reason = err
		}
	}
	g.told = told
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.since = time.Now()
	}
	g.err = reason
}

// channels says what kind of channels the node has.
func (a announcement) channels() string {
	if a.Partitions == 0 {
		return "classic channels"
	}
	return fmt.Sprintf("sharded channels in %d partitions", a.Partitions)
}
