package redisplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

func TestShardedContract(t *testing.T) {
	o := Options{URL: redistest.StartCluster(t).URL() + "?partitions=3", ProbeInterval: time.Second}
	if soak() {
		o.URL, _, _ = strings.Cut(o.URL, "?")
	}
	runContract(t, o)
}

func TestPartitions(t *testing.T) {
	cluster := redistest.StartCluster(t)
	url := cluster.URL() + "?partitions=6"

	t.Run("InUse", func(t *testing.T) { testPartitionsInUse(t, cluster, url) })

	t.Run("Begins", func(t *testing.T) { testPartitionBegins(t, url) })

	t.Run("PublishedByOthers", func(t *testing.T) {
		n := start(t, url, keyed(firstKey), demanding)
		channels := channelsOf(n)
		n.join(t, channels...)
		p := startPublisher(t, "", url, keyed(firstKey))
		if err := p.Publish(inTime(t), []byte("hi"), channels...); err != nil {
			t.Fatal(err)
		}
		await.Until(t, "all have arrived", func() error {
			if got := n.received(); len(got) != len(channels) {
				return fmt.Errorf("%q have", got)
			}
			return nil
		})
		open := start(t, url)
		for i, ch := range channels {
			open.join(t, ch)
			name := open.layout.tags[i] + string(ch)
			if err := cluster.Owner(name).Client().SPublish(inTime(t), name, fmt.Sprintf("{%d}", i)).Err(); err != nil {
				t.Fatal(err)
			}
			open.awaitLast(t, fmt.Sprintf("%s {%d}", ch, i))
		}
	})

	t.Run("Disagree", func(t *testing.T) {
		first := start(t, url, probing(100*time.Millisecond))
		for other, want := range map[string]string{
			"?pubsub=classic": first.NodeID() + " has sharded channels in 6 partitions, this one classic channels",
			"?partitions=7":   "has sharded channels in 6 partitions, this one sharded channels in 7 partitions",
		} {
			n := startDeaf(t, cluster.URL()+other, probing(100*time.Millisecond))
			await.Until(t, "the node says with whom it disagrees", func() error {
				if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), want) {
					return fmt.Errorf("it says %v", err)
				}
				return nil
			})
			if err := first.Healthy(); err != nil {
				t.Errorf("the node that was there first: %v", err)
			}
			n.Close()
		}
		first.Close()
		n := start(t, cluster.URL()+"?pubsub=classic")
		n.awaitHealthy(t) // who has left is not asked
		n.Close()
	})

	t.Run("Kept", func(t *testing.T) { testKeptInPartitions(t, cluster, url) })
}

// One server, or slot, goes elsewhere after the other.
func TestPartitionsMove(t *testing.T) {
	cluster := redistest.StartCluster(t)
	url := cluster.URL() + "?partitions=6"
	other := func(than *redistest.Server) *redistest.Server {
		for _, s := range cluster.Servers {
			if s != than && ownsAny(cluster, s) {
				return s
			}
		}
		return nil
	}
	t.Run("Move", func(t *testing.T) {
		disturb(t, cluster, url, true, func(tags []string, from *redistest.Server) (moved []string) {
			cluster.Move(tags[0], other(from))
			return tags[:1]
		})
	})
	t.Run("Reshard", func(t *testing.T) {
		disturb(t, cluster, url, true, func(tags []string, from *redistest.Server) (moved []string) {
			to := other(from)
			for _, tag := range tags {
				cluster.Move(tag, to)
			}
			return tags
		})
	})
	t.Run("Failover", func(t *testing.T) {
		disturb(t, cluster, url, true, func(tags []string, from *redistest.Server) (moved []string) {
			cluster.Failover(from)
			return tags
		})
	})
	t.Run("Kill", func(t *testing.T) {
		disturb(t, cluster, url, false, func(tags []string, from *redistest.Server) (moved []string) {
			from.Kill()
			return tags
		})
	})
}

// ownsAny reports whether the server has some partition of the layouts in these tests.
func ownsAny(cluster *redistest.Cluster, s *redistest.Server) bool {
	return slices.ContainsFunc(sharded(6).tags, func(tag string) bool { return cluster.Owner(tag) == s })
}

