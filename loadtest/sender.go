package main

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A schedule says when the messages of a load are due: message n at n/rate seconds
// from the start, so that their times do not depend on how long any of them takes.
type schedule struct {
	start time.Time
	rate  float64 // messages a second, of all senders together
	total time.Duration
}

// due returns when message n, from 0, is due; ok is false if that is after the end.
func (s schedule) due(n int) (at time.Time, ok bool) {
	offset := time.Duration(float64(n) / s.rate * float64(time.Second))
	return s.start.Add(offset), offset < s.total
}

// A sender sends its share of a load: of senders that are s in number, the i-th sends
// the messages i, i+s, i+2s and so on. Message n goes to the target n modulo their
// number.
//
// Each is sent as an invocation that wants a completion, which is not waited for:
// the server's errors are learned without slowing the sender down.
type sender struct {
	index   int
	of      int // senders
	trial   trialID
	epoch   time.Time
	payload int
	// invocation makes what sends the text to the target.
	invocation func(target int, text string) *protocol.Invocation

	connection *connection // set before run; nil if it could not be opened

	mu       sync.Mutex // guards what follows
	members  []uint64   // by target: how many receivers a message to it has
	outgoing []outgoing // by target
	counts   sendCounts
	lag      *latencies // from due to when sending began
	errors   errorCounts
}

// outgoing is one stream, as seen from its sender.
type outgoing struct {
	sequence uint64 // of the last message
	failed   uint64 // messages that are not on their way, as far as the sender knows
}

// sendCounts is what became of messages to be sent.
type sendCounts struct {
	Sent      uint64 // without an error so far
	Confirmed uint64 // of which the server has completed
	Failed    uint64 // not sent, or refused by the server
	Unsent    uint64 // due, but never attempted, since the sender was too far behind
	Expected  uint64 // deliveries that those sent should lead to
}

func (c *sendCounts) add(other sendCounts) {
	c.Sent += other.Sent
	c.Confirmed += other.Confirmed
	c.Failed += other.Failed
	c.Unsent += other.Unsent
	c.Expected += other.Expected
}

// newSender makes a sender to so many targets. Its connection comes later, since it
// needs the sender's handle method.
func newSender(index, of int, id trialID, epoch time.Time, payload, targets int, invocation func(int, string) *protocol.Invocation) *sender {
	return &sender{
		index:      index,
		of:         of,
		trial:      id,
		epoch:      epoch,
		payload:    payload,
		invocation: invocation,
		outgoing:   make([]outgoing, targets),
		lag:        newLatencies(),
		errors:     make(errorCounts),
	}
}

// run sends what is due until the schedule or ctx ends. If that is by its deadline, it
// is after the end of the schedule, and what has not been sent yet is too late. members
// says how many receivers each target has. The lag of messages due before measuredFrom is not
// recorded.
func (s *sender) run(ctx context.Context, plan schedule, members []uint64, measuredFrom time.Time) error {
	s.mu.Lock()
	s.members = members
	s.mu.Unlock()
	p, err := newPacer(ctx)
	if err != nil {
		return err
	}
	defer p.close()
	var text []byte
	for n := s.index; ; n += s.of {
		due, ok := plan.due(n)
		if !ok {
			return nil
		}
		switch err := p.wait(due); {
		case errors.Is(err, context.DeadlineExceeded):
			s.giveUp(plan, n)
			return nil
		case errors.Is(err, context.Canceled): // what was due cannot be blamed on anybody
			return nil
		case err != nil:
			return err
		}
		target := n % len(members)
		sequence := s.begin(target, due, measuredFrom)
		text = appendMessage(text[:0], s.trial, message{s.index, target, sequence, due.Sub(s.epoch)}, s.payload)
		s.send(n, target, string(text))
	}
}

// giveUp counts what will not be sent any more, from message n on.
func (s *sender) giveUp(plan schedule, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; ; n += s.of {
		if _, ok := plan.due(n); !ok {
			return
		}
		s.counts.Unsent++
	}
}

func (s *sender) begin(target int, due, measuredFrom time.Time) (sequence uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !due.Before(measuredFrom) {
		s.lag.record(time.Since(due))
	}
	// Before it is sent, since its completion and its deliveries may come at once.
	s.outgoing[target].sequence++
	s.counts.Sent++
	s.counts.Expected += s.members[target]
	return s.outgoing[target].sequence
}

var errNotOpened = errors.New("the sender's connection was never opened")

func (s *sender) send(n, target int, text string) {
	err := errNotOpened
	if s.connection != nil {
		m := s.invocation(target, text)
		m.InvocationID = strconv.Itoa(n)
		err = s.connection.send(m)
	}
	if err != nil {
		s.fail(target, "send: "+reason(err))
	}
}

// fail takes back that a message was sent.
func (s *sender) fail(target int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outgoing[target].failed++
	s.counts.Sent--
	s.counts.Failed++
	s.counts.Expected -= s.members[target]
	s.errors.add(text)
}

// handle takes the server's completions.
func (s *sender) handle(m protocol.Message) {
	completion, ok := m.(*protocol.Completion)
	if !ok {
		return
	}
	n, err := strconv.Atoi(completion.InvocationID)
	if err != nil || n < 0 {
		return
	}
	if completion.HasError {
		s.fail(n%len(s.outgoing), "send: "+completion.Error)
		return
	}
	s.mu.Lock()
	s.counts.Confirmed++
	s.mu.Unlock()
}

// valid returns how many messages to the target its members are to get.
func (s *sender) valid(target int) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outgoing[target].sequence - s.outgoing[target].failed
}

// sofar returns the counts.
func (s *sender) sofar() sendCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}
