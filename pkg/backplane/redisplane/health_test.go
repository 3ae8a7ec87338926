package redisplane

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		h := newHealth(slog.New(slog.NewTextHandler(&log, nil)))
		begin := time.Now()
		expect := func(gaps int, total time.Duration, words ...string) {
			t.Helper()
			if n, d := h.gaps(); n != gaps || d != total {
				t.Errorf("%d gaps of %v, want %d of %v", n, d, gaps, total)
			}
			err := h.check()
			if (err == nil) != (len(words) == 0) {
				t.Errorf("error is %v", err)
			}
			for _, word := range words {
				if err != nil && !strings.Contains(err.Error(), word) {
					t.Errorf("error is %v, want %s", err, word)
				}
			}
		}

		expect(0, 0, begin.Format(time.RFC3339), "not connected yet")
		time.Sleep(time.Minute)
		h.lost(errors.New("refused"))
		expect(0, 0, begin.Format(time.RFC3339), "refused")
		h.lost(errors.New("refused again"))
		h.hears()
		expect(0, 0)

		// Without doubt before, a gap begins with the loss.
		time.Sleep(time.Minute)
		lost := time.Now()
		h.lost(errors.New("reset"))
		time.Sleep(3 * time.Second)
		expect(1, 3*time.Second, lost.Format(time.RFC3339), "reset")
		h.lost(errors.New("refused"))
		time.Sleep(time.Second)
		expect(1, 4*time.Second, lost.Format(time.RFC3339), "refused")
		h.hears()
		h.hears()
		time.Sleep(time.Second)
		expect(1, 4*time.Second)

		// A doubt that was taken back is none; of several, the first counts.
		h.doubts(time.Now())
		h.trusts()
		time.Sleep(time.Second)
		doubt := time.Now()
		h.doubts(doubt)
		time.Sleep(time.Second)
		h.doubts(time.Now())
		expect(1, 4*time.Second)
		time.Sleep(time.Second)
		h.lost(errors.New("deaf"))
		expect(2, 6*time.Second, doubt.Format(time.RFC3339), "deaf")
		h.hears()
		time.Sleep(time.Second)
		h.lost(errors.New("reset"))
		expect(3, 6*time.Second, time.Now().Format(time.RFC3339))

		// What was published after the last proof may have been lost.
		h.hears()
		proof := time.Now()
		h.proven = func() time.Time { return proof }
		time.Sleep(time.Second)
		h.lost(errors.New("reset"))
		expect(4, 7*time.Second, proof.Format(time.RFC3339))

		time.Sleep(time.Second)
		h.close()
		if err := h.check(); !errors.Is(err, backplane.ErrClosed) {
			t.Errorf("error is %v", err)
		}
		time.Sleep(time.Second)
		expect(4, 8*time.Second, "closed")
		if n := strings.Count(log.String(), "\n"); n != 9 {
			t.Errorf("%d lines of log, want 9:\n%s", n, log.String())
		}
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b backoff
		for range 2 {
			for i := range 20 {
				start := time.Now()
				b.pause(t.Context())
				longest := min(minPause<<i, maxPause)
				if d := time.Since(start); d < longest/2 || d >= longest {
					t.Errorf("pause %d is %v, want from %v to %v", i, d, longest/2, longest)
				}
			}
			b.reset()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		b.pause(ctx)
		if d := time.Since(start); d != 0 {
			t.Errorf("pause of %v in a context that has ended", d)
		}
	})
}
