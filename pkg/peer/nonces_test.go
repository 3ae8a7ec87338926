package peer

import (
	"encoding/binary"
	"testing"
	"time"
)

func number(i int) (n nonce) {
	binary.BigEndian.PutUint64(n[:], uint64(i))
	return n
}

func TestNonces(t *testing.T) {
	u := newNonces(10)
	start := time.Now()
	type step struct {
		after       time.Duration
		n           int
		first, room bool
	}
	const late = generation - time.Second
	steps := []step{
		{0, 0, true, true},
		{0, 0, false, true},
		{late, 0, false, true},
		{late, 1, true, true},
		{generation, 1, false, true},
		{generation + late, 1, false, true}, // two seconds longer than it is of use
		{2 * generation, 0, true, true},     // nobody takes its seal any more
		{2 * generation, 1, true, true},
	}
	for i := range 8 {
		steps = append(steps, step{2 * generation, 100 + i, true, true})
	}
	steps = append(steps,
		step{2 * generation, 200, false, false}, // full
		step{2 * generation, 100, false, true},  // used, though
		step{2*generation + late, 200, false, false},
		step{3 * generation, 200, true, true},
		step{3 * generation, 100, false, true},
	)
	for i, s := range steps {
		if first, room := u.use(number(s.n), start.Add(s.after)); first != s.first || room != s.room {
			t.Errorf("step %d, nonce %d after %v: got %v, %v", i, s.n, s.after, first, room)
		}
	}
	if n := len(u.used) + len(u.usedBefore); n > 20 {
		t.Errorf("%d are kept", n)
	}
}
