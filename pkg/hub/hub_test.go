package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

const done = `"result":null`

// room is a hub for tests. Its channels are for the test to feed and drain.
type room struct {
	connected    chan error // what OnConnected returns, one for each call; nil: no waiting
	disconnected chan error // what OnDisconnected was told
	blocked      chan struct{}
	running      atomic.Int32
	counted      atomic.Int32
}

func (r *room) OnConnected(ctx context.Context, c *Caller) error {
	if r.connected == nil {
		return nil
	}
	if err := c.Clients().Caller().Send(ctx, "Welcome"); err != nil {
		return err
	}
	return <-r.connected
}

func (r *room) OnDisconnected(_ context.Context, _ *Caller, err error) error {
	if r.disconnected != nil {
		r.disconnected <- err
	}
	return nil
}

func (r *room) Join(ctx context.Context, c *Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

func (r *room) Leave(ctx context.Context, c *Caller, group string) error {
	return c.Groups().Remove(ctx, c.ConnectionID(), group)
}

func (r *room) Say(ctx context.Context, c *Caller, group, text string) error {
	return c.Clients().Group(group).Send(ctx, "Said", text)
}

func (r *room) ID(_ context.Context, c *Caller) string { return c.ConnectionID() }

func (r *room) Block(ctx context.Context, _ *Caller) {
	if n := r.running.Add(1); n > 1 {
		panic("two invocations of one connection at once")
	}
	defer r.running.Add(-1)
	select {
	case r.blocked <- struct{}{}:
	case <-ctx.Done():
	}
}

func (r *room) Hold(context.Context, *Caller) { <-r.blocked }
func (r *room) Count(ctx context.Context, _ *Caller) {
	if ctx.Err() == nil {
		r.counted.Add(1)
	}
}

func (r *room) Fail(_ context.Context, _ *Caller, shown bool) error {
	if shown {
		return &Error{Message: "told", Err: errors.New("secret")}
	}
	return errors.New("secret")
}

func (r *room) Panic(context.Context, *Caller)     { panic("secret") }
func (r *room) Abort(_ context.Context, c *Caller) { c.Abort() }
func (r *room) Unencodable(context.Context, *Caller) any {
	return func() {}
}

func TestInvocationErrors(t *testing.T) {
	plain, _ := serveAt(t, &room{})
	detailed, _ := serveAt(t, &room{}, WithDetailedErrors())
	for _, tt := range []struct {
		target          string
		arguments       []any
		plain, detailed string
	}{
		{"Nope", nil, "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist.", "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist."},
		{"OnConnected", nil, "Failed to invoke 'OnConnected' due to an error on the server. HubException: Method does not exist.", "Failed to invoke 'OnConnected' due to an error on the server. HubException: Method does not exist."},
		{"join", nil, "Failed to invoke 'Join' due to an error on the server.", "Failed to invoke 'Join' due to an error on the server. InvalidDataException: Invocation provides 0 argument(s) but target expects 1."},
		{"Join", []any{1}, "Failed to invoke 'Join' due to an error on the server.", "Failed to invoke 'Join' due to an error on the server. InvalidDataException: Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked."},
		{"Fail", []any{false}, "An unexpected error occurred invoking 'Fail' on the server.", "An unexpected error occurred invoking 'Fail' on the server. secret"},
		{"Fail", []any{true}, "An unexpected error occurred invoking 'Fail' on the server. HubException: told", "An unexpected error occurred invoking 'Fail' on the server. HubException: told"},
		{"Panic", nil, "An unexpected error occurred invoking 'Panic' on the server.", "An unexpected error occurred invoking 'Panic' on the server. panic: secret"},
		{"Join", []any{strings.Repeat("x", 16385)}, "An unexpected error occurred invoking 'Join' on the server.", "An unexpected error occurred invoking 'Join' on the server. add connection to group: name too long: group name has 16385 bytes, limit 16384"},
	} {
		if got, want := plain.invoke(tt.target, tt.arguments...), `"error":"`+tt.plain+`"`; got != want {
			t.Errorf("%s%v\ngot  %s\nwant %s", tt.target, tt.arguments, got, want)
		}
		if got, want := detailed.invoke(tt.target, tt.arguments...), `"error":"`+tt.detailed+`"`; got != want {
			t.Errorf("%s%v, detailed\ngot  %s\nwant %s", tt.target, tt.arguments, got, want)
		}
	}
}

func serveAt(t *testing.T, value any, options ...Option) (*client, string) {
	t.Helper()
	_, address := serve(t, value, options...)
	return connect(t, address, ""), address
}

func TestEndOfConnection(t *testing.T) {
	const closedWithError = `{"type":7,"error":"Connection closed with an error.","allowReconnect":true}`
	for _, tt := range []struct {
		name    string
		do      func(*client)
		sees    []string
		told    string // what OnDisconnected is told; "": nil
		options []Option
	}{
		{name: "client closes", do: func(c *client) { c.write(`{"type":7}`) }, sees: []string{`{"type":7}`, "closed 1000"}},
		{name: "client closes with error", do: func(c *client) { c.write(`{"type":7,"error":"oops"}`) }, sees: []string{`{"type":7}`, "closed 1000"}, told: "oops"},
		{name: "aborted", do: func(c *client) { c.start("Abort") }, sees: []string{`{"type":7}`, "closed 1000"}},
		{name: "malformed", do: func(c *client) { c.write(`{"type":"x"}`) }, sees: []string{closedWithError, "closed 1000"}, told: "InvalidDataException: Expected 'type' to be of type Number."},
		{name: "too large", do: func(c *client) { c.write(strings.Repeat(" ", 32768)) }, sees: []string{closedWithError, "closed 1000"}, told: "InvalidDataException: The maximum message size of 32768B was exceeded. The message size can be configured in AddHubOptions."},
		{name: "result without encoding", do: func(c *client) { c.start("Unencodable") }, sees: []string{closedWithError, "closed 1000"}, told: "encode result: "},
		{name: "silent", do: func(c *client) { c.write(`{"type":6}`) }, sees: []string{closedWithError, "closed 1000"}, told: "OperationCanceledException: Client hasn't sent a message/ping within the configured ClientTimeoutInterval.", options: []Option{WithClientTimeoutInterval(100 * time.Millisecond)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &room{disconnected: make(chan error, 1)}
			c, _ := serveAt(t, r, tt.options...)
			tt.do(c)
			c.expect(tt.sees...)
			select {
			case err := <-r.disconnected:
				if (err == nil) != (tt.told == "") || err != nil && !strings.HasPrefix(err.Error(), tt.told) {
					t.Errorf("OnDisconnected was told %v, want %q", err, tt.told)
				}
			case <-time.After(deadline):
				t.Fatal("OnDisconnected was not called")
			}
		})
	}
}

func TestClientThatNeverPingsIsNotTimedOut(t *testing.T) {
	c, _ := serveAt(t, &room{}, WithClientTimeoutInterval(60*time.Millisecond), WithKeepAliveInterval(50*time.Millisecond))
	for range 5 { // pings pass the time that the client may be silent
		if got := c.read(); got != `{"type":6}` {
			t.Fatalf("got %s", got)
		}
	}
}

func TestInvocationsRunInOrderAndPingsPassThem(t *testing.T) {
	r := &room{blocked: make(chan struct{})}
	h, address := serve(t, r, WithClientTimeoutInterval(time.Minute))
	c := connect(t, address, "")
	for range 3 {
		c.start("Block")
	}
	c.write(`{"type":6}`)
	await.Until(t, "the ping has passed them", func() error {
		pinged := false
		h.registry.each(func(c *connection) { pinged = c.pinged.Load() })
		if !pinged {
			return errors.New("it waits")
		}
		return nil
	})
	c.start("Nope") // answered at once, while others wait
	c.expect(`{"type":3,"invocationId":"4","error":"Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist."}`)
	for _, id := range []string{"1", "2", "3"} {
		<-r.blocked
		c.expect(`{"type":3,"invocationId":"` + id + `","result":null}`)
	}
}

func TestWaitingInvocationsAreBounded(t *testing.T) {
	r := &room{blocked: make(chan struct{})}
	h, address := serve(t, r)
	h.maxWaiting = 1000
	c := connect(t, address, "")
	const calls = 200
	go func() { // ends with the writes, which the other side takes in the end
		for range calls {
			c.conn.WriteMessage(1, []byte(`{"type":1,"target":"Block","arguments":[]}`+"\x1e"))
		}
		c.conn.WriteMessage(1, []byte(`{"type":1,"invocationId":"last","target":"ID","arguments":[]}`+"\x1e"))
	}()
	await.Until(t, "the reader waits", func() error {
		full := false
		h.registry.each(func(c *connection) {
			c.waiting.mu.Lock()
			defer c.waiting.mu.Unlock()
			full = c.waiting.room != nil
		})
		if !full {
			return errors.New("it does not")
		}
		return nil
	})
	for range calls {
		<-r.blocked
	}
	if got := c.read(); !strings.HasPrefix(got, `{"type":3,"invocationId":"last"`) {
		t.Fatalf("got %s", got)
	}
}

func TestOnConnected(t *testing.T) {
	r := &room{connected: make(chan error), disconnected: make(chan error, 1)}
	_, address := serve(t, r)
	accepted := connect(t, address, "")
	accepted.expect(`{"type":1,"target":"Welcome","arguments":[]}`)
	accepted.start("Join", "lobby") // not read before OnConnected has returned
	r.connected <- nil
	accepted.expect(`{"type":3,"invocationId":"1","result":null}`)

	refused := connect(t, address, "")
	refused.expect(`{"type":1,"target":"Welcome","arguments":[]}`)
	r.connected <- &Error{Message: "full"}
	refused.expect(`{"type":7,"error":"Connection closed with an error. HubException: full"}`, "closed 1000")

	accepted.write(`{"type":7}`)
	accepted.expect(`{"type":7}`)
	<-r.disconnected
	if n := len(r.disconnected); n != 0 {
		t.Fatal("OnDisconnected was called for a connection that OnConnected refused")
	}
}

func TestHandshake(t *testing.T) {
	_, address := serve(t, &room{}, WithHandshakeTimeout(100*time.Millisecond))
	for _, tt := range []struct{ name, request, answer string }{
		{"fine", `{"protocol":"json","version":1}`, `{}`},
		{"version 2", `{"protocol":"JSON","version":2}`, `{}`},
		{"unknown protocol", `{"protocol":"xml","version":1}`, `{"error":"The protocol 'xml' is not supported."}`},
		{"version too high", `{"protocol":"json","version":9001}`, `{"error":"The server does not support version 9001 of the 'json' protocol."}`},
		{"not an object", `[]`, `{"error":"An unexpected error occurred during connection handshake."}`},
		{"too large", strings.Repeat("x", 40000), `{"error":"Handshake was canceled."}`},
		{"none", "", `{"error":"Handshake was canceled."}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dial(t, address, "")
			if tt.request != "" {
				c.write(tt.request)
			}
			c.expect(tt.answer)
			if tt.answer != `{}` {
				c.expect("closed 1000")
			}
		})
	}
}

func TestHandshakeInPieces(t *testing.T) {
	_, address := serve(t, &room{})
	c := dial(t, address, "")
	for _, b := range []byte(`{"protocol":"json","version":1}` + "\x1e" + `{"type":1,"invocationId":"1","target":"Join","arguments":["x"]}` + "\x1e") {
		if err := c.conn.WriteMessage(2, []byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	c.expect(`{}`, `{"type":3,"invocationId":"1","result":null}`)
}

func TestSlowConsumerIsClosedAlone(t *testing.T) {
	r := &room{disconnected: make(chan error, 2)}
	h, address := serve(t, r, WithOutboundQueue(1<<16, 100), WithSendTimeout(time.Second))
	connect(t, address, "both") // reads nothing more
	fast := connect(t, address, "both")
	text := strings.Repeat("x", 20000)
	// The fast client gets each message before the next is sent, so its queue never
	// fills; the slow one's does once the system's buffers have.
	for sent := 0; len(r.disconnected) == 0; sent++ {
		if sent == 10_000 {
			t.Fatal("200 MB went to a client that does not read")
		}
		if err := h.Clients().User("both").Send(t.Context(), "Text", text); err != nil {
			t.Fatal(err)
		}
		fast.expect(`{"type":1,"target":"Text","arguments":["` + text + `"]}`)
	}
	if err := <-r.disconnected; !errors.Is(err, errSlowConsumer) {
		t.Errorf("OnDisconnected was told %v", err)
	}
	if got := testutil.ToFloat64(h.metrics.slowConsumers); got != 1 {
		t.Errorf("%v slow consumers counted", got)
	}
	fast.invoke("ID") // is still there
}

func TestShutdownAsksToReconnect(t *testing.T) {
	r := &room{blocked: make(chan struct{}), disconnected: make(chan error, 1)}
	h, address := serve(t, r)
	c := connect(t, address, "")
	pending := dial(t, address, "")
	c.start("Block") // heeds its context
	ended := make(chan error)
	go func() { ended <- h.Shutdown(t.Context()) }()
	c.expect(`{"type":7,"allowReconnect":true}`, "closed 1000")
	pending.expect("closed 1000")
	c.conn.Close()
	pending.conn.Close()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := <-r.disconnected; err != nil {
		t.Errorf("OnDisconnected was told %v", err)
	}
}

func TestShutdownDeadline(t *testing.T) {
	h, address := serve(t, &room{})
	connect(t, address, "") // never answers the closing handshake
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	await.Until(t, "the connection is cut", func() error {
		if h.registry.size() != 0 {
			return errors.New("it is there")
		}
		return nil
	})
}

// What a client sent before it ended the connection, in whatever way, is done; that it
// had to wait for its turn makes no difference.
func TestEverythingBeforeTheEndIsDone(t *testing.T) {
	for name, end := range map[string]func(*client){
		"close message":  func(c *client) { c.write(`{"type":7}`) },
		"malformed":      func(c *client) { c.write(`nonsense`) },
		"too large":      func(c *client) { c.write(strings.Repeat("x", 40000)) },
		"close frame":    func(c *client) { c.conn.WriteMessage(8, nil) },
		"socket cut off": func(c *client) { c.conn.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			const calls = 50
			r := &room{blocked: make(chan struct{})}
			h, address := serve(t, r)
			c := connect(t, address, "")
			c.start("Hold")
			for range calls {
				c.start("Count")
			}
			end(c)
			await.Until(t, "the server has read all invocations", func() (err error) {
				h.registry.each(func(c *connection) {
					c.invocations.mu.Lock()
					defer c.invocations.mu.Unlock()
					if n := len(c.invocations.waiting); n != calls {
						err = fmt.Errorf("%d of %d", n, calls)
					}
				})
				return err
			})
			r.blocked <- struct{}{}
			await.Until(t, "all invocations have run", func() error {
				if n := r.counted.Load(); n != calls {
					return fmt.Errorf("%d of %d", n, calls)
				}
				return nil
			})
		})
	}
}

func TestAbortDropsWhatWaits(t *testing.T) {
	r := &room{blocked: make(chan struct{}), disconnected: make(chan error, 1)}
	h, address := serve(t, r)
	c := connect(t, address, "")
	for range 50 {
		c.start("Block")
	}
	h.registry.each(func(c *connection) { c.caller.Abort() })
	<-r.disconnected
	select {
	case <-r.blocked:
		t.Error("an invocation ran on after the connection was aborted")
	case <-time.After(50 * time.Millisecond): // that it never comes cannot be waited for
	}
}

// Nothing precedes the handshake's answer, however much is sent to everybody.
func TestHandshakeComesFirst(t *testing.T) {
	h, address := serve(t, &room{})
	ctx, stop := context.WithCancel(t.Context())
	var traffic sync.WaitGroup
	defer traffic.Wait()
	defer stop()
	traffic.Go(func() {
		for ctx.Err() == nil {
			h.Clients().All().Send(ctx, "Noise")
		}
	})
	for range 50 {
		c := dial(t, address, "")
		c.write(`{"protocol":"json","version":1}`)
		if got := c.read(); got != `{}` {
			t.Fatalf("got %s", got)
		}
		c.conn.Close()
	}
}

func TestExclusions(t *testing.T) {
	h, address := serve(t, &room{})
	for _, n := range []int{1, 8, 9, 100} { // few are searched, many looked up
		in, out := connect(t, address, ""), connect(t, address, "")
		excluded := make([]string, n)
		for i := range excluded {
			excluded[i] = fmt.Sprint("nobody ", i)
		}
		excluded[n-1] = strings.Trim(strings.TrimPrefix(out.invoke("ID"), `"result":`), `"`)
		for _, p := range []ClientProxy{h.Clients().AllExcept(excluded...), h.Clients().All()} {
			if err := p.Send(t.Context(), fmt.Sprint("To", len(p.excluded))); err != nil {
				t.Fatal(err)
			}
		}
		all := `{"type":1,"target":"To0","arguments":[]}`
		in.expect(fmt.Sprintf(`{"type":1,"target":"To%d","arguments":[]}`, n), all)
		out.expect(all)
		in.conn.Close()
		out.conn.Close()
	}
}

// slowPlane is a backplane that confirms subscriptions when the test says so.
type slowPlane struct {
	backplane.Backplane
	confirm chan struct{} // closed: they are confirmed
}

type slowAttachment struct {
	backplane.Attachment
	plane slowPlane
}

func (p slowPlane) Attach(prefix string, r backplane.Receiver) (backplane.Attachment, error) {
	a, err := p.Backplane.Attach(prefix, r)
	return slowAttachment{a, p}, err
}

func (a slowAttachment) Subscribe(channels ...backplane.Channel) func(context.Context) error {
	wait := a.Attachment.Subscribe(channels...)
	if !strings.HasPrefix(string(channels[0]), "group:") {
		return wait
	}
	return func(ctx context.Context) error {
		select {
		case <-a.plane.confirm:
			return wait(ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Of two joins to one group that wait, each stands for itself: that one of them gives up
// does not take the membership from the other.
func TestJoinsShareAMembership(t *testing.T) {
	memory := backplane.NewMemory()
	defer memory.Close()
	plane := slowPlane{memory, make(chan struct{})}
	h, address := serve(t, &room{}, WithBackplane(plane))
	id := connect(t, address, "").id()
	first, giveUp := context.WithCancel(t.Context())
	results := [2]chan error{make(chan error, 1), make(chan error, 1)}
	joining := func(n int) {
		await.Until(t, "the joins wait", func() error {
			c := h.registry.connection(id)
			c.mu.Lock()
			defer c.mu.Unlock()
			if m := c.groups["room"]; m == nil || len(m.joiners) != n {
				return errors.New("they do not")
			}
			return nil
		})
	}
	go func() { results[0] <- h.Groups().Add(first, id, "room") }()
	joining(1)
	go func() { results[1] <- h.Groups().Add(t.Context(), id, "room") }()
	joining(2)
	giveUp()
	if err := <-results[0]; !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	close(plane.confirm)
	if err := <-results[1]; err != nil || !h.isMember("room") {
		t.Errorf("the second: %v, and it is a member: %v", err, h.isMember("room"))
	}
}
