package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// Chat is a hub: clients may invoke its exported methods.
type Chat struct{}

// Join makes the caller a member of a room.
func (Chat) Join(ctx context.Context, c *hub.Caller, room string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), room)
}

// Leave ends the caller's membership.
func (Chat) Leave(ctx context.Context, c *hub.Caller, room string) error {
	return c.Groups().Remove(ctx, c.ConnectionID(), room)
}

// Say sends a text to everybody in the room, on whatever node they are.
func (Chat) Say(ctx context.Context, c *hub.Caller, room, text string) error {
	if text == "" {
		return &hub.Error{Message: "nothing to say"} // the client reads this
	}
	if len(text) > 1000 {
		return errors.New("text too long") // the log reads this
	}
	return c.Clients().Group(room).Send(ctx, "Heard", c.UserIdentifier()+" says "+text)
}

// Greet sends to clients as seen by the caller.
func (Chat) Greet(ctx context.Context, c *hub.Caller, room string) error {
	clients := c.Clients()
	return errors.Join(
		clients.Caller().Send(ctx, "Heard", "you greet"),
		clients.OthersInGroup(room).Send(ctx, "Heard", "hello, "+room),
		clients.Others().Send(ctx, "Heard", "hello, others"))
}

// Quit closes the caller's connection. What Quit returns does not go out any more.
func (Chat) Quit(_ context.Context, c *hub.Caller) { c.Abort() }

// Add returns the sum of two numbers.
func (Chat) Add(_ context.Context, _ *hub.Caller, a, b int) int { return a + b }

// A hub is declared as a type with methods, and mounted at a path and all below it.
func Example() {
	chat, err := hub.New(Chat{})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/chat", chat)
	mux.Handle("/chat/", chat)
	server := httptest.NewServer(mux)
	defer server.Close()
	defer chat.Shutdown(context.Background())

	c, err := client.New(server.URL + "/chat")
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	if err := c.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	sum, err := client.Invoke[int](ctx, c, "Add", 40, 2)
	fmt.Println(sum, err)
	// Output: 42 <nil>
}

// What will not do is reported at the start, all of it.
func ExampleNew() {
	_, err := hub.New(Overloaded{}, hub.WithKeepAliveInterval(time.Millisecond), hub.WithMethod("Nope"))
	fmt.Println(err)
	// Output:
	// new hub: keep-alive interval 1ms is under 50ms
	// method hub_test.Overloaded.Send is exported but does not begin with a context and the caller: want func(context.Context, *hub.Caller, ...) with at most a value or a stream and an error as results
	// options for method Nope, which the hub does not have
}

// Overloaded is no hub.
type Overloaded struct{}

// Send is no method of a hub.
func (Overloaded) Send(string) {}

// Limits and time-outs, here with their defaults.
func ExampleNew_options() {
	chat, err := hub.New(Chat{},
		hub.WithName("Chat"),
		hub.WithProtocols(protocol.JSON, protocol.MessagePack),
		hub.WithHandshakeTimeout(15*time.Second),
		hub.WithKeepAliveInterval(15*time.Second),
		hub.WithClientTimeoutInterval(30*time.Second),
		hub.WithDisconnectTimeout(15*time.Second),
		hub.WithSendTimeout(10*time.Second),
		hub.WithOperationTimeout(5*time.Second),
		hub.WithMaximumReceiveMessageSize(32768),
		hub.WithMaximumParallelInvocationsPerClient(1),
		hub.WithMaximumStreamsPerClient(1000),
		hub.WithWaitingInput(1<<20),
		hub.WithOutboundQueue(4<<20, 65536),
		hub.WithStatefulReconnectBufferSize(100_000),
		hub.WithMaximumNameBytes(16384),
		hub.WithLogger(slog.Default()))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(chat.Shutdown(context.Background()))
	// Output: <nil>
}

