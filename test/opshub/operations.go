package main

import (
	"context"
	"iter"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
)

// operations is the hub of those who look after others' connections, and of those whom
// they look after. Methods of the former require the role operator.
type operations struct {
	hub        *hub.Hub // set before anybody is served
	plane      backplane.Backplane
	production production
}

func newOperations(plane backplane.Backplane, shared []hub.Option) (*hub.Hub, error) {
	o := &operations{plane: plane}
	options := append(shared[:len(shared):len(shared)],
		hub.WithName("ops"),
		hub.WithJoinAuthorizer(admit),
		hub.WithFilter(countCalls()),
		hub.WithFilter(explainErrors()),
		hub.WithFilter(watchDoor()),
		hub.WithMethod("Say", hub.FilteredBy(censor(1))),
		hub.WithMethod("WhoAmI", hub.Named("who am I")))
	for _, method := range []string{
		"AddUser", "RemoveUser", "RemoveUserFromAll", "RemoveFromAll",
		"CloseConnection", "CloseUser", "CloseGroup",
		"ConnectionExists", "UserExists", "GroupExists",
	} {
		options = append(options, hub.WithMethod(method, hub.Requires(auth.Role("operator"))))
	}
	var err error
	o.hub, err = hub.New(o, options...)
	return o.hub, err
}

// AddUser makes the connections of a user members of a group.
func (o *operations) AddUser(ctx context.Context, _ *hub.Caller, user, group string) error {
	return o.hub.Groups().AddUser(ctx, user, group)
}

// RemoveUser ends a user's memberships of a group.
func (o *operations) RemoveUser(ctx context.Context, _ *hub.Caller, user, group string) error {
	return o.hub.Groups().RemoveUser(ctx, user, group)
}

// RemoveUserFromAll ends all memberships of a user.
func (o *operations) RemoveUserFromAll(ctx context.Context, _ *hub.Caller, user string) error {
	return o.hub.Groups().RemoveUserFromAll(ctx, user)
}

// RemoveFromAll ends all memberships of a connection.
func (o *operations) RemoveFromAll(ctx context.Context, _ *hub.Caller, connectionID string) error {
	return o.hub.Groups().RemoveFromAll(ctx, connectionID)
}

// CloseConnection closes a connection. An empty reason is none.
func (o *operations) CloseConnection(ctx context.Context, _ *hub.Caller, connectionID, reason string, allowReconnect bool) error {
	return o.hub.CloseConnection(ctx, connectionID, how(reason, allowReconnect)...)
}

// CloseUser closes the connections of a user.
func (o *operations) CloseUser(ctx context.Context, _ *hub.Caller, user, reason string, allowReconnect bool) error {
	return o.hub.CloseUser(ctx, user, how(reason, allowReconnect)...)
}

// CloseGroup closes the connections of a group's members.
func (o *operations) CloseGroup(ctx context.Context, _ *hub.Caller, group, reason string, allowReconnect bool) error {
	return o.hub.CloseGroup(ctx, group, how(reason, allowReconnect)...)
}

func how(reason string, allowReconnect bool) []hub.CloseOption {
	var options []hub.CloseOption
	if reason != "" {
		options = append(options, hub.Reason(reason))
	}
	if allowReconnect {
		options = append(options, hub.AllowReconnect())
	}
	return options
}

// ConnectionExists returns whether there is such a connection.
func (o *operations) ConnectionExists(ctx context.Context, _ *hub.Caller, connectionID string) (bool, error) {
	return o.hub.ConnectionExists(ctx, connectionID)
}

// UserExists returns whether the user has a connection.
func (o *operations) UserExists(ctx context.Context, _ *hub.Caller, user string) (bool, error) {
	return o.hub.UserExists(ctx, user)
}

// GroupExists returns whether the group has a member.
func (o *operations) GroupExists(ctx context.Context, _ *hub.Caller, group string) (bool, error) {
	return o.hub.GroupExists(ctx, group)
}

// Node returns the id of the node that the caller is connected to.
func (o *operations) Node(context.Context, *hub.Caller) string { return o.plane.NodeID() }

// WhoAmI returns the caller's user. Clients know it as "who am I".
func (*operations) WhoAmI(_ context.Context, c *hub.Caller) string { return c.UserIdentifier() }

// Calls returns how many invocations of the caller have begun, this one included.
func (*operations) Calls(_ context.Context, c *hub.Caller) int64 { return callsOf(c).Load() }

// SendAll sends to every connection.
func (*operations) SendAll(ctx context.Context, c *hub.Caller, text string) error {
	return c.Clients().All().Send(ctx, message, text)
}

// SendGroup sends to the members of a group.
func (*operations) SendGroup(ctx context.Context, c *hub.Caller, group, text string) error {
	return c.Clients().Group(group).Send(ctx, message, text)
}

// Say sends to the members of a group, in decent words.
func (*operations) Say(ctx context.Context, c *hub.Caller, group, text string) error {
	return c.Clients().Group(group).Send(ctx, message, text)
}

// Follow streams the name of the group and then nothing, until the caller cancels it.
// The group is told of either.
func (*operations) Follow(ctx context.Context, c *hub.Caller, group string) (iter.Seq[string], error) {
	followed := c.Clients().Group(group)
	if err := followed.Send(ctx, message, "following "+group); err != nil {
		return nil, err
	}
	return func(yield func(string) bool) {
		if yield(group) {
			<-ctx.Done()
		}
		// What ends the stream ends its context; and nobody is left to hear of an error.
		_ = followed.Send(context.WithoutCancel(ctx), message, "no longer following "+group)
	}, nil
}

// message is the client method that hubs invoke.
const message = "Message"
