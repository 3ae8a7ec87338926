package transport

import (
	"net/http"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
)

// A connection is made by the first request with its token. It begins without a
// carrier; the first transport that opens gets the session. It ends once, by endLocked:
// no request finds anything to do then. Goroutines that use the session hold the
// connection, and when it has ended and the last one has let go, the session is told
// and the manager forgets the connection.

// maximumHolds bounds the WebSockets of one connection whose readers have not ended: a
// session that is slow to receive holds up the one, and the others wait for it.
const maximumHolds = 4

// begin asks whether a WebSocket or an event stream may be opened. If so, the caller
// must go on with resumed, opened or notOpened.
func (c *Connection) begin(kind Kind) refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return alreadyEnded
	case c.kind != "" && c.kind != kind:
		return otherKind
	case c.opening, c.session != nil && !c.resumable, c.session != nil && c.holds >= maximumHolds:
		return hasCarrier
	}
	if c.session == nil { // who has the session reads kind without the lock
		c.kind = kind
	}
	c.opening = true
	c.holds++
	return granted
}

// mayStillOpen asks again, as long as the request can be answered.
func (c *Connection) mayStillOpen() refusal {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended || c.session != nil && !c.resumable {
		return endedMeanwhile
	}
	return granted
}

// notOpened undoes begin: the token may be tried again.
func (c *Connection) notOpened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opening = false
	if c.session == nil {
		c.kind = ""
	}
	c.abandonedLocked()
	c.letGoLocked()
}

// opened makes ca the connection's carrier and returns the session, for which the
// caller goes on to hold the connection. Nil: the connection ended meanwhile, and the
// carrier is of no use. Of a stateful connection done is to be closed when ca's reader
// has ended, and before is closed when the previous one has, if there was one.
func (c *Connection) opened(ca Carrier, e *Endpoint, identity *auth.Identity, r *http.Request, done chan struct{}) (session Session, before <-chan struct{}) {
	c.mu.Lock()
	session = c.session
	if c.ended || session != nil && !c.resumable {
		c.opening = false
		c.abandonedLocked()
		c.letGoLocked()
		c.mu.Unlock()
		return nil, nil
	}
	replaced := c.carrier
	c.carrier = ca
	before, c.read = c.read, done
	if c.kind != LongPolling {
		c.manager.unwatch(c)
	}
	if session != nil {
		c.opening = false
	} else { // it goes on until there is a session
		c.closeOnExpiry = e.closeOnExpiry
		c.identity.Store(identity)
	}
	c.mu.Unlock()

	if session != nil {
		if replaced != nil {
			replaced.Abort()
		}
		session.Resumed(ca)
		return session, before
	}
	session = c.manager.Accept(c, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.opening = session, false
	c.startDeliveringLocked()
	return session, nil
}

// carrierEnded is called by whoever reads from the carrier, when nothing more will come
// of it. inOrder says that one of the two sides meant it. To let go is the caller's.
func (c *Connection) carrierEnded(ca Carrier, inOrder bool) {
	c.mu.Lock()
	replaced := c.carrier != ca
	interrupted := !c.ended && (replaced || c.resumable && !inOrder)
	if !replaced {
		c.carrier = nil
		if interrupted {
			c.vacateLocked()
		} else {
			c.endLocked()
		}
	}
	c.mu.Unlock()

	if interrupted {
		c.session.Interrupted(ca)
	}
}

// vacateLocked begins the time for which the connection waits for a carrier.
func (c *Connection) vacateLocked() {
	c.vacant = time.Now()
	c.manager.watch(c)
}

// abandonedLocked ends a connection that lost its carrier and the right to another one
// while one was being opened.
func (c *Connection) abandonedLocked() {
	if c.session != nil && c.carrier == nil && !c.resumable {
		c.endLocked()
	}
}

// end ends the connection.
func (c *Connection) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked()
}

func (c *Connection) endLocked() {
	if c.ended {
		return
	}
	c.ended, c.resumable = true, false
	c.openHeldLocked()
	if c.in != nil {
		close(c.in.ended)
	}
	if p, ok := c.carrier.(*polls); ok {
		p.stop()
	}
	if c.holds == 0 {
		go c.finish()
	}
}

// letGo ends the caller's use of the session.
func (c *Connection) letGo() {
	c.mu.Lock()
	c.holds--
	last := c.ended && c.holds == 0
	c.mu.Unlock()
	if last {
		c.finish()
	}
}

// leave is letGo for a caller that must not wait for the session.
func (c *Connection) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.letGoLocked()
}

func (c *Connection) letGoLocked() {
	c.holds--
	if c.ended && c.holds == 0 {
		go c.finish()
	}
}

// finish tells the session, which nobody else uses any more, and gives the connection's
// place back. Where it has a goroutine of its own, that is the manager's: Wait joins it.
func (c *Connection) finish() {
	if c.session != nil && !c.released {
		c.session.Disconnected()
	}
	c.manager.forget(c)
}

// cut ends the connection at once.
func (c *Connection) cut() {
	c.mu.Lock()
	carrier := c.carrier
	c.resumable, c.final = false, true
	if carrier == nil {
		c.endLocked()
	}
	c.mu.Unlock()
	if carrier != nil {
		carrier.Abort()
	}
}
