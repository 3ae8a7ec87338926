package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/auth"
)

// The application is told of all nodes that died, in order and one at a time, even if it
// takes its time, panics or ends the goroutine. Who brings the news does not wait for it.
func TestNodeDied(t *testing.T) {
	release := make(chan struct{})
	told := make(chan string, 5)
	h, _ := serve(t, panicking{}, WithNodeDied(func(node string) {
		told <- node
		switch node {
		case "1":
			<-release
		case "2":
			panic("node died")
		case "3":
			runtime.Goexit()
		}
	}))
	var died []string
	for n := range 5 {
		died = append(died, fmt.Sprint(n+1))
		receiver{h}.NodeDied(died[n])
	}
	close(release)
	var got []string
	for range died {
		select {
		case node := <-told:
			got = append(got, node)
		case <-time.After(deadline):
			t.Fatalf("told of %q alone", got)
		}
	}
	if !slices.Equal(got, died) {
		t.Errorf("told of %q, want %q", got, died)
	}
}

// Nodes of which nobody can be told do not pile up, and Shutdown does not wait for the
// application for longer than its context allows.
func TestNodeDiedFunctionThatBlocks(t *testing.T) {
	release, called := make(chan struct{}), make(chan struct{}, maxDeaths+2)
	h, err := New(panicking{}, WithLogger(slog.New(slog.DiscardHandler)), WithNodeDied(func(string) {
		called <- struct{}{}
		<-release
	}))
	if err != nil {
		t.Fatal(err)
	}
	receiver{h}.NodeDied("first")
	<-called
	for range maxDeaths + 1 {
		receiver{h}.NodeDied("another")
	}
	if n := len(h.deaths.pending); n != maxDeaths {
		t.Errorf("%d are remembered, want %d", n, maxDeaths)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	close(release)
	h.deaths.telling.Wait()
	if len(called) != 0 {
		t.Error("told of nodes after the hub was shut down")
	}
}

// A user identifier function that panics refuses the connection, and leaves nothing.
func TestUserIdentifierPanics(t *testing.T) {
	h, address := serve(t, panicking{}, WithUserIdentifier(func(*http.Request, *auth.Identity) string { panic("identifier") }))
	conn, _, err := websocket.DefaultDialer.Dial(address, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(deadline))
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("got %v, want the connection to be closed", err)
	}
	await.Until(t, "nothing is left", func() error {
		return waitFor(t.Context(), &h.work.WaitGroup)
	})
}
