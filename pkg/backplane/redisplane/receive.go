package redisplane

import (
	"errors"
	"unsafe"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// arrive takes in one message; the receive loop calls it. The node's own messages come
// this way too, so that there is one order for all.
func (p *Plane) arrive(channel, payload string) {
	p.metrics.received.Inc()
	envelope, err := backplane.ParseEnvelope(readOnlyBytes(payload))
	switch {
	case errors.Is(err, backplane.ErrVersion):
		p.metrics.unknownVersion.Inc()
		return
	case err != nil:
		p.metrics.malformed.Inc()
		return
	case !p.window.Accept(&envelope):
		p.metrics.late.Inc()
		return
	}
	if channel == p.subscriber.node && envelope.Publisher == p.id && p.prober.isProbe(envelope.Body) {
		p.subscriber.prove()
		return
	}
	prefix := prefixOf(channel)
	a := p.attachments.find(prefix)
	if a == nil || a.isDetached() {
		p.metrics.unattached.Inc()
		return
	}
	a.receiver.Deliver(backplane.Channel(channel[len(prefix):]), envelope.Body)
}

// readOnlyBytes returns the bytes of s without copying them. The contract of
// [backplane.Receiver] has it that nobody changes a body, and messages may be large and
// many.
func readOnlyBytes(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
