//go:build !linux

package main

import (
	"context"
	"time"
)

// A pacer waits for moments, as exactly as the run-time's timers do. It belongs to one
// goroutine.
type pacer struct{ ctx context.Context }

// newPacer makes a pacer that is to be closed. Its waits end when ctx does.
func newPacer(ctx context.Context) (*pacer, error) { return &pacer{ctx}, nil }

// wait returns nil at that time, or at once if it is past, and the context's error
// when that ends first.
func (p *pacer) wait(due time.Time) error { return wait(p.ctx, due) }

func (p *pacer) close() {}
