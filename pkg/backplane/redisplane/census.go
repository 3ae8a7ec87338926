package redisplane

import (
	"slices"
	"time"
)

// A census tells from what nodes announce which of them have gone. The zero census knows
// nobody.
type census struct {
	known map[string]announcement // of the last look, without those that have left
	spare time.Time               // who is not announced counts as dead from then on
}

// take takes in who is announced now, and returns those who were and have died, and those
// who have left: with the prefixes that they serve no longer.
//
// If this node's own announcement has not been kept, those of others may have been lost
// with it: Redis has been started anew or emptied, or this node was cut off. Then all
// have as long as an announcement lives to announce themselves again.
func (c *census) take(now time.Time, present map[string]announcement, kept bool, life time.Duration) (died, left []announcement) {
	if !kept {
		c.spare = now.Add(life)
	}
	known := make(map[string]announcement, len(present))
	for id, a := range present {
		if !a.Left {
			known[id] = a
		}
	}
	for id, before := range c.known {
		_, there := present[id]
		switch {
		case there:
			if before.Prefixes = without(before.Prefixes, known[id].Prefixes); len(before.Prefixes) > 0 {
				left = append(left, before)
			}
		case now.Before(c.spare):
			known[id] = before
		default:
			died = append(died, before)
		}
	}
	c.known = known
	return died, left
}

// know adds nodes, and prefixes of theirs, that were announced after the last look.
func (c *census) know(announced map[string]announcement) {
	if c.known == nil {
		c.known = make(map[string]announcement)
	}
	for id, a := range announced {
		if !a.Left {
			a.Prefixes = slices.Concat(c.known[id].Prefixes, without(a.Prefixes, c.known[id].Prefixes))
			c.known[id] = a
		}
	}
}

// without returns those of the prefixes that are not among the others.
func without(prefixes, others []string) (rest []string) {
	for _, p := range prefixes {
		if !slices.Contains(others, p) {
			rest = append(rest, p)
		}
	}
	return rest
}
