package app

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/heliograph/heliograph/pkg/hub"
)

// Counter streams the numbers below count, with a pause before each.
func (*testHub) Counter(ctx context.Context, _ *hub.Caller, count, delayMs int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		for i := range count {
			if !pause(ctx, delayMs) || !yield(i) {
				return
			}
		}
	}
}

// Infinite streams numbers for as long as anybody wants them.
func (h *testHub) Infinite(ctx context.Context, _ *hub.Caller, delayMs int32) iter.Seq[int32] {
	return func(yield func(int32) bool) {
		h.infinite.Add(1)
		defer h.infinite.Add(-1)
		for i := int32(0); pause(ctx, delayMs) && yield(i); i++ {
		}
	}
}

// RunningStreams returns how many streams of Infinite run on this node.
func (h *testHub) RunningStreams(context.Context, *hub.Caller) int32 { return h.infinite.Load() }

// FailingStream streams the numbers below count, and then fails.
func (*testHub) FailingStream(_ context.Context, _ *hub.Caller, count int32, hubError bool, message string) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		for i := range count {
			if !yield(i, nil) {
				return
			}
		}
		if hubError {
			yield(0, &hub.Error{Message: message})
		} else {
			yield(0, errors.New(message))
		}
	}
}

// Sum returns the sum of what the client uploads.
func (*testHub) Sum(_ context.Context, _ *hub.Caller, items iter.Seq2[int32, error]) (int32, error) {
	var sum int32
	for item, err := range items {
		if err != nil {
			return 0, err // if it is the client's, the client reads it
		}
		sum += item
	}
	return sum, nil
}

// Doubled streams back what the client uploads, times two.
func (*testHub) Doubled(_ context.Context, _ *hub.Caller, items iter.Seq2[int32, error]) iter.Seq2[int32, error] {
	return func(yield func(int32, error) bool) {
		for item, err := range items {
			if !yield(2*item, err) {
				return
			}
		}
	}
}

// pause reports whether it ended before the context did.
func pause(ctx context.Context, ms int32) bool {
	if ms <= 0 {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}
