// Package transport gives a hub its connections, whatever carries them.
//
// A [Manager] belongs to one hub. Its endpoints are HTTP handlers that negotiate
// (POST …/negotiate), check connection tokens, open transports (GET), take what clients
// send that have no WebSocket (POST), end what they poll for (DELETE), and take new
// credentials (POST …/refresh). Each client becomes a [Connection], and what the hub
// makes of it is a [Session]: the transport hands the session the bytes that arrive, and
// the session writes whole frames to the connection's [Carrier]. Neither knows how the
// other does it.
//
// # Carriers
//
// A WebSocket is read by a goroutine of its own. An event stream is written in the
// request that opened it, and polls take what waits for them; for both, requests bring
// the client's bytes, and a goroutine that lives while there are any hands them to the
// session. A connection has one carrier at a time. When a WebSocket breaks, a connection
// with stateful reconnect is without one until the client comes back, and its session
// goes on; any other ends with its carrier.
//
// # Connection tokens
//
// Negotiation stores nothing. The connection token that it hands out says everything
// itself (connection id, user, "attach before", whether stateful reconnect was granted)
// and is authenticated with a cluster key, so any node can accept the request that
// follows, behind any load balancer. See [Keys]. The first request with a token makes the
// connection, and no token makes two.
//
// # Other nodes
//
// A manager that has joined others ([Manager.Join]) has the first request with a token
// claim the connection, in the directory that all nodes share, and passes on what arrives
// for another node's. How long a record has to live depends on whether anybody may come
// back: to a plain WebSocket nobody does. Requests that another node has forwarded are
// not forwarded again. Of what the directory says 32,768 homes are remembered.
//
// # Bounds
//
// Of what a client sends 64 KiB wait for the session, then its WebSocket is not read, and
// its requests wait; of these, 64. A body has to come at 240 bytes a second after 10s. Of
// what is sent to it 64 KiB wait for its next poll. Each write has the send time-out, each
// wait for a client the disconnect time-out, which [Manager.Sweep] looks after. One poll
// is answered and one waits for its turn; of WebSockets that take over from each other
// four wait for a session that does not return from Receive. Whatever is more is refused.
//
// # Locks
//
// From outermost to innermost: the mu of a [Connection]; that of its polls, or that of
// the [Manager], which has its tables; that of what the manager knows of other nodes.
// Sessions and carriers are called while none of them is held.
package transport