// The hub is its own endpoint, with these options; it may have others, with theirs.
func ExampleWithEndpointOptions() {
	chat, err := hub.New(Chat{}, hub.WithEndpointOptions(
		transport.Transports(transport.WebSockets, transport.LongPolling),
		transport.LongPollingTimeout(60*time.Second),
		transport.MaximumRequestBody(1<<20),
		transport.AllowStatefulReconnects(),
		transport.EnableAuthenticationRefresh()))
	if err != nil {
		log.Fatal(err)
	}
	defer chat.Shutdown(context.Background())
	server := httptest.NewServer(chat)
	defer server.Close()

	answer, err := http.Post(server.URL+"/chat/negotiate?negotiateVersion=1&useStatefulReconnect=true", "", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	var negotiated struct {
		UseStatefulReconnect bool
		AvailableTransports  []struct{ Transport string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&negotiated); err != nil {
		log.Fatal(err)
	}
	fmt.Println(negotiated.UseStatefulReconnect, negotiated.AvailableTransports)
	// Output: true [{WebSockets} {LongPolling}]
}

// The hub's metrics, all named heliograph_hub_…, have a label with its name.
func ExampleWithMetrics() {
	registry := prometheus.NewRegistry()
	chat, err := hub.New(Chat{}, hub.WithMetrics(registry), hub.WithName("chat"))
	if err != nil {
		log.Fatal(err)
	}
	defer chat.Shutdown(context.Background())
	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	label := families[0].GetMetric()[0].GetLabel()[0]
	fmt.Println(families[0].GetName(), label.GetName(), label.GetValue())
	// Output: heliograph_hub_connections hub chat
}

// Presence is a hub that wants to know who comes and goes.
type Presence struct{ gone chan string }

var (
	_ hub.ConnectedHandler    = Presence{}
	_ hub.DisconnectedHandler = Presence{}
)

// OnConnected runs before the connection's first invocation; an error refuses it.
func (p Presence) OnConnected(ctx context.Context, c *hub.Caller) error {
	if c.UserIdentifier() == "eve" {
		return &hub.Error{Message: "not you"}
	}
	return c.Groups().Add(ctx, c.ConnectionID(), "lobby")
}

// OnDisconnected runs once, however the connection ended; err says why if not in order.
func (p Presence) OnDisconnected(_ context.Context, c *hub.Caller, err error) error {
	p.gone <- fmt.Sprint(c.UserIdentifier(), " is gone: ", err)
	return nil
}

func ExampleConnectedHandler() {
	p := Presence{gone: make(chan string)}
	n := serve(p)
	defer n.close()
	eve := n.connect("eve")
	<-eve.Done()
	report("eve", eve.Err())

	ada := n.connect("ada")
	report("send", n.Clients().Group("lobby").Send(context.Background(), "Heard", "welcome"))
	fmt.Println(<-ada.heard)
	ada.Close()
	fmt.Println(<-p.gone)
	// Output:
	// eve: Connection closed with an error. HubException: not you
	// send: ok
	// welcome
	// ada is gone: <nil>
}

// Every selector, used from outside of a hub method.
func ExampleClients() {
	n := serve(Chat{})
	defer n.close()
	ctx := context.Background()
	ada, ben, cleo := n.connect("ada"), n.connect("ben"), n.connect("cleo")
	report("join", errors.Join(ada.Invoke(ctx, "Join", "tea"), ben.Invoke(ctx, "Join", "tea"), ben.Invoke(ctx, "Join", "chess")))

	clients := n.Clients()
	for _, to := range []struct {
		selector string
		proxy    hub.ClientProxy
	}{
		{"AllExcept", clients.AllExcept(ada.ConnectionID())},
		{"Client", clients.Client(cleo.ConnectionID()).ClientProxy},
		{"Clients", clients.Clients(ada.ConnectionID(), cleo.ConnectionID(), "nobody")},
		{"Group", clients.Group("tea")},
		{"GroupExcept", clients.GroupExcept("tea", ben.ConnectionID())},
		{"Groups", clients.Groups("tea", "chess")}, // ben is in both
		{"User", clients.User("ada")},
		{"Users", clients.Users("ada", "cleo")},
		{"All", clients.All()},
	} {
		if err := to.proxy.Send(ctx, "Heard", to.selector); err != nil {
			log.Fatal(err)
		}
	}
	for _, p := range []*participant{ada, ben, cleo} {
		fmt.Println(p.name, "hears", p.until("All"))
	}
	// Output:
	// join: ok
	// ada hears [All Clients Group GroupExcept Groups User Users]
	// ben hears [All AllExcept Group Groups Groups]
	// cleo hears [All AllExcept Client Clients Users]
}

// The selectors that speak of the caller.
func ExampleCallerClients() {
	n := serve(Chat{})
	defer n.close()
	ctx := context.Background()
	ada, ben, cleo := n.connect("ada"), n.connect("ben"), n.connect("cleo")
	report("join", errors.Join(ada.Invoke(ctx, "Join", "tea"), ben.Invoke(ctx, "Join", "tea")))
	report("greet", ada.Invoke(ctx, "Greet", "tea"))
	report("send", n.Clients().All().Send(ctx, "Heard", "end"))
	for _, p := range []*participant{ada, ben, cleo} {
		fmt.Println(p.name, "hears", p.until("end"))
	}
	// Output:
	// join: ok
	// greet: ok
	// send: ok
	// ada hears [end you greet]
	// ben hears [end hello, others hello, tea]
	// cleo hears [end hello, others]
}

// A message reaches the members of a group, and those alone.
func ExampleGroups() {
	n := serve(Chat{})
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	report("join", ada.Invoke(ctx, "Join", "tea"))
	report("say", ada.Invoke(ctx, "Say", "tea", "is there cake?"))
	report("leave", ada.Invoke(ctx, "Leave", "tea"))
	report("say", ada.Invoke(ctx, "Say", "tea", "hello?"))
	report("send", n.Clients().User("ada").Send(ctx, "Heard", "end"))
	fmt.Println(ada.until("end"))
	// Output:
	// join: ok
	// say: ok
	// leave: ok
	// say: ok
	// send: ok
	// [ada says is there cake? end]
}

// A membership may have an end, of its own or that of the client's credentials.
func ExampleUntil() {
	n := serve(Chat{})
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	report("for an hour", n.Groups().Add(ctx, ada.ConnectionID(), "tea", hub.Until(time.Now().Add(time.Hour))))
	report("for good", n.Groups().Add(ctx, ada.ConnectionID(), "tea"))
	err := n.Groups().Add(ctx, ada.ConnectionID(), "chess", hub.Until(time.Now()))
	fmt.Println("for no time:", errors.Is(err, hub.ErrExpired))
	// Output:
	// for an hour: ok
	// for good: ok
	// for no time: true
}

// A client that may join something may not join everything.
func ExampleWithJoinAuthorizer() {
	n := serve(Chat{}, hub.WithJoinAuthorizer(func(_ context.Context, c *hub.Caller, room string) (time.Time, error) {
		if room != "public" && room != c.UserIdentifier() {
			return time.Time{}, &hub.Error{Message: "no entry"}
		}
		return time.Now().Add(time.Hour), nil // the membership ends then
	}))
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	for _, room := range []string{"public", "ada", "ben"} {
		report(room, ada.Invoke(ctx, "Join", room))
	}
	report("ben, by the server", n.Groups().Add(ctx, ada.ConnectionID(), "ben"))
	// Output:
	// public: ok
	// ada: ok
	// ben: An unexpected error occurred invoking 'Join' on the server. HubException: no entry
	// ben, by the server: ok
}

// A hub sends from anywhere in the program: from a handler of HTTP, from a timer.
func ExampleHub_Clients() {
	n := serve(Chat{})
	defer n.close()
	ada := n.connect("ada")
	orders := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := n.Clients().User("ada").Send(r.Context(), "Heard", "shipped"); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
		}
	}))
	defer orders.Close()
	answer, err := orders.Client().Get(orders.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer answer.Body.Close()
	fmt.Println(answer.Status, <-ada.heard)
	// Output: 200 OK shipped
}

