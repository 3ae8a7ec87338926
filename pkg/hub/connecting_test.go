package hub

import (
	"context"
	"errors"
	"testing"
	"time"
)

// early is a hub that asks its caller while that connects.
type early struct {
	hub   chan *Hub
	asked chan error
}

func (e *early) OnConnected(_ context.Context, c *Caller) error {
	_, err := Invoke[int](context.Background(), c.Clients().Caller(), "Answer")
	e.asked <- err
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = Invoke[int](ctx, (<-e.hub).Clients().Client(c.ConnectionID()), "Answer")
	e.asked <- err
	return nil
}

// Asking from OnConnected is refused, whatever the context.
func TestAskingWhileConnecting(t *testing.T) {
	e := &early{make(chan *Hub, 1), make(chan error, 2)}
	h, address := serve(t, e)
	e.hub <- h
	connect(t, address, "")
	for range 2 {
		if err := <-e.asked; !errors.Is(err, ErrConnecting) {
			t.Errorf("got %v", err)
		}
	}
}

// mistaken is a hub that asks for a number.
type mistaken struct{}

func (mistaken) Ask(ctx context.Context, c *Caller) (int, error) {
	return Invoke[int](ctx, c.Clients().Caller(), "Answer")
}

// What is wrong with a client's result is told where details are.
func TestResultOfAnotherTypeInDetail(t *testing.T) {
	for _, tt := range []struct {
		options []Option
		want    string
	}{
		{nil, ""},
		{[]Option{WithDetailedErrors()}, " InvalidDataException: Deserializing object of the `int` type failed."},
	} {
		_, address := serve(t, mistaken{}, tt.options...)
		c := connect(t, address, "")
		c.write(call("1", "Ask", ""))
		c.expect(`{"type":1,"invocationId":"s1","target":"Answer","arguments":[]}`)
		c.write(result("s1", `"text"`))
		c.expect(failure("1", "An unexpected error occurred invoking 'Ask' on the server. HubException: Error trying to deserialize result to int."+tt.want))
	}
}
