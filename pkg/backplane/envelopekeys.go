package backplane

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"strconv"
)

// EnvelopeKeys sign envelopes with a MAC in their headers, and tell which a holder of a
// cluster key has signed. They are not safe for concurrent use, since what they compute
// with is kept: each goroutine has its own.
//
// The MAC is HMAC-SHA256, by a cluster key, of these bytes:
//
//	envelope, a zero byte, the length of the channel's name in decimal, a zero byte,
//	the channel's name, with the hub's prefix,
//	the envelope up to the MAC, its length included,
//	and the envelope from the end of the MAC on
//
// So it binds the channel, the publisher, the incarnation, the lane, the sequence, the body,
// and what a later version may add to the header: nobody else can change an envelope, or
// publish it on another channel. Publishing it again where it was is what a [Window] is for.
type EnvelopeKeys struct {
	hashes []hash.Hash // by key, ready to begin anew
	label  []byte      // what comes before the envelope
	sum    []byte
}

// NewEnvelopeKeys returns keys of which the first signs, and any may have signed what is
// parsed. There must be one.
func NewEnvelopeKeys(keys [][]byte) *EnvelopeKeys {
	k := new(EnvelopeKeys)
	for _, key := range keys {
		k.hashes = append(k.hashes, hmac.New(sha256.New, key))
	}
	return k
}

// Append appends the bytes of e, signed to be published on ch, to dst, as
// [AppendEnvelope] does without a MAC. Here ch is the channel's whole name, with the hub's
// prefix.
func (k *EnvelopeKeys) Append(dst []byte, ch Channel, e Envelope) []byte {
	begin := len(dst)
	dst = AppendUnsigned(dst, e)
	k.Sign(dst[begin:], ch)
	return dst
}

// AppendUnsigned appends the bytes of e with room for a MAC, of zeros, to dst. It panics
// as [AppendEnvelope] does. Who holds a lock while he copies bodies can sign afterwards.
func AppendUnsigned(dst []byte, e Envelope) []byte {
	dst = append(appendHeader(dst, &e, 1+macSize), macSize)
	dst = append(dst, make([]byte, macSize)...)
	return append(dst, e.Body...)
}

// Sign puts the MAC into an envelope of [AppendUnsigned], to be published on ch, the
// channel's whole name.
func (k *EnvelopeKeys) Sign(envelope []byte, ch Channel) {
	p, err := parseEnvelope(envelope)
	if err != nil || p.macAt == 0 {
		panic(fmt.Sprintf("backplane: no room for a MAC in an envelope of %d bytes: %v", len(envelope), err))
	}
	copy(envelope[p.macAt:], k.mac(k.hashes[0], ch, envelope, p.macAt))
}

// Parse parses an envelope that came on ch, as [ParseEnvelope] does, if a key has signed
// it. Errors beyond those wrap [ErrUnsigned] where it has no MAC, as the plain form, and
// [ErrForged] where that is of none of the keys, or of another channel.
func (k *EnvelopeKeys) Parse(data []byte, ch Channel) (Envelope, error) {
	p, err := parseEnvelope(data)
	if err == nil {
		err = k.check(&p, data, ch)
	}
	if err != nil {
		return Envelope{}, fmt.Errorf("parse envelope: %w", err)
	}
	return p.envelope(), nil
}

func (k *EnvelopeKeys) check(p *parsedEnvelope, data []byte, ch Channel) error {
	if p.macAt == 0 {
		return ErrUnsigned
	}
	for _, h := range k.hashes {
		if hmac.Equal(data[p.macAt:p.macAt+macSize], k.mac(h, ch, data, p.macAt)) {
			return nil
		}
	}
	return ErrForged
}

// mac returns the MAC of an envelope whose place for it begins at at.
func (k *EnvelopeKeys) mac(h hash.Hash, ch Channel, data []byte, at int) []byte {
	k.label = append(k.label[:0], "envelope\x00"...)
	k.label = strconv.AppendInt(k.label, int64(len(ch)), 10)
	k.label = append(append(k.label, 0), ch...)
	h.Reset()
	h.Write(k.label)
	h.Write(data[:at])
	h.Write(data[at+macSize:])
	k.sum = h.Sum(k.sum[:0])
	return k.sum
}
