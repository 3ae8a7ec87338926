package hub

import (
	"context"
	"runtime"
	"testing"
)

// gated has methods that return at once, when the gate opens, and not at all.
type gated struct{ gate chan struct{} }

func (gated) Returns(context.Context, *Caller) int { return 1 }

func (g gated) Waits(context.Context, *Caller) int {
	<-g.gate
	return 2
}

func (gated) Ends(context.Context, *Caller) int {
	runtime.Goexit()
	return 3
}

// An answer does not wait for the invocation that comes next, whatever that does.
func TestAnswerDoesNotWaitForTheNext(t *testing.T) {
	const (
		returns = `{"type":1,"invocationId":"1","target":"Returns","arguments":[]}`
		ends    = `{"type":1,"invocationId":"1","target":"Ends","arguments":[]}`
		waits   = `{"type":1,"invocationId":"2","target":"Waits","arguments":[]}`
	)
	for first, answer := range map[string]string{
		returns: `{"type":3,"invocationId":"1","result":1}`,
		ends:    `{"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Ends' on the server."}`,
	} {
		hub := gated{make(chan struct{})}
		_, address := serve(t, hub)
		c := connect(t, address, "ada")
		c.write(first, waits)
		c.expect(answer)
		close(hub.gate)
		c.expect(`{"type":3,"invocationId":"2","result":2}`)
	}
}
