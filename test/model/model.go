// Package model says who must, may and must not get which message in a cluster in which
// things go wrong. Its test holds a real cluster to that.
package model

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Never is later than everything. Times are counted from the beginning of a history.
const Never = time.Duration(math.MaxInt64)

// An Outcome is what the sender of a message was told.
type Outcome int

const (
	Sent    Outcome = iota // without an error
	NotSent                // surely not carried
	Unknown                // perhaps carried
)

// A Message is one send to a channel. A sender sends one message after the other, with
// growing numbers.
type Message struct {
	Sender  string
	Number  int
	Channel string
	Begun   time.Duration
	Outcome Outcome
}

// ID names the message in what receivers hear.
func (m *Message) ID() string { return fmt.Sprintf("%s#%d", m.Sender, m.Number) }

// A Span is a time.
type Span struct{ From, To time.Duration }

// A Stay is a receiver's membership of a channel: it began to join at Entering, was in
// from In until it began to leave, and was out at Out. What has not happened is Never.
type Stay struct{ Entering, In, Leaving, Out time.Duration }

// A Receiver is one connection.
type Receiver struct {
	Name  string
	Node  int
	Stays map[string][]Stay // by channel
	Heard []string          // ids of messages, in the order of arrival
}

// A Round is a part of a history after whose end nothing is on its way: what was sent in
// it has arrived by Settled, or does not arrive.
type Round struct {
	Messages  []*Message
	Receivers []*Receiver
	Gaps      [][]Span // by node: when it was deaf
	Settled   time.Duration
}

// A Verdict is whether a receiver gets a message.
type Verdict int

const (
	MustNot Verdict = iota
	May
	Must
)

// Counts are how many pairs of a message and a receiver had which verdict.
type Counts [Must + 1]int

// Add adds other counts.
func (c *Counts) Add(other Counts) {
	for v, n := range other {
		c[v] += n
	}
}

func (c Counts) String() string {
	return fmt.Sprintf("must %d, may %d, must not %d", c[Must], c[May], c[MustNot])
}

// Verdict returns whether the receiver gets the message. It may where its own joining or
// leaving, the message's outcome, or a gap of its node leaves that open, and only there.
func (r *Round) Verdict(m *Message, to *Receiver) Verdict {
	verdict := MustNot
	for _, s := range to.Stays[m.Channel] {
		switch {
		case m.Outcome == NotSent || s.Entering >= r.Settled || s.Out <= m.Begun:
		case m.Outcome == Sent && s.In <= m.Begun && s.Leaving >= r.Settled && !r.deaf(to.Node, m.Begun):
			return Must
		default:
			verdict = May
		}
	}
	return verdict
}

// deaf reports whether the node may have missed what was sent at begun.
func (r *Round) deaf(node int, begun time.Duration) bool {
	for _, gap := range r.Gaps[node] {
		if gap.From < r.Settled && gap.To > begun {
			return true
		}
	}
	return false
}

// Judge compares what was heard with what the verdicts are. The error names everything
// that was lost, doubled, out of its sender's order on a channel, or not for who heard it.
func (r *Round) Judge() (counts Counts, err error) {
	messages := make(map[string]*Message, len(r.Messages))
	for _, m := range r.Messages {
		messages[m.ID()] = m
	}
	var faults []error
	for _, to := range r.Receivers {
		fault := func(id, what string) {
			faults = append(faults, fmt.Errorf("%s on node %d, %s: %s", to.Name, to.Node, id, what))
		}
		heard := make(map[string]bool, len(to.Heard))
		type lane struct{ sender, channel string }
		last := make(map[lane]int)
		for _, id := range to.Heard {
			m, known := messages[id]
			switch {
			case !known:
				fault(id, "heard in another round than it was sent in")
				continue
			case heard[id]:
				fault(id, "heard twice")
				continue
			case m.Number < last[lane{m.Sender, m.Channel}]:
				fault(id, "heard after later ones to "+m.Channel)
			}
			heard[id] = true
			last[lane{m.Sender, m.Channel}] = m.Number
		}
		for id, m := range messages {
			v := r.Verdict(m, to)
			counts[v]++
			switch {
			case v == Must && !heard[id]:
				fault(id, fmt.Sprintf("not heard; sent to %s at %v", m.Channel, m.Begun))
			case v == MustNot && heard[id]:
				fault(id, fmt.Sprintf("heard; sent to %s at %v, outcome %d", m.Channel, m.Begun, m.Outcome))
			}
		}
	}
	return counts, errors.Join(faults...)
}
