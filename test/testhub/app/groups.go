package app

import (
	"context"

	"github.com/heliograph/heliograph/pkg/hub"
)

// JoinGroup adds the caller to a group.
func (*testHub) JoinGroup(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

// LeaveGroup removes the caller from a group.
func (*testHub) LeaveGroup(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Remove(ctx, c.ConnectionID(), group)
}

// AddConnection adds any connection to a group.
func (*testHub) AddConnection(ctx context.Context, c *hub.Caller, id, group string) error {
	return c.Groups().Add(ctx, id, group)
}

// RemoveConnection removes any connection from a group.
func (*testHub) RemoveConnection(ctx context.Context, c *hub.Caller, id, group string) error {
	return c.Groups().Remove(ctx, id, group)
}

// Watch lets the caller know when a connection ends.
func (*testHub) Watch(ctx context.Context, c *hub.Caller, connectionID string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), watchers(connectionID))
}

// watchers is the group of those who want to know when a connection ends.
func watchers(connectionID string) string { return "$watch:" + connectionID }
