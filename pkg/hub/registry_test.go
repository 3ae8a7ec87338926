package hub

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// The registry agrees with sets, whatever is joined and left in whatever order.
func TestRegistryAgainstSets(t *testing.T) {
	r := newRegistry()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	connections := make([]*connection, 20)
	for i := range connections {
		connections[i] = &connection{id: fmt.Sprint(i)}
	}
	type key struct {
		ch backplane.Channel
		c  *connection
	}
	model := make(map[key]*member)
	for range 5000 {
		k := key{backplane.Group(fmt.Sprint(random.IntN(8))), connections[random.IntN(len(connections))]}
		if m, ok := model[k]; ok {
			r.leave(m)
			delete(model, k)
		} else {
			model[k] = r.join(k.ch, k.c)
		}
		got := 0
		r.eachMember(k.ch, func(c *connection) {
			got++
			if _, ok := model[key{k.ch, c}]; !ok {
				t.Fatalf("%s is still in %s", c.id, k.ch)
			}
		})
		want := 0
		for m := range model {
			if m.ch == k.ch {
				want++
			}
		}
		if got != want {
			t.Fatalf("%s has %d members, want %d", k.ch, got, want)
		}
	}
	for _, m := range model {
		r.leave(m)
	}
	if n := r.channels(); n != 0 {
		t.Fatalf("%d channels are left", n)
	}
}

// channels counts the channels with members.
func (r *registry) channels() (n int) {
	for i := range r.shards {
		r.shards[i].mu.RLock()
		n += len(r.shards[i].members)
		r.shards[i].mu.RUnlock()
	}
	return n
}

func (r *registry) size() (n int) {
	r.each(func(*connection) { n++ })
	return n
}
