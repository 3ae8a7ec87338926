package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// Wait returns once all of these channels' subscriptions are in force: what any node
// publishes from then on arrives.
func testSubscribedBeforeWaitReturns(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	const goroutines, rounds = 4, 50
	var group sync.WaitGroup
	for g := range goroutines {
		group.Go(func() {
			for i := range rounds {
				ch := backplane.Group(fmt.Sprint(g, " ", i))
				if err := inTime(t, receiver.Subscribe(ch)); err != nil {
					t.Errorf("subscribe: %v", err)
					return
				}
				sender.publish(t, "hi", ch)
			}
		})
	}
	group.Wait()
	sender.flush(t, receiver)
	receiver.awaitCount(t, goroutines*rounds)
	var want []message
	for g := range goroutines {
		for i := range rounds {
			want = append(want, message{backplane.Group(fmt.Sprint(g, " ", i)), "hi"})
		}
	}
	receiver.expect(t, want...)
}

// The same on a channel that is being unsubscribed.
func testSubscribedAgainBeforeWaitReturns(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	const rounds = 200
	ch := backplane.Group("again")
	var want []message
	for i := range rounds {
		receiver.subscribe(t, ch)
		m := message{ch, strconv.Itoa(i)}
		sender.publish(t, m.body, m.channel)
		receiver.await(t, m)
		receiver.Unsubscribe(ch)
		want = append(want, m)
	}
	receiver.expect(t, want...)
}

// A channel that has a holder already may not be in force yet.
func testEachHolderWaits(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	const rounds, holders = 100, 4
	for i := range rounds {
		ch := backplane.Group(strconv.Itoa(i))
		var group sync.WaitGroup
		for h := range holders {
			group.Go(func() {
				if err := inTime(t, receiver.Subscribe(ch)); err != nil {
					t.Errorf("subscribe: %v", err)
					return
				}
				sender.publish(t, strconv.Itoa(h), ch)
			})
		}
		group.Wait()
		for h := range holders {
			receiver.await(t, message{ch, strconv.Itoa(h)})
		}
	}
}

func testManyChannelsAtOnce(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	var channels []backplane.Channel
	var want []message
	for i := range 1000 {
		ch := backplane.User(strconv.Itoa(i))
		channels = append(channels, ch)
		want = append(want, message{ch, "hi"})
	}
	receiver.subscribe(t, channels...)
	sender.publish(t, "hi", channels...)
	receiver.awaitCount(t, len(want))
	receiver.expect(t, want...)

	receiver.Unsubscribe(channels...)
	sender.untilUnheard(t, receiver, channels...)
	receiver.expect(t, want...)
}

// Wait may be called not at all, and when it fails the channels are held all the same.
func testSubscribedWithoutWait(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	receiver.Subscribe("never waited")
	sender.untilHeard(t, receiver, "never waited")

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	wait := receiver.Subscribe("waited in vain")
	if err := wait(cancelled); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("wait under a cancelled context: %v", err)
	}
	sender.untilHeard(t, receiver, "waited in vain")
	if err := inTime(t, wait); err != nil {
		t.Errorf("wait for what is in force: %v", err)
	}
	receiver.Unsubscribe("waited in vain")
	sender.untilUnheard(t, receiver, "waited in vain")

	if err := inTime(t, receiver.Subscribe()); err != nil {
		t.Errorf("wait for no channel: %v", err)
	}
}

// The channel All is subscribed at once, as a subscription that the attachment holds
// itself.
func testAllIsSubscribed(t *testing.T, cluster Cluster) {
	sender := start(t, cluster)
	r := newRecorder(t)
	attachment, err := startPlane(t, cluster).Attach("", r)
	if err != nil {
		t.Fatal(err)
	}
	receiver := &node{attachment, r}
	// Not by a flush, which would wait for ever for what was published too early.
	await.Until(t, "something published on All has arrived", func() error {
		sender.publish(t, newMarker(), backplane.All)
		if !r.any() {
			return errors.New("nothing yet")
		}
		return nil
	})

	var want []message
	for i := range 20 {
		receiver.subscribe(t, backplane.All)
		receiver.Unsubscribe(backplane.All)
		m := message{backplane.All, strconv.Itoa(i)}
		sender.publish(t, m.body, m.channel)
		receiver.await(t, m)
		want = append(want, m)
	}
	receiver.expect(t, want...)
}

