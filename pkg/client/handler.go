package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// The texts of the reference implementation's clients.
const (
	textNoResult    = "Client didn't provide a result."
	textNoArguments = "Client failed to parse argument(s)."
)

// textPanic is all that the server learns of a handler that panicked.
const textPanic = "Client handler panicked."

// A handler is a function that the server may invoke. It is not changed once made.
type handler struct {
	function     reflect.Value
	takesContext bool
	parameters   []reflect.Type // without the context
	hasResult    bool
	hasError     bool
}

var (
	contextType = reflect.TypeFor[context.Context]()
	errorType   = reflect.TypeFor[error]()
)

// compile makes a handler of f, or says all that is wrong with it.
func compile(f any) (*handler, error) {
	h := &handler{function: reflect.ValueOf(f)}
	if h.function.Kind() != reflect.Func || h.function.IsNil() {
		return nil, fmt.Errorf("handler is %T, want a function", f)
	}
	t := h.function.Type()
	var wrong []error
	if t.IsVariadic() {
		wrong = append(wrong, errors.New("handler is variadic, which servers cannot call"))
	}
	for i := range t.NumIn() {
		if i == 0 && t.In(0) == contextType {
			h.takesContext = true
			continue
		}
		if !encodable(t.In(i)) {
			wrong = append(wrong, fmt.Errorf("parameter %d: type %s has no encoding", i+1, t.In(i)))
		}
		h.parameters = append(h.parameters, t.In(i))
	}
	results := t.NumOut()
	if results > 0 && t.Out(results-1) == errorType {
		h.hasError = true
		results--
	}
	switch {
	case results > 1:
		wrong = append(wrong, errors.New("too many results: want at most a value and an error"))
	case results == 1 && !encodable(t.Out(0)):
		wrong = append(wrong, fmt.Errorf("result: type %s has no encoding", t.Out(0)))
	}
	h.hasResult = results == 1
	return h, errors.Join(wrong...)
}

// encodable reports whether values of the type can be arguments and results, as far as
// the type itself says.
func encodable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return false
	case reflect.Interface:
		return t.NumMethod() == 0
	}
	return true
}

// bind decodes the arguments of an invocation. Nothing in them refers to raw.
func (h *handler) bind(ctx context.Context, p protocol.Protocol, raw []byte) ([]reflect.Value, error) {
	var values []reflect.Value
	if h.takesContext {
		values = append(values, reflect.ValueOf(ctx))
	}
	targets := make([]any, len(h.parameters))
	for i, t := range h.parameters {
		v := reflect.New(t)
		targets[i] = v.Interface()
		values = append(values, v.Elem())
	}
	return values, p.BindArguments(raw, targets...)
}

// call runs the handler with what bind made.
func (h *handler) call(arguments []reflect.Value) (any, error) {
	results := h.function.Call(arguments)
	if h.hasError {
		if err, _ := results[len(results)-1].Interface().(error); err != nil {
			return nil, err
		}
	}
	if !h.hasResult {
		return nil, nil
	}
	return results[0].Interface(), nil
}

// On makes f the handler of a client method, which the server invokes by a name whose
// letter case does not matter. It may be called at any time; what was received before is
// not kept for it, so handlers best come before [Client.Start].
//
// f is a function with any number of parameters that have an encoding, a context before
// them if it wants one, and with a result, an error, both or neither. The context ends
// when the client is closed. Where the server asks for a result, it gets f's, or the
// text of f's error. A panic of f is logged with its stack, and the server told no more
// than that there was one; the client goes on.
//
// The error says what is wrong with f, or that the method has a handler already.
func (c *Client) On(method string, f any) error {
	h, err := compile(f)
	if err != nil {
		return fmt.Errorf("handler of %q: %w", method, err)
	}
	key := strings.ToLower(method)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handlers[key] != nil {
		return fmt.Errorf("handler of %q: there is one already", method)
	}
	c.handlers[key] = h
	return nil
}

// handler returns what handles invocations of the method, or nil.
func (c *Client) handler(method string) *handler {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.handlers[method]; h != nil { // as written in lower case
		return h
	}
	return c.handlers[strings.ToLower(method)]
}

// handle runs the handler of an invocation, and answers if the server wants an answer.
func (c *Client) handle(conn *connection, m *protocol.Invocation) {
	answer := &protocol.Completion{InvocationID: m.InvocationID}
	var err error
	if answer.Result, answer.HasResult, answer.Error, err = c.outcome(m); err != nil && m.InvocationID == "" {
		c.logger.Warn("invocation by the server failed", "method", m.Target, slog.Any("error", err))
	}
	if m.InvocationID == "" {
		return
	}
	err = conn.send(c.life, answer)
	if _, unencodable := errors.AsType[*encodeError](err); unencodable {
		err = conn.send(c.life, &protocol.Completion{InvocationID: m.InvocationID, Error: err.Error()})
	}
	if err != nil { // the connection has ended, and the server knows
		c.logger.Debug("result not sent", "method", m.Target, slog.Any("error", err))
	}
}

// outcome is what the invocation has led to; text is what the server may know of err. A
// panic of the handler, or of types that decode themselves, is an error.
func (c *Client) outcome(m *protocol.Invocation) (result any, hasResult bool, text string, err error) {
	defer func() {
		if v := recover(); v != nil {
			c.logger.Error("handler panicked", "method", m.Target, slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			result, hasResult, text, err = nil, false, textPanic, fmt.Errorf("panic: %v", v)
		}
	}()
	h := c.handler(m.Target)
	if h == nil {
		return nil, false, textNoResult, errors.New("there is no handler")
	}
	arguments, err := h.bind(c.life, c.protocol, m.RawArguments)
	if err != nil {
		return nil, false, textNoArguments, err
	}
	result, err = h.call(arguments)
	switch {
	case err != nil:
		return nil, false, err.Error(), err
	case !h.hasResult:
		return nil, false, textNoResult, nil
	}
	return result, true, "", nil
}
