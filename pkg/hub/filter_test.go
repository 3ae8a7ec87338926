package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/heliograph/heliograph/pkg/auth"
)

// journal notes what happens in what order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) note(format string, arguments ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, fmt.Sprintf(format, arguments...))
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	entries := j.entries
	j.entries = nil
	return entries
}

// noting is a filter that notes what passes, under a name.
func (j *journal) noting(name string) Filter {
	return Filter{
		Invoke: func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			j.note("%s: %s%v", name, i.Method, i.Arguments)
			result, err := next(ctx, i)
			j.note("%s: %v, %v", name, result, err)
			return result, err
		},
		Connected: func(ctx context.Context, caller *Caller, next func(context.Context) error) error {
			j.note("%s: connected", name)
			return next(ctx)
		},
		Disconnected: func(ctx context.Context, caller *Caller, err error, next func(context.Context, error) error) error {
			j.note("%s: disconnected", name)
			return next(ctx, err)
		},
	}
}

type filtered struct {
	*journal
	gone chan struct{}
}

func (f filtered) OnConnected(context.Context, *Caller) error {
	f.note("hub: connected")
	return nil
}

func (f filtered) OnDisconnected(context.Context, *Caller, error) error {
	f.note("hub: disconnected")
	close(f.gone)
	return nil
}

func (f filtered) Add(_ context.Context, _ *Caller, a, b int) int {
	f.note("hub: Add")
	return a + b
}

func (f filtered) Subtract(_ context.Context, _ *Caller, a, b int) int { return a - b }
func (f filtered) Nothing(context.Context, *Caller)                    {}
func (f filtered) Count(_ context.Context, _ *Caller, n int) iter.Seq[int] {
	return slices.Values(make([]int, n))
}

func (f filtered) Admin(context.Context, *Caller) string { return "ok" }

func TestFilters(t *testing.T) {
	f := filtered{&journal{}, make(chan struct{})}
	c, _ := serveAt(t, f, WithFilter(f.noting("outer")), WithFilter(f.noting("inner")), WithFilter(Filter{}),
		WithMethod("Add", FilteredBy(f.noting("method"))))
	if got := c.invoke("add", 1, 2); got != `"result":3` {
		t.Errorf("got %s", got)
	}
	c.invoke("Nope")
	c.invoke("Add", "x", "y")
	c.conn.Close()
	<-f.gone
	want := []string{
		"outer: connected", "inner: connected", "hub: connected",
		"outer: Add[1 2]", "inner: Add[1 2]", "method: Add[1 2]", "hub: Add", "method: 3, <nil>", "inner: 3, <nil>", "outer: 3, <nil>",
		"outer: disconnected", "inner: disconnected", "hub: disconnected",
	}
	if got := f.take(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestWhatFiltersMayDo(t *testing.T) {
	const failed = `"error":"An unexpected error occurred invoking 'Add' on the server.`
	for _, tt := range []struct {
		name   string
		filter func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error)
		want   string // completion of Add(7, 3)
	}{
		{"skip", func(context.Context, *Invocation, InvokeFunc) (any, error) { return nil, nil }, `"result":null`},
		{"answer", func(context.Context, *Invocation, InvokeFunc) (any, error) { return "x", nil }, `"result":"x"`},
		{"refuse", func(context.Context, *Invocation, InvokeFunc) (any, error) { return nil, &Error{Message: "no"} }, failed + ` HubException: no"`},
		{"panic", func(context.Context, *Invocation, InvokeFunc) (any, error) { panic("secret") }, failed + ` panic: secret"`},
		{"change an argument", func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			i.Arguments[0] = 100
			return next(ctx, i)
		}, `"result":103`},
		{"swallow an error", func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			i.Arguments = nil
			_, err := next(ctx, i)
			return fmt.Sprint(err), nil
		}, `"result":"filter left 0 arguments for Add, which has 2"`},
		{"leave an argument of another type", func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			i.Arguments[1] = "x"
			return next(ctx, i)
		}, failed + ` filter left a string as argument 2 of Add, which is a int"`},
		{"invoke another method", func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			i.Method = "subtract"
			return next(ctx, i)
		}, `"result":4`},
		{"invoke an unknown method", func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			i.Method = "Nope"
			return next(ctx, i)
		}, failed + ` HubException: Unknown hub method 'Nope'"`},
		{"invoke a method of another kind", func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			i.Method, i.Arguments = "Count", i.Arguments[:1]
			return next(ctx, i)
		}, failed + ` filter put Count in place of Add, whose result is of another kind"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := filtered{&journal{}, make(chan struct{})}
			c, _ := serveAt(t, f, WithFilter(Filter{Invoke: tt.filter}), WithDetailedErrors())
			if got := c.invoke("Add", 7, 3); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestFilterOfConnections(t *testing.T) {
	refusing := Filter{Connected: func(context.Context, *Caller, func(context.Context) error) error { return errors.New("no") }}
	keeping := Filter{Connected: func(ctx context.Context, _ *Caller, next func(context.Context) error) error {
		next(ctx) // whatever it says
		return nil
	}}
	f := filtered{&journal{}, make(chan struct{})}
	refused, _ := serveAt(t, f, WithFilter(refusing))
	refused.expect(`{"type":7,"error":"Connection closed with an error."}`, "closed 1000")
	kept, _ := serveAt(t, f, WithFilter(keeping), WithFilter(refusing))
	kept.invoke("Nothing")
}

func TestMethodOptions(t *testing.T) {
	serveAs := func(t *testing.T, roles ...any) *client {
		who := &auth.Identity{Authenticated: true, Claims: auth.Claims{"role": roles}}
		c, _ := serveAt(t, filtered{&journal{}, make(chan struct{})},
			WithAuthenticator(auth.AuthenticatorFunc(func(*http.Request) (*auth.Identity, error) { return who, nil })),
			WithMethod("Admin", Requires(auth.Role("admin")), Named("do-admin")))
		return c
	}
	user, admin := serveAs(t, "user"), serveAs(t, "user", "admin")
	const refusal = `"error":"Failed to invoke 'do-admin' because user is unauthorized"`
	for _, tt := range []struct {
		c      *client
		target string
		want   string
	}{
		{user, "DO-ADMIN", refusal},
		{admin, "do-admin", `"result":"ok"`},
		{admin, "Admin", `"error":"Failed to invoke 'Admin' due to an error on the server. HubException: Method does not exist."`},
	} {
		if got := tt.c.invoke(tt.target); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.target, got, tt.want)
		}
	}

	_, err := New(filtered{&journal{}, nil}, WithMethod("Nope"), WithMethod("Add", Named("subtract"), Named("")))
	for _, want := range []string{"options for method Nope", "method Add: empty name", "Duplicate definitions of "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
