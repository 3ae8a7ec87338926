package redisplane

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/pkg/backplane"
)

const (
	// maxPipelineMessages and maxPipelineBytes bound one pipeline, so that a deadline
	// for it means something; one message alone always fits.
	maxPipelineMessages = 512
	maxPipelineBytes    = 1 << 20
	// messageOverhead is what a message costs beyond its channel and its body.
	messageOverhead = 128
	// closePause is how long what is in flight may take when the lane closes.
	closePause = time.Second
)

var (
	errQueueFull = errors.New("too much is waiting to be published")
	// errNoOutcome stands in a command until the library writes its outcome there,
	// which it does not always do.
	errNoOutcome = errors.New("no outcome")
)

// A lane publishes. Whatever is waiting becomes one pipeline; while that is in flight,
// more may wait, and it never waits to fill one. It numbers envelopes in the order in
// which it sends them, over one connection at a time.
//
// Nothing is sent twice. What Redis has taken, refused or never seen is told apart from
// what it may have taken.
type lane struct {
	outlet      // run is its sender
	publisher   string
	incarnation uint64
	keys        *backplane.EnvelopeKeys // run's alone; nil: envelopes are not signed
	timeout     time.Duration
	maxBytes    int
	maxMessages int
	metrics     *metrics

	wake  chan struct{} // of capacity 1: the queue has something, or the lane is closed
	ended chan struct{} // closed when run has ended

	mu       sync.Mutex // never held while something is sent
	queue    requests
	bytes    int // in queue
	messages int // in queue
	closed   bool

	// run's alone:

	sequence     uint64
	publications []*publication // as many as the largest pipeline so far had, used again and again
	buffer       []byte         // of the envelopes of one pipeline
}

func newLane(o Options, s *site, publisher string, incarnation uint64, m *metrics) *lane {
	return &lane{
		keys:        o.envelopeKeys(),
		publisher:   publisher,
		incarnation: incarnation,
		outlet:      outlet{site: s},
		timeout:     o.PublishTimeout,
		maxBytes:    o.MaxQueuedBytes,
		maxMessages: o.MaxQueuedMessages,
		metrics:     m,
		wake:        make(chan struct{}, 1),
		ended:       make(chan struct{}),
	}
}

// publish publishes body on each of the channels, and returns what the contract says,
// and how many subscribers Redis handed it to.
func (l *lane) publish(ctx context.Context, body []byte, prefix string, channels []backplane.Channel) (receivers int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, notSent(err)
	}
	if len(channels) == 0 {
		return 0, nil
	}
	r, err := l.begin(body, prefix, channels)
	if err != nil {
		return 0, notSent(err)
	}
	o := l.end(ctx, r)
	return o.receivers, o.result()
}

// begin has body published on the channels. An error is why it surely is not.
func (l *lane) begin(body []byte, prefix string, channels []backplane.Channel) (*request, error) {
	r := newRequest(body, l.site.tag+prefix, channels)
	if err := l.enqueue(r, false); err != nil {
		r.recycle()
		return nil, err
	}
	return r, nil
}

// end waits for the outcome of a request, or for ctx to end. The request is not used again.
func (l *lane) end(ctx context.Context, r *request) outcome {
	select {
	case <-r.done:
		o := r.outcome
		r.recycle()
		return o
	case <-ctx.Done():
		return l.abandon(r, ctx.Err())
	}
}

// probe publishes body on one channel, by its whole name, before everything else, whatever
// waits. Nobody waits for it: its outcome comes on the request's done.
func (l *lane) probe(body []byte, channel string) (*request, error) {
	r := newRequest(body, "", []backplane.Channel{backplane.Channel(channel)})
	if err := l.enqueue(r, true); err != nil {
		return nil, err
	}
	return r, nil
}

func (l *lane) enqueue(r *request, first bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return backplane.ErrClosed
	case first:
		l.queue.pushFront(r)
	case l.messages > 0 && (l.bytes+r.bytes() > l.maxBytes || l.messages+r.messages() > l.maxMessages):
		return fmt.Errorf("%w: %d messages, %d bytes", errQueueFull, l.messages, l.bytes)
	default:
		l.queue.pushBack(r)
	}
	l.bytes += r.bytes()
	l.messages += r.messages()
	l.signal()
	return nil
}

// waiting returns what is in the queue; what is in flight is not.
func (l *lane) waiting() (messages, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.messages, l.bytes
}

// abandon takes what still waits of the request out of the queue, since its publisher
// has reason to wait no longer, and returns what can be said of the rest. The request is
// not recycled: the lane may know it for longer.
func (l *lane) abandon(r *request, reason error) outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(r)
	r.dropRest(reason)
	o := r.outcome
	if r.inFlight > 0 {
		o.add(outcome{unsure: r.inFlight, err: reason})
	}
	return o
}

// remove takes the request out of the queue, if it is there; mu is held.
func (l *lane) remove(r *request) {
	if l.queue.remove(r) {
		l.bytes -= r.bytes()
		l.messages -= r.messages()
	}
}

