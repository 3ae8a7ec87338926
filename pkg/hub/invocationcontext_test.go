package hub

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
)

func newInvocationContext(t *testing.T) (i *invocation, endConnection func()) {
	parent, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	i = new(invocation)
	i.ctx.invocation, i.ctx.parent = i, parent
	return i, cancel
}

// However an invocation ends, and whether it was waited for before or is asked afterwards.
func TestInvocationContextEnds(t *testing.T) {
	for name, end := range map[string]func(i *invocation, endConnection func()){
		"invocation": func(i *invocation, _ func()) { i.ctx.end() },
		"twice":      func(i *invocation, _ func()) { i.ctx.end(); i.ctx.end() },
		"connection": func(_ *invocation, endConnection func()) { endConnection() },
	} {
		for _, waited := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				i, endConnection := newInvocationContext(t)
				var ctx context.Context = &i.ctx
				if waited {
					select {
					case <-ctx.Done():
						t.Fatal("is done before it has ended")
					default:
					}
				}
				if err := ctx.Err(); err != nil {
					t.Fatalf("error %v before it has ended", err)
				}
				end(i, endConnection)
				if err := ctx.Err(); !errors.Is(err, context.Canceled) {
					t.Errorf("error %v", err)
				}
				<-ctx.Done()
				if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("cause %v", err)
				}
			})
		}
	}
}

func TestInvocationContextHasValues(t *testing.T) {
	i, _ := newInvocationContext(t)
	i.ctx.parent = context.WithValue(i.ctx.parent, connectingKey{}, "value of the connection")
	for range 2 { // before and after Done has been asked for
		if got := i.ctx.Value(invocationKey{}); got != i {
			t.Errorf("the invocation is %v", got)
		}
		if got := i.ctx.Value(connectingKey{}); got != "value of the connection" {
			t.Errorf("the connection's value is %v", got)
		}
		i.ctx.Done()
	}
}

// Contexts made from that of an invocation end with it, and take no goroutine.
func TestContextsOfInvocationContext(t *testing.T) {
	i, _ := newInvocationContext(t)
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(&i.ctx)
	defer cancel()
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines more", n-before)
	}
	i.ctx.end()
	await.Until(t, "the context ends", func() error {
		if ctx.Err() == nil {
			return errors.New("it has not")
		}
		return nil
	})
}
