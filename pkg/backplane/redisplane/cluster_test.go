package redisplane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

// The subtests share the cluster: it takes seconds until its servers know each other.
func TestCluster(t *testing.T) {
	cluster := redistest.StartCluster(t)
	url := cluster.URL() + "?pubsub=classic"
	owner := func() *redistest.Server { return cluster.Owner(clusterKeys) }

	t.Run("Contract", func(t *testing.T) {
		runContract(t, Options{URL: url, ProbeInterval: time.Second})
	})

	t.Run("KeysInOneSlot", func(t *testing.T) {
		n := start(t, url)
		claim(t, n, "c")
		inSlot, err := owner().Client().ClusterCountKeysInSlot(t.Context(), clusterSlot).Result()
		if err != nil {
			t.Fatal(err)
		}
		all := int64(0)
		for _, s := range cluster.Servers[:3] {
			size, err := s.Client().DBSize(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			all += size
		}
		if inSlot < 3 || all != inSlot {
			t.Errorf("%d keys are in the slot, %d in all", inSlot, all)
		}
	})

	t.Run("PublishedAnywhere", func(t *testing.T) {
		n := start(t, url)
		n.join(t, "a")
		for i, s := range cluster.Servers {
			if err := s.Client().Publish(t.Context(), "a", fmt.Sprintf("{%d}", i)).Err(); err != nil {
				t.Fatal(err)
			}
			n.awaitLast(t, fmt.Sprintf("a {%d}", i))
		}
	})

	t.Run("NoCluster", func(t *testing.T) {
		single := redistest.Start(t)
		n := startDeaf(t, strings.Replace(single.URL(), "redis://", "redis+cluster://", 1)+"?pubsub=classic")
		await.Until(t, "the node says why it is deaf", func() error {
			if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "cluster support disabled") {
				return fmt.Errorf("it says %v", err)
			}
			return nil
		})
	})

	t.Run("Move", func(t *testing.T) {
		failOver(t, url, owner, true, func(from *redistest.Server) {
			to := cluster.Servers[0]
			if to == from {
				to = cluster.Servers[1]
			}
			cluster.Move(clusterKeys, to)
		})
	})

	t.Run("Failover", func(t *testing.T) {
		failOver(t, url, owner, true, cluster.Failover)
	})

	t.Run("Kill", func(t *testing.T) {
		failOver(t, url, owner, false, (*redistest.Server).Kill)
	})
}

func TestSlotOwners(t *testing.T) {
	const nodes = `
a 10.0.0.1:6379@16379 myself,master - 0 1 3 connected 0-99 101 [100->-b] [102-<-c]
b 10.0.0.2:6379@16379,b.example master - 0 1 2 connected 102-200 100
c fd00::3:6379@16379 master,fail - 0 1 1 connected 300
d :6379@0 master - 0 1 4 connected 400-500
e 10.0.0.5:6379@16379 slave a 0 1 3 connected
f 10.0.0.6:6379@16379 master - 0 1 many connected 600
g nowhere master - 0 1 1 connected 700
`
	for slot, want := range map[int]string{
		0: "10.0.0.1:6379 3", 99: "10.0.0.1:6379 3", 101: "10.0.0.1:6379 3",
		100: "10.0.0.2:6379 2", 102: "10.0.0.2:6379 2", 200: "10.0.0.2:6379 2",
		300: "[fd00::3]:6379 1", 450: ":6379 4",
		201: "nobody has slot 201", 600: "invalid syntax", 700: "the address of an owner",
	} {
		a := slotOwners(nodes, []int{0, slot})[1]
		got := fmt.Sprint(a.addr, " ", a.epoch)
		if a.err != nil {
			got = a.err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("slot %d: got %s, want %s", slot, got, want)
		}
	}
}
