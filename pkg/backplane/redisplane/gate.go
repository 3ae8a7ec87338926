package redisplane

import (
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// maxHeld bounds what a gate holds, in bytes.
const maxHeld = 16 << 20

// A gate holds what arrives on a new connection, until the operations that were missed
// before have been taken in. Beyond maxHeld nothing of it is kept: it arrived in a gap.
type gate struct {
	open  bool
	held  []arrival
	bytes int
}

// An arrival is a body on its way to an attachment.
type arrival struct {
	to      *attachment
	channel backplane.Channel
	body    []byte
	digest  digest // of an operation
}

// pass delivers what has arrived, or holds it. The receive loop calls it.
func (p *partition) pass(m arrival) {
	if backplane.IsOperation(m.body) {
		m.digest = digestOf(m.channel, m.body)
		if !m.to.ledger(p).hears(m.digest) {
			p.plane.metrics.late.Inc()
			return
		}
	}
	if p.gate.open {
		m.to.receiver.Deliver(m.channel, m.body)
		return
	}
	p.gate.held = append(p.gate.held, m)
	if p.gate.bytes += len(m.body) + messageOverhead; p.gate.bytes > maxHeld {
		p.dropHeld()
	}
}

// shut begins to hold what arrives, on a new connection. The receive loop calls it.
func (p *partition) shut() {
	p.gate.open = false
	p.dropHeld()
}

// dropHeld gives up what is held. Operations among it have to be read.
func (p *partition) dropHeld() {
	for _, m := range p.gate.held {
		if backplane.IsOperation(m.body) {
			m.to.ledger(p).unhear(m.digest)
		}
	}
	p.plane.metrics.gap.Add(float64(len(p.gate.held)))
	p.gate.held, p.gate.bytes = nil, 0
}

// probed takes in a probe that was sent at that time, and what was read before. The receive
// loop calls it: so everything that was published before the reading has arrived.
func (p *partition) probed(sent time.Duration) {
	r := p.keeper.take(p.subscriber.current.Load(), sent)
	if r != nil {
		for _, part := range r.parts {
			p.catchUp(part, p.keeper.clock()-r.at)
		}
	}
	hears, comesToHear := p.subscriber.prove(r != nil)
	if comesToHear {
		p.tellOfGap()
	}
	if r != nil && !p.gate.open {
		p.gate.open = true
		for _, m := range p.gate.held {
			if !m.to.isDetached() {
				m.to.receiver.Deliver(m.channel, m.body)
			}
		}
		p.gate.held, p.gate.bytes = nil, 0
	}
	if hears {
		p.health.hears() // it may have been refused probes meanwhile
	}
}

// tellOfGap tells those who want to know that there was one.
func (p *partition) tellOfGap() {
	since, ok := p.health.gap()
	if !ok {
		return
	}
	for _, a := range p.plane.attachments.all() {
		if w, watches := a.receiver.(backplane.GapWatcher); watches && !a.isDetached() {
			w.GapEnded(since)
		}
	}
}

// catchUp hands over what was missed of one prefix. While the gate is open nothing was, but
// for operations that were kept and not published.
func (p *partition) catchUp(of part, since time.Duration) {
	a := of.of
	if a.isDetached() {
		return
	}
	watcher, watches := a.receiver.(backplane.MissedReceiver)
	if of.broken && !p.gate.open && !of.first {
		p.health.logger.Warn("operations may have been missed", "prefix", a.prefix)
		if watches {
			watcher.MissedUnknown()
		}
	}
	if of.lost && !p.gate.open {
		p.health.logger.Warn("redis has lost the operations that it kept: those that this node has not answered are not made up for", "prefix", a.prefix)
	}
	for _, e := range of.entries {
		p.plane.metrics.missed.Inc()
		if watches {
			watcher.Missed(e.channel, e.body, e.age+since)
		} else {
			a.receiver.Deliver(e.channel, e.body)
		}
	}
}
