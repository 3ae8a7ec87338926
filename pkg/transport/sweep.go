package transport

import (
	"maps"
	"slices"
	"time"
)

// Sweep ends the connections whose time is up as of now: those that have been without
// a carrier, or a poll, for longer than the disconnect time-out. Somebody has to call it about
// every second, or more often where time-outs are shorter; it does not block.
func (m *Manager) Sweep(now time.Time) {
	m.mu.Lock()
	watched := slices.Collect(maps.Keys(m.watched))
	m.mu.Unlock()
	for _, c := range watched {
		c.sweep(now)
	}
	if m.cluster != nil {
		m.cluster.sweep(now)
	}
}

func (c *Connection) sweep(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, polling := c.carrier.(*polls)
	switch {
	case !c.ended && polling:
		if p.abandoned(now) {
			c.endLocked()
		}
	case c.ended || c.carrier != nil:
		c.manager.unwatch(c)
	case !c.opening && now.Sub(c.vacant) >= c.manager.DisconnectTimeout:
		c.manager.unwatch(c)
		c.endLocked()
	}
}

// watch makes Sweep look at the connection. It and unwatch may be called with the
// connection's mu held, not with the manager's.
func (m *Manager) watch(c *Connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watched[c] = struct{}{}
}

func (m *Manager) unwatch(c *Connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.watched, c)
}
