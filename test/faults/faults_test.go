package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
)

// hasty are options with which nodes notice soon what goes wrong.
var hasty = redisplane.Options{
	ProbeInterval:    200 * time.Millisecond,
	PublishTimeout:   time.Second,
	DialTimeout:      time.Second,
	SubscribeTimeout: time.Second,
}

// A fault is something that goes wrong with one Redis, or on the way there.
type fault struct {
	name    string
	options redisplane.Options
	direct  bool // without proxies, which would hold much
	// before comes before the nodes start, if it is not nil; then they do not hear.
	before func(*place)
	// make makes the fault, waits until nodes have noticed, and returns when it was over.
	make func(*place) (over time.Time)
	hurt []int // the nodes that are in a gap meanwhile; none: nobody is, and nothing fails
}

var all = []int{0, 1, 2}

var faults = []fault{
	{name: "killed and restarted", options: hasty, hurt: all, make: func(p *place) time.Time {
		p.redis.Kill()
		p.awaitFailing()
		p.awaitGaps(all...)
		p.redis.Restart()
		return time.Now()
	}},
	{name: "paused for longer than the time-outs", options: hasty, hurt: all, make: func(p *place) time.Time {
		p.redis.Pause()
		p.awaitFailing()
		p.awaitGaps(all...)
		p.redis.Resume()
		return time.Now()
	}},
	{name: "paused for 1s, less than the time-outs", make: func(p *place) time.Time {
		p.redis.Pause()
		time.Sleep(time.Second)
		p.redis.Resume()
		return time.Now()
	}},
	{name: "latency of 200ms", make: func(p *place) time.Time {
		for _, proxy := range p.proxies {
			proxy.Delay(200 * time.Millisecond)
		}
		p.awaitTaken(5)
		for _, proxy := range p.proxies {
			proxy.Delay(0)
		}
		return time.Now()
	}},
	{name: "all connections half-open", options: hasty, hurt: all, make: func(p *place) time.Time {
		begun := time.Now()
		for _, proxy := range p.proxies {
			for _, pipe := range append(proxy.Subscribers(), proxy.Others()...) {
				pipe.Freeze(redistest.ToServer)
				pipe.Freeze(redistest.ToClient)
			}
		}
		p.awaitFailing()
		p.awaitGaps(all...)
		return begun
	}},
	{name: "subscription half-open, default options", hurt: []int{0}, make: func(p *place) time.Time {
		begun := time.Now()
		for _, pipe := range p.proxies[0].Subscribers() {
			pipe.Freeze(redistest.ToClient)
		}
		p.awaitGaps(0)
		if found := time.Since(begun); found > 10*time.Second {
			p.t.Errorf("it was found after %v, want 10s at most", found)
		}
		return begun
	}},
	{name: "slow consumer cut by Redis", direct: true, hurt: []int{0}, make: func(p *place) time.Time {
		p.do("config", "set", "client-output-buffer-limit", "pubsub 1mb 1mb 0")
		unblock := p.nodes[0].block()
		defer unblock()
		flood := p.sender(p.nodes[1], "flood")
		more := strings.Repeat(padding, 256<<10)
		await.Until(p.t, "Redis has cut the slow consumer", func() error {
			for range 10 {
				if m := flood.sendPadded(own(0), more); m.err != nil {
					p.t.Fatal(m.err)
				}
			}
			if !strings.Contains(p.redis.Log(), "overcoming of output buffer limits") {
				return errors.New("it has not")
			}
			return nil
		})
		unblock()
		over := time.Now()
		p.awaitGaps(0)
		return over
	}},
	{name: "maxclients reached", options: hasty, hurt: all, make: func(p *place) time.Time {
		p.do("config", "set", "maxclients", "1")
		p.do("client", "kill", "type", "normal")
		p.do("client", "kill", "type", "pubsub")
		p.awaitFailing()
		p.awaitGaps(all...)
		p.do("config", "set", "maxclients", "10000")
		return time.Now()
	}},
	{name: "made a read-only replica", options: hasty, hurt: all, make: func(p *place) time.Time {
		host, port, _ := net.SplitHostPort(redistest.Start(p.t).Addr())
		p.do("replicaof", host, port)
		p.awaitFailing()
		p.awaitGaps(all...)
		p.do("replicaof", "no", "one")
		return time.Now()
	}},
	{
		name: "wrong password at start", options: hasty,
		before: func(p *place) { p.do("acl", "setuser", user, "resetpass", ">another") },
		make: func(p *place) time.Time {
			p.awaitFailing()
			p.do("acl", "setuser", user, "resetpass", ">"+password)
			return time.Now()
		},
	},
	{name: "wrong password later", options: hasty, hurt: all, make: func(p *place) time.Time {
		p.do("acl", "setuser", user, "resetpass", ">another")
		p.do("client", "kill", "user", user)
		p.awaitFailing()
		p.awaitGaps(all...)
		p.do("acl", "setuser", user, "resetpass", ">"+password)
		return time.Now()
	}},
}

func TestFaults(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			leakless(t)
			p := newPlace(t)
			if fault.before != nil {
				fault.before(p)
			}
			p.fleet = startFleet(t, fault.options, p.urls(fault.direct))
			if fault.before == nil {
				p.awaitHearing()
			}
			p.endure(fault.name, func() time.Time { return fault.make(p) })

			p.judged()
			for i, c := range p.counts() {
				hurt := slices.Contains(fault.hurt, i)
				if hurt != (c.gaps > 0) {
					t.Errorf("node %d has had %d gaps, want some: %t", i, c.gaps, hurt)
				}
				if fault.hurt == nil && fault.before == nil && c.failed > 0 {
					t.Errorf("node %d has failed to send %d messages, and there was no need for that", i, c.failed)
				}
			}
		})
	}
}

// endure lets a fleet that hears go through a fault, in traffic before, during and after it.
func (f *fleet) endure(name string, fault func() (over time.Time)) {
	f.t.Helper()
	f.before = f.counts()
	if f.nodes[0].Healthy() == nil {
		f.awaitTaken(100)
	}
	f.recovers(name, fault())
}

// user and password are what the nodes have; the test itself needs none.
const user, password = "app", "secret"

// A place is one Redis, a proxy before it for each node, and the nodes.
type place struct {
	*fleet
	t       *testing.T
	redis   *redistest.Server
	proxies [nodes]*redistest.Proxy
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, redis: redistest.Start(t, "--user", user, "on", ">"+password, "~*", "&*", "+@all")}
	for i := range p.proxies {
		p.proxies[i] = redistest.NewProxy(t, p.redis)
	}
	return p
}

// urls returns what the nodes connect to.
func (p *place) urls(direct bool) (urls [nodes]string) {
	for i, proxy := range p.proxies {
		url := proxy.URL()
		if direct {
			url = p.redis.URL()
		}
		urls[i] = strings.Replace(url, "redis://", "redis://"+user+":"+password+"@", 1)
	}
	return urls
}

// do has Redis perform a command.
func (p *place) do(command ...any) (reply string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	answer, err := p.redis.Client().Do(ctx, command...).Result()
	if err != nil {
		p.t.Fatalf("%v: %v", command, err)
	}
	return fmt.Sprint(answer)
}
