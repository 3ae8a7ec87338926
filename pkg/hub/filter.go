package hub

import (
	"context"
	"fmt"
	"reflect"
)

// A Filter wraps what a hub does on behalf of its connections. Each of its functions
// may be nil. It calls next to go on, to the next filter or to the hub in the end, and
// may do something before and after, change what goes in and comes out, or not call it
// at all. Filters are called concurrently.
//
// Filters are given to the hub ([WithFilter]) or to a method of it ([FilteredBy]). The
// first one is the outermost, and those of the hub are outside of those of a method.
type Filter struct {
	// Invoke runs once an invocation has been bound and authorised. What it returns is
	// the result of the invocation, or the stream: filters do not see single items.
	Invoke func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error)

	// Connected runs where OnConnected does. The connection is refused if it returns an
	// error. The hub's OnConnected does not run if it does not call next.
	Connected func(ctx context.Context, caller *Caller, next func(context.Context) error) error

	// Disconnected runs where OnDisconnected does; err is why the connection ended.
	Disconnected func(ctx context.Context, caller *Caller, err error, next func(context.Context, error) error) error
}

// InvokeFunc goes on with an invocation.
type InvokeFunc func(ctx context.Context, i *Invocation) (any, error)

// An Invocation is one as a [Filter] sees it, and may change it before it goes on.
type Invocation struct {
	// Caller is the connection that invokes. Changing it changes nothing.
	Caller *Caller
	// Method is the name of the method as the hub has it. Changed to another one, that
	// method is invoked, without its own filters and requirements.
	Method string
	// Arguments are of the types of the method's parameters, without context and caller.
	// A stream from the client is an iter.Seq2[T, error].
	Arguments []any
}

// call runs the method of an invocation, through the filters.
func (c *connection) call(i *invocation) (any, error) {
	if len(c.hub.filters) == 0 && len(i.method.filters) == 0 {
		result, err := i.method.invoke(&i.ctx, c.caller, i.arguments)
		i.method.release(i.arguments) // not if it panics
		return result, err
	}
	seen := &Invocation{Caller: c.caller, Method: i.method.name, Arguments: make([]any, len(i.method.parameters))}
	for k := range seen.Arguments {
		seen.Arguments[k] = i.arguments.values[leading+k].Interface()
	}
	next := func(ctx context.Context, seen *Invocation) (any, error) { return c.callFiltered(ctx, i, seen) }
	for _, filters := range [][]Filter{i.method.filters, c.hub.filters} {
		for k := len(filters) - 1; k >= 0; k-- {
			if filter := filters[k].Invoke; filter != nil {
				inner := next
				next = func(ctx context.Context, seen *Invocation) (any, error) { return filter(ctx, seen, inner) }
			}
		}
	}
	return next(&i.ctx, seen)
}

// callFiltered runs what the filters have made of an invocation.
func (c *connection) callFiltered(ctx context.Context, i *invocation, seen *Invocation) (any, error) {
	method := i.method
	if seen.Method != method.name {
		if method = c.hub.methods.lookup(seen.Method); method == nil {
			return nil, &Error{Message: "Unknown hub method '" + seen.Method + "'"}
		}
		if method.result != i.method.result {
			return nil, fmt.Errorf("filter put %s in place of %s, whose result is of another kind", method.name, i.method.name)
		}
	}
	if len(seen.Arguments) != len(method.parameters) {
		return nil, fmt.Errorf("filter left %d arguments for %s, which has %d", len(seen.Arguments), method.name, len(method.parameters))
	}
	a := &arguments{values: make([]reflect.Value, leading+len(method.parameters))}
	for k, argument := range seen.Arguments {
		v, t := reflect.ValueOf(argument), method.parameters[k].Type
		switch {
		case !v.IsValid(): // nil
			v = reflect.Zero(t)
		case !v.Type().AssignableTo(t):
			return nil, fmt.Errorf("filter left a %s as argument %d of %s, which is a %s", v.Type(), k+1, method.name, t)
		}
		a.values[leading+k] = v
	}
	return method.invoke(ctx, c.caller, a)
}

// connected runs OnConnected through the filters.
func (c *connection) connected(ctx context.Context) error {
	next := func(ctx context.Context) error {
		if handler, ok := c.hub.value.(ConnectedHandler); ok {
			return handler.OnConnected(ctx, c.caller)
		}
		return nil
	}
	for k := len(c.hub.filters) - 1; k >= 0; k-- {
		if filter := c.hub.filters[k].Connected; filter != nil {
			inner := next
			next = func(ctx context.Context) error { return filter(ctx, c.caller, inner) }
		}
	}
	return next(ctx)
}

// disconnected runs OnDisconnected through the filters.
func (c *connection) disconnected(ctx context.Context, err error) error {
	next := func(ctx context.Context, err error) error {
		if handler, ok := c.hub.value.(DisconnectedHandler); ok {
			return handler.OnDisconnected(ctx, c.caller, err)
		}
		return nil
	}
	for k := len(c.hub.filters) - 1; k >= 0; k-- {
		if filter := c.hub.filters[k].Disconnected; filter != nil {
			inner := next
			next = func(ctx context.Context, err error) error { return filter(ctx, c.caller, err, inner) }
		}
	}
	return next(ctx, err)
}
