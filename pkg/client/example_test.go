package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// Chat is a hub.
type Chat struct{}

func (Chat) Join(ctx context.Context, c *hub.Caller, room string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), room)
}

func (Chat) Say(ctx context.Context, c *hub.Caller, room, text string) error {
	if text == "" {
		return &hub.Error{Message: "nothing to say"}
	}
	return c.Clients().Group(room).Send(ctx, "Said", room, text)
}

func (Chat) Add(_ context.Context, _ *hub.Caller, a, b int) int { return a + b }

func (Chat) Countdown(_ context.Context, _ *hub.Caller, from int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for n := from; n > 0 && yield(n); n-- {
		}
	}
}

func (Chat) Total(_ context.Context, _ *hub.Caller, items iter.Seq2[int, error]) (total int, err error) {
	for n, err := range items {
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (Chat) Survey(ctx context.Context, c *hub.Caller, question string) (string, error) {
	return hub.Invoke[string](ctx, c.Clients().Caller(), "Answer", question)
}

// serve stands for a server somewhere else.
func serve() (address string, stop func()) {
	h, err := hub.New(Chat{})
	if err != nil {
		log.Fatal(err)
	}
	s := httptest.NewServer(h)
	return s.URL, func() {
		if err := h.Shutdown(context.Background()); err != nil {
			log.Print(err)
		}
		s.Close()
	}
}

// connect returns a started client, as the first example makes it.
func connect(ctx context.Context, address string) *client.Client {
	c, err := client.New(address)
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		log.Fatal(err)
	}
	return c
}

func Example() {
	ctx := context.Background()
	address, stop := serve()
	defer stop()

	c, err := client.New(address, client.WithProtocol(protocol.MessagePack))
	if err != nil {
		log.Fatal(err)
	}
	said := make(chan string)
	if err := c.On("Said", func(room, text string) { said <- room + ": " + text }); err != nil {
		log.Fatal(err)
	}
	if err := c.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	if err := c.Invoke(ctx, "Join", "lobby"); err != nil {
		log.Fatal(err)
	}
	if err := c.Send(ctx, "Say", "lobby", "hello"); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-said)
	// Output: lobby: hello
}

func ExampleInvoke() {
	ctx := context.Background()
	address, stop := serve()
	defer stop()
	c := connect(ctx, address)
	defer c.Close()

	sum, err := client.Invoke[int](ctx, c, "Add", 40, 2)
	fmt.Println(sum, err)

	err = c.Invoke(ctx, "Say", "lobby", "")
	if told, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(told.Message)
	}
	// Output:
	// 42 <nil>
	// An unexpected error occurred invoking 'Say' on the server. HubException: nothing to say
}

// Sequences and channels among the arguments are streams to the server.
func ExampleInvoke_upload() {
	ctx := context.Background()
	address, stop := serve()
	defer stop()
	c := connect(ctx, address)
	defer c.Close()

	total, err := client.Invoke[int](ctx, c, "Total", slices.Values([]int{1, 2, 3}))
	fmt.Println(total, err)

	numbers := make(chan int)
	go func() {
		defer close(numbers) // ends the stream
		for n := range 5 {
			numbers <- n
		}
	}()
	total, err = client.Invoke[int](ctx, c, "Total", numbers)
	fmt.Println(total, err)
	// Output:
	// 6 <nil>
	// 10 <nil>
}

// Leaving the loop cancels the stream, and so does the end of the context.
func ExampleStream() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	address, stop := serve()
	defer stop()
	c := connect(ctx, address)
	defer c.Close()

	for n, err := range client.Stream[int](ctx, c, "Countdown", 1_000_000) {
		if err != nil {
			log.Print(err)
			return
		}
		fmt.Println(n)
		if n == 999_998 {
			break
		}
	}
	// Output:
	// 1000000
	// 999999
	// 999998
}

// A new connection is in no group: what the lost one had joined has to be joined again.
func ExampleClient_OnReconnected() {
	c, err := client.New("https://example.com/chat", client.WithAutomaticReconnect())
	if err != nil {
		log.Fatal(err)
	}
	c.OnReconnecting(func(reason error) { log.Print("connection lost: ", reason) })
	c.OnReconnected(func(ctx context.Context, connectionID string) {
		if err := c.Invoke(ctx, "Join", "lobby"); err != nil {
			log.Print(err)
		}
	})
}

// The server may ask a client: the handler's result, or its error, is the answer.
func ExampleClient_On_result() {
	ctx := context.Background()
	address, stop := serve()
	defer stop()
	c := connect(ctx, address)
	defer c.Close()

	err := c.On("Answer", func(ctx context.Context, question string) (string, error) {
		if question == "" {
			return "", errors.New("no question")
		}
		return "yes", ctx.Err()
	})
	if err != nil {
		log.Fatal(err)
	}
	answer, err := client.Invoke[string](ctx, c, "Survey", "Are you there?")
	fmt.Println(answer, err)
	// Output: yes <nil>
}

// Many clients that lost their server should not come back all at once. These keep
// trying, with delays that grow to a minute, half of which is left to chance.
func ExampleWithReconnectPolicy() {
	policy := func(attempt int, _ error) (time.Duration, bool) {
		longest := min(time.Second<<min(attempt, 6), time.Minute)
		return longest/2 + rand.N(longest/2), true
	}
	_, err := client.New("https://example.com/chat", client.WithReconnectPolicy(policy))
	fmt.Println(err)
	// Output: <nil>
}
