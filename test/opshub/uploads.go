package main

import (
	"context"
	"iter"

	"github.com/heliograph/heliograph/pkg/hub"
)

// Zip streams pairs of what two streams bring, with a separator between the two, until
// either stream ends.
func (*operations) Zip(_ context.Context, _ *hub.Caller, separator string, left, right iter.Seq2[string, error]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		next, stop := iter.Pull2(right)
		defer stop()
		for l, err := range left {
			if err != nil {
				yield("", err)
				return
			}
			r, err, ok := next()
			if !ok || !yield(l+separator+r, err) {
				return
			}
		}
	}
}

// Weigh returns the sum of two streams, the second one times the weight. It looks at
// the second when the first has ended.
func (*operations) Weigh(_ context.Context, _ *hub.Caller, first iter.Seq2[int64, error], weight int64, second iter.Seq2[int64, error]) (int64, error) {
	var sum int64
	for _, stream := range []struct {
		items  iter.Seq2[int64, error]
		weight int64
	}{{first, 1}, {second, weight}} {
		for item, err := range stream.items {
			if err != nil {
				return 0, err
			}
			sum += stream.weight * item
		}
	}
	return sum, nil
}
