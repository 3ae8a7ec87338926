package transport

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// A Session is what a hub makes of one [Connection].
type Session interface {
	// Receive takes the next bytes from the client: one call at a time, in order. It
	// must not keep p. While it does not return nothing more is read, which is how a
	// client is slowed down.
	Receive(p []byte)

	// Interrupted tells that the carrier broke without a closing handshake and that the
	// connection may be resumed, or has been. It is serialised with Receive, as the
	// last act of that carrier's reader: what has been received in part is void. It may
	// come after Resumed of the next carrier.
	Interrupted(of Carrier)

	// Resumed tells that from now on another carrier carries the connection. It is
	// called as soon as that is open and is not serialised with Receive, so that a
	// Receive that does not return does not hold up what is sent; the new carrier's
	// bytes are received only after Interrupted of the one before. It must not block.
	Resumed(by Carrier)

	// Disconnected tells, once and as the last call, that nothing more will come: the
	// client ended the connection, its transport broke, or it stayed away too long.
	Disconnected()
}

// A Carrier is one transport of a connection: a WebSocket, an event stream, or its
// polls. A connection has one at a time; only one with stateful reconnect may have
// several, one after the other.
type Carrier interface {
	// Write sends whole frames, as one message of the transport if it has messages. One
	// call may run at a time. It blocks until the transport took them, no longer than
	// the send time-out, or while the client polls, between two polls, the disconnect
	// time-out; after an error the carrier is of no more use. The frames may be kept,
	// and must not be changed any more; the slice that holds them is the caller's.
	Write(frames [][]byte, f protocol.TransferFormat) error
	// Close ends the connection in order once what was written is sent. It does not
	// wait for the client's half. It may be called at any time and more than once.
	Close()
	// Abort cuts the carrier, and with it the connection unless that may be resumed. It
	// may be called at any time and more than once.
	Abort()
}

// Accept makes the session of a new connection. r is the request that opened its
// transport and must not be kept.
type Accept func(c *Connection, r *http.Request) Session

// A Connection is one client's session on this node. Its methods may be called
// concurrently.
type Connection struct {
	id       string
	manager  *Manager
	stateful bool  // stateful reconnect was negotiated
	public   bool  // the id is the token too, and good for a WebSocket only
	spent    int64 // when no node takes the token for a new connection's any more, unix milliseconds
	identity atomic.Pointer[auth.Identity]

	// Set when the first transport opens, before the session sees the connection.
	kind          Kind
	closeOnExpiry bool

	// See lifecycle.go for what these go through.
	mu        sync.Mutex
	session   Session   // nil until the first transport is open
	carrier   Carrier   // nil: none at the moment
	vacant    time.Time // since when there is no carrier
	opening   bool      // a transport is being opened
	resumable bool      // another WebSocket may take over
	final     bool      // resumable stays false
	ended     bool
	released  bool          // the session is told no more
	holds     int           // goroutines that use the session, or will
	read      chan struct{} // closed when the latest reader has ended; nil unless stateful
	in        *input        // nil until a request brings some
	held      chan struct{} // until it is closed requests wait; nil: they need not
}

// ID returns the public connection id.
func (c *Connection) ID() string { return c.id }

// Identity returns who makes the connection's requests; never nil. A later request of
// the same user, with other credentials, may replace it.
func (c *Connection) Identity() *auth.Identity { return c.identity.Load() }

// Expires returns when the connection is to be closed because its credentials end,
// and zero if that does not matter to its endpoint.
func (c *Connection) Expires() time.Time {
	if !c.closeOnExpiry {
		return time.Time{}
	}
	return c.Identity().Expires
}

// Carries reports whether the transport can carry a transfer format.
func (c *Connection) Carries(f protocol.TransferFormat) bool {
	return f == protocol.Text || c.kind != ServerSentEvents
}

// InherentKeepAlive reports whether the transport shows by itself that the client is
// there: neither side then sends pings, and silence means nothing.
func (c *Connection) InherentKeepAlive() bool { return c.kind == LongPolling }

// Stateful reports whether the client negotiated stateful reconnect, on a transport
// that can have it.
func (c *Connection) Stateful() bool { return c.stateful && c.kind == WebSockets }

// Carrier returns what carries the connection, and nil if nothing does at the moment.
func (c *Connection) Carrier() Carrier {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.carrier
}

// AllowReconnect lets the connection outlive its carriers: another WebSocket with the
// same token may take over, at any time, and when the carrier breaks the connection
// waits for that, for the disconnect time-out. It has no effect on a connection that is
// not stateful, nor after DisableReconnect.
func (c *Connection) AllowReconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumable = c.Stateful() && !c.final
}

// DisableReconnect makes the present carrier the last. If there is none at the moment,
// the connection has ended, and Disconnected follows.
func (c *Connection) DisableReconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumable, c.final = false, true
	if c.session != nil && c.carrier == nil && !c.opening {
		c.endLocked()
	}
}
