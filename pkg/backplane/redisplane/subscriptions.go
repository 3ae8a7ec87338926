package redisplane

import (
	"errors"
	"fmt"
	"iter"
	"maps"
)

const (
	// maxBatch is how many channels one command names at most.
	maxBatch = 100
	// maxUnconfirmed is how many (un)subscriptions may be on their way for more to be
	// sent. It bounds how long a new one waits behind those of a whole node coming back.
	maxUnconfirmed = 2000
)

// errOutOfStep reports a confirmation that no command asked for. What is subscribed
// cannot be known then.
var errOutOfStep = errors.New("confirmation out of step")

// subscriptions is what this node wants to be subscribed to, and what it is: per
// channel the number of its holders, and where it stands on the subscription
// connection there is now. Holders come and go, commands come out of next,
// confirmations go into confirm; nothing here does I/O or waits.
//
// At most one command per channel is on its way. So what was asked for and taken back
// before its command was sent costs no command, and a confirmation, which names only a
// channel, can mean only one command. While a channel has holders and no command has
// unsubscribed it since it was last confirmed, it is in force: it does not matter for
// which of its holders it was subscribed.
//
// A connection that is lost takes everything with it. That is not written into each
// entry: an entry says which connection it speaks of, and is read as unsubscribed once
// that is not the present one.
//
// It is not safe for concurrent use.
type subscriptions struct {
	channels map[string]subscription
	pending  map[string]*pending // those that somebody waits for; never more than are held

	connection uint32 // counts connections
	connected  bool

	// Of the present connection:

	toSubscribe   queue
	toUnsubscribe queue
	// The sweep goes through all channels of a new connection; both are nil after it.
	nextToSweep func() (string, subscription, bool)
	stopSweep   func()
	sent        uint64 // single (un)subscriptions sent
	confirmed   uint64 // of which are confirmed, in the order of sending
	restoredAt  uint64 // confirmed at which all is subscribed that had been held; 0 until the sweep is over
	inForce     int    // channels in state subscribed
}

// A subscription is small: a node may have millions.
type subscription struct {
	holders    uint32
	connection uint32 // that state and queued speak of
	state      state
	queued     uint8 // a set of inToSubscribe and inToUnsubscribe
}

type state uint8

const (
	unsubscribed  state = iota
	subscribing         // sent, not confirmed
	subscribed          // confirmed
	unsubscribing       // sent, not confirmed
)

const (
	inToSubscribe uint8 = 1 << iota
	inToUnsubscribe
)

// pending is a subscription that is not in force yet, for those who wait for it.
type pending struct {
	done chan struct{} // closed when it is in force, or has lost its last holder
	err  error         // set before done is closed: nil if it is in force
}

var errReleased = errors.New("unsubscribed meanwhile")

func newSubscriptions() *subscriptions {
	return &subscriptions{
		channels: make(map[string]subscription),
		pending:  make(map[string]*pending),
	}
}

// hold counts one more holder of the channel.
func (s *subscriptions) hold(channel string) {
	e := s.entry(channel)
	e.holders++
	s.settle(channel, e)
}

// release counts one holder less. Releasing what nobody holds does nothing.
func (s *subscriptions) release(channel string) {
	e := s.entry(channel)
	if e.holders == 0 {
		return
	}
	e.holders--
	s.settle(channel, e)
}

// releaseAll takes all holders off the channels that pick picks, but for one each
// where keep says so.
func (s *subscriptions) releaseAll(pick, keep func(channel string) bool) {
	for channel := range s.channels {
		if !pick(channel) {
			continue
		}
		if e := s.entry(channel); e.holders > 0 {
			e.holders = 0
			if keep(channel) {
				e.holders = 1
			}
			s.settle(channel, e)
		}
	}
}

// wait returns nil if the channel is in force, and otherwise what will become of it.
func (s *subscriptions) wait(channel string) *pending {
	e := s.entry(channel)
	if e.holders == 0 {
		p := &pending{done: make(chan struct{}), err: errReleased}
		close(p.done)
		return p
	}
	if e.state == subscribed {
		return nil
	}
	p, ok := s.pending[channel]
	if !ok {
		p = &pending{done: make(chan struct{})}
		s.pending[channel] = p
	}
	return p
}

// connect begins a new connection, on which a command to subscribe to the channel
// first, which is held, has been sent already. All that is held will be subscribed,
// what is waited for before the rest.
func (s *subscriptions) connect(first string) {
	s.disconnect()
	s.connected = true
	e := s.entry(first)
	e.state = subscribing
	s.channels[first] = e
	s.sent++
	for channel := range s.pending {
		s.settle(channel, s.entry(channel))
	}
	s.nextToSweep, s.stopSweep = iter.Pull2(maps.All(s.channels))
}

