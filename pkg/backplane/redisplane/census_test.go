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
		present string // ids; those that have left behind a minus sign, those that serve nothing behind a plus
		lost    bool   // this node's own announcement was not kept
		died    string
		left    string
		asked   string // ids that were announced when somebody asked, since the last look
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
		{"who has left is not dead", []look{{at: 0, present: "a b"}, {at: 3, present: "a -b", left: "b"}, {at: 6, present: "a -b"}, {at: 9, present: "a"}}},
		{"who serves nothing any more has left", []look{
			{at: 0, present: "a b"}, {at: 3, present: "a +b", left: "b"}, {at: 6, present: "a b"}, {at: 9, present: "a +b", left: "b"}, {at: 12, present: "a", died: "b"},
		}},
		{"who came and left between two looks", []look{
			{at: 0, present: "a"}, {at: 3, present: "a -b -c", asked: "b", left: "b"}, {at: 6, present: "a"}, {at: 9, present: "a", asked: "d", died: "d"},
			{at: 12, present: "a +e"}, {at: 15, present: "a +e", asked: "e", left: "e"},
		}},
		{"nor is whose leaving alone was seen", []look{{at: 0, present: "a -b"}, {at: 3, present: "a"}}},
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
			{at: 0, present: "a b"}, {at: 3, present: "a", lost: true}, {at: 6, present: "a -b", left: "b"}, {at: 30, present: "a"},
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var c census
			begin := time.Now()
			for _, l := range test.looks {
				asked := make(map[string]announcement)
				for _, id := range strings.Fields(l.asked) {
					asked[id] = announcement{ID: id, Prefixes: []string{"a/"}}
				}
				c.know(asked)
				present := make(map[string]announcement)
				for _, id := range strings.Fields(l.present) {
					id, left := strings.CutPrefix(id, "-")
					id, idle := strings.CutPrefix(id, "+")
					a := announcement{ID: id, Left: left}
					if !left && !idle {
						a.Prefixes = []string{"a/"}
					}
					present[id] = a
				}
				died, left := c.take(begin.Add(l.at*time.Second), present, !l.lost, life)
				if got := ids(died); got != l.died {
					t.Errorf("at %d s: %q have died, want %q", l.at, got, l.died)
				}
				if got := ids(left); got != l.left {
					t.Errorf("at %d s: %q have left, want %q", l.at, got, l.left)
				}
			}
		})
	}
}

func ids(announcements []announcement) string {
	var all []string
	for _, a := range announcements {
		all = append(all, a.ID)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
