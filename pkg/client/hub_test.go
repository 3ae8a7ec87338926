package client

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// room is a hub for tests.
type room struct{}

type note struct {
	Text string  `json:"text"`
	Data []byte  `json:"data"`
	Next *note   `json:"next"`
	Rate float64 `json:"rate"`
}

func (room) OnConnected(ctx context.Context, c *hub.Caller) error {
	return c.Clients().Caller().Send(ctx, "Welcome", c.ConnectionID())
}

func (room) Echo(_ context.Context, _ *hub.Caller, n note) note { return n }

func (room) Add(_ context.Context, _ *hub.Caller, a, b int) int { return a + b }

func (room) Nothing(context.Context, *hub.Caller) {}

func (room) Fail(context.Context, *hub.Caller) error { return &hub.Error{Message: "told"} }

func (room) Join(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

func (room) ToGroup(ctx context.Context, c *hub.Caller, group, text string) error {
	return c.Clients().Group(group).Send(ctx, "Said", group, text)
}

func (room) ToUser(ctx context.Context, c *hub.Caller, user, text string) error {
	return c.Clients().User(user).Send(ctx, "Said", user, text)
}

func (room) Count(_ context.Context, _ *hub.Caller, n int) iter.Seq2[int, error] {
	return numbers(n, &hub.Error{Message: "out of numbers"})
}

// Endless streams until it is cancelled, and then says so.
func (room) Endless(ctx context.Context, c *hub.Caller) iter.Seq[int] {
	return func(yield func(int) bool) {
		for ctx.Err() == nil && yield(0) {
		}
		c.Clients().Caller().Send(context.WithoutCancel(ctx), "Cancelled")
	}
}

// Sum is of what is uploaded, which it also streams.
func (room) Sum(_ context.Context, _ *hub.Caller, start int, items iter.Seq2[int, error]) (int, error) {
	for n, err := range items {
		if err != nil {
			return 0, err
		}
		start += n
	}
	return start, nil
}

func (room) Double(_ context.Context, _ *hub.Caller, items iter.Seq2[int, error]) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for n, err := range items {
			if !yield(2*n, err) || err != nil {
				return
			}
		}
	}
}

// First takes no more of what is uploaded.
func (room) First(_ context.Context, _ *hub.Caller, items iter.Seq2[int, error]) (int, error) {
	for n, err := range items {
		return n, err
	}
	return 0, nil
}

// Ask asks the caller.
func (room) Ask(ctx context.Context, c *hub.Caller, method string, n int) (int, error) {
	return hub.Invoke[int](ctx, c.Clients().Caller(), method, n)
}

