package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A load is messages on a schedule from senders to targets, and the receivers that
// belong to the targets. It is what all scenarios have in common in which one side
// sends and the other takes down what comes.
type load struct {
	trial     *trial
	recorder  *recorder
	senders   []*sender
	receivers []*receiver
	clients   []client // the senders, then the receivers
	targets   int
}

// newLoad makes a load without receivers. invocation makes what sends the text to a
// target, from 0 to targets-1.
func newLoad(t *trial, targets int, invocation func(target int, text string) *protocol.Invocation) *load {
	l := &load{trial: t, targets: targets}
	var senderNodes []int
	for i := range t.config.senders {
		s := newSender(i, t.config.senders, t.id, t.epoch, t.config.payload, targets, invocation)
		node := i % len(t.fleet.nodes)
		senderNodes = append(senderNodes, node)
		l.senders = append(l.senders, s)
		l.clients = append(l.clients, client{node: node, handle: s.handle})
	}
	l.recorder = newRecorder(t.id, t.epoch, t.config, senderNodes)
	return l
}

// receiver adds a receiver, which belongs to the target once join has been invoked.
func (l *load) receiver(node, target int, join *protocol.Invocation) {
	r := l.recorder.receiver(target, node)
	l.receivers = append(l.receivers, r)
	l.clients = append(l.clients, client{node: node, join: join, handle: r.handle})
}

// run opens the connections, sends, and waits for what is on its way. When ctx ends it
// does so for what has been sent by then.
func (l *load) run(ctx context.Context) error {
	l.trial.watch(l)
	if err := l.open(ctx); err != nil {
		return err
	}
	l.trial.enter("settling", l.trial.config.settle)
	if wait(ctx, time.Now().Add(l.trial.config.settle)) != nil {
		return nil
	}
	l.trial.mark(&l.trial.settled)
	err := l.send(ctx)
	l.drain(context.WithoutCancel(ctx))
	return err
}

func (l *load) open(ctx context.Context) error {
	l.trial.enter("connecting", l.trial.config.rampUp)
	l.trial.mark(&l.trial.beginning)
	opened, err := l.trial.fleet.open(ctx, l.clients)
	for i, s := range l.senders {
		s.connection = opened[i]
	}
	for i, r := range l.receivers {
		r.connection = opened[len(l.senders)+i]
	}
	return err
}

// send runs the senders, and marks the window in which is measured: from the end of
// the warm-up to the end of the schedule.
func (l *load) send(ctx context.Context) error {
	c := l.trial.config
	plan := schedule{start: time.Now(), rate: c.rate, total: c.warmup + c.duration}
	measuredFrom, end := plan.start.Add(c.warmup), plan.start.Add(plan.total)
	l.recorder.measuredFrom.Store(int64(measuredFrom.Sub(l.trial.epoch)))
	members := l.members()

	// A sender that is behind may try to catch up for as long as there is to drain.
	sending, cancel := context.WithDeadline(ctx, end.Add(c.drain))
	defer cancel()
	errs := make([]error, len(l.senders))
	var senders sync.WaitGroup
	for i, s := range l.senders {
		senders.Go(func() { errs[i] = s.run(sending, plan, members, measuredFrom) })
	}
	l.trial.enter("warming up", c.warmup)
	_ = wait(ctx, measuredFrom)
	l.trial.mark(&l.trial.windowBegin)
	l.trial.enter("measuring", c.duration)
	_ = wait(ctx, end)
	l.trial.mark(&l.trial.windowEnd)
	senders.Wait()
	return errors.Join(errs...)
}

// members says how many receivers each target has.
func (l *load) members() []uint64 {
	members := make([]uint64, l.targets)
	for _, r := range l.receivers {
		if r.connection != nil {
			members[r.target]++
		}
	}
	return members
}

const (
	drainPoll = 20 * time.Millisecond
	// linger is how long duplicates are waited for once everything has come.
	linger = 250 * time.Millisecond
)

// drain waits until all that was sent has been completed and delivered, for no longer
// than is configured.
func (l *load) drain(ctx context.Context) {
	l.trial.enter("draining", l.trial.config.drain)
	ctx, cancel := context.WithTimeout(ctx, l.trial.config.drain)
	defer cancel()
	for {
		sent := l.sent()
		if sent.Sent == sent.Confirmed && l.recorder.tally().delivered >= sent.Expected {
			_ = wait(ctx, time.Now().Add(linger))
			return
		}
		if wait(ctx, time.Now().Add(drainPoll)) != nil {
			return
		}
	}
}

// sent returns the counts of all senders so far.
func (l *load) sent() sendCounts {
	var sum sendCounts
	for _, s := range l.senders {
		sum.add(s.sofar())
	}
	return sum
}

// lost counts what the receivers have not had; ended says how much of it was for
// connections that have ended.
func (l *load) lost() (all, ended uint64) {
	for _, r := range l.receivers {
		if r.connection == nil {
			continue
		}
		lost := r.lost(l.senders)
		all += lost
		if r.connection.ended.Load() {
			ended += lost
		}
	}
	return all, ended
}

// wait returns nil at that time, or at once if it is past, and the context's error
// when that ends first.
func wait(ctx context.Context, until time.Time) error {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
