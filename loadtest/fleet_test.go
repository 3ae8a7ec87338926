package main

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// Clients ping, notice that the server has gone silent, and do not take their own
// closing for the server's.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(config{protocol: protocol.JSON, concurrency: 2}, nil)
		add := func() (*connection, *scriptedCarrier) {
			carrier := newScriptedCarrier("{}\x1e")
			c := &connection{protocol: protocol.JSON, carrier: carrier}
			if err := c.open(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			carrier.sentSoFar()
			f.mu.Lock()
			defer f.mu.Unlock()
			f.connections = append(f.connections, c)
			f.readers.Go(func() { f.ended(c.read()) })
			return c, carrier
		}
		const silent = 2*pingTicks + 1 // so that more than one has its turn at a time
		for range silent {
			add()
		}
		served, carrier := add()
		for range 4 {
			time.Sleep(pingInterval)
			carrier.incoming <- "{\"type\":6}\x1e"
		}
		synctest.Wait()
		if served.ended.Load() {
			t.Error("the connection whose server pings has ended")
		}
		pings := carrier.sentSoFar()
		if len(pings) != 4 || pings[0] != "{\"type\":6}\x1e" {
			t.Errorf("sent %q, want 4 pings", pings)
		}
		f.close()
		if got := f.counts(); got.disconnected != silent {
			t.Errorf("%d disconnected, want %d", got.disconnected, silent)
		}
		if f.errors["disconnected: the server was silent for 30s"] != silent {
			t.Errorf("errors are %v", f.errors)
		}
	})
}

func TestErrorCounts(t *testing.T) {
	c := make(errorCounts)
	for range 3 {
		c.add("often")
	}
	for n := range maxErrorTexts + 10 {
		c.add(strings.Repeat("x", n))
	}
	c.add("often")
	all := c.sorted()
	if len(all) != maxErrorTexts+1 || all[0] != (counted{otherErrors, 11}) || all[1] != (counted{"often", 4}) {
		t.Errorf("%d texts, first %v, then %v", len(all), all[0], all[1])
	}
	if all[2].Text != "" || all[3].Text != "x" {
		t.Errorf("equal counts are not in the order of their texts: %v", all[2:5])
	}
}

func TestFleetCountsClosing(t *testing.T) {
	f := newFleet(config{protocol: protocol.JSON, concurrency: 1}, nil)
	f.close()
	f.ended(errors.New("late"))
	if got := f.counts(); got.disconnected != 0 {
		t.Errorf("%d disconnected", got.disconnected)
	}
}
