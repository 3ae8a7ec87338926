package faults

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
)

const (
	nodes = 3
	// common is joined by all nodes; unheard by none.
	common  = backplane.Channel("group:common")
	unheard = backplane.Channel("group:unheard")

	streamPace = time.Millisecond
	joinPace   = 10 * time.Millisecond
)

// own returns the channel that only this node joins.
func own(node int) backplane.Channel { return backplane.Group(fmt.Sprintf("of node %d", node)) }

var discard = slog.New(slog.DiscardHandler)

// A fleet is some nodes, each a backplane with one attachment, with traffic between them
// that goes on whatever happens: every node publishes on channels that all, one and none
// of them have joined, and joins one channel after the other, on which another node
// publishes as soon as the join is in force.
type fleet struct {
	t      *testing.T
	record record
	nodes  [nodes]*node
	before [nodes]counts // the fault

	ctx     context.Context // ends with the traffic
	stop    context.CancelFunc
	traffic sync.WaitGroup // joined by end
}

type node struct {
	*redisplane.Plane
	backplane.Attachment
	*receiver

	mu            sync.Mutex
	taken, failed int       // messages
	latest        time.Time // when the last that was taken was begun
	again         time.Time // when the first was taken after the last that failed; zero: none yet
}

// startFleet starts nodes, of which each has its own URL, and lets the traffic begin. It does
// not wait until they hear. At the end of the test they must leave nothing behind.
func startFleet(t *testing.T, o redisplane.Options, urls [nodes]string) *fleet {
	t.Helper()
	f := &fleet{t: t}
	f.ctx, f.stop = context.WithCancel(context.Background())
	o.Logger = discard
	for i := range f.nodes {
		o.URL = urls[i]
		plane, err := redisplane.New(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := plane.Close(); err != nil {
				t.Error(err)
			}
		})
		n := &node{Plane: plane, receiver: newReceiver(fmt.Sprintf("node %d", i))}
		if n.Attachment, err = plane.Attach("", n.receiver); err != nil {
			t.Fatal(err)
		}
		f.nodes[i] = n
		f.record.receivers = append(f.record.receivers, n.receiver)
	}
	t.Cleanup(f.end)
	for i, n := range f.nodes {
		for _, ch := range []backplane.Channel{common, own(i)} {
			wait := f.hold(n, ch)
			f.traffic.Go(func() { f.join(n, ch, wait) })
		}
		f.traffic.Go(func() { f.stream(i) })
		f.traffic.Go(func() { f.joins(i) })
	}
	return f
}

// end ends the traffic.
func (f *fleet) end() {
	f.stop()
	f.traffic.Wait()
}

// stream publishes on channels that all, one and none have joined.
func (f *fleet) stream(of int) {
	s := f.sender(f.nodes[of], fmt.Sprintf("stream of node %d", of))
	channels := []backplane.Channel{common, own(of), own((of + 1) % nodes), unheard}
	for i := range f.every(streamPace) {
		s.send(channels[i%len(channels)])
	}
}

// every counts from 0, once in the time, until the traffic ends.
func (f *fleet) every(pace time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-f.ctx.Done():
				return
			case <-tick.C:
			}
			if !yield(i) {
				return
			}
		}
	}
}

// joins joins channels, on each of which the next node publishes once the join is in force.
// What has got its message is left, at most a few joins later.
func (f *fleet) joins(of int) {
	type joined struct {
		channel backplane.Channel
		message *message
	}
	n := f.nodes[of]
	next := f.sender(f.nodes[(of+1)%nodes], fmt.Sprintf("greeter of node %d", of))
	var waiting []joined
	for i := range f.every(joinPace) {
		ch := backplane.Group(fmt.Sprintf("joined by node %d, %d", of, i))
		if !f.join(n, ch, f.hold(n, ch)) {
			return
		}
		waiting = append(waiting, joined{ch, next.send(ch)})
		for len(waiting) > 0 && n.has(waiting[0].message) {
			n.leaves(waiting[0].channel)
			waiting = waiting[1:]
		}
		if len(waiting) > 8 {
			waiting = waiting[1:] // held to the end
		}
	}
}

func (n *node) leaves(ch backplane.Channel) {
	n.receiver.leaves(ch)
	n.Unsubscribe(ch)
}

func (f *fleet) hold(n *node, ch backplane.Channel) (wait func(context.Context) error) {
	n.holds(ch)
	return n.Subscribe(ch)
}

// join waits, again and again, until the join is in force. It returns false if the traffic
// ends before.
func (f *fleet) join(n *node, ch backplane.Channel, wait func(context.Context) error) bool {
	for {
		err := wait(f.ctx)
		switch {
		case err == nil:
			n.inForce(ch)
			return true
		case f.ctx.Err() != nil:
			return false
		case !errors.Is(err, backplane.ErrUnavailable):
			f.t.Errorf("who joined %s was told %v", ch, err)
			return false
		}
	}
}

// A sender publishes one message after the other.
type sender struct {
	fleet  *fleet
	node   *node
	name   string
	number int // the sending goroutine's
}

func (f *fleet) sender(n *node, name string) *sender {
	return &sender{fleet: f, node: n, name: name}
}

// send publishes the next message, which it returns.
func (s *sender) send(ch backplane.Channel) *message { return s.sendPadded(ch, "") }

