package app

import (
	"context"

	"github.com/heliograph/heliograph/pkg/hub"
)

// chat is the hub of SignalR's own sample of users and groups.
type chat struct{}

// AddToGroup makes the caller a member of the group, and tells the group.
func (chat) AddToGroup(ctx context.Context, c *hub.Caller, group string) error {
	if err := c.Groups().Add(ctx, c.ConnectionID(), group); err != nil {
		return err
	}
	return c.Clients().Group(group).Send(ctx, "Send", c.ConnectionID()+" has joined the group "+group+".")
}

// RemoveFromGroup ends the caller's membership, and tells the group.
func (chat) RemoveFromGroup(ctx context.Context, c *hub.Caller, group string) error {
	if err := c.Groups().Remove(ctx, c.ConnectionID(), group); err != nil {
		return err
	}
	return c.Clients().Group(group).Send(ctx, "Send", c.ConnectionID()+" has left the group "+group+".")
}

// SendToGroup sends to the members of the group.
func (chat) SendToGroup(ctx context.Context, c *hub.Caller, group, text string) error {
	return c.Clients().Group(group).Send(ctx, "Send", text)
}

// SendPrivateMessage sends to all connections of the user.
func (chat) SendPrivateMessage(ctx context.Context, c *hub.Caller, user, text string) error {
	return c.Clients().User(user).Send(ctx, "ReceiveMessage", text)
}
