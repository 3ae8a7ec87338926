package hub

import (
	"context"
	"iter"
	"runtime"
	"testing"

	"github.com/heliograph/heliograph/pkg/auth"
)

// leaving is a hub whose code ends its goroutines, as a failing assertion of a test does.
type leaving struct{ ended chan error }

func (leaving) Method(context.Context, *Caller) { runtime.Goexit() }
func (leaving) Required(context.Context, *Caller) {
}
func (leaving) Stream(context.Context, *Caller) iter.Seq[int] {
	return func(yield func(int) bool) {
		yield(1)
		runtime.Goexit()
	}
}
func (leaving) Upload(context.Context, *Caller, iter.Seq2[int, error]) { runtime.Goexit() }
func (leaving) ID(_ context.Context, c *Caller) string                 { return c.ConnectionID() }
func (l leaving) OnDisconnected(_ context.Context, _ *Caller, err error) error {
	l.ended <- err
	runtime.Goexit()
	return nil
}

// A goroutine that application code ends takes down what it was asked for, and no more.
func TestGoexit(t *testing.T) {
	const detail = " the goroutine was ended (runtime.Goexit)"
	l := leaving{make(chan error, 1)}
	_, address := serve(t, l, WithDetailedErrors(),
		WithMethod("Required", Requires(auth.Requirement(func(context.Context, *auth.Identity) error {
			runtime.Goexit()
			return nil
		}))))
	c := connect(t, address, "")
	c.write(call("1", "Method", ""), call("2", "Method", ""))
	for _, id := range []string{"1", "2"} {
		c.expect(failure(id, "An unexpected error occurred invoking 'Method' on the server."+detail))
	}
	c.write(call("3", "Required", ""))
	c.expect(failure("3", "Failed to invoke 'Required' because user is unauthorized"))
	c.write(stream("4", "Stream", ""))
	c.expect(`{"type":2,"invocationId":"4","item":1}`, failure("4", "An error occurred on the server while streaming results."+detail))
	c.write(call("5", "Upload", "", "s"))
	c.expect(failure("5", "An unexpected error occurred invoking 'Upload' on the server."+detail))
	c.invoke("ID")
	c.write(`{"type":7}`)
	if err := <-l.ended; err != nil {
		t.Error(err)
	} // that nothing is left is for Shutdown to see
}

type leavingAtOnce struct{}

func (leavingAtOnce) OnConnected(context.Context, *Caller) error {
	runtime.Goexit()
	return nil
}

func TestGoexitInOnConnected(t *testing.T) {
	_, address := serve(t, leavingAtOnce{}, WithDetailedErrors())
	c := connect(t, address, "")
	c.expect(`{"type":7,"error":"Connection closed with an error. the goroutine was ended (runtime.Goexit)"}`, "closed 1000")
}

// sharing is a hub whose methods end when they are canceled.
type sharing struct{ ended chan error }

func (s sharing) Plain(context.Context, *Caller) {}
func (s sharing) Wait(ctx context.Context, _ *Caller) iter.Seq[int] {
	return func(func(int) bool) {
		<-ctx.Done()
		s.ended <- ctx.Err()
	}
}
func (s sharing) Upload(_ context.Context, _ *Caller, items iter.Seq2[int, error]) error {
	for _, err := range items {
		if err != nil {
			s.ended <- err
			return err
		}
	}
	return nil
}

// A stream keeps its id while other invocations come that bear it too.
func TestStreamKeepsItsID(t *testing.T) {
	for _, declared := range [][]string{nil, {"s"}} {
		method := "Plain"
		if declared != nil {
			method = "Upload"
		}
		s := sharing{make(chan error, 2)}
		_, address := serve(t, s)
		c := connect(t, address, "")
		c.write(stream("1", "Wait", ""), call("1", method, "", declared...))
		if declared != nil {
			c.write(`{"type":3,"invocationId":"s"}`)
		}
		c.expect(result("1", "null"))
		c.write(stream("1", "Wait", ""))
		c.expect(failure("1", "Invocation ID '1' is already in use."))
		c.write(`{"type":5,"invocationId":"1"}`)
		c.expect(end("1"))
		if err := <-s.ended; err != context.Canceled {
			t.Error(err)
		}
	}
}

// The reader of an upload is told what has ended it.
func TestUploadOfCanceledInvocation(t *testing.T) {
	s := sharing{make(chan error, 1)}
	_, address := serve(t, s, WithDetailedErrors())
	c := connect(t, address, "")
	c.write(call("1", "Upload", "", "s"), `{"type":5,"invocationId":"1"}`)
	c.expect(failure("1", "An unexpected error occurred invoking 'Upload' on the server. OperationCanceledException: The operation was canceled."))
}
