package main

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// Draining ends when all is delivered and completed and no duplicate has followed, or
// when its time is over.
func TestDrain(t *testing.T) {
	const limit = time.Minute
	for _, tt := range []struct {
		name      string
		delivered time.Duration // when the last delivery comes
		confirmed time.Duration // when the last completion comes
		want      time.Duration
	}{
		{"at once", 0, 0, linger},
		{"late delivery", 2 * time.Second, 0, 2*time.Second + linger},
		{"late completion", 0, 3 * time.Second, 3*time.Second + linger},
		{"never", time.Hour, 0, limit},
		{"never completed", 0, time.Hour, limit},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := newTrial(config{protocol: protocol.JSON, concurrency: 1, senders: 1, drain: limit}, fanout, nil)
			defer tr.close()
			tr.fleet.nodes = append(tr.fleet.nodes, parseURL(t, defaultURL))
			l := newLoad(tr, 1, nil)
			l.receiver(0, 0, nil)
			l.senders[0].counts = sendCounts{Sent: 10, Expected: 10}
			after := func(d time.Duration, change func()) {
				timer := time.AfterFunc(d, change)
				t.Cleanup(func() { timer.Stop() })
			}
			after(tt.delivered, func() {
				s := l.receivers[0].shard
				s.mu.Lock()
				defer s.mu.Unlock()
				s.delivered = 10
			})
			after(tt.confirmed, func() {
				s := l.senders[0]
				s.mu.Lock()
				defer s.mu.Unlock()
				s.counts.Confirmed = 10
			})
			began := time.Now()
			l.drain(t.Context())
			if took := time.Since(began); took < tt.want || took > tt.want+drainPoll {
				t.Errorf("%s: took %v, want %v", tt.name, took, tt.want)
			}
		})
	}
}
