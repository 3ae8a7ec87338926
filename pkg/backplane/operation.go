package backplane

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// OperationID ties the replies to an operation. It is random, so that nobody can answer
// what was not received.
type OperationID [16]byte

// OperationKind says what an operation is to do. The numbers are part of the contract
// between nodes.
type OperationKind uint8

// The operations there are. Which of an operation's fields count depends on it.
const (
	OpExists        OperationKind = 1 // is the target here?
	OpAddToGroup    OperationKind = 2 // Group, Expires; Earlier if it was begun
	OpRemove        OperationKind = 3 // from Group
	OpRemoveFromAll OperationKind = 4 // from all groups
	OpClose         OperationKind = 5 // Reason, AllowReconnect
	OpAsk           OperationKind = 6 // Encodings, Lease
	OpBeginJoin     OperationKind = 7 // Group, Lease: an OpAddToGroup may follow, unless there is a removal first
	OpKeep          OperationKind = 8 // Earlier, Lease: the asker still waits
	OpForget        OperationKind = 9 // Earlier: the asker waits no longer; there is no reply
	// OpFence parts what two nodes deliver to a connection that one of them hands over to
	// the other, under that ID. There is no reply.
	OpFence OperationKind = 10
)

// TargetKind says what an operation is done to.
type TargetKind uint8

// The targets there are.
const (
	TargetConnection TargetKind = 1
	TargetUser       TargetKind = 2
	TargetGroup      TargetKind = 3
)

// An Operation is what one node asks of others, which answer with a [Reply]. Its bytes
// are the body of an [Envelope], with kind 2 as the first byte of [Message] has 1:
//
//	bytes     field
//	1         kind: 2
//	32        MAC: HMAC-SHA256, by a cluster key, of the channel, its prefix included, and
//	            of all that follows
//	16        id
//	uvarint   length of the asking node's id, and
//	…           the id
//	1         operation
//	1         kind of target
//	uvarint   length of the target's name, and
//	…           the name
//	uvarint   length of the group's name, and
//	…           the name
//	uvarint   expiry, in milliseconds since 1970; 0: none
//	uvarint   length of the reason, and
//	…           the reason
//	1         1 if the client may reconnect, else 0
//	uvarint   number of encodings, which are as in a message
//	uvarint   lease, in milliseconds; 0: none
//	16        id of an earlier operation; zeros: none
//	…         what a later node may add, ignored
//
// An OpAsk and an OpBeginJoin stay with the node that performs them after its reply. It
// holds them until they are answered, or followed by an OpAddToGroup; until an OpForget;
// until the asking node has gone; or until their lease has run out, which an OpKeep sets
// anew.
type Operation struct {
	ID             OperationID
	Asker          string // node id, whose channel the replies go to
	Kind           OperationKind
	TargetKind     TargetKind
	Target         string
	Group          string
	Expires        uint64 // milliseconds since 1970; 0: never
	Reason         string
	AllowReconnect bool
	Encodings      []Encoding
	Lease          uint64      // milliseconds; 0: none
	Earlier        OperationID // the operation that this one goes on with
}

// Outcome is what became of an operation on one node.
type Outcome uint8

// The outcomes there are. OutcomeAccepted alone is followed by another reply.
const (
	OutcomeNothing  Outcome = 1 // the target is not here
	OutcomeDone     Outcome = 2 // it is in force; or the client's answer, if it was asked
	OutcomeFailed   Outcome = 3 // Error says why
	OutcomeAccepted Outcome = 4 // the client has been asked, and its answer will follow
)

// A Reply answers an [Operation], on the channel of the node that asked:
//
//	bytes     field
//	1         kind: 3
//	32        MAC, as of an operation
//	16        id of the operation
//	uvarint   length of the replying node's id, and
//	…           the id
//	1         outcome
//	uvarint   length of the error, and
//	…           the error
//	uvarint   length of the result's hub protocol, and
//	…           its name
//	uvarint   length of the result, and
//	…           the result
//	…         what a later node may add, ignored
type Reply struct {
	ID      OperationID
	Node    string
	Outcome Outcome
	Error   string // of the client that was asked, or of the node
	Result  Encoding
}

const (
	kindOperation = 2
	kindReply     = 3
	macSize       = sha256.Size
)

// IsOperation reports whether body is one of an [Operation], before it is parsed.
func IsOperation(body []byte) bool { return len(body) > 0 && body[0] == kindOperation }

// IsReply reports whether body is one of a [Reply].
func IsReply(body []byte) bool { return len(body) > 0 && body[0] == kindReply }

