package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

// seeded returns what makes the choices of a test. HELIOGRAPH_FAULTS_SEED repeats those of
// another run.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("HELIOGRAPH_FAULTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Connections are cut in the middle of whatever passes, in either direction: commands,
// replies, messages, greetings. Most cuts come while something is still amiss from the last
// ones.
func TestCutsAtRandomBytes(t *testing.T) {
	cuts := 500
	if soak() {
		cuts = 5000
	}
	leakless(t)
	random := seeded(t)
	p := newPlace(t)
	o := hasty
	o.SubscribeTimeout = await.Deadline
	p.fleet = startFleet(t, o, p.urls(false))
	p.awaitHearing()
	p.endure(fmt.Sprintf("%d cuts at random bytes", cuts), func() time.Time {
		for i := range cuts {
			node := random.IntN(nodes)
			direction := redistest.Direction(random.IntN(2))
			select {
			case <-p.proxies[node].CutAfter(direction, random.IntN(4096)):
			case <-time.After(await.Deadline):
				t.Fatalf("cut %d did not come about: nothing passes any more at node %d", i, node)
			}
			if random.IntN(4) == 0 {
				await.Until(t, "the node hears", p.nodes[node].Healthy)
			}
		}
		return time.Now()
	})
	v := p.judged()
	if v.arrived < cuts {
		t.Errorf("only %d arrivals were due: that says little", v.arrived)
	}
}
