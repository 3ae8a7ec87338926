package backplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Errors of the parsers. They are wrapped with what was being parsed.
var (
	// ErrMalformed reports bytes that are not what they should be.
	ErrMalformed = errors.New("malformed")
	// ErrVersion reports bytes of a version or a kind that this node does not know,
	// as a newer node may send them. It excludes ErrMalformed.
	ErrVersion = errors.New("unknown version")
	// ErrForged reports bytes that no cluster key has signed.
	ErrForged = errors.New("not signed by a cluster key")
	// ErrUnsigned reports an envelope that has no MAC, where one is demanded.
	ErrUnsigned = errors.New("without a MAC")
)

// Bounds of an envelope's header.
const (
	// MaxPublisher is the greatest length of a publisher's name, in bytes.
	MaxPublisher = 255
	// MaxLane is the greatest number of a lane. The least is 0.
	MaxLane = 1023
)

// An Envelope is what travels on a channel: a header that says whose and which it is,
// and the body that the receiver of the channel gets.
//
// The bytes of an envelope are a contract between nodes of different versions, and
// with publishers that are no nodes. Numbers called uvarint are unsigned LEB128: seven
// bits a byte, the least significant first, the high bit set in all bytes but the last.
//
//	bytes     field
//	1         version: 1
//	uvarint   header length: of what follows, up to the body
//	1         length of the publisher's name, from 1
//	…         publisher: the name
//	uvarint   incarnation
//	uvarint   lane, to 1023
//	uvarint   sequence, from 1
//	1         length of the MAC, 0 or 32; may be left out with all that follows: 0
//	…         MAC: see [EnvelopeKeys]
//	…         what the header length still covers: not for this version, ignored
//	…         body: all the rest
//
// So "hi" as the third envelope of the node "n1", started for the 300th time, is
//
//	01 07 02 6e 31 ac 02 00 03 68 69
//
// A later version that only adds to the header is still version 1: older nodes skip
// what they do not know. Any other change has another first byte.
//
// Where the first byte is '{' there is no header: the bytes are a hub's body in plain
// JSON, which any program may publish, and the Envelope has a zero header.
type Envelope struct {
	// Publisher names the node that published: at least 1 and at most MaxPublisher
	// bytes, unique in the cluster.
	Publisher string
	// Incarnation grows with each start of that node.
	Incarnation uint64
	// Lane says which of the publisher's sequences this is of, up to MaxLane. A lane
	// is what is heard over one subscription connection, so in one order.
	Lane uint32
	// Sequence grows with each envelope of publisher, incarnation and lane, whatever
	// its channel: a body published on two channels has two sequence numbers. It is 0
	// only in the plain form.
	Sequence uint64
	// Body is the receiver's.
	Body []byte
}

const envelopeVersion = 1

// AppendEnvelope appends the bytes of e to dst. It panics if a field of e's header is
// out of its bounds; so e is not of the plain form, whose bytes are its body's.
func AppendEnvelope(dst []byte, e Envelope) []byte {
	return append(appendHeader(dst, &e, 0), e.Body...)
}

// appendHeader appends all but the body, of a header with that many bytes more, which are
// to follow.
func appendHeader(dst []byte, e *Envelope, more int) []byte {
	if len(e.Publisher) == 0 || len(e.Publisher) > MaxPublisher || e.Lane > MaxLane || e.Sequence == 0 {
		panic(fmt.Sprintf("backplane: envelope with publisher %q, lane %d, sequence %d", e.Publisher, e.Lane, e.Sequence))
	}
	header := 1 + len(e.Publisher) + uvarintLen(e.Incarnation) + uvarintLen(uint64(e.Lane)) + uvarintLen(e.Sequence) + more
	dst = slices.Grow(dst, 1+uvarintLen(uint64(header))+header+len(e.Body))
	dst = append(dst, envelopeVersion)
	dst = binary.AppendUvarint(dst, uint64(header))
	dst = append(dst, byte(len(e.Publisher)))
	dst = append(dst, e.Publisher...)
	dst = binary.AppendUvarint(dst, e.Incarnation)
	dst = binary.AppendUvarint(dst, uint64(e.Lane))
	return binary.AppendUvarint(dst, e.Sequence)
}

// ParseEnvelope parses one envelope, which is all of data. The Body refers to data.
// Errors wrap [ErrVersion] where the version is unknown, and else [ErrMalformed]. The MAC
// is not looked at: see [EnvelopeKeys.Parse].
func ParseEnvelope(data []byte) (Envelope, error) {
	p, err := parseEnvelope(data)
	if err != nil {
		return Envelope{}, fmt.Errorf("parse envelope: %w", err)
	}
	return p.envelope(), nil
}

// A parsedEnvelope is an [Envelope] that still refers to data for all that it has.
type parsedEnvelope struct {
	publisher   []byte
	incarnation uint64
	lane        uint32
	sequence    uint64
	body        []byte
	macAt       int // where in data the MAC is; 0: there is none
}

func (p *parsedEnvelope) envelope() Envelope {
	return Envelope{
		Publisher: string(p.publisher), Incarnation: p.incarnation, Lane: p.lane, Sequence: p.sequence, Body: p.body,
	}
}

func parseEnvelope(data []byte) (p parsedEnvelope, err error) {
	if len(data) == 0 {
		return p, fmt.Errorf("%w: no bytes", ErrMalformed)
	}
	switch data[0] {
	case '{':
		p.body = data
		return p, nil
	case envelopeVersion:
	default:
		return p, fmt.Errorf("%w %d", ErrVersion, data[0])
	}
	all := cursor{rest: data[1:]}
	header := cursor{rest: all.take(all.uvarint())}
	p.publisher = header.take(uint64(header.byte()))
	p.incarnation = header.uvarint()
	lane := header.uvarint()
	p.sequence = header.uvarint()
	if len(header.rest) > 0 && header.byte() == macSize {
		p.macAt = len(data) - len(all.rest) - len(header.rest)
		header.take(macSize)
	}
	p.lane, p.body = uint32(lane), all.rest
	switch {
	case all.failed || header.failed:
		return p, fmt.Errorf("%w: header cut off", ErrMalformed)
	case len(p.publisher) == 0:
		return p, fmt.Errorf("%w: no publisher", ErrMalformed)
	case lane > MaxLane:
		return p, fmt.Errorf("%w: lane %d", ErrMalformed, lane)
	case p.sequence == 0:
		return p, fmt.Errorf("%w: no sequence number", ErrMalformed)
	}
	return p, nil
}

// Plain reports whether e is of the plain JSON form: without a header.
func (e *Envelope) Plain() bool { return e.Sequence == 0 }
