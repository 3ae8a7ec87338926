package redisplane

import (
	"errors"
	"strings"
	"unsafe"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// arrive takes in one message; the receive loop calls it. The node's own messages come
// this way too, so that there is one order for all.
func (p *partition) arrive(channel, payload string) {
	p.plane.metrics.received.Inc()
	envelope, err := p.parse(channel, readOnlyBytes(payload))
	if err != nil {
		p.drop(channel, err)
		return
	}
	p.plane.arrivals.Lock()
	defer p.plane.arrivals.Unlock()
	if !p.plane.window.Accept(&envelope) {
		p.plane.metrics.late.Inc()
		return
	}
	if channel == p.subscriber.node && envelope.Publisher == p.plane.id {
		if sent, ok := p.prober.isProbe(envelope.Body); ok {
			p.probed(sent)
			return
		}
	}
	name := strings.TrimPrefix(channel, p.site.tag)
	prefix := prefixOf(name)
	a := p.plane.attachments.find(prefix)
	if a == nil || a.isDetached() {
		p.plane.metrics.unattached.Inc()
		return
	}
	p.pass(arrival{to: a, channel: backplane.Channel(name[len(prefix):]), body: envelope.Body})
}

// parse comes before the window: who has no key where one is demanded does not get to say
// what has been heard of a publisher.
func (p *partition) parse(channel string, payload []byte) (backplane.Envelope, error) {
	if p.demanded == nil {
		return backplane.ParseEnvelope(payload)
	}
	return p.demanded.Parse(payload, backplane.Channel(channel))
}

// drop counts an envelope that was refused for err.
func (p *partition) drop(channel string, err error) {
	reason := p.plane.metrics.malformed
	switch {
	case errors.Is(err, backplane.ErrVersion):
		reason = p.plane.metrics.unknownVersion
	case errors.Is(err, backplane.ErrUnsigned):
		reason = p.plane.metrics.unsigned
	case errors.Is(err, backplane.ErrForged):
		reason = p.plane.metrics.forged
	}
	reason.Inc()
	p.health.logger.Debug("envelope from Redis ignored", "channel", channel, "error", err)
}

// readOnlyBytes returns the bytes of s without copying them. The contract of
// [backplane.Receiver] has it that nobody changes a body, and messages may be large and
// many.
func readOnlyBytes(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