// Weather is a hub that streams.
type Weather struct{}

// Countdown returns a stream of values.
func (Weather) Countdown(_ context.Context, _ *hub.Caller, from int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for n := from; n > 0 && yield(n); n-- {
		}
	}
}

// Forecast returns a stream that may fail.
func (Weather) Forecast(_ context.Context, _ *hub.Caller, days int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for day := range days {
			if day == 2 {
				yield("", &hub.Error{Message: "nobody knows"})
				return
			}
			if !yield("rain", nil) {
				return
			}
		}
	}
}

// Gusts returns a channel. Whoever sends on it stops when the context ends.
func (Weather) Gusts(ctx context.Context, _ *hub.Caller) <-chan float64 {
	gusts := make(chan float64)
	go func() {
		defer close(gusts)
		for _, speed := range []float64{3.5, 7} {
			select {
			case gusts <- speed:
			case <-ctx.Done():
				return
			}
		}
	}()
	return gusts
}

// Mean takes a stream from the client, beside a plain argument.
func (Weather) Mean(_ context.Context, _ *hub.Caller, unit string, readings iter.Seq2[float64, error]) (string, error) {
	sum, n := 0.0, 0.0
	for reading, err := range readings {
		if err != nil { // the client ended the stream with an error, or is gone
			return "", err
		}
		sum, n = sum+reading, n+1
	}
	return fmt.Sprint(sum/n, " ", unit), nil
}

