package app

import (
	"context"
	"time"

	"github.com/heliograph/heliograph/pkg/hub"
)

// message is the client method that the sends below invoke.
const message = "Message"

// SendAll sends to every connection.
func (*testHub) SendAll(ctx context.Context, c *hub.Caller, text string) error {
	return c.Clients().All().Send(ctx, message, text)
}

// SendAllExcept sends to every connection but those with the ids.
func (*testHub) SendAllExcept(ctx context.Context, c *hub.Caller, ids []string, text string) error {
	return c.Clients().AllExcept(ids...).Send(ctx, message, text)
}

// SendOthers sends to every connection but the caller's.
func (*testHub) SendOthers(ctx context.Context, c *hub.Caller, text string) error {
	return c.Clients().Others().Send(ctx, message, text)
}

// SendCaller sends to the caller's connection.
func (*testHub) SendCaller(ctx context.Context, c *hub.Caller, text string) error {
	return c.Clients().Caller().Send(ctx, message, text)
}

// SendClient sends to one connection.
func (*testHub) SendClient(ctx context.Context, c *hub.Caller, id, text string) error {
	return c.Clients().Client(id).Send(ctx, message, text)
}

// SendClients sends to several connections.
func (*testHub) SendClients(ctx context.Context, c *hub.Caller, ids []string, text string) error {
	return c.Clients().Clients(ids...).Send(ctx, message, text)
}

// SendGroup sends to the members of a group.
func (*testHub) SendGroup(ctx context.Context, c *hub.Caller, group, text string) error {
	return c.Clients().Group(group).Send(ctx, message, text)
}

// SendGroups sends to the members of several groups.
func (*testHub) SendGroups(ctx context.Context, c *hub.Caller, groups []string, text string) error {
	return c.Clients().Groups(groups...).Send(ctx, message, text)
}

// SendGroupExcept sends to the members of a group but the connections with the ids.
func (*testHub) SendGroupExcept(ctx context.Context, c *hub.Caller, group string, ids []string, text string) error {
	return c.Clients().GroupExcept(group, ids...).Send(ctx, message, text)
}

// SendOthersInGroup sends to the members of a group but the caller.
func (*testHub) SendOthersInGroup(ctx context.Context, c *hub.Caller, group, text string) error {
	return c.Clients().OthersInGroup(group).Send(ctx, message, text)
}

// SendUser sends to all connections of a user.
func (*testHub) SendUser(ctx context.Context, c *hub.Caller, user, text string) error {
	return c.Clients().User(user).Send(ctx, message, text)
}

// SendUsers sends to all connections of several users.
func (*testHub) SendUsers(ctx context.Context, c *hub.Caller, users []string, text string) error {
	return c.Clients().Users(users...).Send(ctx, message, text)
}

// Relay sends an item to one connection, in the form of that connection's protocol.
func (*testHub) Relay(ctx context.Context, c *hub.Caller, id string, item Item) error {
	item.toUTC()
	return c.Clients().Client(id).Send(ctx, "Item", item)
}

// An Item has a value of each kind whose form differs between the hub protocols.
type Item struct {
	Name  string    `json:"name"`
	Count int32     `json:"count"`
	Data  []byte    `json:"data"`
	When  time.Time `json:"when"`
	Tags  []string  `json:"tags"`
	Inner *Item     `json:"inner"`
}

// toUTC forgets the offsets in which the sender wrote its times.
func (i *Item) toUTC() {
	for ; i != nil; i = i.Inner {
		i.When = i.When.UTC()
	}
}
