package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	goclient "github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// A fleet is some nodes on one Redis, each behind a proxy of its own.
type fleet struct {
	t     *testing.T
	redis *redistest.Server
	nodes []*vessel
}

type vessel struct {
	*Hub
	proxy   *redistest.Proxy
	address string
	died    chan string // nodes that died, as this one hears
}

// newFleet starts nodes that prove their hearing every interval, and count as dead when
// they have not announced themselves for five of them.
func newFleet(t *testing.T, nodes int, interval time.Duration, options ...Option) *fleet {
	t.Helper()
	redis := redistest.Start(t)
	f := &fleet{t: t, redis: redis}
	keys := [][]byte{[]byte("a key of the cluster, of 32 bytes")}
	for range nodes {
		v := &vessel{proxy: redistest.NewProxy(t, redis), died: make(chan string, 10)}
		plane, err := redisplane.New(redisplane.Options{
			URL: v.proxy.URL(), Keys: keys, ProbeInterval: interval, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { plane.Close() })
		v.Hub, v.address = serve(t, &remote{}, append([]Option{
			WithBackplane(plane), WithClusterKeys(keys...), WithNodeDied(func(node string) { v.died <- node }),
		}, options...)...)
		f.nodes = append(f.nodes, v)
	}
	for _, v := range f.nodes {
		await.Until(t, "the node knows the others", func() error {
			known, err := v.attachment.Nodes(t.Context())
			if err == nil && len(known) != nodes {
				err = fmt.Errorf("knows %d of %d", len(known), nodes)
			}
			return err
		})
	}
	return f
}

// A sailor is a client on one of the nodes.
type sailor struct {
	*goclient.Client
	id    string
	heard chan string
}

func (v *vessel) board(t *testing.T, user string, p protocol.Protocol) *sailor {
	t.Helper()
	address := "http" + strings.TrimPrefix(v.address, "ws") + "?user=" + url.QueryEscape(user)
	c, err := goclient.New(address, goclient.WithProtocol(p))
	if err != nil {
		t.Fatal(err)
	}
	s := &sailor{Client: c, heard: make(chan string, 100)}
	if err := c.On("Heard", func(text string) { s.heard <- text }); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s.id = c.ConnectionID()
	return s
}

// crew has the user connect to all nodes in both protocols.
func (f *fleet) crew(user string) (all []*sailor) {
	for _, v := range f.nodes {
		for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
			all = append(all, v.board(f.t, user, p))
		}
	}
	return all
}

func (s *sailor) expect(t *testing.T, want ...string) {
	t.Helper()
	for _, text := range want {
		select {
		case got := <-s.heard:
			if got != text {
				t.Fatalf("heard %q, want %q", got, text)
			}
		case <-time.After(await.Deadline):
			t.Fatalf("did not hear %q", text)
		}
	}
}

func (v *vessel) say(t *testing.T, to ClientProxy, text string) {
	t.Helper()
	if err := to.Send(t.Context(), "Heard", text); err != nil {
		t.Fatal(err)
	}
}

// What is sent to a group once a user has been removed from it does not reach the user,
// whichever nodes remove, send, and hold the user's connections.
func TestRevocationInTheFleet(t *testing.T) {
	f := newFleet(t, 3, time.Second)
	ada, ben := f.crew("ada"), f.crew("ben")
	for _, s := range ben {
		if err := s.Invoke(t.Context(), "Join", "room"); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 12 {
		adds, removes, sends := f.nodes[round%3], f.nodes[(round/3)%3], f.nodes[(round/2)%3]
		text := fmt.Sprint("round ", round)
		if err := adds.Groups().AddUser(t.Context(), "ada", "room"); err != nil {
			t.Fatal(err)
		}
		sends.say(t, sends.Clients().Group("room"), text+", open")
		if err := removes.Groups().RemoveUser(t.Context(), "ada", "room"); err != nil {
			t.Fatal(err)
		}
		sends.say(t, sends.Clients().Group("room"), text+", secret")
		sends.say(t, sends.Clients().Users("ada", "ben"), text+", end")
		for _, s := range ada {
			s.expect(t, text+", open", text+", end")
		}
		for _, s := range ben {
			s.expect(t, text+", open", text+", secret", text+", end")
		}
	}
}

// A user's connections are closed on all nodes, for the reason given, and nobody else's.
func TestCloseUserInTheFleet(t *testing.T) {
	f := newFleet(t, 3, time.Second)
	ada, ben := f.crew("ada"), f.crew("ben")
	if err := f.nodes[0].CloseUser(t.Context(), "ada", Reason("You are banned.")); err != nil {
		t.Fatal(err)
	}
	for _, s := range ada {
		<-s.Done()
		if told, ok := errors.AsType[*goclient.Error](s.Err()); !ok || told.Message != "You are banned." {
			t.Errorf("ended with %v", s.Err())
		}
	}
	for _, s := range ben {
		if err := s.Invoke(t.Context(), "ID"); err != nil {
			t.Error(err)
		}
	}
}

func TestExistsInTheFleet(t *testing.T) {
	f := newFleet(t, 2, time.Second)
	ada := f.nodes[1].board(t, "ada", protocol.MessagePack)
	if err := ada.Invoke(t.Context(), "Join", "room"); err != nil {
		t.Fatal(err)
	}
	exist := func() (all []bool) {
		for _, v := range f.nodes {
			for of, ask := range map[string]func(context.Context, string) (bool, error){
				"ada": v.UserExists, "room": v.GroupExists, ada.id: v.ConnectionExists,
			} {
				found, err := ask(t.Context(), of)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, found)
			}
		}
		return all
	}
	if all := exist(); slices.Contains(all, false) {
		t.Errorf("while it is there: %v", all)
	}
	ada.Close()
	await.Until(t, "it is gone everywhere", func() error {
		if all := exist(); slices.Contains(all, true) {
			return fmt.Errorf("%v", all)
		}
		return nil
	})
}