// Fahrenheit streams both ways.
func (Weather) Fahrenheit(_ context.Context, _ *hub.Caller, readings iter.Seq2[float64, error]) iter.Seq2[float64, error] {
	return func(yield func(float64, error) bool) {
		for celsius, err := range readings {
			if !yield(celsius*9/5+32, err) || err != nil {
				return
			}
		}
	}
}

// A method streams by returning a sequence, a sequence with errors, or a channel. The
// next item is taken when there is room for it on its way to the client.
func Example_streams() {
	n := serve(Weather{})
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	for number, err := range client.Stream[int](ctx, ada.Client, "Countdown", 1_000_000) {
		fmt.Println(number, err)
		break // cancels the stream
	}
	for day, err := range client.Stream[string](ctx, ada.Client, "Forecast", 7) {
		if err != nil {
			report("forecast", err)
			break
		}
		fmt.Println(day)
	}
	for speed, err := range client.Stream[float64](ctx, ada.Client, "Gusts") {
		fmt.Println(speed, err)
	}
	// Output:
	// 1000000 <nil>
	// rain
	// rain
	// forecast: An error occurred on the server while streaming results. HubException: nobody knows
	// 3.5 <nil>
	// 7 <nil>
}

// A parameter that is an iter.Seq2[T, error] is a stream from the client.
func Example_uploads() {
	n := serve(Weather{})
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	mean, err := client.Invoke[string](ctx, ada.Client, "Mean", "°C", slices.Values([]float64{20, 21, 25}))
	fmt.Println(mean, err)

	failing := func(yield func(float64, error) bool) { yield(0, errors.New("sensor broken")) }
	_, err = client.Invoke[string](ctx, ada.Client, "Mean", "°C", iter.Seq2[float64, error](failing))
	report("mean", err)

	for reading, err := range client.Stream[float64](ctx, ada.Client, "Fahrenheit", slices.Values([]float64{0, 100})) {
		fmt.Println(reading, err)
	}
	// Output:
	// 22 °C <nil>
	// mean: An unexpected error occurred invoking 'Mean' on the server. HubException: sensor broken
	// 32 <nil>
	// 212 <nil>
}

// Patient is a hub with a method that takes its time.
type Patient struct{ began, ended chan struct{} }

// Wait waits until nobody wants it to any more.
func (p Patient) Wait(ctx context.Context, _ *hub.Caller) error {
	p.began <- struct{}{}
	<-ctx.Done()
	close(p.ended)
	return ctx.Err()
}

// The context of a method ends when the client cancels the invocation or is gone.
func Example_cancellation() {
	p := Patient{began: make(chan struct{}), ended: make(chan struct{})}
	n := serve(p)
	defer n.close()
	ada := n.connect("ada")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-p.began
		cancel()
	}()
	err := ada.Invoke(ctx, "Wait")
	<-p.ended
	fmt.Println(errors.Is(err, context.Canceled))
	// Output: true
}

// Quiz is a hub that asks clients.
type Quiz struct{}

// Ask asks another connection, on whatever node it is, and returns what it answered.
func (Quiz) Ask(ctx context.Context, c *hub.Caller, connectionID, question string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // clients may take their time
	defer cancel()
	return hub.Invoke[string](ctx, c.Clients().Client(connectionID), "Answer", question)
}

