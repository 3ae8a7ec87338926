package main

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/heliograph/heliograph/pkg/hub"
)

// production is how far the streams of Produce are that run on this node.
type production struct {
	mu   sync.Mutex
	made map[string]int64 // by name
}

func (p *production) add(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.made == nil {
		p.made = make(map[string]int64)
	}
	p.made[name]++
}

func (p *production) end(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.made, name)
}

func (p *production) of(name string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made[name]
}

// Produce streams the numbers below count, each with zeros before it that make it so
// many bytes. The name is for Produced.
func (o *operations) Produce(_ context.Context, _ *hub.Caller, name string, count, bytes int) iter.Seq[string] {
	return func(yield func(string) bool) {
		defer o.production.end(name)
		for n := range count {
			o.production.add(name)
			if !yield(fmt.Sprintf("%0*d", bytes, n)) {
				return
			}
		}
	}
}

// Produced returns how many numbers a stream of Produce has made, on the caller's node;
// 0 if it does not run.
func (o *operations) Produced(_ context.Context, _ *hub.Caller, name string) int64 {
	return o.production.of(name)
}
