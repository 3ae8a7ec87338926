package redisplane

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// maxMissed is how many intervals may pass without a probe being heard.
	maxMissed = 2
	// maxMissedBusy is the same while other messages arrive: the node may be behind
	// with reading, and would lose what it has not read by connecting anew.
	maxMissedBusy = 10
)

// A prober lets the node prove that it hears: every interval it publishes a probe to
// the node's own channel, on the way that all messages take, and looks whether it
// came. If not, it has both connections made anew, since nothing else tells a silent
// one from a dead one, or from one to a Redis that no one else uses any more.
type prober struct {
	lane       *lane
	subscriber *subscriber
	health     *health
	metrics    *metrics
	interval   time.Duration
	renewed    func() // called when both connections are to be made anew

	begin time.Time     // what probes count their time from
	now   chan struct{} // of capacity 1: probe at once
	heard atomic.Uint64 // probes heard
	lag   lag           // of what is heard

	// run's alone:

	sent     time.Time // the last probe
	wanted   bool      // one at once, which the last one is in the way of
	request  *request  // of the last probe sent; nil once its outcome is known
	link     *link     // the subscriber's connection that missed is about
	answered uint64    // heard, at the last look
	arrivals uint64    // the subscriber's, at the last look
	missed   int       // intervals in which no probe was heard
	refusal  error     // of the last probe, if Redis refused it
}

func newProber(o Options, l *lane, s *subscriber, h *health) *prober {
	return &prober{
		lane:       l,
		subscriber: s,
		health:     h,
		metrics:    l.metrics,
		interval:   o.ProbeInterval,
		begin:      time.Now(),
		now:        make(chan struct{}, 1),
		renewed:    func() {},
	}
}

var errDeaf = errors.New("the node's own probe was not heard")

// The body of a probe is this and the time at which it was sent, in nanoseconds, as 8
// bytes, big-endian.
var probePrefix = []byte("probe ")

// isProbe reports whether a body on the node's own channel is that of a probe, and takes
// it in if so; the receive loop calls it. It was sent that long after begin.
func (p *prober) isProbe(body []byte) (sent time.Duration, ok bool) {
	at, ok := bytes.CutPrefix(body, probePrefix)
	if !ok || len(at) != 8 {
		return 0, false
	}
	sent = time.Duration(binary.BigEndian.Uint64(at))
	p.heard.Add(1)
	took := p.lag.heard(p.begin.Add(sent))
	p.metrics.probe.Observe(took.Seconds())
	return sent, true
}

// probe makes run send a probe at once.
func (p *prober) probe() {
	select {
	case p.now <- struct{}{}:
	default:
	}
}

// run probes until ctx ends.
func (p *prober) run(ctx context.Context) {
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for {
		var settled <-chan struct{}
		if p.wanted && p.request != nil {
			settled = p.request.done
		}
		select {
		case <-ctx.Done():
			return
		case <-settled:
			p.settle()
		case <-p.now:
			p.wanted = true
		case <-ticker.C:
			p.look()
		}
		p.send()
	}
}

// look judges the interval that has passed.
func (p *prober) look() {
	link, answered, arrivals := p.subscriber.current.Load(), p.heard.Load(), p.subscriber.arrivals.Load()
	missed := answered == p.answered
	busy := arrivals != p.arrivals
	begun := link != p.link
	p.link, p.answered, p.arrivals = link, answered, arrivals
	if link == nil || begun || !missed {
		p.missed = 0
		p.health.trusts()
		return
	}
	p.missed++
	p.health.doubts(p.sent)
	p.outcome()
	switch {
	case p.missed < maxMissed:
	case p.refusal != nil:
		p.health.lost(fmt.Errorf("redis refuses the node's own probe: %w", p.refusal))
	case busy && p.missed < maxMissedBusy:
	default:
		p.missed = 0
		p.lane.renew()
		p.renewed()
		p.subscriber.cut(errDeaf)
	}
}

// send sends the next probe, unless the last one still waits or is in flight.
func (p *prober) send() {
	if p.subscriber.current.Load() == nil || !p.outcome() {
		return
	}
	p.wanted = false
	p.sent = time.Now()
	p.lag.sent(p.sent)
	body := binary.BigEndian.AppendUint64(bytes.Clone(probePrefix), uint64(p.sent.Sub(p.begin)))
	p.request, _ = p.lane.probe(body, p.subscriber.node)
}

// outcome reports whether the outcome of the last probe sent is known.
func (p *prober) outcome() bool {
	if p.request == nil {
		return true
	}
	select {
	case <-p.request.done:
		p.settle()
		return true
	default:
		return false
	}
}

// settle takes in the outcome of the last probe sent.
func (p *prober) settle() {
	p.refusal = nil
	if err := p.request.err; isReply(err) {
		p.refusal = err
	}
	p.request = nil
}