// A server may ask a client for a result: from within a method, or from outside.
func ExampleInvoke() {
	n := serve(Quiz{})
	defer n.close()
	ctx := context.Background()
	ada, ben := n.connect("ada"), n.connect("ben")
	if err := ben.On("Answer", func(question string) (string, error) {
		if question == "Why?" {
			return "", errors.New("I do not know")
		}
		return "blue", nil
	}); err != nil {
		log.Fatal(err)
	}
	answer, err := client.Invoke[string](ctx, ada.Client, "Ask", ben.ConnectionID(), "Which colour?")
	fmt.Println(answer, err)
	report("ask", ada.Invoke(ctx, "Ask", ben.ConnectionID(), "Why?"))

	_, err = hub.Invoke[string](ctx, n.Clients().Client("nobody"), "Answer", "Who are you?")
	fmt.Println(errors.Is(err, hub.ErrNoConnection))
	_, err = hub.Invoke[int](ctx, n.Clients().Client(ben.ConnectionID()), "Answer", "How many?")
	if told, ok := errors.AsType[*hub.Error](err); ok {
		fmt.Println(told.Message)
	}
	// Output:
	// blue <nil>
	// ask: An unexpected error occurred invoking 'Ask' on the server. HubException: I do not know
	// true
	// Error trying to deserialize result to int.
}

// Clients read the text of an Error, and of no other.
func ExampleError() {
	n := serve(Chat{})
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	report("say nothing", ada.Invoke(ctx, "Say", "tea", ""))
	report("say a lot", ada.Invoke(ctx, "Say", "tea", strings.Repeat("bla", 1000)))
	// Output:
	// say nothing: An unexpected error occurred invoking 'Say' on the server. HubException: nothing to say
	// say a lot: An unexpected error occurred invoking 'Say' on the server.
}

// In development, clients may see the text of every error.
func ExampleWithDetailedErrors() {
	n := serve(Chat{}, hub.WithDetailedErrors())
	defer n.close()
	ctx := context.Background()
	ada := n.connect("ada")
	report("say a lot", ada.Invoke(ctx, "Say", "tea", strings.Repeat("bla", 1000)))
	report("say", ada.Invoke(ctx, "Say", "tea"))
	// Output:
	// say a lot: An unexpected error occurred invoking 'Say' on the server. text too long
	// say: Failed to invoke 'Say' due to an error on the server. InvalidDataException: Invocation provides 1 argument(s) but target expects 2.
}

// A filter wraps all that the hub does on behalf of its connections.
func ExampleFilter() {
	journal := make(chan string, 10)
	n := serve(Chat{}, hub.WithFilter(hub.Filter{
		Invoke: func(ctx context.Context, i *hub.Invocation, next hub.InvokeFunc) (any, error) {
			result, err := next(ctx, i)
			journal <- fmt.Sprint(i.Caller.UserIdentifier(), " ", i.Method, i.Arguments, " = ", result, " ", err)
			return result, err
		},
		Connected: func(ctx context.Context, c *hub.Caller, next func(context.Context) error) error {
			journal <- c.UserIdentifier() + " connects"
			return next(ctx)
		},
		Disconnected: func(ctx context.Context, c *hub.Caller, err error, next func(context.Context, error) error) error {
			journal <- c.UserIdentifier() + " leaves"
			return next(ctx, err)
		},
	}))
	defer n.close()
	ada := n.connect("ada")
	report("add", ada.Invoke(context.Background(), "Add", 1, 2))
	ada.Close()
	for range 3 {
		fmt.Println(<-journal)
	}
	// Output:
	// add: ok
	// ada connects
	// ada Add[1 2] = 3 <nil>
	// ada leaves
}

