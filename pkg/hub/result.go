package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"sync"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// connectingKey is the context key that OnConnected runs under.
type connectingKey struct{}

// ErrConnecting reports that a client was asked from within OnConnected, when nothing
// is read from it yet.
var ErrConnecting = errors.New("Client results inside OnConnectedAsync Hub methods are not allowed.") //nolint:revive,staticcheck // the reference's text

// Invoke asks one client: it invokes its method and returns the result. The client's
// own error is an [*Error] with its text, as is a result that is no T. It fails with
// [ErrNoConnection] if no node has the connection, and with [ErrDisconnected] if it
// ends before it has answered. It waits until ctx ends: a client may take its time.
//
// Within a hub method, the permit to run is given back, once and for all, so that the
// client can answer although invocations of a connection run one at a time: from then
// on the method runs beside the later ones. Within OnConnected it fails with
// [ErrConnecting].
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
	case ctx.Value(connectingKey{}) != nil:
		return ErrConnecting
	}
	if i, ok := ctx.Value(invocationKey{}).(*invocation); ok {
		i.connection.givePermitBack(i)
	}
	id := p.connections[0]
	c := p.hub.registry.connection(id)
	if c == nil {
		return fmt.Errorf("Connection '%s' does not exist: %w", id, ErrNoConnection) //nolint:revive,staticcheck // the reference's text
	}
	answer, err := p.hub.ask(ctx, c, method, arguments)
	if err != nil {
		return err
	}
	return answer.bind(result)
}

// ask sends an invocation to a connection of this node, and waits for the answer.
func (h *Hub) ask(ctx context.Context, c *connection, method string, arguments []any) (answer, error) {
	id, answers := h.results.expect(c)
	defer h.results.forget(id)
	if err := c.send(&protocol.Invocation{InvocationID: id, Target: method, Arguments: arguments}); err != nil {
		return answer{}, fmt.Errorf("encode: %w", err)
	}
	if c.ctx.Err() != nil { // maybe before there was anything to abandon
		h.results.abandon(c)
	}
	select {
	case a := <-answers:
		return a, nil
	case <-ctx.Done():
		return answer{}, &Error{Message: "Invocation canceled by the server.", Err: ctx.Err()}
	}
}

// results are the answers that clients of this node owe.
type results struct {
	mu      sync.Mutex
	last    uint64
	pending map[string]pendingResult // by invocation id
}

type pendingResult struct {
	from    *connection
	answers chan<- answer // of capacity 1
}

// An answer is what a client said, or why there is none.
type answer struct {
	result protocol.Raw
	err    error
}

// expect makes up an invocation id whose completion, or else the end of the
// connection, will come on the channel.
func (r *results) expect(from *connection) (id string, answers <-chan answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	id = "s" + strconv.FormatUint(r.last, 10)
	ch := make(chan answer, 1)
	if r.pending == nil {
		r.pending = make(map[string]pendingResult)
	}
	r.pending[id] = pendingResult{from, ch}
	return id, ch
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
	p.answers <- a
	return true
}

// abandon answers for a connection that has ended.
func (r *results) abandon(c *connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, p := range r.pending {
		if p.from == c {
			delete(r.pending, id)
			p.answers <- answer{err: fmt.Errorf("Connection '%s' disconnected: %w", c.id, ErrDisconnected)} //nolint:revive,staticcheck // the reference's text
		}
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

// bind decodes the result into what into points to.
func (a answer) bind(into any) error {
	if a.err != nil {
		return a.err
	}
	if err := a.result.Protocol.BindValue(a.result.Bytes, into); err != nil {
		return &Error{
			Message: fmt.Sprintf("Error trying to deserialize result to %s.", reflect.TypeOf(into).Elem()),
			Err:     err,
		}
	}
	return nil
}
