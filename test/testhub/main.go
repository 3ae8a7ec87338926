// Command testhub is one node of a cluster for black-box tests: three hubs whose
// methods let a client try everything that a hub can do. It is written like any
// server of a hub's author, and nothing in it knows of a test.
//
// It is configured by environment variables alone (see settings). When it is ready it
// prints "listening on http://ADDRESS". It ends with status 2 if it was told nonsense,
// with 1 if it failed, and with 0 after SIGTERM or an interrupt; a second signal ends
// it at once.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/heliograph/heliograph/pkg/server"
	"github.com/heliograph/heliograph/test/testhub/app"
)

func main() { os.Exit(run(os.Getenv, os.Stdout, os.Stderr)) }

// run is main with its surroundings as arguments. It returns the exit status.
func run(getenv func(string) string, stdout, stderr io.Writer) int {
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	s, err := readSettings(getenv)
	if err != nil {
		fmt.Fprintln(stderr, "testhub:", err)
		return 2
	}
	s.app.Logger = logger
	a, err := app.New(s.app)
	if err != nil {
		fmt.Fprintln(stderr, "testhub:", err)
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // gives the second signal back its usual effect
	err = server.Run(ctx, server.Config{
		Listen:        s.listen,
		Handler:       a.Handler,
		Hubs:          a.Hubs(),
		Backplane:     a.Backplane,
		Peers:         a.Peers,
		PeerListen:    s.internalListen,
		DrainDelay:    s.drainDelay,
		DrainDuration: s.drainDuration,
		Logger:        logger,
		Listening:     func(public, _ net.Addr) { fmt.Fprintf(stdout, "listening on http://%s\n", public) },
	})
	if err != nil {
		fmt.Fprintln(stderr, "testhub:", err)
		return 1
	}
	return 0
}