// A filter of one method may change the arguments, answer itself, or refuse.
func ExampleFilteredBy() {
	cached := hub.Filter{Invoke: func(ctx context.Context, i *hub.Invocation, next hub.InvokeFunc) (any, error) {
		switch {
		case i.Arguments[0] == 40 && i.Arguments[1] == 2:
			return 42, nil
		case i.Arguments[0].(int) < 0:
			i.Arguments[0] = 0
		}
		return next(ctx, i)
	}}
	n := serve(Chat{}, hub.WithMethod("Add", hub.FilteredBy(cached)))
	defer n.close()
	ada := n.connect("ada")
	for _, a := range []int{40, -7, 1} {
		fmt.Println(client.Invoke[int](context.Background(), ada.Client, "Add", a, 2))
	}
	// Output:
	// 42 <nil>
	// 2 <nil>
	// 3 <nil>
}

// A method may have another name for clients than it has in Go.
func ExampleNamed() {
	n := serve(Chat{}, hub.WithMethod("Add", hub.Named("math.add")))
	defer n.close()
	ada := n.connect("ada")
	fmt.Println(client.Invoke[int](context.Background(), ada.Client, "Math.Add", 1, 2)) // case does not matter
	report("add", ada.Invoke(context.Background(), "Add", 1, 2))
	// Output:
	// 3 <nil>
	// add: Failed to invoke 'Add' due to an error on the server. HubException: Method does not exist.
}

// A method may be for some users only.
func ExampleRequires() {
	n := serve(Chat{}, hub.WithMethod("Add", hub.Requires(auth.Role("accountant"))))
	defer n.close()
	for _, name := range []string{"ada", "accountant"} {
		report(name, n.connect(name).Invoke(context.Background(), "Add", 1, 2))
	}
	// Output:
	// ada: Failed to invoke 'Add' because user is unauthorized
	// accountant: ok
}

// The user identifier may be something else than the subject of the credentials.
func ExampleWithUserIdentifier() {
	n := serve(Chat{}, hub.WithUserIdentifier(func(_ *http.Request, id *auth.Identity) string {
		return strings.ToLower(id.Subject)
	}))
	defer n.close()
	ada := n.connect("Ada")
	report("send", n.Clients().User("ada").Send(context.Background(), "Heard", "hello"))
	fmt.Println(<-ada.heard)
	// Output:
	// send: ok
	// hello
}

// An endpoint may have options of its own, while its connections are the hub's like any
// other: here one path for everybody, and one for those with credentials.
func ExampleHub_Endpoint() {
	chat, err := hub.New(Chat{}, hub.WithAuthenticator(byHeader))
	if err != nil {
		log.Fatal(err)
	}
	defer chat.Shutdown(context.Background())
	mux := http.NewServeMux()
	mux.Handle("/chat/", chat)
	mux.Handle("/private/", chat.Endpoint(transport.RequireAuthenticated(),
		transport.CloseOnAuthenticationExpiration(), transport.MinimumNegotiateVersion(1)))
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, path := range []string{"/chat/", "/private/"} {
		c, err := client.New(server.URL + path)
		if err != nil {
			log.Fatal(err)
		}
		report(path, c.Start(context.Background()))
		c.Close()
	}
	// Output:
	// /chat/: ok
	// /private/: 401 Unauthorized
}

// Any code may change the memberships of any connection or user, on whatever node they
// are. Once a call has returned, the change is in force in the whole cluster.
func ExampleGroups_AddUser() {
	one, two, stop := cluster()
	defer stop()
	ctx := context.Background()
	ada := one.connect("ada")
	groups := two.Groups()
	report("add user", groups.AddUser(ctx, "ada", "tea"))
	report("add connection", groups.Add(ctx, ada.ConnectionID(), "chess"))
	report("remove user", groups.RemoveUser(ctx, "ada", "tea"))
	report("send", two.Clients().Groups("tea", "chess").Send(ctx, "Heard", "hello"))
	fmt.Println(<-ada.heard)
	report("remove connection", groups.Remove(ctx, ada.ConnectionID(), "chess"))
	report("remove user from all", groups.RemoveUserFromAll(ctx, "ada"))
	report("remove connection from all", groups.RemoveFromAll(ctx, ada.ConnectionID()))
	fmt.Println(errors.Is(groups.Add(ctx, "nobody", "tea"), hub.ErrNoConnection))
	// Output:
	// add user: ok
	// add connection: ok
	// remove user: ok
	// send: ok
	// hello
	// remove connection: ok
	// remove user from all: ok
	// remove connection from all: ok
	// true
}

