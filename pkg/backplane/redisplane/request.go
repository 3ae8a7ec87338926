package redisplane

import (
	"cmp"
	"fmt"
	"sync"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A request is one Publish call on its way through the lane. All but done is guarded by
// the lane's mu while the lane knows the request.
type request struct {
	body     []byte
	prefix   string // of the channels
	channels []backplane.Channel
	next     int           // channels before it have been taken out of the queue
	inFlight int           // of those, the ones without an outcome
	outcome                // of those, the others'
	done     chan struct{} // of capacity 1: has its outcome

	before, after *request // in the queue
	queued        bool
}

var requestPool = sync.Pool{New: func() any { return &request{done: make(chan struct{}, 1)} }}

func newRequest(body []byte, prefix string, channels []backplane.Channel) *request {
	r := requestPool.Get().(*request)
	r.body, r.prefix, r.channels = body, prefix, channels
	return r
}

// recycle gives the request back. Nobody else may know it.
func (r *request) recycle() {
	*r = request{done: r.done}
	requestPool.Put(r)
}

// messages is how many still wait in the queue.
func (r *request) messages() int { return len(r.channels) - r.next }

// bytes is what the messages that still wait are counted as.
func (r *request) bytes() int {
	n := 0
	for _, ch := range r.channels[r.next:] {
		n += len(r.body) + len(r.prefix) + len(ch) + messageOverhead
	}
	return n
}

// finishIfSettled tells the publisher, once no message waits or is in flight. Nothing
// may be done with the request after that.
func (r *request) finishIfSettled() {
	if r.inFlight == 0 && r.messages() == 0 {
		r.done <- struct{}{}
	}
}

// dropRest lets the messages that still wait not be sent, for the reason err. The
// request is not in the queue.
func (r *request) dropRest(err error) {
	if r.messages() > 0 {
		r.channels = r.channels[:r.next]
		r.err = err
	}
}

// An outcome is what became of the messages of a Publish call.
type outcome struct {
	carried   int   // how many Redis took
	unsure    int   // how many Redis may have taken
	receivers int   // subscribers that Redis handed the carried ones to
	err       error // the last one, of those that Redis did not take, or may not have taken
}

// add adds that of other messages of the call.
func (o *outcome) add(other outcome) {
	o.carried += other.carried
	o.unsure += other.unsure
	o.receivers += other.receivers
	o.err = cmp.Or(other.err, o.err)
}

func (o *outcome) result() error {
	switch {
	case o.err == nil:
		return nil
	case o.carried == 0 && o.unsure == 0:
		return notSent(o.err)
	default:
		return unknown(o.err)
	}
}

func notSent(err error) error {
	return fmt.Errorf("publish: %w: %w", backplane.ErrNotSent, err)
}

func unknown(err error) error {
	return fmt.Errorf("publish: %w: %w", backplane.ErrUnknown, err)
}

// requests is a queue from whose middle a request can go.
type requests struct{ first, last *request }

func (q *requests) pushBack(r *request) {
	r.queued = true
	r.before, r.after = q.last, nil
	if q.last == nil {
		q.first = r
	} else {
		q.last.after = r
	}
	q.last = r
}

func (q *requests) pushFront(r *request) {
	r.queued = true
	r.before, r.after = nil, q.first
	if q.first == nil {
		q.last = r
	} else {
		q.first.before = r
	}
	q.first = r
}

// remove reports whether the request was in the queue.
func (q *requests) remove(r *request) bool {
	if !r.queued {
		return false
	}
	if r.before == nil {
		q.first = r.after
	} else {
		r.before.after = r.after
	}
	if r.after == nil {
		q.last = r.before
	} else {
		r.after.before = r.before
	}
	r.queued, r.before, r.after = false, nil, nil
	return true
}
