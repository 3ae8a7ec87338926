package faults

import (
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

// The faults share the sentinels: it takes seconds until they know each other.
func TestFailoverBySentinels(t *testing.T) {
	sentinels := redistest.StartSentinels(t)
	for _, fault := range []struct {
		name string
		make func(master *redistest.Server)
	}{
		{"failover asked of sentinels", func(*redistest.Server) { sentinels.Failover() }},
		{"master paused, failover by sentinels", func(master *redistest.Server) {
			master.Pause()
			t.Cleanup(master.Resume)
		}},
		{"master killed, failover by sentinels", (*redistest.Server).Kill},
	} {
		t.Run(fault.name, func(t *testing.T) {
			failOver(t, sentinels.URL(), fault.name, sentinels.Master, fault.make)
		})
	}
}

// clusterModes are the ways to use a Redis Cluster, and a key in the slot of which all
// or some channels are.
var clusterModes = []struct{ parameters, key string }{
	{"?pubsub=classic", "{heliograph}"},
	{"?partitions=3", "{heliograph}"}, // the slot of the first, which every node uses
}

// The faults share the cluster, as above; the last one takes a server from it.
func TestCluster(t *testing.T) {
	for _, mode := range clusterModes {
		t.Run(mode.parameters, func(t *testing.T) {
			cluster := redistest.StartCluster(t)
			owner := func() *redistest.Server { return cluster.Owner(mode.key) }
			for _, fault := range []struct {
				name string
				make func(master *redistest.Server)
			}{
				{"slot moved in a cluster", func(from *redistest.Server) {
					to := cluster.Servers[0]
					if to == from {
						to = cluster.Servers[1]
					}
					cluster.Move(mode.key, to)
				}},
				{"failover asked of a cluster", cluster.Failover},
				{"master killed in a cluster", (*redistest.Server).Kill},
			} {
				t.Run(fault.name, func(t *testing.T) {
					failOver(t, cluster.URL()+mode.parameters, fault.name+" "+mode.parameters, owner, fault.make)
				})
			}
		})
	}
}

// failOver has another server become the master in the middle of traffic. The time is
// counted from the fault.
func failOver(t *testing.T, url, name string, master func() *redistest.Server, fault func(master *redistest.Server)) {
	leakless(t)
	before := master()
	o := hasty
	o.SubscribeTimeout = await.Deadline
	f := startFleet(t, o, [nodes]string{url, url, url})
	f.awaitHearing()
	f.endure(name, func() time.Time {
		begun := time.Now()
		fault(before)
		f.awaitGaps(all...)
		return begun
	})
	if after := master(); after == before {
		t.Error("the master is the same")
	}
	f.judged()
	for i, c := range f.counts() {
		if c.gaps == 0 {
			t.Errorf("node %d has had no gap", i)
		}
	}
}