// AppendOperation appends the bytes of o, to be published on ch, to dst. The first key,
// which there must be, signs. Here ch is the channel's whole name, with the hub's prefix:
// what was signed for one hub means nothing to another.
func AppendOperation(dst []byte, keys [][]byte, ch Channel, o Operation) []byte {
	start := len(dst)
	dst = append(dst, kindOperation)
	dst = append(dst, make([]byte, macSize)...)
	dst = append(dst, o.ID[:]...)
	dst = appendField(dst, o.Asker)
	dst = append(dst, byte(o.Kind), byte(o.TargetKind))
	dst = appendField(dst, o.Target)
	dst = appendField(dst, o.Group)
	dst = binary.AppendUvarint(dst, o.Expires)
	dst = appendField(dst, o.Reason)
	dst = append(dst, flag(o.AllowReconnect))
	dst = binary.AppendUvarint(dst, uint64(len(o.Encodings)))
	for _, e := range o.Encodings {
		dst = appendField(dst, e.Protocol)
		dst = appendField(dst, e.Frame)
	}
	dst = binary.AppendUvarint(dst, o.Lease)
	dst = append(dst, o.Earlier[:]...)
	sign(dst[start:], keys[0], ch)
	return dst
}

// ParseOperation parses the body of an envelope that came on ch, again with the hub's
// prefix. Errors wrap [ErrForged] if none of the keys has signed it, and else
// [ErrMalformed]. The frames refer to body.
func ParseOperation(body []byte, keys [][]byte, ch Channel) (Operation, error) {
	c, err := verified(body, kindOperation, keys, ch)
	if err != nil {
		return Operation{}, fmt.Errorf("parse operation: %w", err)
	}
	var o Operation
	copy(o.ID[:], c.take(uint64(len(o.ID))))
	o.Asker = string(c.field())
	o.Kind, o.TargetKind = OperationKind(c.byte()), TargetKind(c.byte())
	o.Target, o.Group = string(c.field()), string(c.field())
	o.Expires = c.uvarint()
	o.Reason = string(c.field())
	o.AllowReconnect = c.byte() != 0
	if n := c.count(minEncoding); n > 0 {
		o.Encodings = make([]Encoding, n)
		for i := range o.Encodings {
			o.Encodings[i] = Encoding{Protocol: string(c.field()), Frame: c.field()}
			if o.Encodings[i].Protocol == "" {
				c.fail()
			}
		}
	}
	o.Lease = c.uvarint()
	copy(o.Earlier[:], c.take(uint64(len(o.Earlier))))
	if c.failed {
		return Operation{}, fmt.Errorf("parse operation: %w: cut off, or an encoding without a protocol", ErrMalformed)
	}
	return o, nil
}

// AppendReply appends the bytes of r, to be published on ch, to dst, as
// [AppendOperation] does.
func AppendReply(dst []byte, keys [][]byte, ch Channel, r Reply) []byte {
	start := len(dst)
	dst = append(dst, kindReply)
	dst = append(dst, make([]byte, macSize)...)
	dst = append(dst, r.ID[:]...)
	dst = appendField(dst, r.Node)
	dst = append(dst, byte(r.Outcome))
	dst = appendField(dst, r.Error)
	dst = appendField(dst, r.Result.Protocol)
	dst = appendField(dst, r.Result.Frame)
	sign(dst[start:], keys[0], ch)
	return dst
}

// ParseReply parses the body of an envelope that came on ch, with the errors of
// [ParseOperation]. The result refers to body.
func ParseReply(body []byte, keys [][]byte, ch Channel) (Reply, error) {
	c, err := verified(body, kindReply, keys, ch)
	if err != nil {
		return Reply{}, fmt.Errorf("parse reply: %w", err)
	}
	var r Reply
	copy(r.ID[:], c.take(uint64(len(r.ID))))
	r.Node = string(c.field())
	r.Outcome = Outcome(c.byte())
	r.Error = string(c.field())
	r.Result = Encoding{Protocol: string(c.field()), Frame: c.field()}
	if c.failed {
		return Reply{}, fmt.Errorf("parse reply: %w: cut off", ErrMalformed)
	}
	return r, nil
}

// verified returns what follows the MAC of a body, if that holds.
func verified(body []byte, kind byte, keys [][]byte, ch Channel) (cursor, error) {
	if len(body) < 1+macSize || body[0] != kind {
		return cursor{}, ErrMalformed
	}
	for _, key := range keys {
		if hmac.Equal(body[1:1+macSize], mac(body, key, ch)) {
			return cursor{rest: body[1+macSize:]}, nil
		}
	}
	return cursor{}, ErrForged
}

func sign(body, key []byte, ch Channel) { copy(body[1:], mac(body, key, ch)) }

// mac covers the kind, by its label, the channel and what follows the MAC. No prefix and
// channel make the same name as others do ([CheckPrefix]).
func mac(body, key []byte, ch Channel) []byte {
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "backplane\x00%d\x00%d\x00%s", body[0], len(ch), ch)
	m.Write(body[1+macSize:])
	return m.Sum(nil)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}
