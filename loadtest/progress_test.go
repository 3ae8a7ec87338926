package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

func TestProgress(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
		want     string
	}{
		{"terminal", true, "\r\x1b[K\x1b[?7l1\x1b[?7h\r\x1b[K\x1b[?7l2\x1b[?7h\r\x1b[K\x1b[?7l3\x1b[?7h\r\x1b[K"},
		{"elsewhere", false, "1\n2\n3\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var written strings.Builder
			p := progress{w: &written, terminal: tt.terminal}
			interval := plainInterval
			if tt.terminal {
				interval = terminalInterval
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*interval+interval/2)
			defer cancel()
			n := 0
			p.run(ctx, func() string { n++; return fmt.Sprint(n) })
			if written.String() != tt.want {
				t.Errorf("%s: got %q, want %q", tt.name, &written, tt.want)
			}
		})
	}
	if newProgress(new(strings.Builder)).terminal {
		t.Error("a string is a terminal")
	}
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTrial(config{protocol: protocol.JSON, concurrency: 1, senders: 2, payload: 128}, fanout, nil)
		defer tr.close()
		tr.fleet.nodes = append(tr.fleet.nodes, parseURL(t, defaultURL))
		tr.enter("connecting", 0)
		time.Sleep(1500 * time.Millisecond)
		expect := func(want string) {
			t.Helper()
			if got := tr.status(); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		}
		expect("connecting  1.5s  connections 0")

		l := newLoad(tr, 1, nil)
		l.receiver(0, 0, nil)
		tr.watch(l)
		tr.fleet.failed = 1
		expect("connecting  1.5s  connections 0 of 3 (1 failed, 0 disconnected)")

		tr.fleet.failed = 0
		tr.enter("measuring", 10*time.Second)
		l.senders[0].counts = sendCounts{Sent: 1000, Expected: 5000}
		l.receivers[0].shard.delivered = 4999
		expect("measuring   0.0s of 10s  connections 0 of 3  sent 1,000  delivered 4,999 of 5,000")

		l.senders[1].counts.Failed = 2
		l.receivers[0].shard.outOfOrder = 3
		expect("measuring   0.0s of 10s  connections 0 of 3  sent 1,000  delivered 4,999 of 5,000 (2 send errors, 0 duplicated, 3 out of order)")
	})
}
