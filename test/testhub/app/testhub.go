package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// testHub has a method for everything that a hub can do. Those that send, those that
// change groups and those that stream are in other files.
type testHub struct {
	infinite atomic.Int32 // streams of Infinite that run
}

var (
	_ hub.ConnectedHandler    = (*testHub)(nil)
	_ hub.DisconnectedHandler = (*testHub)(nil)
)

// OnConnected refuses the user reject-me.
func (*testHub) OnConnected(_ context.Context, c *hub.Caller) error {
	if c.UserIdentifier() == "reject-me" {
		return errors.New("this user is always rejected")
	}
	return nil
}

// OnDisconnected tells those who watch the connection.
func (*testHub) OnDisconnected(ctx context.Context, c *hub.Caller, _ error) error {
	id := c.ConnectionID()
	return c.Clients().Group(watchers(id)).Send(ctx, "Disconnected", id)
}

// Echo returns its argument as it came.
func (*testHub) Echo(_ context.Context, _ *hub.Caller, value protocol.Raw) protocol.Raw { return value }

// EchoInt64 returns its argument.
func (*testHub) EchoInt64(_ context.Context, _ *hub.Caller, n int64) int64 { return n }

// Add returns the sum, which wraps around.
func (*testHub) Add(_ context.Context, _ *hub.Caller, a, b int32) int32 { return a + b }

// Nothing does nothing.
func (*testHub) Nothing(context.Context, *hub.Caller) {}

// MakeString returns n times the letter x.
func (*testHub) MakeString(_ context.Context, _ *hub.Caller, n int32) (string, error) {
	if n < 0 {
		return "", fmt.Errorf("no string has length %d", n)
	}
	return strings.Repeat("x", int(n)), nil
}

// ThrowError fails with an error whose text is not for clients.
func (*testHub) ThrowError(_ context.Context, _ *hub.Caller, message string) error {
	return errors.New(message)
}

// ThrowHubError fails with an error that the caller may read.
func (*testHub) ThrowHubError(_ context.Context, _ *hub.Caller, message string) error {
	return &hub.Error{Message: message}
}

// Slow takes ms milliseconds.
func (*testHub) Slow(ctx context.Context, _ *hub.Caller, ms int32) (string, error) {
	if !pause(ctx, ms) {
		return "", ctx.Err()
	}
	return "done", nil
}

// Admin is for those with the role admin, which is asked for where the hub is made.
func (*testHub) Admin(context.Context, *hub.Caller) string { return "ok" }

// An identification is what WhoAmI returns.
type identification struct {
	ConnectionID string  `json:"connectionId"`
	UserID       *string `json:"userId"` // nil: no user
}

// WhoAmI tells the caller who it is.
func (*testHub) WhoAmI(_ context.Context, c *hub.Caller) identification {
	who := identification{ConnectionID: c.ConnectionID()}
	if user := c.UserIdentifier(); user != "" {
		who.UserID = &user
	}
	return who
}

// Claim returns the first value of a claim in the caller's token, nil if there is none.
func (*testHub) Claim(_ context.Context, c *hub.Caller, claimType string) *string {
	value, ok := c.Claims().First(claimType)
	if !ok {
		return nil
	}
	return &value
}

// AskClient asks a connection and returns its answer, or its error.
func (*testHub) AskClient(ctx context.Context, c *hub.Caller, connectionID, question string) (string, error) {
	return hub.Invoke[string](ctx, c.Clients().Client(connectionID), "Answer", question)
}

// Abort ends the caller's connection.
func (*testHub) Abort(_ context.Context, c *hub.Caller) { c.Abort() }
