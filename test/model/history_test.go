package model

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

const (
	nodes  = 3
	actors = 24
	groups = 12
	users  = 6
	steps  = 4 // of each actor in a round
)

// An actor joins, leaves, goes, comes back, and sends: one thing after the other.
type actor struct {
	sender
	user    string
	random  *rand.Rand
	session *session
	gone    []*session // in this round
}

func (a *actor) step(t *testing.T) error {
	ctx, cancel := context.WithTimeout(t.Context(), await.Deadline)
	defer cancel()
	group := fmt.Sprint("group ", a.random.IntN(groups))
	stays := a.session.Stays[group]
	member := len(stays) > 0 && stays[len(stays)-1].Out == Never
	switch a.random.IntN(40) {
	case 0:
		a.cluster.disconnect(a.session)
		a.gone = append(a.gone, a.session)
		var err error
		a.session, err = a.cluster.connect(t, a.node, a.name, a.user)
		return err
	case 1, 2, 3, 4, 5, 6:
		stay := Stay{Entering: a.cluster.now(), In: Never, Leaving: Never, Out: Never}
		if member {
			last := &stays[len(stays)-1]
			last.Leaving = min(last.Leaving, a.cluster.now()) // an earlier attempt may have failed
			if a.node.Groups().Remove(ctx, a.session.id, group) == nil {
				last.Out = a.cluster.now()
			}
			return nil
		}
		if err := a.node.Groups().Add(ctx, a.session.id, group); err != nil {
			stay.Leaving, stay.Out = stay.Entering, a.cluster.now()
		} else {
			stay.In = a.cluster.now()
		}
		a.session.Stays[group] = append(stays, stay)
	case 7, 8, 9, 10, 11:
		_, err := a.send(ctx, fmt.Sprint("user:", a.random.IntN(users)))
		return err
	}
	_, err := a.send(ctx, group)
	return err
}

