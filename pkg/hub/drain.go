package hub

import (
	"context"
	"time"
)

// Drain takes no more connections, and closes those that there are evenly spread over
// d, in no particular order, each with the advice to reconnect: so that the nodes that
// they go to next get them one after the other. It returns when the last one has been
// told, at once if there are none, or when ctx ends. [Hub.Shutdown] is to follow.
func (h *Hub) Drain(ctx context.Context, d time.Duration) {
	h.connections.Refuse()
	var all []*connection
	h.registry.each(func(c *connection) { all = append(all, c) })
	spread(ctx, d, len(all), func(i int) { all[i].end(closing{allowReconnect: true}) })
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