// A channel that has lost its last holder is unsubscribed soon after.
func testUnsubscribe(t *testing.T, cluster Cluster) {
	sender, stays, leaves := start(t, cluster), start(t, cluster), start(t, cluster)
	const ch = backplane.Channel("channel")
	stays.subscribe(t, ch)
	leaves.subscribe(t, ch)
	before := message{ch, "before"}
	sender.publish(t, before.body, ch)
	stays.await(t, before)
	leaves.await(t, before)

	leaves.Unsubscribe(ch)
	sender.untilUnheard(t, leaves, ch)
	want := []message{before}
	for i := range 20 {
		m := message{ch, strconv.Itoa(i)}
		sender.publish(t, m.body, ch)
		want = append(want, m)
	}
	sender.flush(t, stays, leaves)
	stays.awaitCount(t, len(want))
	stays.expect(t, want...)
	leaves.expect(t, before)
}

// Of a channel without holders there is nothing to unsubscribe, and of no channels.
func testUnsubscribeNothing(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	receiver.subscribe(t, "held", "another")
	var want []message
	for i := range 20 {
		receiver.Unsubscribe()
		receiver.Unsubscribe("not held")
		receiver.Subscribe("not held") // once: the count is not below zero
		receiver.Unsubscribe("not held")
		m := message{"held", strconv.Itoa(i)}
		sender.publish(t, m.body, m.channel)
		receiver.await(t, m)
		want = append(want, m)
	}
	receiver.subscribe(t, "not held")
	sender.publish(t, "now", "not held", "another")
	want = append(want, message{"not held", "now"}, message{"another", "now"})
	receiver.awaitCount(t, len(want))
	receiver.expect(t, want...)
}

// A channel is subscribed while it has holders, in each attachment by itself.
func testHolders(t *testing.T, cluster Cluster) {
	planes := []backplane.Backplane{startPlane(t, cluster), startPlane(t, cluster)}
	sender, receiver := attach(t, planes[0], ""), attach(t, planes[1], "")
	otherSender, other := attach(t, planes[0], "other/"), attach(t, planes[1], "other/")
	const ch = backplane.Channel("channel")
	heard := func(sender, receiver *node) {
		t.Helper()
		for range 20 {
			m := message{ch, newMarker()}
			sender.publish(t, m.body, ch)
			receiver.await(t, m)
		}
	}
	other.subscribe(t, ch)
	receiver.subscribe(t, ch)
	receiver.subscribe(t, ch)
	receiver.Subscribe(ch)
	heard(sender, receiver)
	receiver.Unsubscribe(ch)
	heard(sender, receiver)
	receiver.Unsubscribe(ch)
	heard(sender, receiver)
	receiver.Unsubscribe(ch)
	sender.untilUnheard(t, receiver, ch)
	heard(otherSender, other)

	receiver.Unsubscribe(ch) // which it does not hold
	receiver.subscribe(t, ch)
	heard(sender, receiver)
	other.Unsubscribe(ch)
	otherSender.untilUnheard(t, other, ch)
	heard(sender, receiver)
}

