package redisplane

import "time"

// A census tells from what nodes announce which of them have died. The zero census knows
// nobody.
type census struct {
	known map[string]announcement // of the last look, without those that have left
	spare time.Time               // who is not announced counts as dead from then on
}

// take takes in who is announced now, and returns those who were and have died.
//
// If this node's own announcement has not been kept, those of others may have been lost
// with it: Redis has been started anew or emptied, or this node was cut off. Then all
// have as long as an announcement lives to announce themselves again.
func (c *census) take(now time.Time, present map[string]announcement, kept bool, life time.Duration) (died []announcement) {
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
		if _, ok := present[id]; ok {
			continue
		}
		if now.Before(c.spare) {
			known[id] = before
		} else {
			died = append(died, before)
		}
	}
	c.known = known
	return died
}