// TestCluster holds three nodes to the model while things go wrong.
// HELIOGRAPH_MODEL_SEED repeats the choices of a run.
func TestCluster(t *testing.T) {
	seed := rand.Uint64()
	if text := os.Getenv("HELIOGRAPH_MODEL_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	rounds := 200
	if os.Getenv("HELIOGRAPH_SOAK") == "1" {
		rounds = 3000
	}
	t.Logf("seed %d, %d rounds", seed, rounds)
	random := rand.New(rand.NewPCG(seed, 0))
	c := startCluster(t, nodes)
	var total atomic.Int64
	var all []*actor
	for i := range actors {
		a := &actor{user: fmt.Sprint(i % users), random: rand.New(rand.NewPCG(seed, uint64(i+1)))}
		a.sender = sender{name: fmt.Sprint("actor", i), node: c.nodes[i%nodes], cluster: c, total: &total}
		var err error
		if a.session, err = c.connect(t, a.node, a.name, a.user); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	trouble := &trouble{cluster: c, random: random, total: &total}
	for i, n := range c.nodes {
		s, err := c.connect(t, n, fmt.Sprint("observer", i), "observer")
		if err != nil {
			t.Fatal(err)
		}
		trouble.observers = append(trouble.observers, s)
		trouble.pilots = append(trouble.pilots, &sender{name: fmt.Sprint("pilot", i), node: n, cluster: c, total: &total})
	}

	var counts Counts
	var troubles [len(faults)]int
	for round := range rounds {
		var acting sync.WaitGroup
		for _, a := range all {
			acting.Go(func() {
				for range steps {
					if err := a.step(t); err != nil {
						t.Errorf("%s: %v", a.name, err)
					}
				}
			})
		}
		name := "none"
		if random.IntN(5) == 0 {
			f := random.IntN(len(faults))
			troubles[f]++
			name = faults[f].name
			faults[f].make(t, trouble)
		}
		acting.Wait()
		present := slices.Clone(trouble.observers)
		r := Round{}
		for _, a := range all {
			present = append(present, a.session)
		}
		c.settle(t, round, present)
		r.Settled, r.Gaps = c.now(), c.gaps()
		for _, p := range trouble.pilots {
			r.Messages, p.sent = append(r.Messages, p.sent...), nil
		}
		for _, a := range all {
			r.Messages, a.sent = append(r.Messages, a.sent...), nil
			for _, s := range a.gone {
				r.Receivers = append(r.Receivers, s.take())
			}
			a.gone = nil
		}
		for _, s := range present {
			r.Receivers = append(r.Receivers, s.take())
		}
		judged, err := r.Judge()
		if err != nil {
			t.Fatalf("round %d, fault: %s, seed %d:\n%v", round, name, seed, err)
		}
		if t.Failed() {
			return
		}
		counts.Add(judged)
	}
	t.Logf("%d messages: %v", total.Load(), counts)
	for i, n := range troubles {
		t.Logf("%s: %d times", faults[i].name, n)
	}
	if counts[May] > counts[Must] {
		t.Error("the model leaves open more than it demands")
	}
}

// A trouble makes faults, one at a time, on the goroutine of the test.
type trouble struct {
	cluster   *cluster
	random    *rand.Rand
	total     *atomic.Int64
	pilots    []*sender // one on each node
	observers []*session
}

const observed = "user:observer"

func (f *trouble) node() *node { return f.cluster.nodes[f.random.IntN(nodes)] }

// deaf waits until the node knows that it does not hear, or that it did not for a while.
// There had been so many gaps before.
func deaf(t *testing.T, n *node, before int) {
	t.Helper()
	await.Until(t, "the node knows that it is deaf", func() error {
		if n.plane.Healthy() == nil && n.gapCount() == before {
			return fmt.Errorf("it does not")
		}
		return nil
	})
}

var faults = [...]struct {
	name string
	make func(*testing.T, *trouble)
}{
	{"connections cut", func(_ *testing.T, f *trouble) { f.node().proxy.Cut() }},
	{"everything held back", func(t *testing.T, f *trouble) {
		n := f.node()
		before := n.gapCount()
		n.proxy.Freeze()
		defer n.proxy.Thaw()
		deaf(t, n, before)
	}},
	{"deaf", func(t *testing.T, f *trouble) {
		n := f.node()
		before := n.gapCount()
		for _, pipe := range n.proxy.Subscribers() {
			pipe.Freeze(redistest.ToClient)
			defer pipe.Thaw(redistest.ToClient)
		}
		deaf(t, n, before)
	}},
	{"redis killed", func(_ *testing.T, f *trouble) {
		f.cluster.redis.Kill()
		f.cluster.redis.Restart()
	}},
	{"pipeline late", func(t *testing.T, f *trouble) {
		pilot := f.pilots[f.random.IntN(nodes)]
		for _, pipe := range pilot.node.proxy.Publishers() {
			pipe.Freeze(redistest.ToServer)
			defer pipe.Thaw(redistest.ToServer)
		}
		await.Until(t, "a later message is sent", func() error {
			m, err := pilot.send(t.Context(), observed)
			if err == nil && m.Outcome != Sent {
				err = fmt.Errorf("outcome %d", m.Outcome)
			}
			return err
		})
	}},
	{"reply lost", func(t *testing.T, f *trouble) {
		pilot := f.pilots[f.random.IntN(nodes)]
		observer := f.observers[(pilot.node.number+1)%nodes]
		pipes := pilot.node.proxy.Publishers()
		for _, pipe := range pipes {
			pipe.Freeze(redistest.ToClient)
		}
		id := fmt.Sprintf("%s#%d", pilot.name, pilot.number+1)
		sent := make(chan *Message, 1)
		var sending sync.WaitGroup
		defer sending.Wait()
		sending.Go(func() {
			m, err := pilot.send(t.Context(), observed)
			if err != nil {
				t.Error(err)
			}
			sent <- m
		})
		await.Until(t, "the message is heard, or its outcome known", func() error {
			if len(sent) == 0 && !observer.hasHeard(id) {
				return fmt.Errorf("neither")
			}
			return nil
		})
		for _, pipe := range pipes {
			pipe.Cut()
		}
	}},
}
