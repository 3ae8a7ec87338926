package hub

import (
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
)

// A program without clients has operations performed by the nodes, as each of them has,
// and none of the nodes waits for it, not even once it has died.
func TestOperationsWithoutClients(t *testing.T) {
	keys := [][]byte{[]byte("a key of the cluster, of 32 bytes")}
	f := newFleet(t, 2, time.Second)
	plane, err := redisplane.New(redisplane.Options{
		URL: f.nodes[0].proxy.URL(), Keys: keys, WithoutClients: true, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plane.Close() })
	asker, _ := serve(t, &remote{}, WithBackplane(plane), WithClusterKeys(keys...))
	await.Until(t, "the program hears", plane.Healthy)

	crew := f.crew("ada")
	last := crew[len(crew)-1]
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, test := range []struct {
		what  string
		found func() (bool, error)
		want  bool
	}{
		{"a user", func() (bool, error) { return asker.UserExists(t.Context(), "ada") }, true},
		{"another user", func() (bool, error) { return asker.UserExists(t.Context(), "bob") }, false},
		{"a connection", func() (bool, error) { return asker.ConnectionExists(t.Context(), last.id) }, true},
		{"another connection", func() (bool, error) { return asker.ConnectionExists(t.Context(), "none") }, false},
	} {
		if found, err := test.found(); err != nil || found != test.want {
			t.Errorf("%s exists: %v, %v", test.what, found, err)
		}
	}
	check("add user", asker.Groups().AddUser(t.Context(), "ada", "room"))
	check("send", asker.Clients().Group("room").Send(t.Context(), "Heard", "to all of ada"))
	check("remove connection", asker.Groups().Remove(t.Context(), last.id, "room"))
	check("send", asker.Clients().Group("room").Send(t.Context(), "Heard", "but the last"))
	check("remove user", asker.Groups().RemoveUser(t.Context(), "ada", "room"))
	check("send", asker.Clients().Group("room").Send(t.Context(), "Heard", "nobody's"))
	check("send", asker.Clients().User("ada").Send(t.Context(), "Heard", "end"))
	for _, s := range crew {
		want := []string{"to all of ada", "but the last", "end"}
		if s == last {
			want = slices.Delete(want, 1, 2)
		}
		s.expect(t, want...)
	}

	if err := last.On("Name", func() string { return "the last" }); err != nil {
		t.Fatal(err)
	}
	name, err := Invoke[string](t.Context(), asker.Clients().Client(last.id), "Name")
	if check("ask a client", err); name != "the last" {
		t.Errorf("it answers %q", name)
	}
	if found, err := f.nodes[0].UserExists(t.Context(), "bob"); found || err != nil {
		t.Errorf("a node that asks, with the program there: %v, %v", found, err)
	}
	check("close user", asker.CloseUser(t.Context(), "ada"))
	for _, s := range crew {
		select {
		case <-s.Done():
		case <-time.After(await.Deadline):
			t.Fatal("a connection of the user was not closed")
		}
	}

	if err := asker.attachment.Subscribe(backplane.User("ada"))(t.Context()); !errors.Is(err, backplane.ErrUnavailable) {
		t.Errorf("subscribed: %v", err)
	}
}
