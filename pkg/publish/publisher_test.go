package publish_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/publish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var clusterKey = []byte("a key of the cluster, of 32 bytes")

// rooms is a hub whose clients may join groups.
type rooms struct{}

func (rooms) Join(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

// serve starts a node that demands signatures, and returns its address.
func serve(t *testing.T, redis string) string {
	t.Helper()
	plane, err := redisplane.New(redisplane.Options{
		URL: redis, Keys: [][]byte{clusterKey}, RequireSigned: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plane.Close() })
	h, err := hub.New(rooms{},
		hub.WithBackplane(plane),
		hub.WithClusterKeys(clusterKey),
		hub.WithUserIdentifier(func(r *http.Request, _ *auth.Identity) string { return r.URL.Query().Get("user") }),
		hub.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
		defer cancel()
		if err := h.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.Close()
	})
	return s.URL
}

// A listener is a client that keeps what it is sent.
type listener struct {
	*client.Client
	name  string
	heard chan string
}

func listen(t *testing.T, address, user, group string, p protocol.Protocol) *listener {
	t.Helper()
	c, err := client.New(address+"?user="+url.QueryEscape(user), client.WithProtocol(p))
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{c, fmt.Sprint(user, " by ", p.Name()), make(chan string, 100)}
	if err := c.On("Heard", func(text string, number float64) { l.heard <- fmt.Sprint(text, " ", number) }); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(inTime(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if err := c.Invoke(inTime(t), "Join", group); err != nil {
		t.Fatal(err)
	}
	return l
}

// until returns what was heard before the text.
func (l *listener) until(t *testing.T, last string) (heard []string) {
	t.Helper()
	for {
		select {
		case text := <-l.heard:
			if text == last {
				return heard
			}
			heard = append(heard, text)
		case <-time.After(await.Deadline):
			t.Fatalf("%s has not heard %q, but %q", l.name, last, heard)
		}
	}
}

func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), await.Deadline)
	t.Cleanup(cancel)
	return ctx
}

// Clients of both protocols, on two nodes, get what is for them and nothing else.
func TestPublisher(t *testing.T) {
	redis := redistest.Start(t)
	nodes := []string{serve(t, redis.URL()), serve(t, redis.URL())}
	carrier, err := redisplane.NewPublisher("", redisplane.Options{URL: redis.URL(), Keys: [][]byte{clusterKey}})
	if err != nil {
		t.Fatal(err)
	}
	defer carrier.Close()

	who := make(map[string][]*listener) // by user
	var all []*listener
	for _, user := range []string{"ada", "bob"} {
		for _, address := range nodes {
			for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
				l := listen(t, address, user, "room of "+user, p)
				who[user] = append(who[user], l)
				all = append(all, l)
			}
		}
	}
	ada, bob := who["ada"], who["bob"]
	out := ada[1].ConnectionID()
	p := publish.New(carrier)
	excluded := []string{out}
	kept := p.AllExcept(excluded...)
	excluded[0] = "" // the caller's again
	for i, test := range []struct {
		what string
		to   publish.Clients
		want []*listener
	}{
		{"all", p.All(), all},
		{"all but one", kept, slices.Concat(ada[:1], ada[2:], bob)},
		{"a user", p.User("ada"), ada},
		{"users, one of them twice", p.Users("ada", "bob", "ada", "nobody"), all},
		{"a group", p.Group("room of bob"), bob},
		{"a group but one", p.GroupExcept("room of ada", out), slices.Concat(ada[:1], ada[2:])},
		{"groups", p.Groups("room of ada", "room of bob", "empty"), all},
		{"a connection", p.Connection(out), ada[1:2]},
		{"connections, one of them twice", p.Connections(out, bob[3].ConnectionID(), out), []*listener{ada[1], bob[3]}},
		{"nobody", p.Users(), nil},
		{"a user that is not there", p.User("Ada"), nil},
		{"a connection that is not there", p.Connection("none"), nil},
	} {
		t.Run(test.what, func(t *testing.T) {
			if err := test.to.Send(inTime(t), "Heard", test.what, i); err != nil {
				t.Fatal(err)
			}
			if err := p.All().Send(inTime(t), "Heard", "marker", i); err != nil {
				t.Fatal(err)
			}
			for _, l := range all {
				var want []string
				if slices.Contains(test.want, l) {
					want = []string{fmt.Sprint(test.what, " ", i)}
				}
				if diff := cmp.Diff(want, l.until(t, fmt.Sprint("marker ", i))); diff != "" {
					t.Errorf("%s (-want +got)\n%s", l.name, diff)
				}
			}
		})
	}
}

// carried is a Carrier that fails as told, and keeps what it was given.
type carried struct {
	err      error
	channels []backplane.Channel
	calls    int
}

func (c *carried) Publish(_ context.Context, _ []byte, channels ...backplane.Channel) error {
	c.calls++
	c.channels = channels
	return c.err
}

func TestErrors(t *testing.T) {
	carrier := new(carried)
	p := publish.New(carrier)
	long := strings.Repeat("x", publish.MaxName+1)
	for name, to := range map[string]publish.Clients{
		"user": p.Users("a", long), "group": p.Group(long), "groups": p.Groups(long, "a"), "connection": p.Connection(long),
	} {
		if err := to.Send(t.Context(), "Heard"); !errors.Is(err, publish.ErrNameTooLong) {
			t.Errorf("long name of a %s: %v", name, err)
		}
	}
	if err := p.All().Send(t.Context(), ""); err == nil {
		t.Error("sent without a method")
	}
	if err := p.All().Send(t.Context(), "Heard", make(chan int)); err == nil {
		t.Error("sent a channel")
	}
	if carrier.calls != 0 {
		t.Errorf("%d were carried", carrier.calls)
	}
	if err := p.User(long[1:]).Send(t.Context(), "Heard"); err != nil {
		t.Errorf("longest name: %v", err)
	}
	for _, want := range []error{backplane.ErrNotSent, backplane.ErrUnknown} {
		carrier.err, carrier.calls = fmt.Errorf("carrier: %w", want), 0
		if err := p.Groups("a", "b").Send(t.Context(), "Heard"); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if carrier.calls != 1 || len(carrier.channels) != 2 {
			t.Errorf("%d calls, at last for %q", carrier.calls, carrier.channels)
		}
	}
}