// serveHub serves a hub over real sockets, until the end of the test, and returns its
// address. User identifiers come from the query parameter user.
func serveHub(t testing.TB, options ...hub.Option) string {
	t.Helper()
	h, err := hub.New(room{}, append([]hub.Option{
		hub.WithUserIdentifier(func(r *http.Request, _ *auth.Identity) string { return r.URL.Query().Get("user") }),
		hub.WithLogger(slog.New(slog.DiscardHandler)),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s.URL + "/room"
}

func TestHubInvocations(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		c, err := New(serveHub(t), quiet(WithProtocol(p))...)
		welcome := make(chan string, 1)
		mustOn(t, c, "welcome", func(id string) { welcome <- id })
		started(t, c, err)
		if id := receive(t, "what OnConnected sends", welcome); id != c.ConnectionID() || id == "" {
			t.Errorf("connection id %q, and %q for the hub", c.ConnectionID(), id)
		}

		if sum, err := Invoke[int](t.Context(), c, "add", 40, 2); sum != 42 || err != nil {
			t.Errorf("Add: %d, %v", sum, err)
		}
		sent := note{Text: "é\x1e", Data: []byte{0, 1}, Next: &note{}, Rate: .5}
		got, err := Invoke[note](t.Context(), c, "Echo", sent)
		if err != nil || got.Text != sent.Text || !slices.Equal(got.Data, sent.Data) || got.Next == nil || got.Rate != sent.Rate {
			t.Errorf("Echo: %+v, %v", got, err)
		}
		if v, err := Invoke[any](t.Context(), c, "Nothing"); v != nil || err != nil {
			t.Errorf("Nothing: %v, %v", v, err)
		}
		if err := c.Invoke(t.Context(), "Add", 1, 2); err != nil {
			t.Error(err)
		}
	})
}

func TestHubInvocationErrors(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		c, err := New(serveHub(t), quiet(WithProtocol(p))...)
		started(t, c, err)
		for method, text := range map[string]string{
			"Fail": "An unexpected error occurred invoking 'Fail' on the server. HubException: told",
			"Nope": "Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist.",
		} {
			err := c.Invoke(t.Context(), method)
			if told, ok := errors.AsType[*Error](err); !ok || told.Message != text {
				t.Errorf("%s: %v", method, err)
			}
		}
		for what, err := range map[string]error{
			"a result of another type": second(Invoke[string](t.Context(), c, "Add", 1, 2)),
			"null for a number":        second(Invoke[int](t.Context(), c, "Nothing")),
			"an unencodable argument":  c.Invoke(t.Context(), "Nothing", complex(1, 2)),
			"no method":                c.Invoke(t.Context(), ""),
		} {
			if _, told := errors.AsType[*Error](err); err == nil || told {
				t.Errorf("%s: %v", what, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Invoke(ctx, "Nothing"); !errors.Is(err, context.Canceled) {
			t.Errorf("ended context: %v", err)
		}
		if err := c.Invoke(t.Context(), "Nothing"); err != nil {
			t.Errorf("the connection did not outlive the errors: %v", err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// Sent messages are acted on in order, and so are those that the hub sends.
func TestHubOrder(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		const count = 1000
		c, err := New(serveHub(t)+"?user=ada", quiet(WithProtocol(p))...)
		var got []string
		all := make(chan struct{})
		mustOn(t, c, "SAID", func(_ context.Context, user, text string) {
			if got = append(got, text); len(got) == count {
				close(all)
			}
		})
		started(t, c, err)
		var want []string
		for i := range count {
			want = append(want, strings.Repeat("x", i))
			if err := c.Send(t.Context(), "ToUser", "ada", want[i]); err != nil {
				t.Fatal(err)
			}
		}
		receive(t, "all messages", all)
		if !slices.Equal(got, want) {
			t.Error("out of order")
		}
	})
}

func TestHubStreams(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		c, err := New(serveHub(t), quiet(WithProtocol(p))...)
		cancelled := make(chan struct{}, 1)
		mustOn(t, c, "Cancelled", func() { cancelled <- struct{}{} })
		started(t, c, err)
		var got []int
		for n, err := range Stream[int](t.Context(), c, "Count", 1000) {
			if told, ok := errors.AsType[*Error](err); ok && strings.HasSuffix(told.Message, "HubException: out of numbers") {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			got = append(got, n)
		}
		if len(got) != 1000 || !slices.IsSorted(got) {
			t.Errorf("got %v", got)
		}
		for _, err := range Stream[int](t.Context(), c, "Endless") {
			if err != nil {
				t.Error(err)
			}
			break
		}
		receive(t, "the end of what was left", cancelled)
		for _, err := range Stream[int](t.Context(), c, "Add", 1, 2) {
			if told, ok := errors.AsType[*Error](err); !ok || !strings.Contains(told.Message, "non-streaming") {
				t.Errorf("got %v", err)
			}
		}
		if _, err := Invoke[int](t.Context(), c, "Count", 1); err == nil {
			t.Error("invoked a method that streams")
		}
		assertIdle(t, c)
	})
}

func TestHubUploads(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		c, err := New(serveHub(t), quiet(WithProtocol(p))...)
		started(t, c, err)
		if sum, err := Invoke[int](t.Context(), c, "Sum", 1, numbers(1000, nil)); sum != 499501 || err != nil {
			t.Errorf("Sum: %d, %v", sum, err)
		}
		_, err = Invoke[int](t.Context(), c, "Sum", 1, numbers(3, errors.New("broken")))
		if told, ok := errors.AsType[*Error](err); !ok || !strings.Contains(told.Message, "broken") {
			t.Errorf("Sum: %v", err)
		}
		var got []int
		for n, err := range Stream[int](t.Context(), c, "Double", numbers(1000, nil)) {
			if err != nil {
				t.Error(err)
			}
			got = append(got, n)
		}
		if len(got) != 1000 || got[999] != 1998 || !slices.IsSorted(got) {
			t.Errorf("Double: %v", got)
		}
		endless := make(chan int, 1)
		endless <- 7
		if n, err := Invoke[int](t.Context(), c, "First", endless); n != 7 || err != nil {
			t.Errorf("First: %d, %v", n, err)
		}
		if err := c.Invoke(t.Context(), "Nothing"); err != nil {
			t.Error(err)
		}
		assertIdle(t, c)
	})
}

func TestHubAsksTheClient(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		c, err := New(serveHub(t), quiet(WithProtocol(p))...)
		mustOn(t, c, "Double", func(n int) int { return 2 * n })
		mustOn(t, c, "Fail", func(int) (int, error) { return 0, errors.New("broken") })
		mustOn(t, c, "AddOne", func(ctx context.Context, n int) (int, error) { return Invoke[int](ctx, c, "Add", n, 1) })
		started(t, c, err)
		if n, err := Invoke[int](t.Context(), c, "Ask", "double", 21); n != 42 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		if n, err := Invoke[int](t.Context(), c, "Ask", "AddOne", 41); n != 42 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
		_, err = Invoke[int](t.Context(), c, "Ask", "Fail", 1)
		if told, ok := errors.AsType[*Error](err); !ok || !strings.HasSuffix(told.Message, "broken") {
			t.Errorf("got %v", err)
		}
	})
}

