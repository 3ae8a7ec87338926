package backplane

import (
	"strconv"
	"testing"
)

func TestWindow(t *testing.T) {
	type step struct {
		publisher   string
		incarnation uint64
		lane        uint32
		sequence    uint64
		accepted    bool
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"new, again, late", []step{
			{"a", 1, 0, 1, true}, {"a", 1, 0, 1, false}, {"a", 1, 0, 3, true}, {"a", 1, 0, 2, false}, {"a", 1, 0, 4, true},
		}},
		{"publishers apart", []step{{"a", 1, 0, 5, true}, {"b", 1, 0, 5, true}, {"a", 1, 0, 5, false}, {"b", 1, 0, 6, true}}},
		{"lanes apart", []step{
			{"a", 1, 1, 5, true}, {"a", 1, 0, 4, true}, {"a", 1, MaxLane, 3, true}, {"a", 1, 1, 5, false},
			{"a", 1, 0, 4, false}, {"a", 1, MaxLane, 3, false}, {"a", 1, 1, 6, true}, {"a", 1, MaxLane + 1, 1, false},
		}},
		{"a start begins all lanes anew", []step{
			{"a", 7, 0, 5, true}, {"a", 7, 1, 5, true}, {"a", 8, 0, 1, true}, {"a", 8, 1, 2, true}, {"a", 8, 0, 1, false},
		}},
		{"older incarnation on any lane", []step{{"a", 8, 0, 1, true}, {"a", 7, 0, 9, false}, {"a", 7, 1, 9, false}, {"a", 8, 1, 1, true}}},
		{"incarnation 0", []step{{"a", 0, 0, 1, true}, {"a", 0, 0, 1, false}, {"a", 1, 0, 1, true}, {"a", 0, 0, 2, false}}},
		{"plain", []step{{"", 0, 0, 0, true}, {"", 0, 0, 0, true}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var w Window
			for i, s := range test.steps {
				e := Envelope{Publisher: s.publisher, Incarnation: s.incarnation, Lane: s.lane, Sequence: s.sequence}
				if w.Accept(&e) != s.accepted {
					t.Errorf("step %d %+v: accepted is %v", i, s, !s.accepted)
				}
			}
		})
	}
}

func TestWindowForgetsLeastRecentlyHeard(t *testing.T) {
	var w Window
	accept := func(publisher string) bool {
		return w.Accept(&Envelope{Publisher: publisher, Incarnation: 1, Sequence: 1})
	}
	for i := range MaxPublishers {
		accept(strconv.Itoa(i))
	}
	if accept("0") { // which counts as hearing it
		t.Error("0 was forgotten early")
	}
	accept("one more")
	if len(w.publishers) != MaxPublishers || w.heard.Len() != MaxPublishers {
		t.Errorf("remembers %d, and %d in order, want %d", len(w.publishers), w.heard.Len(), MaxPublishers)
	}
	if accept("0") || accept("2") || accept(strconv.Itoa(MaxPublishers-1)) || accept("one more") {
		t.Error("forgot another than the least recently heard")
	}
	if !accept("1") {
		t.Error("remembers the least recently heard")
	}
}

func TestWindowAcceptsWithoutAllocation(t *testing.T) {
	var w Window
	e := Envelope{Publisher: "node", Incarnation: 1, Lane: 3}
	if n := testing.AllocsPerRun(100, func() {
		e.Sequence++
		if !w.Accept(&e) {
			t.Error("not accepted")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
