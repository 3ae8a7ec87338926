package hub

import (
	"context"
	"errors"
	"iter"
	"reflect"
	"testing"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// explosive encodes and decodes itself, which panics.
type explosive struct{}

func (explosive) MarshalJSON() ([]byte, error) { panic("encoding") }
func (*explosive) UnmarshalJSON([]byte) error  { panic("decoding") }

type panicking struct{}

func (panicking) Take(context.Context, *Caller, explosive) {}
func (panicking) Give(context.Context, *Caller) explosive  { return explosive{} }
func (panicking) Upload(_ context.Context, _ *Caller, items iter.Seq2[explosive, error]) error {
	for _, err := range items {
		return err
	}
	return nil
}
func (panicking) Required(context.Context, *Caller)             {}
func (panicking) Stream(context.Context, *Caller) iter.Seq[int] { return nil }
func (panicking) Items(context.Context, *Caller) iter.Seq[explosive] {
	return func(yield func(explosive) bool) { yield(explosive{}) }
}
func (panicking) ID(_ context.Context, c *Caller) string { return c.ConnectionID() }

// Application code that panics takes down what it was asked for, and no more.
func TestPanics(t *testing.T) {
	const inInvoking = "An unexpected error occurred invoking 'Upload' on the server. HubException: Failed to bind Stream message."
	for _, tt := range []struct {
		name string
		send []string
		want []string
	}{
		{"decoding", []string{call("1", "Take", "1")}, []string{failure("1", "Failed to invoke 'Take' due to an error on the server.")}},
		{"decoding an item", []string{call("1", "Upload", "", "s"), item("s", "1")}, []string{failure("1", inInvoking)}},
		{"requirement", []string{call("1", "Required", "")}, []string{failure("1", "Failed to invoke 'Required' because user is unauthorized")}},
		{"filter's stream", []string{stream("1", "Stream", "")}, []string{failure("1", "The value returned by the streaming method 'Stream' is not a ChannelReader<> or IAsyncEnumerable<>.")}},
		{"encoding an item", []string{stream("1", "Items", "")}, []string{failure("1", "An error occurred on the server while streaming results.")}},
		{"encoding", []string{call("1", "Give", "")}, []string{`{"type":7,"error":"Connection closed with an error.","allowReconnect":true}`, "closed 1000"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, address := serve(t, panicking{},
				WithMethod("Required", Requires(auth.Requirement(func(context.Context, *auth.Identity) error { panic("requirement") }))),
				WithMethod("Stream", FilteredBy(Filter{Invoke: func(context.Context, *Invocation, InvokeFunc) (any, error) { return "no stream", nil }})))
			c, other := connect(t, address, ""), connect(t, address, "")
			c.write(tt.send...)
			c.expect(tt.want...)
			other.invoke("ID") // the node is there
		})
	}
}

// A filter that returns what is no stream of the method's kind is told so to the client,
// and nothing panics.
func TestFilterReturnsNoStream(t *testing.T) {
	for _, result := range []any{nil, "no stream", 1, func() {}, iter.Seq[int](nil), iter.Seq2[int, error](nil), make(chan int), func(int) bool { return true }} {
		h, address := serve(t, panicking{}, WithMethod("Stream", FilteredBy(Filter{
			Invoke: func(context.Context, *Invocation, InvokeFunc) (any, error) { return result, nil },
		})))
		c := connect(t, address, "")
		c.write(stream("1", "Stream", ""))
		c.expect(failure("1", "The value returned by the streaming method 'Stream' is not a ChannelReader<> or IAsyncEnumerable<>."))
		if h.methods.lookup("Stream").result.isOf(reflect.ValueOf(result)) {
			t.Errorf("%T is taken for a stream", result)
		}
	}
	for _, tt := range []struct {
		kind  resultKind
		value any
		want  bool
	}{
		{sequenceResult, iter.Seq[string](func(func(string) bool) {}), true}, // items may be of another type
		{fallibleResult, iter.Seq2[string, error](func(func(string, error) bool) {}), true},
		{fallibleResult, iter.Seq2[int, int](func(func(int, int) bool) {}), false},
		{fallibleResult, iter.Seq[int](func(func(int) bool) {}), false},
		{channelResult, make(chan int), true},
		{channelResult, make(<-chan int), true},
		{channelResult, make(chan<- int), false},
		{channelResult, (<-chan int)(nil), false},
	} {
		if got := tt.kind.isOf(reflect.ValueOf(tt.value)); got != tt.want {
			t.Errorf("%T as stream of kind %d: %v", tt.value, tt.kind, got)
		}
	}
}

// late is a hub whose method asks its client after it has returned.
type late struct {
	room
	asked chan error
}

func (l *late) AskLater(ctx context.Context, c *Caller) {
	over, cancel := context.WithCancel(ctx)
	cancel()
	go func() { // ends at once
		<-l.blocked
		_, err := Invoke[int](over, c.Clients().Caller(), "Answer")
		l.asked <- err
	}()
}

// A method that has returned has no permit to give back.
func TestPermitIsGivenBackOnce(t *testing.T) {
	l := &late{room: room{blocked: make(chan struct{})}, asked: make(chan error, 1)}
	h, address := serve(t, l)
	c := connect(t, address, "")
	c.invoke("AskLater")
	l.blocked <- struct{}{}
	<-l.asked
	h.registry.each(func(c *connection) {
		c.invocations.mu.Lock()
		defer c.invocations.mu.Unlock()
		if n := c.invocations.taken; n != 0 {
			t.Errorf("%d permits are taken while nothing runs", n)
		}
	})
}

// A removal cancels the joins that were asked for before it, although both are performed
// beside each other.
func TestRemovalAfterAdd(t *testing.T) {
	c := newCluster(t)
	h := c.hubs[0]
	for range 100 {
		p := h.operations.expect()
		add := membershipOptions{}.operation(backplane.TargetUser, "ben", "room")
		add.ID = p.id
		if err := h.publishOperation(t.Context(), backplane.All, add); err != nil {
			t.Fatal(err)
		}
		if err := h.Groups().RemoveUser(t.Context(), "ben", "room"); err != nil && !errors.Is(err, ErrRemoved) {
			t.Fatal(err)
		}
		p.forget()
		if c.hubs[1].isMember("room") {
			t.Fatal("ben is a member after the removal")
		}
	}
}