// Rapid changes by many end in what their sum says.
func testFlips(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	const rounds, goroutines, flips, channels = 5, 8, 100, 3
	channel := func(i int) backplane.Channel { return backplane.Group(strconv.Itoa(i % channels)) }
	for round := range rounds {
		var group sync.WaitGroup
		for g := range goroutines {
			group.Go(func() {
				for range flips {
					ch := channel(rand.IntN(channels))
					wait := receiver.Subscribe(ch)
					if rand.IntN(10) == 0 {
						if err := inTime(t, wait); err != nil {
							t.Errorf("subscribe: %v", err)
						}
					}
					receiver.Unsubscribe(ch)
				}
				if g == round {
					receiver.Subscribe(channel(round))
				}
			})
		}
		group.Wait()
		for i := range channels {
			if channel(i) == channel(round) {
				receiver.subscribe(t, channel(i)) // so that it is in force
				m := message{channel(i), strconv.Itoa(round)}
				sender.publish(t, m.body, m.channel)
				receiver.await(t, m)
				receiver.Unsubscribe(channel(i), channel(i))
			}
			sender.untilUnheard(t, receiver, channel(i))
		}
	}
}

// Nobody who comes and goes takes the subscription from one who stays.
func testFlipsBesideAHolder(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	const ch = backplane.Channel("channel")
	receiver.subscribe(t, ch)
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	for range 4 {
		group.Go(func() {
			for ctx.Err() == nil {
				if err := inTime(t, receiver.Subscribe(ch)); err != nil {
					t.Errorf("subscribe: %v", err)
				}
				receiver.Unsubscribe(ch)
				runtime.Gosched() // or, with one processor, little else happens
			}
		})
	}
	want := make([]message, 2000)
	for i := range want {
		want[i] = message{ch, strconv.Itoa(i)}
		sender.publish(t, want[i].body, ch)
	}
	receiver.awaitCount(t, len(want))
	receiver.expect(t, want...)
}

// Subscribe, Unsubscribe and Detach do not wait for Deliver.
func testSubscribeNeverBlocks(t *testing.T, cluster Cluster) {
	sender, plane := start(t, cluster), startPlane(t, cluster)
	gate := newGate(t)
	held, other := attachReceiver(t, plane, "", gate, gate.recorder), attach(t, plane, "other/")
	sender.publish(t, holdGate, backplane.All)
	gate.awaitHeld(t)
	returns(t, "Subscribe or Unsubscribe during Deliver", func() {
		for i := range 1000 {
			ch := backplane.Group(strconv.Itoa(i))
			held.Subscribe(ch)
			other.Subscribe(ch)
			if i != 500 {
				held.Unsubscribe(ch)
			}
			other.Unsubscribe(ch)
		}
	})
	gate.open()
	sender.untilHeard(t, held, backplane.Group("500"))
	sender.untilUnheard(t, held, backplane.Group("999"))
}

// lockedReceiver takes a lock in Deliver.
type lockedReceiver struct {
	mu sync.Mutex
	*recorder
}

func (l *lockedReceiver) Deliver(ch backplane.Channel, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.recorder.Deliver(ch, body)
}

// Subscribe and Unsubscribe may be called under the locks that guard what the
// subscription is for, which Deliver takes.
func testLocksOfTheReceiver(t *testing.T, cluster Cluster) {
	sender, plane := start(t, cluster), startPlane(t, cluster)
	r := &lockedReceiver{recorder: newRecorder(t)}
	receiver := attachReceiver(t, plane, "", r, r.recorder)
	const ch, messages, goroutines, rounds = backplane.Channel("channel"), 1000, 4, 250
	receiver.subscribe(t, ch)
	returns(t, "work under the receiver's lock", func() {
		var group sync.WaitGroup
		for g := range goroutines {
			group.Go(func() {
				for i := range rounds {
					own := backplane.User(fmt.Sprint(g, " ", i%10))
					r.mu.Lock()
					wait := receiver.Subscribe(ch, own)
					r.mu.Unlock()
					if err := inTime(t, wait); err != nil {
						t.Errorf("subscribe: %v", err)
					}
					r.mu.Lock()
					receiver.Unsubscribe(ch, own)
					r.mu.Unlock()
				}
			})
		}
		group.Go(func() {
			for i := range messages {
				sender.publish(t, strconv.Itoa(i), ch)
			}
		})
		group.Wait()
	})
	receiver.awaitCount(t, messages)
}
