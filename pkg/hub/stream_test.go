package hub

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
)

// streamer is a hub whose methods stream.
type streamer struct {
	running atomic.Int32 // Endless streams
	made    atomic.Int32 // items of Endless
	ended   chan error   // what ReadAll got at the end
}

func (s *streamer) Count(_ context.Context, _ *Caller, n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

func (s *streamer) CountThenFail(_ context.Context, _ *Caller, n int, shown bool) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for i := range n {
			if !yield(i, nil) {
				return
			}
		}
		if shown {
			yield(0, &Error{Message: "told"})
			return
		}
		yield(0, errors.New("secret"))
	}
}

func (s *streamer) CountThenPanic(_ context.Context, _ *Caller, n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range n {
			yield(i)
		}
		panic("secret")
	}
}

func (s *streamer) Channel(ctx context.Context, _ *Caller, n int) <-chan int {
	items := make(chan int)
	go func() {
		defer close(items)
		for i := range n {
			select {
			case items <- i:
			case <-ctx.Done():
				return
			}
		}
	}()
	return items
}

func (s *streamer) Nil(context.Context, *Caller) <-chan int { return nil }

func (s *streamer) Refuse(context.Context, *Caller) (iter.Seq[int], error) {
	return nil, &Error{Message: "no"}
}

func (s *streamer) Endless(ctx context.Context, _ *Caller, item string) iter.Seq[string] {
	return func(yield func(string) bool) {
		s.running.Add(1)
		defer s.running.Add(-1)
		for ctx.Err() == nil && yield(item) {
			s.made.Add(1)
		}
	}
}

// Heedless goes on as long as its items are taken.
func (s *streamer) Heedless(context.Context, *Caller) iter.Seq[int] {
	return func(yield func(int) bool) {
		s.running.Add(1)
		defer s.running.Add(-1)
		for yield(0) {
		}
	}
}

func (s *streamer) Wait(ctx context.Context, _ *Caller) iter.Seq[int] {
	return func(func(int) bool) {
		s.running.Add(1)
		defer s.running.Add(-1)
		<-ctx.Done()
	}
}

func (s *streamer) Sum(_ context.Context, _ *Caller, start int, items iter.Seq2[int, error]) (int, error) {
	for item, err := range items {
		if err != nil {
			return 0, err
		}
		start += item
	}
	return start, nil
}

func (s *streamer) First(_ context.Context, _ *Caller, items iter.Seq2[int, error]) (int, error) {
	for item, err := range items {
		return item, err
	}
	return -1, nil
}

func (s *streamer) Zip(_ context.Context, _ *Caller, a iter.Seq2[int, error], sep string, b iter.Seq2[string, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		next, stop := iter.Pull2(b)
		defer stop()
		for number, err := range a {
			text, _, _ := next()
			if !yield(fmt.Sprint(number, sep, text), err) || err != nil {
				return
			}
		}
	}
}

func (s *streamer) ReadAll(_ context.Context, _ *Caller, items iter.Seq2[int, error]) {
	for _, err := range items {
		if err != nil {
			s.ended <- err
		}
	}
}

func (s *streamer) Plain(context.Context, *Caller) int { return 1 }

