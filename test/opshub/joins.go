package main

import (
	"context"
	"strings"
	"time"

	"github.com/heliograph/heliograph/pkg/hub"
)

// brief is how long memberships of brief groups last.
const brief = time.Second

// admit is the join authorizer. What a group is for is what its name begins with.
func admit(ctx context.Context, c *hub.Caller, group string) (until time.Time, err error) {
	kind, _, _ := strings.Cut(group, ":")
	switch kind {
	case "private":
		if !c.Claims().Has("clearance", "private") {
			return until, &hub.Error{Message: group + " is private"}
		}
	case "brief":
		return time.Now().Add(brief), nil
	case "asked": // the client itself has to confirm
		sure, err := hub.Invoke[bool](ctx, c.Clients().Caller(), "MayJoin", group)
		if err == nil && !sure {
			err = &hub.Error{Message: "you did not want to join " + group}
		}
		return until, err
	}
	return until, nil
}

// Join makes the caller a member of a group.
func (*operations) Join(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

// JoinFor makes the caller a member of a group for so many milliseconds.
func (*operations) JoinFor(ctx context.Context, c *hub.Caller, group string, milliseconds int64) error {
	end := time.Now().Add(time.Duration(milliseconds) * time.Millisecond)
	return c.Groups().Add(ctx, c.ConnectionID(), group, hub.Until(end))
}

// JoinWhileSignedIn makes the caller a member of a group until its token expires.
func (*operations) JoinWhileSignedIn(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group, hub.UntilCredentialsExpire(c))
}

// Bring makes another connection a member of a group that the caller may join.
func (*operations) Bring(ctx context.Context, c *hub.Caller, connectionID, group string) error {
	return c.Groups().Add(ctx, connectionID, group)
}

// BringUser makes the connections of a user members of a group that the caller may join.
func (*operations) BringUser(ctx context.Context, c *hub.Caller, user, group string) error {
	return c.Groups().AddUser(ctx, user, group)
}
