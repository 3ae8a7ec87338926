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
	if len(e.Publisher) == 0 || len(e.Publisher) > MaxPublisher || e.Lane > MaxLane || e.Sequence == 0 {
		panic(fmt.Sprintf("backplane: envelope with publisher %q, lane %d, sequence %d", e.Publisher, e.Lane, e.Sequence))
	}
	header := 1 + len(e.Publisher) + uvarintLen(e.Incarnation) + uvarintLen(uint64(e.Lane)) + uvarintLen(e.Sequence)
	dst = slices.Grow(dst, 1+uvarintLen(uint64(header))+header+len(e.Body))
	dst = append(dst, envelopeVersion)
	dst = binary.AppendUvarint(dst, uint64(header))
	dst = append(dst, byte(len(e.Publisher)))
	dst = append(dst, e.Publisher...)
	dst = binary.AppendUvarint(dst, e.Incarnation)
	dst = binary.AppendUvarint(dst, uint64(e.Lane))
	dst = binary.AppendUvarint(dst, e.Sequence)
	return append(dst, e.Body...)
}

// ParseEnvelope parses one envelope, which is all of data. The Body refers to data.
// Errors wrap [ErrVersion] where the version is unknown, and else [ErrMalformed].
func ParseEnvelope(data []byte) (Envelope, error) {
	if len(data) == 0 {
		return Envelope{}, fmt.Errorf("parse envelope: %w: no bytes", ErrMalformed)
	}
	switch data[0] {
	case '{':
		return Envelope{Body: data}, nil
	case envelopeVersion:
	default:
		return Envelope{}, fmt.Errorf("parse envelope: %w %d", ErrVersion, data[0])
	}
	all := cursor{rest: data[1:]}
	header := cursor{rest: all.take(all.uvarint())}
	publisher := header.take(uint64(header.byte()))
	incarnation, lane, sequence := header.uvarint(), header.uvarint(), header.uvarint()
	switch {
	case all.failed || header.failed:
		return Envelope{}, fmt.Errorf("parse envelope: %w: header cut off", ErrMalformed)
	case len(publisher) == 0:
		return Envelope{}, fmt.Errorf("parse envelope: %w: no publisher", ErrMalformed)
	case lane > MaxLane:
		return Envelope{}, fmt.Errorf("parse envelope: %w: lane %d", ErrMalformed, lane)
	case sequence == 0:
		return Envelope{}, fmt.Errorf("parse envelope: %w: no sequence number", ErrMalformed)
	}
	return Envelope{
		Publisher:   string(publisher),
		Incarnation: incarnation,
		Lane:        uint32(lane),
		Sequence:    sequence,
		Body:        all.rest,
	}, nil
}

// Plain reports whether e is of the plain JSON form: without a header.
func (e *Envelope) Plain() bool { return e.Sequence == 0 }
