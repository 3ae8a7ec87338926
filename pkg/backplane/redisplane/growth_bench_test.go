//go:build linux

package redisplane

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/redistest"
)

// BenchmarkGrowth is 128 bytes published on each of 1,000 channels that have a subscriber,
// in a Redis Cluster: on classic channels by way of one master, on sharded ones that are all
// in the slots of one master, and on sharded ones spread over three. By the Redis library
// alone, in pipelines: what is measured are the servers. It reports the CPU of all six
// servers, and of the one that has most to do, which is the bound to how much a cluster can
// carry.
func BenchmarkGrowth(b *testing.B) {
	const channels = 1000
	body := strings.Repeat("x", 128)
	for _, test := range []struct {
		name    string
		masters int
		sharded bool
	}{
		{"classic", 1, false}, {"sharded over 1", 1, true}, {"sharded over 3", 3, true},
	} {
		b.Run(test.name, func(b *testing.B) {
			cluster := redistest.StartCluster(b)
			var received sync.WaitGroup
			var names [3][]string
			var clients [3]*redis.Client
			for m := range test.masters {
				clients[m] = bareClient(b, cluster.Servers[m])
				tag := tagOf(b, cluster, cluster.Servers[m])
				for i := m; i < channels; i += test.masters {
					names[m] = append(names[m], fmt.Sprintf("{%s}group:%d", tag, i))
				}
				subscribe := clients[m].Subscribe
				if test.sharded {
					subscribe = clients[m].SSubscribe
				}
				pubsub := subscribe(context.Background(), names[m]...)
				for range names[m] {
					if _, err := pubsub.Receive(inTime(b)); err != nil {
						b.Fatal(err)
					}
				}
				var loop sync.WaitGroup
				loop.Go(func() {
					for {
						if _, err := pubsub.Receive(context.Background()); err != nil {
							return // closed
						}
						received.Done()
					}
				})
				b.Cleanup(loop.Wait)
				b.Cleanup(func() { pubsub.Close() })
			}
			before := serversCPU(b, cluster)
			for b.Loop() {
				received.Add(channels)
				var publishing sync.WaitGroup
				for m := range test.masters {
					publishing.Go(func() {
						_, err := clients[m].Pipelined(context.Background(), func(p redis.Pipeliner) error {
							for _, name := range names[m] {
								if test.sharded {
									p.SPublish(context.Background(), name, body)
								} else {
									p.Publish(context.Background(), name, body)
								}
							}
							return nil
						})
						if err != nil {
							b.Error(err)
						}
					})
				}
				publishing.Wait()
				received.Wait()
			}
			sum, most := 0.0, 0.0
			for i, after := range serversCPU(b, cluster) {
				sum += after - before[i]
				most = max(most, after-before[i])
			}
			all := float64(b.N * channels)
			b.ReportMetric(sum*1e6/all, "servers-µs/message")
			b.ReportMetric(most*1e6/all, "busiest-µs/message")
		})
	}
}

func serversCPU(b *testing.B, cluster *redistest.Cluster) (all []float64) {
	for _, s := range cluster.Servers {
		all = append(all, serverCPU(b, s))
	}
	return all
}

// tagOf returns a tag whose slot the server has.
func tagOf(b *testing.B, cluster *redistest.Cluster, s *redistest.Server) string {
	b.Helper()
	for i := range 100 {
		if tag := fmt.Sprint(i); cluster.Owner(tag) == s {
			return tag
		}
	}
	b.Fatalf("no tag for %s", s.Addr())
	return ""
}
