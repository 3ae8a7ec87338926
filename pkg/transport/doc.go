// Package transport gives a hub its connections, whatever carries them.
//
// A [Manager] belongs to one hub. Its endpoints are HTTP handlers that negotiate
// (POST …/negotiate), check connection tokens and open transports (GET). Each client
// becomes a [Connection], and what the hub makes of it is a [Session]: the transport
// hands the session the bytes that arrive, and the session writes whole frames to the
// connection. Neither knows how the other does it. WebSockets are the one transport
// so far.
//
// # Connection tokens
//
// Negotiation stores nothing. The connection token that it hands out says everything
// itself (connection id, user, "attach before") and is authenticated with a cluster
// key, so any node can accept the transport that follows, behind any load balancer.
// See [Keys].
//
// # Locks
//
// [Manager] has one mutex, for its tables; nothing is called while it is held.
package transport
