//go:build linux

package redisplane

import (
	"bufio"
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// BenchmarkPublishCost is one message of 200 bytes, published through the lane and awaited by
// as many senders, against the Redis library alone: its pipelines of 32 by one goroutine,
// and its Publish by as many senders.
func BenchmarkPublishCost(b *testing.B) {
	const group = "group:benchmark"
	body := []byte(strings.Repeat("x", 200))
	for _, senders := range []int{1, 32} {
		b.Run(fmt.Sprintf("senders=%d", senders), func(b *testing.B) {
			server := redistest.Start(b)
			n := start(b, server.URL())
			bare := bareClient(b, server)
			compare(b, server, 4096, []variant{
				{"lane", func(b *testing.B, count int) {
					share(b, senders, count, func(ctx context.Context) error { return n.Publish(ctx, body, group) })
				}},
				{"pipeline", func(b *testing.B, count int) {
					const batch = 32
					share(b, 1, count/batch, func(ctx context.Context) error {
						_, err := bare.Pipelined(ctx, func(p redis.Pipeliner) error {
							for range batch {
								p.Publish(ctx, group, body)
							}
							return nil
						})
						return err
					})
				}},
				{"sync", func(b *testing.B, count int) {
					share(b, senders, count, func(ctx context.Context) error { return bare.Publish(ctx, group, body).Err() })
				}},
			})
		})
	}
}

// BenchmarkReceiveCost is one envelope with a body of 200 bytes, from the socket to Deliver,
// against a PubSub of the Redis library whose Receive is called in a loop. A script in Redis
// publishes, so that the process does nothing else.
func BenchmarkReceiveCost(b *testing.B) {
	server := redistest.Start(b)
	n := start(b, server.URL())
	counter := &tally{reached: make(chan struct{}, 1)}
	a, err := n.Attach("bench/", counter)
	if err != nil {
		b.Fatal(err)
	}
	if err := a.Subscribe("a")(inTime(b)); err != nil {
		b.Fatal(err)
	}
	pubsub := bareClient(b, server).Subscribe(inTime(b), "bare")
	defer pubsub.Close()
	if _, err := pubsub.Receive(inTime(b)); err != nil {
		b.Fatal(err)
	}
	sequence := 0
	burst := func(b *testing.B, channel string, count int) {
		if err := server.Client().Eval(inTime(b), burstScript, nil, channel, sequence, count).Err(); err != nil {
			b.Error(err)
		}
		sequence += count
	}
	compare(b, server, 4096, []variant{
		{"plane", func(b *testing.B, count int) {
			counter.expect(count)
			burst(b, "bench/a", count)
			<-counter.reached
		}},
		{"bare", func(b *testing.B, count int) {
			var loop sync.WaitGroup
			loop.Go(func() {
				for range count {
					if _, err := pubsub.Receive(context.Background()); err != nil {
						b.Error(err)
						return
					}
				}
			})
			burst(b, "bare", count)
			loop.Wait()
		}},
	})
}

// burstScript publishes envelopes of one publisher: version, header length, publisher "b",
// incarnation 1, lane 0 and a sequence number in four bytes; then the body.
const burstScript = `
local first, count = tonumber(ARGV[2]), tonumber(ARGV[3])
local body = string.rep('x', 200)
for s = first + 1, first + count do
	redis.call('publish', ARGV[1], '\1\8\1b\1\0' .. string.char(
		s % 128 + 128, math.floor(s / 128) % 128 + 128, math.floor(s / 16384) % 128 + 128, math.floor(s / 2097152)) .. body)
end
return count`

// A tally is a receiver that tells when as many have arrived as were expected.
type tally struct {
	mu      sync.Mutex
	left    int
	reached chan struct{}
}

func (t *tally) expect(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = n
}

// Deliver implements [backplane.Receiver].
func (t *tally) Deliver(backplane.Channel, []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left--; t.left == 0 {
		t.reached <- struct{}{}
	}
}

// BenchmarkSubscribe100000 is 100,000 channels, subscribed by a node until the last is in
// force, against a PubSub of the Redis library that subscribes in commands of 100, both anew
// each time. Memory is what the process and Redis have more of afterwards, the names, of 12
// bytes or less, included.
func BenchmarkSubscribe100000(b *testing.B) {
	const count, batch = 100_000, 100
	server := redistest.Start(b)
	var plane, bare struct {
		cost
		node, redis float64
	}
	for b.Loop() {
		n := start(b, server.URL(), func(o *Options) { o.SubscribeTimeout = time.Minute })
		node, inRedis := heap(), info(b, server, "used_memory")
		channels := make([]backplane.Channel, count)
		for i := range channels {
			channels[i] = backplane.Group(strconv.Itoa(i))
		}
		plane.measure(b, server, func() {
			if err := n.Subscribe(channels...)(inTime(b)); err != nil {
				b.Fatal(err)
			}
		})
		plane.node += float64(heap()) - float64(node)
		plane.redis += info(b, server, "used_memory") - inRedis
		n.Close()
		awaitNobody(b, server)

		pubsub := bareClient(b, server).Subscribe(inTime(b), "first")
		if _, err := pubsub.Receive(inTime(b)); err != nil {
			b.Fatal(err)
		}
		node, inRedis = heap(), info(b, server, "used_memory")
		names := make([]string, count)
		for i := range names {
			names[i] = "group:" + strconv.Itoa(i)
		}
		bare.measure(b, server, func() {
			var confirmed sync.WaitGroup
			confirmed.Go(func() {
				for range count {
					if _, err := pubsub.Receive(context.Background()); err != nil {
						b.Error(err)
						return
					}
				}
			})
			for i := 0; i < count; i += batch {
				if err := pubsub.Subscribe(context.Background(), names[i:i+batch]...); err != nil {
					b.Fatal(err)
				}
			}
			confirmed.Wait()
		})
		bare.node += float64(heap()) - float64(node)
		bare.redis += info(b, server, "used_memory") - inRedis
		pubsub.Close()
		awaitNobody(b, server)
	}
	all := float64(b.N * count)
	b.ReportMetric(plane.wall.Seconds()*1000/float64(b.N), "plane-ms")
	b.ReportMetric(bare.wall.Seconds()*1000/float64(b.N), "bare-ms")
	b.ReportMetric(plane.wall.Seconds()/bare.wall.Seconds(), "time-ratio")
	b.ReportMetric(plane.cpu.Seconds()*1e6/all, "plane-cpu-µs/channel")
	b.ReportMetric(bare.cpu.Seconds()*1e6/all, "bare-cpu-µs/channel")
	b.ReportMetric(plane.node/all, "plane-B/channel")
	b.ReportMetric(bare.node/all, "bare-B/channel")
	b.ReportMetric(plane.redis/all, "redis-B/channel")
	b.ReportMetric(bare.redis/all, "redis-bare-B/channel")
}

// awaitNobody waits until Redis has let go of all that was subscribed.
func awaitNobody(b *testing.B, server *redistest.Server) {
	b.Helper()
	await.Until(b, "nothing is subscribed", func() error {
		if left := server.Channels(b); len(left) > 0 {
			return fmt.Errorf("%d channels are", len(left))
		}
		return nil
	})
}

// A variant is a way to do something many times.
type variant struct {
	name string
	run  func(b *testing.B, count int)
}

// A cost is what something has taken.
type cost struct {
	wall, cpu time.Duration // of this process
	redis     float64       // CPU seconds of the server
}

func (c *cost) measure(b *testing.B, server *redistest.Server, what func()) {
	b.Helper()
	redis, cpu, begin := serverCPU(b, server), processCPU(b), time.Now()
	what()
	c.wall += time.Since(begin)
	c.cpu += processCPU(b) - cpu
	c.redis += serverCPU(b, server) - redis
}

// compare runs the variants in turn, chunk by chunk, so that what disturbs the machine
// disturbs all alike. One operation is one chunk of each. It reports what each costs, and the
// CPU of the first as a ratio to each of the others.
func compare(b *testing.B, server *redistest.Server, chunk int, variants []variant) {
	costs := make([]cost, len(variants))
	for b.Loop() {
		for i, v := range variants {
			costs[i].measure(b, server, func() { v.run(b, chunk) })
		}
	}
	all := float64(b.N * chunk)
	for i, v := range variants {
		b.ReportMetric(all/costs[i].wall.Seconds(), v.name+"/s")
		b.ReportMetric(costs[i].cpu.Seconds()*1e6/all, v.name+"-cpu-µs")
		b.ReportMetric(costs[i].redis*1e6/all, v.name+"-redis-µs")
		if i > 0 {
			b.ReportMetric(costs[0].cpu.Seconds()/costs[i].cpu.Seconds(), variants[0].name+":"+v.name)
		}
	}
}

// share has as many senders do something count times in all.
func share(b *testing.B, senders, count int, do func(context.Context) error) {
	var all sync.WaitGroup
	for range senders {
		all.Go(func() {
			for range count / senders {
				if err := do(context.Background()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

func bareClient(b *testing.B, server *redistest.Server) *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 64, MaxRetries: -1, DisableIdentity: true})
	b.Cleanup(func() { c.Close() })
	return c
}

func processCPU(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func serverCPU(b *testing.B, server *redistest.Server) float64 {
	b.Helper()
	return info(b, server, "used_cpu_user") + info(b, server, "used_cpu_sys")
}

// info reads one number of INFO.
func info(b *testing.B, server *redistest.Server, field string) float64 {
	b.Helper()
	text, err := server.Client().Info(inTime(b), "cpu", "memory").Result()
	if err != nil {
		b.Fatal(err)
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); name == field {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("INFO has no %s", field)
	return 0
}

// heap returns the bytes in use, after what is not in use has gone.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
