package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/server"
)

// ownHub is what -self tests. It has the names that the flags default to, and tells a
// group nothing of who joins it, which would be most of the work while connecting.
type ownHub struct{}

// AddToGroup makes the caller a member of the group.
func (ownHub) AddToGroup(ctx context.Context, c *hub.Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

// SendToGroup sends the message to the members of the group.
func (ownHub) SendToGroup(ctx context.Context, c *hub.Caller, group, message string) error {
	return c.Clients().Group(group).Send(ctx, "Send", message)
}

// A cluster is nodes in this process, on free ports of the loopback interface.
type cluster struct {
	nodes []*url.URL // the addresses of their hubs
	leave context.CancelFunc
	run   sync.WaitGroup // the nodes, which leave ends

	mu   sync.Mutex // guards errs
	errs []error
}

// startCluster starts so many nodes, each with a hub of the value, on one in-process
// backplane. The cluster is ended with stop.
func startCluster(count int, value any) (*cluster, error) {
	ctx, leave := context.WithCancel(context.Background())
	c := &cluster{leave: leave}
	var bus backplane.Bus
	for range count {
		if err := c.start(ctx, bus.Join(), value); err != nil {
			return nil, errors.Join(err, c.stop())
		}
	}
	return c, nil
}

// start returns when the node listens, or has failed to.
func (c *cluster) start(ctx context.Context, plane backplane.Backplane, value any) error {
	logger := slog.New(slog.DiscardHandler)
	h, err := hub.New(value, hub.WithBackplane(plane), hub.WithLogger(logger))
	if err != nil {
		return errors.Join(err, plane.Close())
	}
	mux := http.NewServeMux()
	mux.Handle("/chat", h)
	mux.Handle("/chat/", h)
	listening := make(chan net.Addr, 1)
	c.run.Go(func() {
		defer close(listening)
		err := server.Run(ctx, server.Config{
			Listen:    "127.0.0.1:0",
			Handler:   mux,
			Hubs:      []*hub.Hub{h},
			Backplane: plane,
			Listening: func(public, _ net.Addr) { listening <- public },
			Logger:    logger,
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		c.errs = append(c.errs, err)
	})
	address, ok := <-listening
	if !ok {
		return errors.New("the node did not start") // stop says why
	}
	c.nodes = append(c.nodes, &url.URL{Scheme: "http", Host: address.String(), Path: "/chat"})
	return nil
}

// stop ends the nodes and waits for that.
func (c *cluster) stop() error {
	c.leave()
	c.run.Wait()
	if err := errors.Join(c.errs...); err != nil {
		return fmt.Errorf("run a node: %w", err)
	}
	return nil
}
