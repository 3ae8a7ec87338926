// Package hub lets clients of SignalR invoke Go methods, and Go programs send to
// clients: to users, to groups, to single connections, wherever in the cluster they
// are.
//
// An application writes a type and gives a value of it to [New]. Clients may invoke
// its exported methods, which look like
//
//	func (Chat) SendToGroup(ctx context.Context, c *hub.Caller, group, message string) error
//
// that is: a context, the caller, any number of parameters that have an encoding, and
// an error as the result, a value, both or nothing. The context ends when the
// connection does, or when the client cancels the invocation. Methods of one connection
// run one at a time, in the order in which the client invoked them
// ([WithMaximumParallelInvocationsPerClient]); those of different connections run
// concurrently.
//
// A method that returns an iter.Seq, an iter.Seq2 with errors, or a channel to receive
// from streams to the client. A parameter that is an iter.Seq2 with errors is a stream
// from the client. Methods that stream, either way, run beside the others. [Invoke] asks
// a client and waits for its answer.
//
// A value that has the methods of [ConnectedHandler] or [DisconnectedHandler] is told
// of connections that come and go.
//
// The hub is an [net/http.Handler]; mount it at a path and at everything below:
//
//	chat, err := hub.New(Chat{}, hub.WithBackplane(plane))
//	mux.Handle("/chat", chat)
//	mux.Handle("/chat/", chat)
//
// # Users and groups
//
// A connection belongs to the user that its credentials name, if they do
// ([WithUserIdentifier]), and to the groups that it was added to ([Groups]).
// Membership ends with the connection; a client that reconnects has to join again.
// Both kinds of names are case-sensitive. A node knows only its own members, so
// nothing in this package counts or lists the members of a group.
//
// Membership of any connection, or of all that a user has, can be changed from any node
// ([Groups]), and connections can be closed from there ([Hub.CloseUser]). Such a call
// returns when the change is in force in the whole cluster, and otherwise says on which
// node it may not be ([UnansweredError]).
//
// Groups by themselves keep nobody out: see [WithJoinAuthorizer], [WithAuthorization]
// and [Requires] for what does.
//
// # What is promised
//
// Everything that was sent to a group after Groups().Add returned reaches the new
// member. What one node sends to one user or group arrives in order and at most once.
// Sends to different users, groups and connections have no order relative to each other:
// the backplane may spread channels over partitions, and what goes to single connections of
// the same node does not pass it. Nothing is kept for those who are away, but for
// clients with stateful reconnect, who have some seconds to come back.
//
// # Locks
//
// From the outermost to the innermost; none is held while application code runs:
//
//	handovers.mu       the connections that come from other nodes, or go there
//	connection.mu      life and memberships of one connection
//	the backplane's    taken by Subscribe and Unsubscribe, not held around Deliver
//	shard.mu           the registry's tables; held for reading during a fan-out
//	taken.mu           what has arrived for a connection that is being handed over
//	outbound.mu        one connection's queue
//
//	calls.mu           what one client may refer to by an id
//	upload.mu          one stream from a client
//	budget.mu          what waits of one connection's input
//
//	results.mu         the answers that clients of this node owe
//	operations.mu      what is asked of other nodes, and performed for them
//	holdings.mu        what stays here of other nodes' operations
//
// The three lists are apart: no lock of one is taken under a lock of another, but for
// handovers.mu, under which operations are taken in that have waited for the end of a
// hand-over, and with them holdings.mu, results.mu and operations.mu. A connection's
// invocations.mu, sends.mu and the lock of the handshakes are taken under none and hold
// none.
package hub