// sendPadded adds to what is published.
func (s *sender) sendPadded(ch backplane.Channel, more string) *message {
	s.number++
	m := &message{sender: s.name, number: s.number, channel: ch, order: s.node.Partition(ch), begun: time.Now()}
	s.fleet.record.add(m)
	m.err = s.node.Publish(context.Background(), []byte(m.body()+more), ch)
	m.ended = time.Now()
	s.node.note(m)
	return m
}

// note counts a message that the node has published, or tried to.
func (n *node) note(m *message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.err != nil {
		n.failed++
		n.again = time.Time{}
		return
	}
	n.taken++
	if n.again.IsZero() {
		n.again = m.ended
	}
	if m.begun.After(n.latest) {
		n.latest = m.begun
	}
}

// counts are of one node, so far.
type counts struct {
	taken, failed int       // messages
	latest, again time.Time // as in the node
	gaps          int
}

func (n *node) counts() counts {
	c := counts{gaps: n.gapCount()}
	n.mu.Lock()
	defer n.mu.Unlock()
	c.taken, c.failed, c.latest, c.again = n.taken, n.failed, n.latest, n.again
	return c
}

func (f *fleet) counts() (all [nodes]counts) {
	for i, n := range f.nodes {
		all[i] = n.counts()
	}
	return all
}

// awaitHearing waits until all nodes hear.
func (f *fleet) awaitHearing() {
	f.t.Helper()
	for _, n := range f.nodes {
		await.Until(f.t, n.name+" hears", n.Healthy)
	}
}

// awaitTaken waits until every node has sent so many messages more.
func (f *fleet) awaitTaken(count int) {
	f.t.Helper()
	before := f.counts()
	for i, n := range f.nodes {
		await.Until(f.t, fmt.Sprintf("%s has sent %d messages more", n.name, count), func() error {
			if now := n.counts(); now.taken < before[i].taken+count {
				return fmt.Errorf("it has sent %d, now %d", before[i].taken, now.taken)
			}
			return nil
		})
	}
}

// awaitFailing waits until every node has failed to send since the fault began.
func (f *fleet) awaitFailing() {
	f.t.Helper()
	for i, n := range f.nodes {
		await.Until(f.t, n.name+" fails to send", func() error {
			if now := n.counts(); now.failed == f.before[i].failed {
				return fmt.Errorf("it has sent %d messages more", now.taken-f.before[i].taken)
			}
			return nil
		})
	}
}

// awaitGaps waits until the nodes are in a gap, or have had one since the fault began.
func (f *fleet) awaitGaps(of ...int) {
	f.t.Helper()
	for _, i := range of {
		n := f.nodes[i]
		await.Until(f.t, n.name+" knows that it does not hear", func() error {
			if n.Healthy() == nil && n.counts().gaps == f.before[i].gaps {
				return errors.New("it does not")
			}
			return nil
		})
	}
}

// recovers waits until all nodes hear, and send what they are to, and prints how long that
// took since the fault was over.
func (f *fleet) recovers(fault string, over time.Time) {
	f.t.Helper()
	await.Until(f.t, "all nodes send and hear", func() error {
		for _, n := range f.nodes {
			if c := n.counts(); c.latest.Before(over) || c.again.IsZero() {
				return fmt.Errorf("%s does not send: %d messages have failed", n.name, c.failed)
			}
			if err := n.Healthy(); err != nil {
				return err
			}
		}
		return nil
	})
	hears := time.Since(over)
	f.awaitTaken(100)
	var sends time.Duration
	for _, n := range f.nodes {
		sends = max(sends, n.counts().again.Sub(over))
	}
	const grain = time.Millisecond
	f.t.Logf("recovery: %s: sends again after %v, all nodes hear after %v", fault, sends.Round(grain), hears.Round(grain))
}

// judged ends the traffic, waits until nothing is on its way, and judges.
func (f *fleet) judged() verdict {
	f.t.Helper()
	f.end()
	f.settle()
	for _, n := range f.nodes {
		n.Close()
	}
	v := f.record.judge()
	f.t.Log(v)
	for _, wrong := range v.first() {
		f.t.Error(wrong)
	}
	return v
}

// settle returns once all nodes have heard a last message on every channel that they have
// joined. One that is lost in a gap is sent again.
func (f *fleet) settle() {
	f.t.Helper()
	for i, n := range f.nodes {
		last := f.sender(f.nodes[(i+1)%nodes], fmt.Sprintf("end of node %d", i))
		for _, ch := range n.joined() {
			var m *message
			var before [nodes]int
			await.Until(f.t, fmt.Sprintf("the last on %s has been heard", ch), func() error {
				var gaps [nodes]int
				for i, n := range f.nodes {
					if err := n.Healthy(); err != nil {
						return err
					}
					gaps[i] = n.gapCount()
				}
				if m == nil || m.err != nil || gaps != before {
					m, before = last.send(ch), gaps
				}
				return errors.Join(m.err, f.unheardBy(m))
			})
		}
	}
}

// unheardBy returns an error if a node that has joined the channel has not heard the message.
func (f *fleet) unheardBy(m *message) error {
	for _, n := range f.nodes {
		if slices.Contains(n.joined(), m.channel) && !n.has(m) {
			return fmt.Errorf("%s has not", n.name)
		}
	}
	return nil
}

// leakless makes the test fail if goroutines that begin after this are left when all
// that is cleaned up later has been.
func leakless(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}