func TestHubOnTwoNodes(t *testing.T) {
	inEachProtocol(t, func(t *testing.T, p protocol.Protocol) {
		var bus backplane.Bus
		key := []byte(strings.Repeat("k", 32))
		var nodes [2]string
		for i := range nodes {
			plane := bus.Join()
			t.Cleanup(func() { plane.Close() })
			nodes[i] = serveHub(t, hub.WithBackplane(plane), hub.WithClusterKeys(key))
		}
		type said struct{ to, text string }
		connect := func(node int, user string) (*Client, chan said) {
			c, err := New(nodes[node]+"?user="+user, quiet(WithProtocol(p))...)
			got := make(chan said, 10)
			mustOn(t, c, "Said", func(to, text string) { got <- said{to, text} })
			return started(t, c, err), got
		}
		ada, adaGot := connect(0, "ada")
		ben, benGot := connect(1, "ben")
		_, cyGot := connect(1, "ben") // ben's other device, in no group

		for _, c := range []*Client{ada, ben} {
			if err := c.Invoke(t.Context(), "Join", "room"); err != nil {
				t.Fatal(err)
			}
		}
		if err := ada.Invoke(t.Context(), "ToGroup", "room", "all"); err != nil {
			t.Fatal(err)
		}
		if err := ada.Invoke(t.Context(), "ToUser", "ben", "private"); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			who  string
			got  chan said
			want []said
		}{
			{"ada", adaGot, []said{{"room", "all"}}},
			{"ben", benGot, []said{{"room", "all"}, {"ben", "private"}}},
			{"ben's other device", cyGot, []said{{"ben", "private"}}},
		} {
			for _, want := range tt.want {
				if got := receive(t, "what is for "+tt.who, tt.got); got != want {
					t.Errorf("%s got %v, want %v", tt.who, got, want)
				}
			}
		}
	})
}