func TestStreams(t *testing.T) {
	const (
		atStreaming = "An error occurred on the server while streaming results."
		atInvoking  = "An unexpected error occurred invoking "
	)
	for _, tt := range []struct {
		name     string
		send     []string
		detailed bool
		want     []string
	}{
		{name: "sequence", send: []string{stream("1", "Count", "3")}, want: []string{item("1", "0"), item("1", "1"), item("1", "2"), end("1")}},
		{name: "empty", send: []string{stream("1", "Count", "0")}, want: []string{end("1")}},
		{name: "channel", send: []string{stream("1", "Channel", "2")}, want: []string{item("1", "0"), item("1", "1"), end("1")}},
		{name: "fails, unshown", send: []string{stream("1", "CountThenFail", "1,false")}, want: []string{item("1", "0"), failure("1", atStreaming)}},
		{name: "fails, detailed", send: []string{stream("1", "CountThenFail", "1,false")}, detailed: true, want: []string{item("1", "0"), failure("1", atStreaming+" secret")}},
		{name: "fails, shown", send: []string{stream("1", "CountThenFail", "1,true")}, want: []string{item("1", "0"), failure("1", atStreaming+" HubException: told")}},
		{name: "panics", send: []string{stream("1", "CountThenPanic", "1")}, want: []string{item("1", "0"), failure("1", atStreaming)}},
		{name: "nil", send: []string{stream("1", "Nil", "")}, want: []string{failure("1", "The value returned by the streaming method 'Nil' is not a ChannelReader<> or IAsyncEnumerable<>.")}},
		{name: "error in place of a stream", send: []string{stream("1", "Refuse", "")}, want: []string{failure("1", atInvoking+"'Refuse' on the server. HubException: no")}},
		{name: "streaming method not streamed", send: []string{call("1", "Count", "3")}, want: []string{failure("1", "The client attempted to invoke the streaming 'Count' method with a non-streaming invocation.")}},
		{name: "other method streamed", send: []string{stream("1", "plain", "")}, want: []string{failure("1", "The client attempted to invoke the non-streaming 'Plain' method with a streaming invocation.")}},
		{name: "unknown method streamed", send: []string{stream("1", "Nope", "")}, want: []string{failure("1", "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist.")}},
		{name: "id in use", send: []string{stream("1", "Wait", ""), stream("1", "Count", "1")}, want: []string{failure("1", "Invocation ID '1' is already in use.")}},
		{name: "canceled", send: []string{stream("1", "Wait", ""), `{"type":5,"invocationId":"1"}`}, want: []string{end("1")}},
		{name: "cancellation of nothing", send: []string{`{"type":5,"invocationId":"1"}`, call("2", "Plain", "")}, want: []string{result("2", "1")}},

		{name: "upload", send: []string{call("1", "Sum", "10", "s"), item("s", "1"), item("s", "2"), end("s")}, want: []string{result("1", "13")}},
		{name: "upload ends with an error", send: []string{call("1", "Sum", "0", "s"), item("s", "1"), failure("s", "oops")}, want: []string{failure("1", atInvoking+"'Sum' on the server. HubException: oops")}},
		{name: "upload ends with a result, which is ignored", send: []string{call("1", "Sum", "0", "s"), item("s", "1"), result("s", "5")}, want: []string{result("1", "1")}},
		{name: "item of another type", send: []string{call("1", "Sum", "0", "s"), item("s", `"x"`), item("s", "1")}, want: []string{failure("1", atInvoking+"'Sum' on the server. HubException: Failed to bind Stream message.")}},
		{name: "no streams", send: []string{call("1", "Sum", "0")}, want: []string{failure("1", atInvoking+"'Sum' on the server. HubException: Client sent 0 stream(s), Hub method expects 1.")}},
		{name: "too many streams", send: []string{call("1", "Plain", "", "s", "t")}, want: []string{failure("1", atInvoking+"'Plain' on the server. HubException: Client sent 2 stream(s), Hub method expects 0.")}},
		{name: "method ends first", send: []string{call("1", "First", "", "s"), item("s", "7"), item("s", "8"), end("s"), call("2", "Plain", "")}, want: []string{result("1", "7"), result("2", "1")}},
		{name: "items and end of no stream", send: []string{item("s", "7"), end("s"), call("2", "Plain", "")}, want: []string{result("2", "1")}},
		{name: "two uploads and a stream", send: []string{stream("1", "Zip", `"-"`, "s", "t"), item("t", `"x"`), item("s", "1"), item("t", `"y"`), item("s", "2"), end("s"), end("t")}, want: []string{item("1", `"1-x"`), item("1", `"2-y"`), end("1")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var options []Option
			if tt.detailed {
				options = append(options, WithDetailedErrors())
			}
			c, _ := serveAt(t, &streamer{}, options...)
			if tt.name == "method ends first" { // the next invocation must not overtake it
				c.write(tt.send[:2]...)
				c.expect(tt.want[0])
				c.write(tt.send[2:]...)
				c.expect(tt.want[1:]...)
				return
			}
			c.write(tt.send...)
			c.expect(tt.want...)
		})
	}
}

// A client that does not read stops the stream, not the server; what others send to it
// does not close it as long as that fits.
func TestStreamBackPressure(t *testing.T) {
	s := &streamer{}
	h, address := serve(t, s)
	c := connect(t, address, "slow")
	text := strings.Repeat("x", 1000)
	c.write(stream("1", "Endless", `"`+text+`"`))
	var before int32
	await.Until(t, "the stream waits", func() error {
		made := s.made.Load()
		if made == 0 || made != before {
			before = made
			return fmt.Errorf("%d items made", made)
		}
		return nil
	})
	if before > 100_000 {
		t.Errorf("%d items were made for a client that takes none", before)
	}
	if err := h.Clients().User("slow").Send(t.Context(), "Text", "fits"); err != nil {
		t.Fatal(err)
	}
	c.write(`{"type":5,"invocationId":"1"}`)
	for frame := c.read(); frame != end("1"); frame = c.read() {
		if frame != item("1", `"`+text+`"`) && !strings.Contains(frame, "fits") {
			t.Fatalf("got %.100s", frame)
		}
	}
	if n := s.running.Load(); n != 0 {
		t.Errorf("%d streams still run", n)
	}
}

