// Package client connects to SignalR hubs: it invokes their methods, is invoked by
// them, and streams both ways, in either hub protocol, over WebSockets.
//
//	c, err := client.New("https://example.com/chat", client.WithAutomaticReconnect())
//	err = c.On("ReceiveMessage", func(user, text string) { fmt.Println(user, text) })
//	err = c.Start(ctx)
//	defer c.Close()
//	sum, err := client.Invoke[int](ctx, c, "Add", 1, 2)
//
// Values are encoded and decoded as package protocol says, so struct fields take
// their names from json tags in both protocols.
//
// # Calls
//
// [Invoke] returns a method's result, [Client.Invoke] waits for its end and drops the
// result, [Client.Send] wants no answer, [Stream] returns what the method streams. All
// of them take uploads among their arguments: every channel that can be received from,
// every iter.Seq[T] and every iter.Seq2[T, error] is a stream to the server. Uploads go
// to the method's stream parameters in the order of the arguments, wherever among these
// they stand, and run side by side. A channel ends its stream by being closed, a
// sequence by ending. A sequence's error becomes the stream's and ends it.
//
// An upload stops when its call ends, in whatever way. A sequence that blocks is not
// waited for then, so it should watch the call's context.
//
// # Handlers
//
// Handlers, and the callbacks [Client.OnReconnecting] and [Client.OnReconnected], run
// one at a time on one goroutine, in the order in which their causes came. They may call
// every method of the client: an answer is not kept waiting by a handler. A handler that
// panics is not recovered from.
//
// # Flow control
//
// Invocations that wait for a handler, and stream items that wait for the loop over them,
// share a bounded queue ([WithInboundQueue]). When it is full nothing more is read, so
// that the server has to slow down. Answers are not read either then: an Invoke from
// within a handler, or from within the loop over a stream, that is so far behind may wait
// for one that cannot come. If nothing leaves a full queue for the server time-out, the
// connection is given up, which ends such waiting.
//
// What is to be sent passes a short queue. Where the server does not read, calls wait for
// room in it until their contexts end; a [Client.Send] that failed so has sent nothing,
// but for uploads. Of other calls, the server is told when nobody waits for them any more.
//
// # Reconnecting
//
// With [WithAutomaticReconnect], a connection that is lost, or that the server closed
// with leave to reconnect, is replaced. The new one has another id and is in no group, so
// what the old one had joined has to be joined again: OnReconnected is the place, since
// no message of the new connection is handled before it has returned. Calls that waited
// for an answer fail with [ErrConnectionLost], and calls made meanwhile with
// [ErrNotConnected]: nothing is kept or repeated.
//
// # Concurrency
//
// Everything here may be used concurrently. A started client has three goroutines: one
// that reads (and reconnects), one that writes, one that runs handlers. Each upload has
// one more. [Client.Close] ends them. It does not wait for application code;
// [Client.Done] says when that has ended too.
//
// No lock is held while application code runs, while anything waits, or while another
// lock is taken.
package client
