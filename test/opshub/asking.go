package main

import (
	"context"
	"time"

	"github.com/heliograph/heliograph/pkg/hub"
)

// OnConnected asks clients that are to introduce themselves who they are. That is too
// early: they cannot answer before it has returned.
func (*operations) OnConnected(ctx context.Context, c *hub.Caller) error {
	if !c.Claims().Has("introduce", "true") {
		return nil
	}
	_, err := hub.Invoke[string](ctx, c.Clients().Caller(), answer, "who are you?")
	return err
}

// Ask returns what another client answers within so many milliseconds.
func (*operations) Ask(ctx context.Context, c *hub.Caller, connectionID, question string, milliseconds int64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(milliseconds)*time.Millisecond)
	defer cancel()
	return hub.Invoke[string](ctx, c.Clients().Client(connectionID), answer, question)
}

// answer is the client method that answers questions.
const answer = "Answer"
