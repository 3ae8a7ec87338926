package faults

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A record is what was sent in a test, and what came of it, and by that judges whether the
// nodes have kept to their contract. Messages and receivers are added while they are used.
type record struct {
	mu        sync.Mutex
	sent      []*message
	receivers []*receiver
}

// A message is one body, published on one channel.
type message struct {
	sender  string // who publishes one message after the other
	number  int    // of the sender's
	channel backplane.Channel
	order   int // the partition of the channel

	// Until ended is set, the sender's alone:

	begun, ended time.Time // of the call of Publish
	err          error     // that it returned
}

// padding is what may follow the body of a message, as often as one likes.
const padding = "\n"

// body is what the message is known by when it arrives.
func (m *message) body() string { return fmt.Sprintf("%s %d on %s", m.sender, m.number, m.channel) }

func (r *record) add(m *message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, m)
}

// A receiver is what one node has heard. It implements [backplane.Receiver] and
// [backplane.GapWatcher].
type receiver struct {
	name string

	mu       sync.Mutex
	arrivals []arrival
	bodies   map[string]bool                 // of arrivals
	held     map[backplane.Channel]time.Time // joined ever, and since when that was in force; zero: not yet
	left     map[backplane.Channel]bool      // of held
	gaps     []span
	blocked  chan struct{} // what Deliver waits for; nil: nothing
}

type arrival struct {
	channel backplane.Channel
	body    string
}

type span struct{ from, to time.Time }

func (s span) String() string {
	return s.from.Format("05.000") + " to " + s.to.Format("05.000")
}

func newReceiver(name string) *receiver {
	return &receiver{
		name:   name,
		bodies: make(map[string]bool),
		held:   make(map[backplane.Channel]time.Time),
		left:   make(map[backplane.Channel]bool),
	}
}

// Deliver implements [backplane.Receiver].
func (r *receiver) Deliver(ch backplane.Channel, body []byte) {
	r.mu.Lock()
	blocked := r.blocked
	r.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	known, _, _ := strings.Cut(string(body), padding)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.arrivals = append(r.arrivals, arrival{ch, known})
	r.bodies[known] = true
}

// GapEnded implements [backplane.GapWatcher].
func (r *receiver) GapEnded(began time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps = append(r.gaps, span{began, time.Now()})
}

// block makes Deliver wait until unblock is called, against its contract.
func (r *receiver) block() (unblock func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	blocked := make(chan struct{})
	r.blocked = blocked
	return sync.OnceFunc(func() {
		r.mu.Lock()
		r.blocked = nil
		r.mu.Unlock()
		close(blocked)
	})
}

func (r *receiver) gapCount() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.gaps)
}

// has reports whether a message has arrived.
func (r *receiver) has(m *message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bodies[m.body()]
}

// holds notes that the node joins the channel, inForce that it knows that it has, and leaves
// that it leaves it.
func (r *receiver) holds(ch backplane.Channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[ch] = time.Time{}
}

func (r *receiver) inForce(ch backplane.Channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[ch] = time.Now()
}

func (r *receiver) leaves(ch backplane.Channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left[ch] = true
}

// joined returns the channels that have been joined, in force or not, and not left.
func (r *receiver) joined() (channels []backplane.Channel) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ch := range r.held {
		if !r.left[ch] {
			channels = append(channels, ch)
		}
	}
	return channels
}

// missed reports whether a gap leaves open if the message has arrived: it was on its way
// then.
func (r *receiver) missed(m *message) bool {
	return slices.ContainsFunc(r.gaps, func(gap span) bool {
		return gap.from.Before(m.ended) && gap.to.After(m.begun)
	})
}

// A verdict is how many messages there were of which kind, and what is wrong.
type verdict struct {
	sent, notSent, unknown int
	arrived                int // of those that had to arrive, once for each receiver
	lost                   int // in gaps, once for each receiver
	wrong                  []error
}

func (v verdict) String() string {
	return fmt.Sprintf("%d messages sent, %d not sent, %d unknown; %d arrivals due, %d more lost in gaps",
		v.sent, v.notSent, v.unknown, v.arrived, v.lost)
}