func TestInvokeInTheFleet(t *testing.T) {
	f := newFleet(t, 2, time.Second)
	for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
		t.Run(p.Name(), func(t *testing.T) {
			ada := f.nodes[1].board(t, "ada", p)
			err := ada.On("Answer", func(question string) (string, error) {
				if question == "why?" {
					return "", errors.New("no idea")
				}
				return "blue", nil
			})
			if err != nil {
				t.Fatal(err)
			}
			there := f.nodes[0].Clients().Client(ada.id)
			if got, err := Invoke[string](t.Context(), there, "Answer", "which colour?"); got != "blue" || err != nil {
				t.Errorf("result: %q, %v", got, err)
			}
			_, err = Invoke[string](t.Context(), there, "Answer", "why?")
			if told, ok := errors.AsType[*Error](err); !ok || told.Message != "no idea" {
				t.Errorf("error: %v", err)
			}
			_, err = Invoke[int](t.Context(), there, "Answer", "how many?")
			if told, ok := errors.AsType[*Error](err); !ok || told.Message != "Error trying to deserialize result to int." {
				t.Errorf("another type: %v", err)
			}
			_, err = Invoke[int](t.Context(), there, "Nobody")
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("no handler: %v", err)
			}

			asked := ada.puzzle(t)
			ended := make(chan error, 1)
			go func() { // ends with the client's connection
				_, err := Invoke[int](t.Context(), there, "Puzzle")
				ended <- err
			}()
			<-asked
			ada.Close()
			if err := <-ended; !errors.Is(err, ErrDisconnected) {
				t.Errorf("disconnected: %v", err)
			}
		})
	}
	for _, v := range f.nodes {
		await.Until(t, "nothing is left", func() error { return leftOf(v.Hub, true) })
	}
}

// puzzle has the client think about a question for as long as it lives.
func (s *sailor) puzzle(t *testing.T) (asked <-chan struct{}) {
	t.Helper()
	puzzled := make(chan struct{}, 1)
	err := s.On("Puzzle", func(ctx context.Context) (int, error) {
		puzzled <- struct{}{}
		<-ctx.Done()
		return 0, ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return puzzled
}

// When the node of a client that was asked dies, nobody waits for the answer any more.
func TestInvokeOfDyingNode(t *testing.T) {
	f := newFleet(t, 2, 200*time.Millisecond)
	ada := f.nodes[1].board(t, "ada", protocol.JSON)
	asked := ada.puzzle(t)
	ended := make(chan error, 1)
	go func() { // ends when the node has died
		_, err := Invoke[int](t.Context(), f.nodes[0].Clients().Client(ada.id), "Puzzle")
		ended <- err
	}()
	<-asked
	await.Until(t, "who asks knows that it was asked", func() error {
		o := &f.nodes[0].operations
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, p := range o.pending {
			if p.asked != "" {
				return nil
			}
		}
		return errors.New("it does not")
	})
	f.nodes[1].proxy.Freeze()
	t.Cleanup(f.nodes[1].proxy.Thaw)
	if err := <-ended; !errors.Is(err, ErrDisconnected) {
		t.Errorf("got %v", err)
	}
	if node := <-f.nodes[0].died; node != f.nodes[1].plane.NodeID() {
		t.Errorf("%s died", node)
	}
	// Nor is it waited for by what comes later.
	if err := f.nodes[0].Groups().RemoveUser(t.Context(), "ada", "room"); err != nil {
		t.Errorf("remove user: %v", err)
	}
}

// A node that does not hear is named by who waited for it. What it was to do it does
// when it hears again.
func TestDeafNodeIsNamed(t *testing.T) {
	f := newFleet(t, 2, time.Minute, WithOperationTimeout(500*time.Millisecond))
	ada := f.nodes[1].board(t, "ada", protocol.JSON)
	if err := ada.Invoke(t.Context(), "Join", "room"); err != nil {
		t.Fatal(err)
	}
	for _, pipe := range f.nodes[1].proxy.Subscribers() {
		pipe.Freeze(redistest.ToClient)
		t.Cleanup(func() { pipe.Thaw(redistest.ToClient) })
	}
	err := f.nodes[0].Groups().RemoveUser(t.Context(), "ada", "room")
	unanswered, ok := errors.AsType[*UnansweredError](err)
	if deaf := []string{f.nodes[1].plane.NodeID()}; !ok || !slices.Equal(unanswered.Nodes, deaf) {
		t.Errorf("got %v, want %v named", err, deaf)
	}
	if err := f.nodes[0].Groups().Remove(t.Context(), ada.id, "room"); !errors.Is(err, backplane.ErrUnavailable) {
		t.Errorf("of the connection: %v", err)
	}
	if !f.nodes[1].isMember("room") {
		t.Error("the deaf node has heard it")
	}
	for _, pipe := range f.nodes[1].proxy.Subscribers() {
		pipe.Thaw(redistest.ToClient)
	}
	await.Until(t, "the node has heard it", func() error {
		if f.nodes[1].isMember("room") {
			return errors.New("it has not")
		}
		return nil
	})
}