// channelsOf returns a channel of a group in each partition.
func channelsOf(n *node) []backplane.Channel { return kindOf(n, backplane.Group) }

// kindOf returns a channel of the kind in each partition.
func kindOf(n *node, kind func(name string) backplane.Channel) []backplane.Channel {
	channels := make([]backplane.Channel, len(n.layout.tags))
	for i, found := 0, 0; found < len(channels); i++ {
		ch := kind(fmt.Sprint(i))
		if at := n.Partition(ch); channels[at] == "" {
			channels[at] = ch
			found++
		}
	}
	return channels
}

// A node has to do with the partitions alone that it uses, and with those in full.
func testPartitionsInUse(t *testing.T, cluster *redistest.Cluster, url string) {
	n := start(t, url)
	inUse := func() (numbers []int) {
		for i := range n.partitions.all() {
			numbers = append(numbers, i)
		}
		return numbers
	}
	channels := channelsOf(n)
	n.send(t, "to nobody", backplane.Node("x"), backplane.All)
	if got := inUse(); !slices.Equal(got, []int{0}) {
		t.Errorf("partitions %v are in use at the start", got)
	}
	n.Unsubscribe(channels[1])
	n.join(t, channels[2])
	n.send(t, "hi", channels[3])
	if got := inUse(); !slices.Equal(got, []int{0, 2, 3}) {
		t.Errorf("partitions %v are in use, want 0, 2, 3", got)
	}
	for i, q := range n.partitions.all() {
		await.Until(t, "each is heard", func() error {
			select {
			case <-q.subscriber.begun:
				return nil
			default:
				return fmt.Errorf("partition %d is not", i)
			}
		})
		tag := n.layout.tags[i]
		owner := cluster.Owner(tag).Client()
		got, err := owner.PubSubShardChannels(inTime(t), tag+"*").Result()
		want := []string{tag + "node:" + n.NodeID()}
		switch i {
		case 0:
			want = append(want, tag+"all")
		case 2:
			want = append(want, tag+string(channels[2]))
		}
		got = slices.DeleteFunc(got, func(name string) bool { return strings.Contains(name, "node:") && name != want[0] })
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("subscribed in partition %d are %q, %v; want %q", i, got, err, want)
		}
	}
	if err := n.Healthy(); err != nil {
		t.Error(err)
	}
}