// disconnect ends the connection. Nothing is in force until there is a new one.
func (s *subscriptions) disconnect() {
	s.connected = false
	s.connection++
	if s.stopSweep != nil {
		s.stopSweep()
	}
	s.nextToSweep, s.stopSweep = nil, nil
	s.toSubscribe, s.toUnsubscribe = queue{}, queue{}
	s.sent, s.confirmed, s.restoredAt, s.inForce = 0, 0, 0, 0
}

// next returns the channels that the next commands are for, at most maxBatch each, and
// counts on the commands being sent. It returns none if there is nothing to send, or
// too much is on its way. (There is room for a full batch or none: or else, with much to
// send, each confirmation would make room for a command with one channel.)
func (s *subscriptions) next() (subscribe, unsubscribe []string) {
	if !s.connected || s.sent-s.confirmed > maxUnconfirmed-maxBatch {
		return nil, nil
	}
	for len(subscribe) < maxBatch {
		channel, ok := s.toSubscribe.pop()
		if !ok {
			if channel, ok = s.sweep(); !ok {
				break
			}
		}
		e := s.entry(channel)
		e.queued &^= inToSubscribe
		if e.holders > 0 && e.state == unsubscribed {
			e.state = subscribing
			s.sent++
			subscribe = append(subscribe, channel)
		}
		s.settle(channel, e)
	}
	for len(unsubscribe) < maxBatch {
		channel, ok := s.toUnsubscribe.pop()
		if !ok {
			break
		}
		e := s.entry(channel)
		e.queued &^= inToUnsubscribe
		if e.holders == 0 && e.state == subscribed {
			e.state = unsubscribing
			s.inForce--
			s.sent++
			unsubscribe = append(unsubscribe, channel)
		}
		s.settle(channel, e)
	}
	return subscribe, unsubscribe
}

// sweep returns the next of the channels that there were when the connection began.
// After the last, it notes what has to be confirmed for all to be restored.
func (s *subscriptions) sweep() (channel string, ok bool) {
	if s.nextToSweep == nil {
		return "", false
	}
	if channel, _, ok = s.nextToSweep(); !ok {
		s.nextToSweep, s.stopSweep = nil, nil
		s.restoredAt = s.sent
	}
	return channel, ok
}

// confirm takes the confirmation of one (un)subscription on the present connection.
// An error, errOutOfStep, makes the connection useless.
func (s *subscriptions) confirm(subscribe bool, channel string) error {
	e := s.entry(channel)
	switch {
	case s.connected && subscribe && e.state == subscribing:
		e.state = subscribed
		s.inForce++
		s.resolve(channel, nil)
	case s.connected && !subscribe && e.state == unsubscribing:
		e.state = unsubscribed
	default:
		return fmt.Errorf("%w: subscribe %t in state %d", errOutOfStep, subscribe, e.state)
	}
	s.confirmed++
	s.settle(channel, e)
	return nil
}

// restored reports whether all is in force that was held when the connection began.
func (s *subscriptions) restored() bool {
	return s.restoredAt > 0 && s.confirmed >= s.restoredAt
}

// entry returns what is known of the channel on the present connection.
func (s *subscriptions) entry(channel string) subscription {
	e := s.channels[channel]
	if e.connection != s.connection {
		e = subscription{holders: e.holders, connection: s.connection}
	}
	return e
}

// settle stores the entry, queues what it wants next, and forgets it if that is
// nothing.
func (s *subscriptions) settle(channel string, e subscription) {
	if e.holders == 0 {
		s.resolve(channel, errReleased)
	}
	switch {
	case !s.connected:
	case e.holders > 0 && e.state == unsubscribed && e.queued&inToSubscribe == 0:
		e.queued |= inToSubscribe
		s.toSubscribe.push(channel)
	case e.holders == 0 && e.state == subscribed && e.queued&inToUnsubscribe == 0:
		e.queued |= inToUnsubscribe
		s.toUnsubscribe.push(channel)
	}
	if e.holders == 0 && e.state == unsubscribed && e.queued == 0 {
		delete(s.channels, channel)
		return
	}
	s.channels[channel] = e
}

// resolve tells those who wait for the channel, if any.
func (s *subscriptions) resolve(channel string, err error) {
	if p, ok := s.pending[channel]; ok {
		delete(s.pending, channel)
		p.err = err
		close(p.done)
	}
}

// A queue is first in, first out. Its bound is that of what is put into it: here each
// channel stands in each queue at most once.
type queue struct {
	items []string
	first int
}

func (q *queue) push(s string) { q.items = append(q.items, s) }

func (q *queue) pop() (string, bool) {
	if q.first == len(q.items) {
		return "", false
	}
	s := q.items[q.first]
	q.items[q.first] = ""
	q.first++
	switch {
	case q.first == len(q.items):
		*q = queue{}
	case q.first >= len(q.items)/2 && q.first > 64:
		q.items = append(q.items[:0], q.items[q.first:]...)
		q.first = 0
	}
	return s, true
}
