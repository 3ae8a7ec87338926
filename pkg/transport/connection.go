package transport

import (
	"net/http"
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

	// Disconnected tells, once and as the last call, that nothing more will come: the
	// client closed the transport or it broke.
	Disconnected()
}

// Accept makes the session of a new connection. r is the request that opened its
// transport and must not be kept.
type Accept func(c *Connection, r *http.Request) Session

// A Connection is one client's session on this node.
type Connection struct {
	id       string
	identity *auth.Identity
	endpoint *Endpoint
	carrier  carrier // set before the session sees the connection
}

// A carrier is a transport's end of a connection.
type carrier interface {
	// write sends frames as one message of the transport. One call at a time.
	write(frames [][]byte, format protocol.TransferFormat) error
	// close ends the transport in order, after what has been written: it begins to
	// and returns. May be called during a write and more than once.
	close()
	// abort ends the transport at once.
	abort()
	// formats says what the transport can carry.
	carries(protocol.TransferFormat) bool
}

// ID returns the public connection id.
func (c *Connection) ID() string { return c.id }

// Identity returns who opened the connection's transport; never nil.
func (c *Connection) Identity() *auth.Identity { return c.identity }

// Expires returns when the connection is to be closed because its credentials end,
// and zero if that does not matter to its endpoint.
func (c *Connection) Expires() time.Time {
	if !c.endpoint.closeOnExpiry {
		return time.Time{}
	}
	return c.identity.Expires
}

// Carries reports whether the transport can carry a transfer format.
func (c *Connection) Carries(f protocol.TransferFormat) bool { return c.carrier.carries(f) }

// Write sends whole frames, as one message of the transport if it has messages. One
// call may run at a time. It blocks until the transport took them, no longer than the
// send time-out; after an error the connection is of no more use.
func (c *Connection) Write(frames [][]byte, f protocol.TransferFormat) error {
	return c.carrier.write(frames, f)
}

// Close ends the connection in order once what was written is sent. It does not wait
// for the client's half. It may be called at any time and more than once.
func (c *Connection) Close() { c.carrier.close() }

// Abort cuts the connection. It may be called at any time and more than once.
func (c *Connection) Abort() { c.carrier.abort() }
