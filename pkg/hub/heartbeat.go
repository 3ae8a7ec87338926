package hub

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// heartbeat pings clients, and ends connections whose time is up, by one sweep over
// all of them instead of timers for each. Owner: the hub; it ends when the hub is
// shut down.
func (h *Hub) heartbeat() {
	ticker := time.NewTicker(h.sweepPeriod())
	defer ticker.Stop()
	for {
		select {
		case <-h.ctx.Done():
			return
		case now := <-ticker.C:
			h.sweep(now)
			h.work.trim()
			h.connections.Sweep(now)
		}
	}
}

// sweepPeriod is short enough that nothing is late by more than a second, or by more
// than a quarter of the shortest interval.
func (h *Hub) sweepPeriod() time.Duration {
	return min(time.Second, min(h.keepAlive, h.clientTimeout, h.handshakeTimeout, h.connections.DisconnectTimeout)/4)
}

func (h *Hub) sweep(now time.Time) {
	for _, c := range h.handshakes.olderThan(now.Add(-h.handshakeTimeout)) {
		c.end(closing{handshakeError: textHandshakeCancel})
	}
	var silent, expired, starved []*connection // ended once no lock is held
	interrupted := 0
	h.registry.each(func(c *connection) {
		if c.stateful != nil {
			c.acknowledge()
			if c.out.away() {
				interrupted++
			}
		}
		switch {
		case c.starved(now):
			starved = append(starved, c)
		case c.silentFor(now) >= h.clientTimeout:
			silent = append(silent, c)
		case c.expired(now):
			expired = append(expired, c)
		case now.UnixNano()-c.lastPing >= int64(h.keepAlive) && !c.link.InherentKeepAlive():
			c.lastPing = now.UnixNano()
			c.out.ping(h.pings[c.encoding])
		}
	})
	for _, c := range silent {
		c.fail(errClientTimeout)
	}
	for _, c := range expired {
		c.end(closing{allowReconnect: true})
	}
	for _, c := range starved {
		c.tooSlow(errNotAcknowledged)
	}
	h.metrics.interrupted.Set(float64(interrupted))
}

// silentFor returns how long the client, which has to have sent a ping before, has
// sent nothing. While what it sent is being dealt with it is not silent, nor while it is
// away.
func (c *connection) silentFor(now time.Time) time.Duration {
	switch {
	case !c.pinged.Load() || c.reading.Load() || c.link.InherentKeepAlive():
		return 0
	case c.stateful != nil && c.out.away():
		return 0
	}
	return time.Duration(now.UnixNano() - c.lastRead.Load())
}

// starved reports whether the client has not acknowledged for too long what it was sent.
// While what it sent before is being dealt with, it may have.
func (c *connection) starved(now time.Time) bool {
	if c.stateful == nil {
		return false
	}
	if c.reading.Load() {
		c.out.excuse(now)
	}
	return c.out.starved(now)
}

func (c *connection) expired(now time.Time) bool {
	expires := c.link.Expires()
	return !expires.IsZero() && now.After(expires)
}

// pingFrames encodes a ping in each protocol.
func pingFrames(protocols []protocol.Protocol) [][]byte {
	frames := make([][]byte, len(protocols))
	for i, p := range protocols {
		frame, err := p.Append(nil, &protocol.Ping{})
		if err != nil {
			panic("ping: " + err.Error()) // no value in it can fail to encode
		}
		frames[i] = frame
	}
	return frames
}

// handshakes are the connections whose handshake has not been answered.
type handshakes struct {
	mu      sync.Mutex
	pending map[*connection]struct{}
	closed  bool
}

// ofUser returns the user's connections.
func (s *handshakes) ofUser(user string) (of []*connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.pending {
		if c.user == user {
			of = append(of, c)
		}
	}
	return of
}

// add reports whether handshakes are still taken.
func (s *handshakes) add(c *connection) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.pending[c] = struct{}{}
	return true
}

// close takes no more, and returns those that there are.
func (s *handshakes) close() []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return slices.Collect(maps.Keys(s.pending))
}

func (s *handshakes) remove(c *connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, c)
}

// olderThan returns those whose transport was opened before t.
func (s *handshakes) olderThan(t time.Time) []*connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	var old []*connection
	for c := range s.pending {
		if c.opened.Before(t) {
			old = append(old, c)
		}
	}
	return old
}
