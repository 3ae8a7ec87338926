package redisplane

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// What the prober makes of the intervals that have passed. A letter is an interval:
//
//	h  a probe was heard, and so something arrived
//	-  nothing arrived
//	b  other messages arrived
//	n  there is a new connection, on which nothing arrived
//	x  there is no connection
//
// The node takes itself for deaf in the last of the intervals, or in none.
func TestProber(t *testing.T) {
	for _, test := range []struct {
		intervals string
		deaf      bool
	}{
		{"hhhhhhhh", false},
		{"h-", false},
		{"h--", true},
		{"h-h-h-h-bh-bhb", false},
		{"hb-", true},
		{"h-b-", true},
		{"hbbbbbbbbb", false},
		{"hbbbbbbbbbb", true},
		{"hbbbbh-b", false},
		{"hbb-", true},
		{"n-", false},
		{"n--", true},
		{"h-n-", false},
		{"h-x-", false},
		{"h-xxxxxxn-", false},
		{"xxxxxxxx", false},
	} {
		o, err := Options{URL: "redis://localhost", Logger: slog.New(slog.DiscardHandler)}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		target, err := o.target()
		if err != nil {
			t.Fatal(err)
		}
		h := newHealth(o.Logger)
		r := newSite(target, newLookout(target, o), 0, h)
		l := newLane(o, r, "n", 1, newMetrics())
		s := newSubscriber(o, r, "node:n", l.metrics, h)
		p := newProber(o, l, s, h)
		connect := func() {
			link := newLink(r, false)
			t.Cleanup(link.close)
			s.current.Store(link)
		}
		connect()
		for i, interval := range test.intervals {
			switch interval {
			case 'h':
				s.arrivals.Add(1)
				if _, ok := p.isProbe([]byte("probe 12345678")); !ok {
					t.Fatal("a probe is none")
				}
			case 'b':
				s.arrivals.Add(1)
			case 'n':
				connect()
			case 'x':
				s.current.Store(nil)
			}
			p.look()
			link := s.current.Load()
			deaf := link != nil && errors.Is(link.cause(nil), errDeaf)
			if want := test.deaf && i == len(test.intervals)-1; deaf != want {
				t.Errorf("%s: after %s deaf is %t, want %t", test.intervals, test.intervals[:i+1], deaf, want)
				break
			}
			if deaf && !l.renewing.Load() {
				t.Errorf("%s: the lane does not connect anew", test.intervals)
			}
		}
	}
}

// A hub may use the node's own channel as well.
func TestIsProbe(t *testing.T) {
	p := &prober{metrics: newMetrics()}
	for _, body := range []string{"", "probe ", "probe 1234567", "probe 123456789", "Probe 12345678", strings.Repeat("x", 14)} {
		if _, ok := p.isProbe([]byte(body)); ok {
			t.Errorf("%q is a probe", body)
		}
	}
	if p.heard.Load() != 0 {
		t.Error("probes were heard")
	}
}
