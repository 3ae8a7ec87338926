package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// connectingKey is the context key that OnConnected runs under.
type connectingKey struct{}

// ErrConnecting reports that a client was asked from within OnConnected, when nothing
// is read from it yet.
var ErrConnecting error = &referenceError{text: "Client results inside OnConnectedAsync Hub methods are not allowed."}

// Invoke asks one client: it invokes its method and returns the result. The client's
// own error is an [*Error] with its text, as is a result that is no T. It fails with
// [ErrNoConnection] if no node has the connection, and with [ErrDisconnected] if it
// ends before it has answered, be it with its node. It fails with
// [backplane.ErrUnavailable] if the connection's node has not said in the time of an
// operation ([WithOperationTimeout]) that the client was asked, which may have been, and
// with [ErrClosed] if this hub is shut down meanwhile. It waits until ctx ends: a client
// may take its time. The client is not told that nobody waits any more; what it answers
// then is ignored.
//
// Within a hub method, the permit to run is given back, once and for all, so that the
// client can answer although invocations of a connection run one at a time: from then
// on the method runs beside the later ones. A method that has an upload of its own caller
// unread, of more than [WithWaitingInput] allows, does not get that caller's answer, which
// is behind it. Within OnConnected it fails with [ErrConnecting]: at
// once with its context or the caller's Clients, and otherwise when ctx ends.
func Invoke[T any](ctx context.Context, client SingleClientProxy, method string, arguments ...any) (T, error) {
	var result T
	err := client.invoke(ctx, method, arguments, &result)
	if err != nil {
		return *new(T), fmt.Errorf("invoke %q: %w", method, err)
	}
	return result, nil
}

func (p SingleClientProxy) invoke(ctx context.Context, method string, arguments []any, result any) error {
	switch {
	case p.err != nil:
		return p.err
	case method == "":
		return errors.New("no method named")
	case ctx.Value(connectingKey{}) != nil, p.caller != nil && p.caller.isConnecting():
		return ErrConnecting
	}
	if i, ok := ctx.Value(invocationKey{}).(*invocation); ok {
		i.connection.givePermitBack(i)
	}
	ask := p.hub.askElsewhere
	if p.hub.registry.connection(p.connections[0]) != nil {
		ask = p.hub.askHere
	}
	answer, err := ask(ctx, p.connections[0], &protocol.Invocation{Target: method, Arguments: arguments})
	if err != nil {
		return err
	}
	return p.hub.bindAnswer(answer, result)
}

func errDoesNotExist(id string) error {
	return &referenceError{text: "Connection '" + id + "' does not exist.", is: ErrNoConnection}
}

func errDisconnected(id string) error {
	return &referenceError{text: "Connection '" + id + "' disconnected.", is: ErrDisconnected}
}

// askHere sends an invocation to a connection of this node, and waits for the answer.
func (h *Hub) askHere(ctx context.Context, connectionID string, m *protocol.Invocation) (answer, error) {
	c := h.registry.connection(connectionID)
	if c == nil {
		return answer{}, errDoesNotExist(connectionID)
	}
	answers := make(chan answer, 1)
	m.InvocationID = h.results.expect(c, func(a answer) { answers <- a })
	defer h.results.forget(m.InvocationID)
	if err := c.send(m); err != nil {
		return answer{}, fmt.Errorf("encode: %w", err)
	}
	h.results.abandonEnded(c)
	select {
	case a := <-answers:
		return a, a.err
	case <-ctx.Done():
		if c.isConnecting() { // who asks may well be OnConnected itself, with another context
			return answer{}, fmt.Errorf("%w: %w", ErrConnecting, ctx.Err())
		}
		return answer{}, errAskCanceled(ctx)
	}
}

// isConnecting reports whether OnConnected is running, and nothing is read.
func (c *connection) isConnecting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connecting
}

func errAskCanceled(ctx context.Context) error {
	return &Error{Message: "Invocation canceled by the server.", Err: ctx.Err()}
}

// reply is the answer as it goes to another node.
func (a answer) reply() backplane.Reply {
	shown, isError := errors.AsType[*Error](a.err)
	switch {
	case isError:
		return backplane.Reply{Outcome: backplane.OutcomeFailed, Error: shown.Message}
	case a.err != nil: // disconnected
		return backplane.Reply{Outcome: backplane.OutcomeNothing}
	}
	return backplane.Reply{Outcome: backplane.OutcomeDone, Result: backplane.Encoding{Protocol: a.result.Protocol.Name(), Frame: a.result.Bytes}}
}

// results are the answers that clients of this node owe.
type results struct {
	mu      sync.Mutex
	last    uint64
	pending map[string]pendingResult // by invocation id
}

type pendingResult struct {
	from *connection
	give func(answer) // called once, under mu: must not wait
}

// An answer is what a client said, or why there is none.
type answer struct {
	result protocol.Raw
	err    error
}

// expect makes up an invocation id, for whose completion, or else the end of the
// connection, give is called.
func (r *results) expect(from *connection, give func(answer)) (id string) {
	r.mu.Lock()
	r.last++
	id = "s" + strconv.FormatUint(r.last, 10)
	r.mu.Unlock()
	r.expectAs(id, from, give)
	return id
}

func (r *results) expectAs(id string, from *connection, give func(answer)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = make(map[string]pendingResult)
	}
	r.pending[id] = pendingResult{from, give}
}

func (r *results) expects(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.pending[id]
	return ok
}

func (r *results) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pending, id)
}

// complete hands an answer to who waits for it. It reports whether the connection may
// give it; an answer to nothing is fine.
func (r *results) complete(from *connection, id string, a answer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.pending[id]
	switch {
	case !ok:
		return true
	case p.from != from:
		return false
	}
	delete(r.pending, id)
	p.give(a)
	return true
}

// abandon answers for a connection that has ended.
func (r *results) abandon(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, p := range r.pending {
		if p.from == c {
			delete(r.pending, id)
			p.give(answer{err: errDisconnected(c.id)})
		}
	}
}

// abandonEnded does so if the connection ended before there was anything to abandon.
func (r *results) abandonEnded(c *connection) {
	if c.ctx.Err() != nil {
		r.abandon(c)
	}
}

// receiveResult takes a client's answer to what it was asked.
func (c *connection) receiveResult(m *protocol.Completion) {
	var a answer
	switch {
	case m.HasError:
		a.err = &Error{Message: m.Error}
	case !m.HasResult:
		a.err = &Error{Message: "Client didn't provide a result."}
	default:
		a.result = protocol.Raw{Protocol: c.protocol(), Bytes: bytes.Clone(m.RawResult)}
	}
	if !c.hub.results.complete(c, m.InvocationID, a) {
		c.fail(&protocol.Error{
			Kind:   "InvalidOperationException",
			Detail: fmt.Sprintf("Connection ID '%s' is not valid for invocation ID '%s'.", c.id, m.InvocationID),
		})
	}
}

// bindAnswer decodes the result into what into points to.
func (h *Hub) bindAnswer(a answer, into any) error {
	if a.result.Protocol == nil {
		return fmt.Errorf("%w: the answer is in a hub protocol that this node does not speak", backplane.ErrMalformed)
	}
	if err := a.result.Protocol.BindValue(a.result.Bytes, into); err != nil {
		return &Error{
			Message: h.withDetails(fmt.Sprintf("Error trying to deserialize result to %s.", reflect.TypeOf(into).Elem()), err),
			Err:     err,
		}
	}
	return nil
}