// Connections are closed on whatever node they are.
func ExampleHub_CloseUser() {
	one, two, stop := cluster()
	defer stop()
	ctx := context.Background()
	ada, ben, cleo := one.connect("ada"), one.connect("ben"), one.connect("cleo")
	report("join", cleo.Invoke(ctx, "Join", "tea"))
	report("close user", two.CloseUser(ctx, "ada", hub.Reason("You are banned.")))
	report("close connection", two.CloseConnection(ctx, ben.ConnectionID()))
	report("close group", two.CloseGroup(ctx, "tea", hub.Reason("No more tea."), hub.AllowReconnect()))
	for _, p := range []*participant{ada, ben, cleo} {
		<-p.Done()
		report(p.name, p.Err())
	}
	// Output:
	// join: ok
	// close user: ok
	// close connection: ok
	// close group: ok
	// ada: You are banned.
	// ben: server closed the connection
	// cleo: No more tea.
}

// Nobody knows how many members a group has, but whether it has any can be asked.
func ExampleHub_GroupExists() {
	one, two, stop := cluster()
	defer stop()
	ctx := context.Background()
	ada := one.connect("ada")
	report("join", ada.Invoke(ctx, "Join", "tea"))
	fmt.Println(two.GroupExists(ctx, "tea"))
	fmt.Println(two.GroupExists(ctx, "chess"))
	fmt.Println(two.UserExists(ctx, "ada"))
	fmt.Println(two.ConnectionExists(ctx, ada.ConnectionID()))
	// Output:
	// join: ok
	// true <nil>
	// false <nil>
	// true <nil>
	// true <nil>
}

// Counter is a hub that keeps something for each connection.
type Counter struct{}

// Next returns how often the connection has invoked it.
func (Counter) Next(_ context.Context, c *hub.Caller) int {
	before, _ := c.Items().Load("count")
	count, _ := before.(int)
	c.Items().Store("count", count+1)
	return count + 1
}

func ExampleCaller_Items() {
	n := serve(Counter{})
	defer n.close()
	ctx := context.Background()
	ada, ben := n.connect("ada"), n.connect("ben")
	for _, p := range []*participant{ada, ada, ben} {
		count, err := client.Invoke[int](ctx, p.Client, "Next")
		fmt.Println(p.name, count, err)
	}
	// Output:
	// ada 1 <nil>
	// ada 2 <nil>
	// ben 1 <nil>
}

func ExampleCaller_Abort() {
	n := serve(Chat{})
	defer n.close()
	ada := n.connect("ada")
	err := ada.Invoke(context.Background(), "Quit")
	fmt.Println(errors.Is(err, client.ErrConnectionLost))
	// Output: true
}

// Rendezvous is a hub whose method returns when it runs twice.
type Rendezvous struct{ meet chan struct{} }