// judge is called when nothing is sent or on its way any more, and every channel that is held
// is held to the end, or was left when what had been sent to it had arrived.
func (r *record) judge() verdict {
	var v verdict
	byBody := make(map[string]*message)
	for _, m := range r.sent {
		byBody[m.body()] = m
		switch {
		case m.err == nil:
			v.sent++
		case errors.Is(m.err, backplane.ErrNotSent):
			v.notSent++
		case errors.Is(m.err, backplane.ErrUnknown):
			v.unknown++
		default:
			v.blame("the sender of %q was told %v", m.body(), m.err)
		}
	}
	for i, to := range r.receivers {
		heard := v.arrivals(to, byBody)
		v.losses(to, r.sent)
		for _, other := range r.receivers[:i] {
			v.agree(to.name, heard, other.name, messages(other, byBody))
		}
	}
	return v
}

func (v *verdict) blame(format string, arguments ...any) {
	v.wrong = append(v.wrong, fmt.Errorf(format, arguments...))
}

// arrivals looks for what should not have arrived, or not then, and returns the rest.
func (v *verdict) arrivals(at *receiver, byBody map[string]*message) (heard []*message) {
	last := make(map[string]int) // number by sender and order
	seen := make(map[*message]bool)
	for _, a := range at.arrivals {
		m := byBody[a.body]
		if m == nil {
			v.blame("%s heard %.100q, which nobody has sent", at.name, a.body)
			continue
		}
		if m.channel != a.channel {
			v.blame("%s heard %q on %s", at.name, a.body, a.channel)
		}
		if _, held := at.held[m.channel]; !held {
			v.blame("%s heard %q, and has never joined", at.name, a.body)
		}
		if errors.Is(m.err, backplane.ErrNotSent) {
			v.blame("%s heard %q, whose sender was told %v", at.name, a.body, m.err)
		}
		lane := fmt.Sprintf("%s, order %d", m.sender, m.order)
		switch {
		case seen[m]:
			v.blame("%s heard %q twice", at.name, a.body)
		case m.number < last[lane]:
			v.blame("%s heard %q after %d of the same sender", at.name, a.body, last[lane])
		default:
			last[lane] = m.number
			heard = append(heard, m)
		}
		seen[m] = true
	}
	return heard
}

// losses looks for what should have arrived.
func (v *verdict) losses(at *receiver, sent []*message) {
	for _, m := range sent {
		since := at.held[m.channel]
		if m.err != nil || since.IsZero() || !since.Before(m.begun) {
			continue
		}
		switch {
		case at.bodies[m.body()]:
			v.arrived++
		case at.missed(m):
			v.lost++
		default:
			v.blame("%s has not heard %q, which was sent from %v, in none of its gaps: %v",
				at.name, m.body(), span{m.begun, m.ended}, at.gaps)
		}
	}
}

// agree looks whether two nodes have heard what both have heard in one order.
func (v *verdict) agree(one string, heard []*message, other string, alsoHeard []*message) {
	position := make(map[*message]int)
	for i, m := range alsoHeard {
		position[m] = i
	}
	last := make(map[int]*message) // by order
	for _, m := range heard {
		at, common := position[m]
		if !common {
			continue
		}
		if before := last[m.order]; before != nil && position[before] > at {
			v.blame("%s heard %q after %q, and %s before it", one, m.body(), before.body(), other)
			return
		}
		last[m.order] = m
	}
}

// messages returns what a receiver has heard, the first time of each.
func messages(at *receiver, byBody map[string]*message) (heard []*message) {
	for _, a := range at.arrivals {
		if m := byBody[a.body]; m != nil {
			heard = append(heard, m)
		}
	}
	return heard
}

// first returns the first few of what is wrong, and how many more there are.
func (v verdict) first() []error {
	const few = 5
	some := slices.Clone(v.wrong[:min(few, len(v.wrong))])
	if more := len(v.wrong) - len(some); more > 0 {
		some = append(some, fmt.Errorf("and %d more", more))
	}
	return some
}
