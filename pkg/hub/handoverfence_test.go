package hub

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

const partitions = 4

// A partitioned backplane delivers what comes on channels of one partition in order, and
// apart from that in any.
type partitioned struct {
	backplane.Backplane
	delay   func() time.Duration // before each delivery
	streams [partitions]chan func()
	held    [partitions]sync.Mutex // while it is locked, nothing more of the partition is delivered
	one     sync.Mutex             // held during calls of receivers
	running sync.WaitGroup
}

// partition starts the goroutines that deliver, which Close ends.
func partition(of backplane.Backplane, delay func() time.Duration) *partitioned {
	p := &partitioned{Backplane: of, delay: delay}
	for i := range p.streams {
		p.streams[i] = make(chan func(), 1<<16)
		p.running.Go(func() {
			for deliver := range p.streams[i] {
				time.Sleep(p.delay())
				p.held[i].Lock()
				p.one.Lock()
				deliver()
				p.one.Unlock()
				p.held[i].Unlock()
			}
		})
	}
	return p
}

func (p *partitioned) Close() error {
	err := p.Backplane.Close() // after which nothing is delivered
	for _, stream := range p.streams {
		close(stream)
	}
	p.running.Wait()
	return err
}

func (p *partitioned) Attach(prefix string, r backplane.Receiver) (backplane.Attachment, error) {
	a, err := p.Backplane.Attach(prefix, &partitionedReceiver{r.(backplane.NodeWatcher), r, p})
	return partitionedAttachment{a}, err
}

type partitionedReceiver struct {
	backplane.NodeWatcher
	r backplane.Receiver
	p *partitioned
}

func (r *partitionedReceiver) Deliver(ch backplane.Channel, body []byte) {
	r.p.streams[partitionOf(ch)] <- func() { r.r.Deliver(ch, body) }
}

type partitionedAttachment struct{ backplane.Attachment }

func (partitionedAttachment) Partition(ch backplane.Channel) int { return partitionOf(ch) }

func partitionOf(ch backplane.Channel) int {
	if ch == backplane.All {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(ch))
	return int(h.Sum32() % partitions)
}

// onPartitions starts nodes on a backplane of several partitions, none of which is in step
// with another.
func onPartitions(t *testing.T, nodes int, options ...Option) []*berth {
	t.Helper()
	all, _ := onHeldPartitions(t, nodes, func() time.Duration { return rand.N(300 * time.Microsecond) }, options...)
	return all
}

func onHeldPartitions(t *testing.T, nodes int, delay func() time.Duration, options ...Option) ([]*berth, []*partitioned) {
	t.Helper()
	var bus backplane.Bus
	var planes []backplane.Backplane
	var all []*partitioned
	for range nodes {
		p := partition(bus.Join(), delay)
		t.Cleanup(func() { p.Close() })
		planes, all = append(planes, p), append(all, p)
	}
	return berths(t, planes, options...), all
}

// Whichever partition and node is behind during a hand-over, what is sent to groups and to
// all arrives once and in order.
func TestHandOverBetweenPartitions(t *testing.T) {
	for behind := range 2 { // the leaving node, or the successor
		for late := range partitions {
			t.Run(fmt.Sprintf("node %d partition %d", behind, late), func(t *testing.T) {
				nodes, planes := onHeldPartitions(t, 2, func() time.Duration { return 0 })
				s := moor(t, nodes, "ada", protocol.JSON)
				groups := groupsOfPartitions()
				for _, g := range groups {
					if err := nodes[0].Groups().Add(t.Context(), s.id, g); err != nil {
						t.Fatal(err)
					}
				}
				to := map[string]ClientProxy{"All": nodes[1].Clients().All(), "User": nodes[1].Clients().User("ada")}
				for i, g := range groups {
					to[fmt.Sprint("Group", string(rune('A'+i)), "Of")] = nodes[1].Clients().Group(g)
				}
				send := func(n int) {
					for target, to := range to {
						if err := to.Send(t.Context(), target, n); err != nil {
							t.Error(err)
						}
					}
				}
				planes[behind].held[late].Lock()
				release := sync.OnceFunc(planes[behind].held[late].Unlock)
				defer release()
				send(1)
				done := make(chan struct{})
				go func() { // ends with the drain
					defer close(done)
					nodes[0].Drain(t.Context(), 0)
				}()
				await.Until(t, "only what is held is missing", func() error {
					select {
					case <-done: // too early: what arrives shows it
						return nil
					default:
						return nodes[1].missing(s.id, behind == 1)
					}
				})
				send(2)
				release()
				<-done
				send(3)
				if heldBy(nodes, s.id) != nodes[1] {
					t.Fatal("the other node does not hold the connection")
				}
				next := make(map[string]int)
				for range 3 * len(to) {
					text := s.take()
					target, n := text[:len(text)-1], int(text[len(text)-1]-'0')
					if next[target]++; n != next[target] {
						t.Fatalf("got %s, want %s%d", text, target, next[target])
					}
				}
			})
		}
	}
}

// groupsOfPartitions returns a name of a group for each partition.
func groupsOfPartitions() (names [partitions]string) {
	for n, found := 0, 0; found < partitions; n++ {
		name := fmt.Sprint("room", n)
		if p := partitionOf(backplane.Group(name)); names[p] == "" {
			names[p] = name
			found++
		}
	}
	return names
}

// missing reports an error until the node has heard the fences of the connection that
// comes to it: all, or all but one.
func (b *berth) missing(id string, one bool) error {
	b.handovers.mu.Lock()
	a := b.handovers.arriving[id]
	b.handovers.mu.Unlock()
	if a == nil {
		return errors.New("the connection is not on its way")
	}
	a.taken.mu.Lock()
	defer a.taken.mu.Unlock()
	n := len(a.taken.fences)
	if one && n == 1 || !one && n == 0 {
		return nil
	}
	return fmt.Errorf("%d fences are", n)
}
