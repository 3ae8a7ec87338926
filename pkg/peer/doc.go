// Package peer lets the nodes of a cluster pass requests on to each other.
//
// Any node may get any request of a client; the connection that it is for may be on
// another one. A node then forwards the request ([Peers.Forward]): a reverse proxy, over
// HTTP/1.1, to the address that the other node advertises. WebSockets, event streams and
// the bodies of requests pass as they come. There the request is served by the same
// handler as if the client had come to that node: host, path, headers and the client's
// address are what they were. Small questions from node to node go the same way
// ([Peers.Call]).
//
// # Who is believed
//
// What comes from another node comes to a listener of its own, which serves
// [Peers.Handler] and nothing else. Each request there carries a seal, in the header
// Heliograph-Peer: an HMAC-SHA256, with a key derived from the cluster's, over all that
// decides what the request means.
//
//	1 kind time nonce from to client body mac
//
// Kind is forward or call. Time is in unix seconds, nonce 16 random bytes, body the
// SHA-256 of a call's body, or 32 zero bytes, and mac the seal, the last three in
// base64url. From and to are ids of nodes, and client the client's address, all three
// escaped as in a query, with a "-" before them. What is sealed besides is the method,
// the request URI and the host. The body of a forwarded request and its other headers are
// not: who is able to change what passes between two nodes is to be kept out by TLS, best
// with certificates on both sides.
//
// Nobody without a cluster key gets past the listener: 403, with an empty body, answers a
// seal that is missing or forged, more than [Tolerance] old or ahead, or used before.
// Used nonces are remembered as long as they could be used again; where that would be
// more than fits, the answer is 503.
//
// Node ids are new with each start of a process, so "to" names one incarnation. A node
// that has taken the address of another answers 421, and the one that asked learns that
// the other is gone. The other way round, a response begins with a proof, in the header
// Heliograph-Proof, that whoever gave it has a cluster key too: what anything else answers
// at that address does not reach the client, which gets 502.
//
// On the public listener these headers mean nothing. A forwarded request does not become
// forwarded by them, and when a client's request is forwarded they are taken off.
//
// # Loops
//
// A forwarded request is not forwarded again. If the connection is not where it was
// looked for, the node there says so ([Elsewhere]), and the first node forgets what it
// believed. If nodes advertise their public addresses by mistake, the seal is found on a
// request of the public ([Peers.Astray]), which ends it: 508, and [ErrLoop].
//
// # Bounds
//
// Each forwarded request is in a handler of the public listener, whose bounds apply.
// Connecting and TLS handshakes have deadlines, and so has every write to a client; a
// request then lasts as long as the client and the other node want it to. Nothing is
// repeated. Calls have a deadline, and their bodies and answers are at most [MaxCall]
// long.
//
// # Goroutines
//
// The package starts none that outlive a call of its own, but for those that net/http
// has for idle connections between nodes; [Peers.Close] ends these. A forwarded WebSocket
// has three while it is open, which end with it.
//
// # Locks
//
// Peers.mu guards the table of what may be called, nonces.mu that of used nonces; neither
// is held while anything is called.
package peer
