package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// Groups changes which groups connections belong to. A group is there while it has
// members; nobody has to make or delete it. Any name will do, the empty one too; it
// is limited by [WithMaximumNameBytes].
type Groups struct {
	hub    *Hub
	caller *Caller // on whose behalf; nil if that is no client's
}

// A MembershipOption adjusts a membership that is about to begin.
type MembershipOption func(*membershipOptions)

type membershipOptions struct {
	expires time.Time
}

// Until ends the membership at t, unless it is extended by then: adding the connection
// again sets another end, or none.
func Until(t time.Time) MembershipOption {
	return func(o *membershipOptions) { o.expires = earlier(o.expires, t) }
}

// UntilCredentialsExpire ends the membership when the caller's credentials do. If they
// do not, neither does it.
func UntilCredentialsExpire(c *Caller) MembershipOption { return Until(c.Identity().Expires) }

// earlier returns the earlier of two times, of which zero is the latest.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// operation asks for a membership of the target, with these options.
func (o membershipOptions) operation(kind backplane.TargetKind, target, group string) backplane.Operation {
	op := backplane.Operation{Kind: backplane.OpAddToGroup, TargetKind: kind, Target: target, Group: group}
	if !o.expires.IsZero() {
		op.Expires = uint64(o.expires.UnixMilli())
	}
	return op
}

// Add makes a connection, on whatever node it is, a member of the group. When it has
// returned nil the membership is in force in the whole cluster: whatever is sent to the
// group from then on, by any node, reaches the connection. Adding a member again
// changes nothing but when the membership ends.
//
// Without access to the backplane it fails, after the backplane's subscribe time-out
// at the latest, and the connection is no member. It fails with [ErrNoConnection] if
// there is no such connection (any more), with [backplane.ErrUnavailable] if that cannot
// be known, with [ErrNameTooLong], with [ErrRemoved] if it was removed meanwhile, with
// [ErrExpired] if the membership would have ended before it began, and with what the
// [JoinAuthorizer] says, which is asked if Add is called on a [Caller]'s behalf.
func (g Groups) Add(ctx context.Context, connectionID, group string, options ...MembershipOption) error {
	if err := g.add(ctx, connectionID, group, options); err != nil {
		return fmt.Errorf("add connection to group: %w", err)
	}
	return nil
}

func (g Groups) add(ctx context.Context, connectionID, group string, options []MembershipOption) error {
	if err := g.hub.checkName("group name", group); err != nil {
		return err
	}
	c := g.hub.registry.connection(connectionID)
	if c == nil {
		return g.addElsewhere(ctx, backplane.TargetConnection, connectionID, group, options)
	}
	j := c.beginJoin(group) // before anybody is asked, so that a removal meanwhile is not overtaken
	defer c.endJoin(j)
	o, err := g.authorize(ctx, group, options)
	if err != nil {
		return err
	}
	return c.joinGroup(ctx, j, o.expires)
}

// addElsewhere adds connections that are, or may be, on other nodes. Where somebody is
// asked about it, it is begun there before.
func (g Groups) addElsewhere(ctx context.Context, kind backplane.TargetKind, target, group string, options []MembershipOption) error {
	if g.hub.joinAuthorizer == nil || g.caller == nil {
		o, err := g.authorize(ctx, group, options)
		if err != nil {
			return err
		}
		if kind == backplane.TargetConnection {
			return g.hub.atConnection(ctx, o.operation(kind, target, group))
		}
		_, err = g.hub.everywhere(ctx, o.operation(kind, target, group))
		return err
	}
	j, err := g.hub.beginRemoteJoin(ctx, kind, target, group)
	if err != nil {
		return err
	}
	committed := false
	defer func() { j.end(committed) }()
	o, err := g.authorize(ctx, group, options)
	if err != nil {
		return err
	}
	err = j.commit(ctx, o.operation(kind, target, group))
	committed = err == nil
	return err
}

// authorize returns how the membership may be.
func (g Groups) authorize(ctx context.Context, group string, options []MembershipOption) (o membershipOptions, err error) {
	for _, option := range options {
		option(&o)
	}
	if authorizer := g.hub.joinAuthorizer; authorizer != nil && g.caller != nil {
		expires, err := authorizer(ctx, g.caller, group)
		if err != nil {
			return o, err
		}
		o.expires = earlier(o.expires, expires)
	}
	if !o.expires.IsZero() && !o.expires.After(time.Now()) {
		return o, ErrExpired
	}
	return o, nil
}

// A JoinAuthorizer decides whether a client may join a group, or have another
// connection join it: see [WithJoinAuthorizer]. An error refuses it; an [*Error] says
// why to the client. A time that is not zero is when the membership ends at the latest.
// It is called concurrently.
//
// The join has begun by then, on every node on which it will take effect: a removal while
// the authorizer thinks, asked for by any node, cancels it. So it is called after a
// connection has been found, and after all nodes have answered where a user is to be added.
type JoinAuthorizer func(ctx context.Context, caller *Caller, group string) (expires time.Time, err error)

// WithJoinAuthorizer asks a about each Add that is made on behalf of a client, that is
// through [Caller.Groups]. The default is to ask nobody: groups by themselves keep
// nobody out, so whoever may invoke a method that joins a group may join it.
func WithJoinAuthorizer(a JoinAuthorizer) Option {
	return func(c *config) error {
		if a == nil {
			return errors.New("join authorizer is nil")
		}
		c.joinAuthorizer = a
		return nil
	}
}

// Remove ends a membership, of a connection on whatever node it is. Nothing that is
// sent to the group after it has returned reaches the connection. Removing one that is
// no member changes nothing. It fails as Add does, [ErrRemoved] and [ErrExpired] aside.
func (g Groups) Remove(ctx context.Context, connectionID, group string) error {
	err := g.hub.checkName("group name", group)
	if err == nil {
		o := backplane.Operation{Kind: backplane.OpRemove, TargetKind: backplane.TargetConnection, Target: connectionID, Group: group}
		err = g.hub.atConnection(ctx, o)
	}
	if err != nil {
		return fmt.Errorf("remove connection from group: %w", err)
	}
	return nil
}

func (h *Hub) checkName(what, name string) error {
	if len(name) > h.maxName {
		return fmt.Errorf("%w: %s has %d bytes, limit %d", ErrNameTooLong, what, len(name), h.maxName)
	}
	return nil
}
