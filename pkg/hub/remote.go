package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A CloseOption says how connections are to be closed.
type CloseOption func(*backplane.Operation)

// Reason tells the client why, as the error of the Close message. The default is none.
func Reason(text string) CloseOption {
	return func(o *backplane.Operation) { o.Reason = text }
}

// AllowReconnect lets clients that reconnect by themselves do so. The default is that
// they do not.
func AllowReconnect() CloseOption {
	return func(o *backplane.Operation) { o.AllowReconnect = true }
}

// CloseConnection closes a connection, on whatever node it is. It returns once that has
// begun: nothing that the client sends later is looked at. It fails with
// [ErrNoConnection] if there is none, and with [backplane.ErrUnavailable] if that
// cannot be known, or if the connection's node did not answer in time.
func (h *Hub) CloseConnection(ctx context.Context, connectionID string, options ...CloseOption) error {
	err := h.atConnection(ctx, closeOperation(backplane.TargetConnection, connectionID, options))
	if err != nil {
		return fmt.Errorf("close connection: %w", err)
	}
	return nil
}

// CloseUser closes all connections of a user, on all nodes, as CloseConnection does
// one, those included that have not finished their handshake. That there are none is no error. An [UnansweredError] names nodes on which there
// may still be some.
func (h *Hub) CloseUser(ctx context.Context, user string, options ...CloseOption) error {
	if _, err := h.everywhere(ctx, closeOperation(backplane.TargetUser, user, options)); err != nil {
		return fmt.Errorf("close connections of user: %w", err)
	}
	return nil
}

// CloseGroup closes the connections of all members of a group, as CloseUser does those
// of a user.
func (h *Hub) CloseGroup(ctx context.Context, group string, options ...CloseOption) error {
	if _, err := h.everywhere(ctx, closeOperation(backplane.TargetGroup, group, options)); err != nil {
		return fmt.Errorf("close connections of group: %w", err)
	}
	return nil
}

func closeOperation(kind backplane.TargetKind, target string, options []CloseOption) backplane.Operation {
	o := backplane.Operation{Kind: backplane.OpClose, TargetKind: kind, Target: target}
	for _, option := range options {
		option(&o)
	}
	return o
}

// ConnectionExists reports whether any node has the connection. It fails with
// [backplane.ErrUnavailable] if that cannot be known.
func (h *Hub) ConnectionExists(ctx context.Context, connectionID string) (bool, error) {
	o := backplane.Operation{Kind: backplane.OpExists, TargetKind: backplane.TargetConnection, Target: connectionID}
	switch err := h.atConnection(ctx, o); {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrNoConnection):
		return false, nil
	default:
		return false, fmt.Errorf("look for connection: %w", err)
	}
}

// UserExists reports whether any node has a connection of the user.
func (h *Hub) UserExists(ctx context.Context, user string) (bool, error) {
	return h.exists(ctx, "user", backplane.TargetUser, user)
}

// GroupExists reports whether any node has a member of the group.
func (h *Hub) GroupExists(ctx context.Context, group string) (bool, error) {
	return h.exists(ctx, "group", backplane.TargetGroup, group)
}

func (h *Hub) exists(ctx context.Context, what string, kind backplane.TargetKind, target string) (bool, error) {
	o := backplane.Operation{Kind: backplane.OpExists, TargetKind: kind, Target: target}
	if len(h.targets(o)) > 0 {
		return true, nil
	}
	found, err := h.everywhere(ctx, o)
	if err != nil {
		return false, fmt.Errorf("look for %s: %w", what, err)
	}
	return found, nil
}

// AddUser makes all connections that a user has now, on all nodes, members of the group,
// as Add does one. Later connections of the user are no members. That there are none is
// no error. An [UnansweredError] names nodes on which it may not be in force.
//
// On a client's behalf, the [JoinAuthorizer] is asked about the client. It fails with
// [ErrRemoved] if some of the connections were removed meanwhile; others may be members.
func (g Groups) AddUser(ctx context.Context, user, group string, options ...MembershipOption) error {
	err := g.hub.checkName("group name", group)
	if err == nil {
		err = g.addElsewhere(ctx, backplane.TargetUser, user, group, options)
	}
	if err != nil {
		return fmt.Errorf("add user to group: %w", err)
	}
	return nil
}

// RemoveUser ends the memberships that connections of a user have in the group, on all
// nodes, joins that are under way included. When it has returned nil nothing that is
// sent to the group afterwards reaches the user. An [UnansweredError] names nodes of
// which that cannot be said.
func (g Groups) RemoveUser(ctx context.Context, user, group string) error {
	o := backplane.Operation{Kind: backplane.OpRemove, TargetKind: backplane.TargetUser, Target: user, Group: group}
	if _, err := g.hub.everywhere(ctx, o); err != nil {
		return fmt.Errorf("remove user from group: %w", err)
	}
	return nil
}

// RemoveUserFromAll ends all memberships of all connections of a user, as RemoveUser
// does those of one group.
func (g Groups) RemoveUserFromAll(ctx context.Context, user string) error {
	o := backplane.Operation{Kind: backplane.OpRemoveFromAll, TargetKind: backplane.TargetUser, Target: user}
	if _, err := g.hub.everywhere(ctx, o); err != nil {
		return fmt.Errorf("remove user from all groups: %w", err)
	}
	return nil
}

// RemoveFromAll ends all memberships of a connection, on whatever node it is, as Remove
// does one.
func (g Groups) RemoveFromAll(ctx context.Context, connectionID string) error {
	o := backplane.Operation{Kind: backplane.OpRemoveFromAll, TargetKind: backplane.TargetConnection, Target: connectionID}
	if err := g.hub.atConnection(ctx, o); err != nil {
		return fmt.Errorf("remove connection from all groups: %w", err)
	}
	return nil
}
