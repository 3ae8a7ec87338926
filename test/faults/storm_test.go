package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
)

const (
	stormSteps   = 100_000 // joins, leaves and disconnects
	stormCrowd   = 8       // on each node
	stormGroups  = 500
	stormPatient = 20 // one of so many joins waits until it is in force
)

// After joins, leaves and disconnects of all kinds at once, and a loss of all connections in
// the middle of it, exactly those channels are subscribed that have holders.
func TestStorm(t *testing.T) {
	leakless(t)
	random := seeded(t)
	p := newPlace(t)
	var planes []*redisplane.Plane
	var members []*member
	for i, url := range p.urls(false) {
		o := hasty
		o.URL, o.Logger = url, discard
		o.SubscribeTimeout = await.Deadline
		plane, err := redisplane.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { plane.Close() })
		planes = append(planes, plane)
		shared, err := plane.Attach("", newReceiver("node"))
		if err != nil {
			t.Fatal(err)
		}
		for range stormCrowd {
			members = append(members, &member{
				node: i, plane: plane, shared: shared,
				prefix: fmt.Sprintf("alone-%d/", len(members)),
				random: rand.New(rand.NewPCG(random.Uint64(), 0)),
			})
		}
	}

	var steps atomic.Int64
	var storm sync.WaitGroup
	for _, m := range members {
		storm.Go(func() {
			for {
				switch n := steps.Add(1); {
				case n > stormSteps:
					return
				case n == stormSteps/2:
					for _, proxy := range p.proxies {
						proxy.Cut()
					}
				}
				if err := m.step(t); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	storm.Wait()

	want := make(map[string]int)
	for i, plane := range planes {
		want[string(backplane.Node(plane.NodeID()))] = 1
		want[string(backplane.All)]++
		held := make(map[string]bool)
		for _, m := range members {
			if m.node == i {
				maps.Copy(held, m.holds())
			}
		}
		for ch := range held {
			want[ch]++
		}
	}
	await.Until(t, "exactly what is held is subscribed", func() error { return p.subscribed(want) })
	t.Logf("%d channels are subscribed", len(want))
}

// subscribed returns an error unless exactly these channels have subscribers, and each as
// many as it says here.
func (p *place) subscribed(want map[string]int) error {
	got := p.redis.Channels(p.t)
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(got, names) {
		return fmt.Errorf("%d channels are subscribed, want %d", len(got), len(want))
	}
	counts, err := p.redis.Client().PubSubNumSub(p.t.Context(), got...).Result()
	if err != nil {
		return err
	}
	for ch, n := range counts {
		if int(n) != want[ch] {
			return fmt.Errorf("%q has %d subscribers, want %d", ch, n, want[ch])
		}
	}
	return nil
}

// A member of the crowd joins and leaves, through an attachment that it shares with others
// on its node, and another that is its own.
type member struct {
	node   int
	plane  *redisplane.Plane
	shared backplane.Attachment
	prefix string // of its own attachment
	own    backplane.Attachment
	random *rand.Rand

	joined, joinedAlone []backplane.Channel // some more than once
}

// step joins or leaves a channel, or all.
func (m *member) step(t *testing.T) (err error) {
	if m.own == nil {
		m.own, err = m.plane.Attach(m.prefix, newReceiver("alone"))
		return err
	}
	ch := backplane.Group(fmt.Sprint(m.random.IntN(stormGroups)))
	switch dice := m.random.IntN(200); {
	case dice < 70:
		m.joined = append(m.joined, ch)
		return m.join(t, m.shared, ch)
	case dice < 90:
		m.joinedAlone = append(m.joinedAlone, ch)
		return m.join(t, m.own, ch)
	case dice < 170:
		leaveOne(m.random, m.shared, &m.joined)
	case dice < 190:
		leaveOne(m.random, m.own, &m.joinedAlone)
	case dice < 198:
		m.shared.Unsubscribe(m.joined...)
		m.joined = nil
	default:
		m.own.Detach()
		m.own, m.joinedAlone = nil, nil
	}
	return nil
}

// join joins, and now and then waits.
func (m *member) join(t *testing.T, at backplane.Attachment, ch backplane.Channel) error {
	wait := at.Subscribe(ch)
	if m.random.IntN(stormPatient) > 0 {
		return nil
	}
	return wait(t.Context())
}

func leaveOne(random *rand.Rand, at backplane.Attachment, joined *[]backplane.Channel) {
	if len(*joined) == 0 {
		return
	}
	i := random.IntN(len(*joined))
	at.Unsubscribe((*joined)[i])
	*joined = slices.Delete(*joined, i, i+1)
}

// holds returns the Redis channels that the member holds.
func (m *member) holds() map[string]bool {
	held := make(map[string]bool)
	for _, ch := range m.joined {
		held[string(ch)] = true
	}
	if m.own == nil {
		return held
	}
	held[m.prefix+string(backplane.All)] = true
	for _, ch := range m.joinedAlone {
		held[m.prefix+string(ch)] = true
	}
	return held
}
