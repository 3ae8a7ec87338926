package hub

import (
	"context"
	"fmt"
)

// Groups changes which groups connections belong to. A group is there while it has
// members; nobody has to make or delete it. Any name will do, the empty one too; it
// is limited by [WithMaximumNameBytes].
type Groups struct{ hub *Hub }

// Add makes a connection of this node a member of the group. When it has returned nil
// the membership is in force in the whole cluster: whatever is sent to the group from
// then on, by any node, reaches the connection. Adding a member again changes
// nothing.
//
// Without access to the backplane it fails, after the backplane's subscribe time-out
// at the latest, and the connection is no member. It fails with [ErrNoConnection] if
// this node does not hold the connection (any more), and with [ErrNameTooLong].
func (g Groups) Add(ctx context.Context, connectionID, group string) error {
	c, err := g.find(connectionID, group)
	if err == nil {
		err = c.joinGroup(ctx, group)
	}
	if err != nil {
		return fmt.Errorf("add connection to group: %w", err)
	}
	return nil
}

// Remove ends a membership. Nothing that is sent to the group after it has returned
// reaches the connection. Removing one that is no member changes nothing. It fails
// with [ErrNoConnection] and [ErrNameTooLong].
func (g Groups) Remove(_ context.Context, connectionID, group string) error {
	c, err := g.find(connectionID, group)
	if err != nil {
		return fmt.Errorf("remove connection from group: %w", err)
	}
	c.leaveGroup(group)
	return nil
}

func (g Groups) find(connectionID, group string) (*connection, error) {
	if err := g.hub.checkName("group name", group); err != nil {
		return nil, err
	}
	c := g.hub.registry.connection(connectionID)
	if c == nil {
		return nil, ErrNoConnection
	}
	return c, nil
}

func (h *Hub) checkName(what, name string) error {
	if len(name) > h.maxName {
		return fmt.Errorf("%w: %s has %d bytes, limit %d", ErrNameTooLong, what, len(name), h.maxName)
	}
	return nil
}
