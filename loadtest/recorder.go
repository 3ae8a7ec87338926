package main

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A recorder takes down what the receivers of a trial get. It may be used
// concurrently.
type recorder struct {
	trial       trialID
	epoch       time.Time
	method      string // of the client, by which messages come
	protocol    protocol.Protocol
	payload     int   // bytes of each message's text
	senderNodes []int // by sender

	// measuredFrom is since the epoch, in nanoseconds. The latencies of messages that
	// were due earlier are not recorded.
	measuredFrom atomic.Int64

	shards    []*shard
	receivers int // so far
}

// A shard is what some of the receivers record into, so that few wait for each other.
type shard struct {
	mu sync.Mutex // guards what follows, and the streams of its receivers
	tally
	sameNode  *latencies // the sender is on the receiver's node
	crossNode *latencies
}

// A receiver is a connection that belongs to a target.
type receiver struct {
	recorder   *recorder
	shard      *shard
	target     int
	node       int
	connection *connection // nil until it is open, or for good
	streams    []stream    // by sender; guarded by shard.mu
}

func newRecorder(id trialID, epoch time.Time, c config, senderNodes []int) *recorder {
	r := &recorder{
		trial:       id,
		epoch:       epoch,
		method:      c.receiveMethod,
		protocol:    c.protocol,
		payload:     c.payload,
		senderNodes: senderNodes,
		shards:      make([]*shard, 4*runtime.GOMAXPROCS(0)),
	}
	for i := range r.shards {
		r.shards[i] = &shard{sameNode: newLatencies(), crossNode: newLatencies()}
	}
	return r
}

// receiver adds a receiver, whose handle method takes what it gets. It may not be
// called concurrently with anything.
func (r *recorder) receiver(target, node int) *receiver {
	added := &receiver{
		recorder: r,
		shard:    r.shards[r.receivers%len(r.shards)],
		target:   target,
		node:     node,
		streams:  make([]stream, len(r.senderNodes)),
	}
	r.receivers++
	return added
}

// handle takes down a message that has come.
func (v *receiver) handle(m protocol.Message) {
	r := v.recorder
	now := time.Since(r.epoch)
	text, ok := r.text(m)
	v.shard.mu.Lock()
	defer v.shard.mu.Unlock()
	if !ok || !isOf(r.trial, text) {
		v.shard.ignored++
		return
	}
	received, ok := parseMessage(r.trial, text)
	switch {
	case !ok || len(text) != r.payload || received.sender >= len(v.streams):
		v.shard.damaged++
		return
	case received.target != v.target:
		v.shard.stray++
		return
	}
	verdict := v.streams[received.sender].receive(received.sequence)
	v.shard.count(verdict)
	if verdict == duplicate || verdict == tooOld || int64(received.due) < r.measuredFrom.Load() {
		return
	}
	if r.senderNodes[received.sender] == v.node {
		v.shard.sameNode.record(now - received.due)
	} else {
		v.shard.crossNode.record(now - received.due)
	}
}

// text returns the argument of an invocation of the client's method. The names of
// methods are compared as the official clients do.
func (r *recorder) text(m protocol.Message) (text string, ok bool) {
	invocation, is := m.(*protocol.Invocation)
	if !is || !strings.EqualFold(invocation.Target, r.method) {
		return "", false
	}
	err := r.protocol.BindArguments(invocation.RawArguments, &text)
	return text, err == nil
}

// tally returns the counts of all receivers so far.
func (r *recorder) tally() tally {
	var sum tally
	for _, s := range r.shards {
		s.mu.Lock()
		sum.add(s.tally)
		s.mu.Unlock()
	}
	return sum
}

// latencies returns what has been recorded so far, as new histograms.
func (r *recorder) latencies() (all, crossNode *latencies) {
	all, crossNode = newLatencies(), newLatencies()
	for _, s := range r.shards {
		s.mu.Lock()
		all.merge(s.sameNode)
		crossNode.merge(s.crossNode)
		s.mu.Unlock()
	}
	all.merge(crossNode)
	return all, crossNode
}

// lost returns how many messages the receiver has not had, of those that it was to get.
func (v *receiver) lost(senders []*sender) uint64 {
	v.shard.mu.Lock()
	defer v.shard.mu.Unlock()
	var lost uint64
	for i, s := range senders {
		lost += v.streams[i].lost(s.valid(v.target))
	}
	return lost
}