// Who joins in a partition that is new to the node waits until what is kept there has been
// read: or else an operation could be read before it is heard, and come before its time.
func testPartitionBegins(t *testing.T, url string) {
	n := start(t, url)
	n.join(t, backplane.All) // so the node is announced
	ch := channelsOf(n)[3]
	p := n.partitions.get(3)
	p.keeper.mu.Lock() // so that nothing is read
	wait := n.Subscribe(ch)
	await.Until(t, "the channel is subscribed", func() error {
		if _, pending := p.subscriber.counts(); pending > 0 {
			return fmt.Errorf("%d are not", pending)
		}
		return nil
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the join has returned early: %v", err)
	}
	p.keeper.mu.Unlock()
	if err := wait(inTime(t)); err != nil {
		t.Error(err)
	}
}

// What is kept is made up for in the partition of its channel.
func testKeptInPartitions(t *testing.T, cluster *redistest.Cluster, url string) {
	rights := func(words ...any) {
		t.Helper()
		for _, s := range cluster.Servers {
			if err := s.Client().Do(inTime(t), append([]any{"acl", "setuser", "listener"}, words...)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	rights("on", ">the-password", "allkeys", "allchannels", "+@all")
	sender, n := start(t, url), start(t, strings.Replace(url, "://", "://listener:the-password@", 1))
	channels := channelsOf(n)
	n.join(t, channels...)
	rights("-ssubscribe")
	n.partitions.find(4).subscriber.cut(errDeaf)
	await.Until(t, "the node is deaf in one partition", func() error {
		if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), "partition 4") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	var want []string
	for i, ch := range channels {
		if _, err := sender.PublishKept(inTime(t), operation(fmt.Sprint(i)), ch); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%s \x02%d", ch, i))
	}
	rights("+ssubscribe")
	await.Until(t, "each operation has arrived", func() error {
		got := n.received()
		slices.Sort(got)
		if !slices.Equal(got, slices.Sorted(slices.Values(want))) {
			return fmt.Errorf("%q have", got)
		}
		return n.Healthy()
	})
	for _, tag := range n.layout.tags[1:] {
		key := tag + ":operations:"
		if length, err := cluster.Owner(tag).Client().XLen(inTime(t), key).Result(); err != nil || length == 0 {
			t.Errorf("the stream %s has %d entries, %v", key, length, err)
		}
	}
}

// disturb has something happen to a server that has several partitions, while a node
// publishes in all of them; provoke is given their tags, and returns those that go elsewhere.
// In all of them both ends are held to what they promise, and in the others nothing happens.
func disturb(t *testing.T, cluster *redistest.Cluster, url string, lives bool, provoke func(tags []string, from *redistest.Server) (moved []string)) {
	gaps := newGapLogs()
	sender := start(t, url)
	receiver := start(t, url, func(o *Options) { o.Logger = slog.New(gaps) })
	channels := channelsOf(receiver)
	receiver.join(t, channels...)

	tags := make(map[*redistest.Server][]string)
	for _, tag := range receiver.layout.tags {
		owner := cluster.Owner(tag)
		tags[owner] = append(tags[owner], tag)
	}
	from := cluster.Owner(receiver.layout.tags[1])
	if len(tags[from]) == len(channels) {
		t.Fatal("one server has all partitions")
	}
	streams := make([]*stream, len(channels))
	for i, ch := range channels {
		streams[i] = sender.stream(t, ch)
		streams[i].await(t, true)
	}
	begin := time.Now()
	moved := provoke(tags[from], from)
	affects := func(i int) bool { return slices.Contains(moved, receiver.layout.tags[i]) }
	for i := range channels {
		for _, n := range []*node{sender, receiver} {
			await.Until(t, "the nodes have another master", func() error {
				if affects(i) && n.first.site.lookout.is(i, from.Addr()) {
					return errors.New("they have not")
				}
				return nil
			})
		}
		streams[i].await(t, true)
	}
	wait := receiver.Subscribe(kindOf(receiver, backplane.User)...)
	await.Until(t, "joins are in force", func() error { return wait(inTime(t)) })
	t.Logf("sends succeed again, and joins are in force, after %v", time.Since(begin).Round(time.Millisecond))
	await.Until(t, "the gaps have ended", func() error {
		for i := range channels {
			if affects(i) && len(gaps.of(i).closed()) == 0 {
				return fmt.Errorf("that of partition %d has not", i)
			}
		}
		return errors.Join(sender.Healthy(), receiver.Healthy())
	})
	t.Logf("the gaps have ended after %v", time.Since(begin).Round(time.Millisecond))

	for i, ch := range channels {
		sent := len(streams[i].end())
		sender.send(t, "end", ch)
		last := string(ch) + " end"
		await.Until(t, last+" has arrived", func() error {
			if !slices.Contains(receiver.received(), last) {
				return errors.New("it has not")
			}
			return nil
		})
		checkNumbers(t, receiver.received(), ch, streams[i], gaps.of(i), lives || !affects(i))
		if got := len(gaps.of(i).closed()); affects(i) != (got == 1) || got > 1 {
			t.Errorf("partition %d has had %d gaps, %v; it went elsewhere: %t", i, got, gaps.of(i).closed(), affects(i))
		}
		t.Logf("partition %d: %d numbers sent", i, sent)
	}
}

// gapLogs is a log handler that keeps when a node was deaf in which partition.
type gapLogs struct {
	mu   sync.Mutex
	logs map[int]*gapLog
}

func newGapLogs() *gapLogs { return &gapLogs{logs: make(map[int]*gapLog)} }

func (l *gapLogs) of(partition int) *gapLog {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.logs[partition] == nil {
		l.logs[partition] = new(gapLog)
	}
	return l.logs[partition]
}

func (l *gapLogs) Enabled(context.Context, slog.Level) bool { return true }

func (l *gapLogs) Handle(context.Context, slog.Record) error { return nil }

func (l *gapLogs) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "partition" {
			return l.of(int(a.Value.Int64()))
		}
	}
	return l
}

func (l *gapLogs) WithGroup(string) slog.Handler { return l }
