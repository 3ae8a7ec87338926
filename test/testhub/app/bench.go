package app

import (
	"context"
	"net/http"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/hub"
)

// bench is for load generators, which take no time to sign tokens.
type bench struct{}

// userParameter takes a client's word for who it is.
func userParameter(r *http.Request, _ *auth.Identity) string { return r.URL.Query().Get("user") }

// JoinGroup adds the caller to a group.
func (bench) JoinGroup(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

// SendToGroup sends to the members of a group.
func (bench) SendToGroup(ctx context.Context, c *hub.Caller, group, text string) error {
	return c.Clients().Group(group).Send(ctx, "message", text)
}

// SendToUser sends to all connections of a user.
func (bench) SendToUser(ctx context.Context, c *hub.Caller, user, text string) error {
	return c.Clients().User(user).Send(ctx, "message", text)
}

// Echo returns its argument.
func (bench) Echo(_ context.Context, _ *hub.Caller, text string) string { return text }
