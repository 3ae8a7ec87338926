package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/auth"
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

// byHeader stands for real authentication: it believes what the client says. Everybody
// has the role of the same name.
var byHeader = auth.AuthenticatorFunc(func(r *http.Request) (*auth.Identity, error) {
	name := r.Header.Get("Name")
	if name == "" {
		return auth.Anonymous, nil
	}
	return &auth.Identity{Subject: name, Authenticated: true, Claims: auth.Claims{"role": name}}, nil
})
