package redisplane

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCensus(t *testing.T) {
	const life = 15 * time.Second
	type look struct {
		at      time.Duration
		present string // ids; those that have left behind a minus sign
		lost    bool   // this node's own announcement was not kept
		died    string
	}
	tests := []struct {
		name  string
		looks []look
	}{
		{"nobody dies of being new", []look{{at: 0, present: "a b", lost: true}, {at: 3, present: "a b c"}}},
		{"a death is told once", []look{{at: 0, present: "a b"}, {at: 3, present: "a", died: "b"}, {at: 6, present: "a"}}},
		{"who comes back may die again", []look{
			{at: 0, present: "a b"}, {at: 3, present: "a", died: "b"}, {at: 6, present: "a b"}, {at: 9, present: "a", died: "b"},
		}},
		{"who has left is not dead", []look{{at: 0, present: "a b"}, {at: 3, present: "a -b"}, {at: 6, present: "a"}}},
		{"nor whose leaving alone was seen", []look{{at: 0, present: "a -b"}, {at: 3, present: "a"}}},
		{"a lost roster is no death", []look{
			{at: 0, present: "a b c"}, {at: 3, present: "a", lost: true}, {at: 6, present: "a b"}, {at: 9, present: "a b c"}, {at: 60, present: "a b c"},
		}},
		{"who does not come back is dead", []look{
			{at: 0, present: "a b c"}, {at: 3, present: "a", lost: true}, {at: 17, present: "a b"}, {at: 18, present: "a b", died: "c"}, {at: 21, present: "a b"},
		}},
		{"lost again", []look{
			{at: 0, present: "a b"}, {at: 3, present: "a", lost: true}, {at: 16, present: "", lost: true}, {at: 30, present: "a"}, {at: 31, present: "a", died: "b"},
		}},
		{"who has left while the roster was lost", []look{
			{at: 0, present: "a b"}, {at: 3, present: "a", lost: true}, {at: 6, present: "a -b"}, {at: 30, present: "a"},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var c census
			begin := time.Now()
			for _, l := range test.looks {
				present := make(map[string]announcement)
				for _, id := range strings.Fields(l.present) {
					id, left := strings.CutPrefix(id, "-")
					present[id] = announcement{ID: id, Left: left}
				}
				var died []string
				for _, a := range c.take(begin.Add(l.at*time.Second), present, !l.lost, life) {
					died = append(died, a.ID)
				}
				slices.Sort(died)
				if got := strings.Join(died, " "); got != l.died {
					t.Errorf("at %d s: %q have died, want %q", l.at, got, l.died)
				}
			}
		})
	}
}