// Meet waits for another one.
func (r Rendezvous) Meet(ctx context.Context, _ *hub.Caller) error {
	select {
	case r.meet <- struct{}{}:
	case <-r.meet:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// By default the invocations of one connection run one after the other.
func ExampleWithMaximumParallelInvocationsPerClient() {
	n := serve(Rendezvous{make(chan struct{})}, hub.WithMaximumParallelInvocationsPerClient(2))
	defer n.close()
	ada := n.connect("ada")
	other := make(chan error)
	go func() { other <- ada.Invoke(context.Background(), "Meet") }()
	report("one", ada.Invoke(context.Background(), "Meet"))
	report("other", <-other)
	// Output:
	// one: ok
	// other: ok
}

// Nodes share a backplane: here one within the process, in production one on Redis, of
// package redisplane. They need the same cluster keys.
func Example_cluster() {
	key := []byte("a key of the cluster, of 32 bytes")
	var bus backplane.Bus
	planes := []*backplane.Memory{bus.Join(), bus.Join()}
	one := serve(Chat{}, hub.WithBackplane(planes[0]), hub.WithClusterKeys(key))
	two := serve(Chat{}, hub.WithBackplane(planes[1]), hub.WithClusterKeys(key))
	defer func() {
		one.close()
		two.close()
		for _, p := range planes {
			p.Close()
		}
	}()

	ctx := context.Background()
	ada, ben := one.connect("ada"), two.connect("ben")
	report("join", errors.Join(ada.Invoke(ctx, "Join", "tea"), ben.Invoke(ctx, "Join", "tea")))
	report("say", ada.Invoke(ctx, "Say", "tea", "hello"))
	fmt.Println(<-ada.heard)
	fmt.Println(<-ben.heard)
	// Output:
	// join: ok
	// say: ok
	// ada says hello
	// ada says hello
}

// Two hubs may share a backplane, under different prefixes.
func ExampleWithChannelPrefix() {
	plane := backplane.NewMemory()
	defer plane.Close()
	for _, prefix := range []string{"chat/", "news/", "chat/"} {
		h, err := hub.New(Chat{}, hub.WithBackplane(plane), hub.WithChannelPrefix(prefix))
		if err != nil {
			fmt.Println(prefix, "is taken")
			continue
		}
		defer h.Shutdown(context.Background())
	}
	// Output: chat/ is taken
}

// A node that is to go closes its connections one after the other, with the advice to
// reconnect, so that the others do not get them all at once.
func ExampleHub_Drain() {
	n := serve(Chat{})
	defer n.server.Close()
	ada := n.connect("ada")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	n.Drain(ctx, 5*time.Second)
	report("shut down", n.Shutdown(ctx))
	<-ada.Done()
	// Output: shut down: ok
}

// When a node dies, what it held is gone. Whoever keeps a list of who is where hears it.
func ExampleWithNodeDied() {
	chat, err := hub.New(Chat{}, hub.WithNodeDied(func(node string) { log.Print("node died: ", node) }))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(chat.Shutdown(context.Background()))
	// Output: <nil>
}

// A node is a hub on a server of its own, as one process of a cluster would have it.
type node struct {
	*hub.Hub
	server *httptest.Server
}

func serve(value any, options ...hub.Option) *node {
	options = append([]hub.Option{hub.WithAuthenticator(byHeader), hub.WithLogger(slog.New(slog.DiscardHandler))}, options...)
	h, err := hub.New(value, options...)
	if err != nil {
		log.Fatal(err)
	}
	return &node{h, httptest.NewServer(h)}
}

// cluster starts two nodes on one backplane.
func cluster() (one, two *node, stop func()) {
	var bus backplane.Bus
	keys := hub.WithClusterKeys([]byte("a key of the cluster, of 32 bytes"))
	planes := []*backplane.Memory{bus.Join(), bus.Join()}
	one, two = serve(Chat{}, hub.WithBackplane(planes[0]), keys), serve(Chat{}, hub.WithBackplane(planes[1]), keys)
	return one, two, func() {
		one.close()
		two.close()
		for _, p := range planes {
			p.Close()
		}
	}
}

func (n *node) close() {
	if err := n.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	n.server.Close()
}

// byHeader stands for real authentication: it believes what the client says. Everybody
// has the role of the same name.
var byHeader = auth.AuthenticatorFunc(func(r *http.Request) (*auth.Identity, error) {
	name := r.Header.Get("Name")
	if name == "" {
		return auth.Anonymous, nil
	}
	return &auth.Identity{Subject: name, Authenticated: true, Claims: auth.Claims{"role": name}}, nil
})

// A participant is a client that notes what it hears.
type participant struct {
	*client.Client
	name  string
	heard chan string
}

// connect starts a client, which lasts as long as the node.
func (n *node) connect(name string) *participant {
	c, err := client.New(n.server.URL, client.WithHeader(http.Header{"Name": {name}}))
	if err != nil {
		log.Fatal(err)
	}
	p := &participant{c, name, make(chan string, 100)}
	if err := c.On("Heard", func(text string) { p.heard <- text }); err != nil {
		log.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	return p
}

// until returns what was heard up to the text, sorted: there is no order between sends
// to connections of the same node and others.
func (p *participant) until(last string) []string {
	var all []string
	for text := range p.heard {
		all = append(all, text)
		if text == last {
			break
		}
	}
	slices.Sort(all)
	return all
}
