package hub

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
)

// A virtual client of the storm, and what it should be a member of.
type stormClient struct {
	*client
	id, user string
	node     int
	groups   map[string]bool
	pending  string // id of the invocation that has not been answered
}

// After any storm of joins, leaves and disconnects, exactly those channels are
// subscribed, each by exactly those nodes, that a model of the storm says.
func TestStorm(t *testing.T) {
	const (
		clients = 40
		rounds  = 50 // of one action by every client
	)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	redis := redistest.Start(t)
	hubs, addresses := make([]*Hub, 2), make([]string, 2)
	for i := range hubs {
		plane, err := redisplane.New(redisplane.Options{URL: redis.URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { plane.Close() })
		hubs[i], addresses[i] = serve(t, &room{}, WithBackplane(plane))
	}
	goroutines := runtime.NumGoroutine()
	join := func(s *stormClient) {
		s.node, s.user, s.groups = random.IntN(2), fmt.Sprint("user ", random.IntN(10)), make(map[string]bool)
		s.client = connect(t, addresses[s.node], s.user)
		s.id = strings.Trim(strings.TrimPrefix(s.invoke("ID"), `"result":`), `"`)
	}
	storm := make([]*stormClient, clients)
	for i := range storm {
		storm[i] = new(stormClient)
		join(storm[i])
	}
	for range rounds {
		for _, s := range storm {
			switch group := fmt.Sprint("group ", random.IntN(15)); random.IntN(10) {
			case 0: // with a join, a leave or nothing under way
				switch random.IntN(3) {
				case 0:
					s.start("Join", group)
				case 1:
					s.start("Leave", group)
				}
				s.conn.Close()
				join(s)
			case 1:
				s.write(`{"type":7}`)
				join(s)
			case 2, 3, 4:
				s.pending, s.groups[group] = s.start("Leave", group), false
			default:
				s.pending, s.groups[group] = s.start("Join", group), true
			}
		}
		for _, s := range storm {
			if s.pending != "" {
				s.expect(`{"type":3,"invocationId":"` + s.pending + `","result":null}`)
				s.pending = ""
			}
		}
	}

	want := map[string]map[int]bool{} // nodes by channel
	member := func(channel string, node int) {
		if want[channel] == nil {
			want[channel] = make(map[int]bool)
		}
		want[channel][node] = true
	}
	for i, h := range hubs {
		member("all", i)
		member("node:"+h.plane.NodeID(), i)
	}
	for _, s := range storm {
		member("connection:"+s.id, s.node)
		member("user:"+s.user, s.node)
		for group, in := range s.groups {
			if in {
				member("group:"+group, s.node)
			}
		}
	}
	await.Until(t, "Redis has the model's subscriptions", func() error {
		got := redis.Channels(t)
		slices.Sort(got)
		if channels := slices.Sorted(maps.Keys(want)); !slices.Equal(got, channels) {
			return fmt.Errorf("channels are\n%q\nwant\n%q", got, channels)
		}
		for channel, nodes := range want {
			if n := redis.Subscribers(t, channel); n != len(nodes) {
				return fmt.Errorf("%q has %d subscribers, want %d", channel, n, len(nodes))
			}
		}
		return nil
	})

	for _, s := range storm {
		s.conn.Close()
	}
	await.Until(t, "nothing is left of the storm", func() error {
		for _, h := range hubs {
			if n := h.registry.size() + h.registry.channels(); n != 0 {
				return fmt.Errorf("registry has %d entries", n)
			}
		}
		// Those of the HTTP server's idle listener come and go.
		if n := runtime.NumGoroutine(); n > goroutines+2 {
			return fmt.Errorf("%d goroutines, %d before", n, goroutines)
		}
		for _, channel := range redis.Channels(t) {
			if channel != "all" && !strings.HasPrefix(channel, "node:") {
				return errors.New("subscribed: " + channel)
			}
		}
		return nil
	})
}
