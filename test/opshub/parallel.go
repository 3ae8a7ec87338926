package main

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/heliograph/heliograph/pkg/hub"
)

// parallel is a hub whose clients have two invocations run at a time.
type parallel struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed, and removed, by Release
}

func newParallel(shared []hub.Option) (*hub.Hub, error) {
	return hub.New(&parallel{held: make(map[string]chan struct{})}, append(shared[:len(shared):len(shared)],
		hub.WithName("parallel"),
		hub.WithChannelPrefix("parallel/"),
		hub.WithMaximumParallelInvocationsPerClient(2))...)
}

// Hold returns when somebody who is connected to this node has released the name.
func (p *parallel) Hold(ctx context.Context, c *hub.Caller, name string) error {
	released, err := p.hold(name)
	if err != nil {
		return err
	}
	if err := c.Clients().Caller().Send(ctx, message, "holding "+name); err != nil {
		return err
	}
	select {
	case <-released:
		return nil
	case <-ctx.Done():
		return p.Release(ctx, c, name)
	}
}

func (p *parallel) hold(name string) (released <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, taken := p.held[name]; taken {
		return nil, &hub.Error{Message: name + " is held already"}
	}
	gate := make(chan struct{})
	p.held[name] = gate
	return gate, nil
}

// Release lets the holder of the name go on.
func (p *parallel) Release(_ context.Context, _ *hub.Caller, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	gate, taken := p.held[name]
	if !taken {
		return &hub.Error{Message: "nobody holds " + name}
	}
	close(gate)
	delete(p.held, name)
	return nil
}

// Held streams the names that are held.
func (p *parallel) Held(context.Context, *hub.Caller) <-chan string {
	p.mu.Lock()
	names := slices.Sorted(maps.Keys(p.held))
	p.mu.Unlock()
	stream := make(chan string, len(names))
	for _, name := range names {
		stream <- name
	}
	close(stream)
	return stream
}

// Echo sends a text to the caller, and returns it.
func (*parallel) Echo(ctx context.Context, c *hub.Caller, text string) (string, error) {
	return text, c.Clients().Caller().Send(ctx, message, text)
}

// Length returns how many bytes a text has.
func (*parallel) Length(_ context.Context, _ *hub.Caller, text string) int { return len(text) }