func (l *lane) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// close fails what waits, lets what is in flight come to its end for a moment, and
// returns when run has.
func (l *lane) close() {
	l.mu.Lock()
	l.closed = true
	for r := l.queue.first; r != nil; r = l.queue.first {
		l.remove(r)
		r.dropRest(backplane.ErrClosed)
		r.finishIfSettled()
	}
	l.mu.Unlock()
	l.signal()
	hurry := time.AfterFunc(closePause, func() { l.hurry(backplane.ErrClosed) })
	defer hurry.Stop()
	<-l.ended
}

// run sends until the lane is closed.
func (l *lane) run() {
	defer close(l.ended)
	defer l.disconnect()
	for range l.wake {
		for {
			batch, open := l.take()
			if !open {
				return
			}
			if len(batch) == 0 {
				break
			}
			l.sign(batch)
			l.send(batch)
			l.settle(batch)
		}
	}
}

// take takes the next pipeline out of the queue: it numbers the messages and copies
// them, so that their publishers may do with them what they like. It returns false if
// the lane is closed.
func (l *lane) take() ([]*publication, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(l.buffer) > 4*maxPipelineBytes {
		l.buffer = nil
	}
	l.buffer = l.buffer[:0]
	n := 0
	for r := l.queue.first; r != nil; r = l.queue.first {
		bytes, messages := r.bytes(), r.messages()
		for n < maxPipelineMessages && (n == 0 || len(l.buffer)+len(r.body) <= maxPipelineBytes) && r.messages() > 0 {
			l.sequence++
			begin := len(l.buffer)
			l.buffer = l.appendEnvelope(l.buffer, backplane.Envelope{
				Publisher:   l.publisher,
				Incarnation: l.incarnation,
				Lane:        uint32(l.site.place),
				Sequence:    l.sequence,
				Body:        r.body,
			})
			l.publication(n).set(r, l.buffer[begin:])
			r.next++
			r.inFlight++
			n++
		}
		l.bytes -= bytes - r.bytes()
		l.messages -= messages - r.messages()
		if r.messages() > 0 {
			break
		}
		l.queue.remove(r)
	}
	return l.publications[:n], !l.closed || n > 0
}

func (l *lane) publication(i int) *publication {
	if i == len(l.publications) {
		l.publications = append(l.publications, newPublication(l.site.publish()))
	}
	return l.publications[i]
}

// appendEnvelope leaves room for sign, which needs no lock and no body to stay.
func (l *lane) appendEnvelope(dst []byte, e backplane.Envelope) []byte {
	if l.keys == nil {
		return backplane.AppendEnvelope(dst, e)
	}
	return backplane.AppendUnsigned(dst, e)
}

func (l *lane) sign(batch []*publication) {
	if l.keys == nil {
		return
	}
	for _, p := range batch {
		l.keys.Sign(p.envelope, backplane.Channel(p.channel))
	}
}

// send sends the pipeline and leaves the outcome in its commands.
func (l *lane) send(batch []*publication) {
	link, err := l.connect()
	if err != nil {
		for _, p := range batch {
			p.command.SetErr(err)
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	pipeline := link.client.Pipeline()
	for _, p := range batch {
		pipeline.Process(ctx, p.command)
	}
	l.metrics.pipelines.Inc()
	_, err = pipeline.Exec(ctx)

	lost := false
	var refusal error
	for _, p := range batch {
		outcome := p.command.Err()
		if outcome == nil {
			continue
		}
		if p.refused() {
			refusal = outcome
			continue
		}
		lost = true
		if !p.written && err != nil {
			outcome = err // where Redis refuses the connection, commands do not have it
		}
		p.command.SetErr(link.cause(outcome))
	}
	l.site.demoted(refusal)
	if !lost {
		return
	}
	if first := batch[0]; !first.written {
		l.fail(first.command.Err())
	}
	l.disconnect()
}

// settle tells the publishers of the pipeline what became of it.
func (l *lane) settle(batch []*publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range batch {
		r := p.request
		p.request = nil
		r.inFlight--
		switch err := p.command.Err(); {
		case err == nil:
			r.carried++
			r.receivers += int(p.command.Val())
			l.metrics.published.Inc()
		case !p.written || p.refused():
			r.err = err
		default:
			r.unsure++
			r.err = err
		}
		r.finishIfSettled()
	}
}

// A publication is one PUBLISH, or SPUBLISH, of a pipeline.
type publication struct {
	request  *request
	channel  string
	envelope []byte
	written  bool // to the library's buffer for the socket, so it may have gone out
	command  *redis.IntCmd
}

func newPublication(command string) *publication {
	p := new(publication)
	p.command = redis.NewIntCmd(context.Background(), command, &p.channel, p)
	return p
}

func (p *publication) set(r *request, envelope []byte) {
	p.request, p.envelope, p.written = r, envelope, false
	p.channel = r.prefix + string(r.channels[r.next])
	p.command.SetErr(errNoOutcome)
}

// MarshalBinary is how the library gets the envelope when it writes the command: until
// then, nothing of it has been sent.
func (p *publication) MarshalBinary() ([]byte, error) {
	p.written = true
	return p.envelope, nil
}

// refused reports whether Redis has replied that it does not take the envelope.
func (p *publication) refused() bool {
	return p.written && isReply(p.command.Err())
}

// isReply reports whether err is an error reply of Redis.
func isReply(err error) bool {
	_, ok := errors.AsType[redis.Error](err)
	return ok
}
