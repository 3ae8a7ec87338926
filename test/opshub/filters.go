package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
)

// callsKey is the key of the number of a connection's calls, among its items.
type callsKey struct{}

func callsOf(c *hub.Caller) *atomic.Int64 {
	n, _ := c.Items().LoadOrStore(callsKey{}, new(atomic.Int64))
	return n.(*atomic.Int64)
}

// countCalls counts what each connection invokes.
func countCalls() hub.Filter {
	return hub.Filter{Invoke: func(ctx context.Context, i *hub.Invocation, next hub.InvokeFunc) (any, error) {
		callsOf(i.Caller).Add(1)
		return next(ctx, i)
	}}
}

// explainErrors lets clients read the errors that say how an operation ended.
func explainErrors() hub.Filter {
	return hub.Filter{
		Invoke: func(ctx context.Context, i *hub.Invocation, next hub.InvokeFunc) (any, error) {
			result, err := next(ctx, i)
			return result, explained(err)
		},
		Connected: func(ctx context.Context, _ *hub.Caller, next func(context.Context) error) error {
			return explained(next(ctx))
		},
	}
}

func explained(err error) error {
	if unanswered, ok := errors.AsType[*hub.UnansweredError](err); ok {
		return &hub.Error{Message: unanswered.Error(), Err: err}
	}
	for _, known := range []error{
		hub.ErrNoConnection, hub.ErrDisconnected, hub.ErrConnecting, hub.ErrRemoved, hub.ErrExpired,
		backplane.ErrUnavailable,
	} {
		if errors.Is(err, known) {
			return &hub.Error{Message: known.Error(), Err: err}
		}
	}
	return err
}

// watchDoor turns those away who are banned, and tells the group "door" who has come
// and gone.
func watchDoor() hub.Filter {
	tell := func(ctx context.Context, c *hub.Caller, what string) error {
		return c.Clients().Group("door").Send(ctx, message, what+" "+c.ConnectionID())
	}
	return hub.Filter{
		Connected: func(ctx context.Context, c *hub.Caller, next func(context.Context) error) error {
			if c.Claims().Has("banned", "true") {
				return errors.New("banned")
			}
			if err := next(ctx); err != nil {
				return err
			}
			return tell(ctx, c, "came")
		},
		Disconnected: func(ctx context.Context, c *hub.Caller, cause error, next func(context.Context, error) error) error {
			return errors.Join(next(ctx, cause), tell(ctx, c, "went"))
		},
	}
}

// censor replaces bad words in one of the arguments.
func censor(argument int) hub.Filter {
	decent := strings.NewReplacer("damned", "******")
	return hub.Filter{Invoke: func(ctx context.Context, i *hub.Invocation, next hub.InvokeFunc) (any, error) {
		i.Arguments[argument] = decent.Replace(i.Arguments[argument].(string))
		return next(ctx, i)
	}}
}
