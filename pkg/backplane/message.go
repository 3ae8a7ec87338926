package backplane

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A Message is what a hub publishes to reach clients: one hub message, ready to be
// written in each hub protocol that the receiving nodes may need.
//
// Its bytes are the body of an [Envelope] and as much of a contract. The first byte
// says the kind of body, so that there can be others than messages; uvarint is as in
// the envelope.
//
//	bytes     field
//	1         kind: 1
//	uvarint   number of excluded connections, and for each:
//	            uvarint   length of its connection id
//	            …         connection id
//	uvarint   number of encodings, and for each:
//	            uvarint   length of the hub protocol's name, from 1
//	            …         hub protocol's name, such as "json"
//	            uvarint   length of the frame
//	            …         frame: the hub message as a client is to get it
//	…         what a later node may add, ignored
//
// Where the first byte is '{' the body is an invocation in plain JSON instead, such as
// {"target":"ReceiveMessage","arguments":["hi"]}.
type Message struct {
	// Excluded are the ids of the connections that are not to get the message.
	Excluded []string
	// Encodings are the hub message in each hub protocol. A client whose protocol is
	// not among them cannot get it.
	Encodings []Encoding
	// Plain is, in the plain JSON form, the whole body, and else nil. It has been
	// looked at no further than its first byte.
	Plain []byte
}

// An Encoding is a hub message in one hub protocol.
type Encoding struct {
	// Protocol is the hub protocol's name, as in the handshake; not empty.
	Protocol string
	// Frame is the whole frame: in JSON with its record separator, in MessagePack
	// with its length.
	Frame []byte
}

// Kinds of body, by first byte. '{' is not free.
const kindMessage = 1

// The least that the elements of a message take, in bytes.
const (
	minExcluded = 1 // a length
	minEncoding = 3 // two lengths and a name
)

// AppendMessage appends the bytes of m to dst: m.Plain if that is not nil.
func AppendMessage(dst []byte, m Message) []byte {
	if m.Plain != nil {
		return append(dst, m.Plain...)
	}
	size := 1 + uvarintLen(uint64(len(m.Excluded))) + uvarintLen(uint64(len(m.Encodings)))
	for _, id := range m.Excluded {
		size += fieldLen(len(id))
	}
	for _, e := range m.Encodings {
		size += fieldLen(len(e.Protocol)) + fieldLen(len(e.Frame))
	}
	dst = slices.Grow(dst, size)
	dst = append(dst, kindMessage)
	dst = binary.AppendUvarint(dst, uint64(len(m.Excluded)))
	for _, id := range m.Excluded {
		dst = appendField(dst, id)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Encodings)))
	for _, e := range m.Encodings {
		dst = appendField(dst, e.Protocol)
		dst = appendField(dst, e.Frame)
	}
	return dst
}

// ParseMessage parses the body of an envelope. The frames, or Plain, refer to it.
// Errors wrap [ErrVersion] where the body is of an unknown kind, and else
// [ErrMalformed].
func ParseMessage(body []byte) (Message, error) {
	if len(body) == 0 {
		return Message{}, fmt.Errorf("parse message: %w: no bytes", ErrMalformed)
	}
	switch body[0] {
	case '{':
		return Message{Plain: body}, nil
	case kindMessage:
	default:
		return Message{}, fmt.Errorf("parse message: %w: kind %d", ErrVersion, body[0])
	}
	c := cursor{rest: body[1:]}
	var m Message
	if n := c.count(minExcluded); n > 0 {
		m.Excluded = make([]string, n)
		for i := range m.Excluded {
			m.Excluded[i] = string(c.field())
		}
	}
	if n := c.count(minEncoding); n > 0 {
		m.Encodings = make([]Encoding, n)
		for i := range m.Encodings {
			m.Encodings[i] = Encoding{Protocol: nameOf(c.field()), Frame: c.field()}
			if m.Encodings[i].Protocol == "" {
				c.fail()
			}
		}
	}
	if c.failed {
		return Message{}, fmt.Errorf("parse message: %w: cut off, or an encoding without a protocol", ErrMalformed)
	}
	return m, nil
}

// nameOf returns the name of a hub protocol, without a copy of one that there is today.
func nameOf(name []byte) string {
	for _, known := range [...]string{"json", "messagepack"} {
		if string(name) == known {
			return known
		}
	}
	return string(name)
}

// appendField appends bytes of any length, with that length before them.
func appendField[T string | []byte](dst []byte, field T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(field))), field...)
}

func fieldLen(n int) int { return uvarintLen(uint64(n)) + n }
