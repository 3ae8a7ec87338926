package hub_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heliograph/heliograph/pkg/hub"
)

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