// A stream ends when it is canceled although its method does not look, and its client
// keeps up.
func TestCanceledStreamEnds(t *testing.T) {
	s := &streamer{}
	c, _ := serveAt(t, s)
	c.write(stream("1", "Heedless", ""))
	c.expect(item("1", "0"))
	c.write(`{"type":5,"invocationId":"1"}`)
	for frame := c.read(); frame != end("1"); frame = c.read() {
		if frame != item("1", "0") {
			t.Fatalf("got %s", frame)
		}
	}
	if n := s.running.Load(); n != 0 {
		t.Errorf("%d streams still run", n)
	}
}

// When the connection ends so do its streams, both ways.
func TestStreamsEndWithTheConnection(t *testing.T) {
	s := &streamer{ended: make(chan error, 1)}
	h, address := serve(t, s)
	c := connect(t, address, "ada")
	c.write(stream("1", "Wait", ""), stream("2", "Endless", `"x"`), call("3", "ReadAll", "", "s"), item("s", "1"))
	await.Until(t, "the streams run", func() error {
		if n := s.running.Load(); n != 2 {
			return fmt.Errorf("%d run", n)
		}
		return nil
	})
	c.conn.Close()
	if err := <-s.ended; err == nil || err.Error() != "OperationCanceledException: The underlying connection was closed." {
		t.Errorf("the upload ended with %v", err)
	}
	await.Until(t, "nothing is left", func() error {
		if n := int(s.running.Load()) + h.registry.size(); n != 0 {
			return fmt.Errorf("%d streams and connections", n)
		}
		return nil
	})
}

func TestMaximumStreams(t *testing.T) {
	c, _ := serveAt(t, &streamer{}, WithMaximumStreamsPerClient(2))
	c.write(stream("1", "Wait", ""), call("2", "Sum", "0", "s"), stream("3", "Count", "1"))
	c.expect(failure("3", "An unexpected error occurred invoking 'Count' on the server. HubException: Client has 2 streams, which is the limit."))
	c.write(end("s"))
	c.expect(result("2", "0"))
	c.write(stream("4", "Count", "0"))
	c.expect(end("4"))
}

// While a method does not read its upload, pings and cancellations pass, until as much
// waits as may; then the client is not read from. Nothing is dropped.
func TestUploadWaits(t *testing.T) {
	s := &streamer{}
	h, address := serve(t, s, WithWaitingInput(1000))
	c := connect(t, address, "")
	c.write(stream("1", "Wait", ""), stream("2", "Zip", `""`, "s", "t"))
	const items = 200
	written := make(chan struct{})
	go func() { // ends when the server has taken everything
		defer close(written)
		for i := range items {
			c.conn.WriteMessage(1, []byte(item("s", fmt.Sprint(i))+"\x1e"))
			if i == 5 { // fits before the bound
				c.conn.WriteMessage(1, []byte(`{"type":5,"invocationId":"1"}`+"\x1e"))
			}
			if i == items-1 {
				c.conn.WriteMessage(1, []byte(end("s")+"\x1e"))
			}
		}
	}()
	// Zip takes a number only when it has a text to it.
	c.expect(end("1"))
	await.Until(t, "the reader waits", func() error {
		var full bool
		h.registry.each(func(c *connection) {
			c.waiting.mu.Lock()
			defer c.waiting.mu.Unlock()
			full = c.waiting.room != nil
		})
		if !full {
			return errors.New("there is room")
		}
		return nil
	})
	c.conn.Close()
	<-written
}

func stream(id, target, arguments string, streamIDs ...string) string {
	return fmt.Sprintf(`{"type":4,"invocationId":%q,"target":%q,"arguments":[%s]%s}`, id, target, arguments, declared(streamIDs))
}

func call(id, target, arguments string, streamIDs ...string) string {
	return fmt.Sprintf(`{"type":1,"invocationId":%q,"target":%q,"arguments":[%s]%s}`, id, target, arguments, declared(streamIDs))
}

func declared(ids []string) string {
	if len(ids) == 0 {
		return ""
	}
	return `,"streamIds":["` + strings.Join(ids, `","`) + `"]`
}

func item(id, value string) string {
	return fmt.Sprintf(`{"type":2,"invocationId":%q,"item":%s}`, id, value)
}
func result(id, value string) string {
	return fmt.Sprintf(`{"type":3,"invocationId":%q,"result":%s}`, id, value)
}
func failure(id, text string) string {
	return fmt.Sprintf(`{"type":3,"invocationId":%q,"error":%q}`, id, text)
}
func end(id string) string { return fmt.Sprintf(`{"type":3,"invocationId":%q}`, id) }
