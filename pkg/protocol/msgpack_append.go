package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/tinylib/msgp/msgp"
)

var (
	errFrameTooLarge = errors.New("message is over 2 GB")
	errEmptyHeader   = errors.New("header with an empty name or value, which MessagePack does not have")
)

func (packProtocol) Append(dst []byte, m Message) ([]byte, error) {
	// Most messages are small: room for the shortest prefix, and a move for others.
	start := len(dst) + 1
	frame, err := appendPackMessage(append(slices.Grow(dst, sizeHint(m)), 0), m)
	if err != nil {
		return dst, err
	}
	size := len(frame) - start
	if size < 0x80 {
		frame[start-1] = byte(size)
		return frame, nil
	}
	if size > math.MaxInt32 {
		return dst, errFrameTooLarge
	}
	var prefix [binary.MaxVarintLen32]byte
	return slices.Replace(frame, start-1, start, prefix[:binary.PutUvarint(prefix[:], uint64(size))]...), nil
}

// appendPackMessage appends the body of m's frame.
func appendPackMessage(dst []byte, m Message) (_ []byte, err error) {
	switch m := m.(type) {
	case *Invocation:
		return appendPackInvocation(dst, m, TypeInvocation)
	case *StreamInvocation:
		return appendPackInvocation(dst, &m.Invocation, TypeStreamInvocation)
	case *StreamItem:
		if dst, err = appendPackHead(dst, 4, TypeStreamItem, m.Headers); err != nil {
			return nil, err
		}
		dst = appendPackString(dst, m.InvocationID)
		if dst, err = appendPack(dst, m.Item); err != nil {
			return nil, fmt.Errorf("item: %w", err)
		}
	case *Completion:
		return appendPackCompletion(dst, m)
	case *CancelInvocation:
		if dst, err = appendPackHead(dst, 3, TypeCancelInvocation, m.Headers); err != nil {
			return nil, err
		}
		dst = appendPackString(dst, m.InvocationID)
	case *Ping:
		dst = appendPackType(dst, 1, TypePing)
	case *Close:
		dst = appendPackType(dst, 3, TypeClose)
		dst = appendPackOptional(dst, m.Error)
		dst = msgp.AppendBool(dst, m.AllowReconnect)
	case *Ack:
		dst = appendPackInt(appendPackType(dst, 2, TypeAck), m.SequenceID)
	case *Sequence:
		dst = appendPackInt(appendPackType(dst, 2, TypeSequence), m.SequenceID)
	default:
		return nil, errUnwritable(m)
	}
	return dst, nil
}

func appendPackInvocation(dst []byte, m *Invocation, kind Type) (_ []byte, err error) {
	if dst, err = appendPackHead(dst, 6, kind, m.Headers); err != nil {
		return nil, err
	}
	dst = appendPackOptional(dst, m.InvocationID)
	dst = appendPackString(dst, m.Target)
	dst = msgp.AppendArrayHeader(dst, uint32(len(m.Arguments)))
	for i, argument := range m.Arguments {
		if dst, err = appendPack(dst, argument); err != nil {
			return nil, errArgument(i, err)
		}
	}
	dst = msgp.AppendArrayHeader(dst, uint32(len(m.StreamIDs)))
	for _, id := range m.StreamIDs {
		dst = appendPackString(dst, id)
	}
	return dst, nil
}

func appendPackCompletion(dst []byte, m *Completion) (_ []byte, err error) {
	kind, elements := int64(completionVoid), uint32(4)
	switch {
	case m.Error != "" || m.HasError:
		kind, elements = completionError, 5
	case m.HasResult:
		kind, elements = completionResult, 5
	}
	if dst, err = appendPackHead(dst, elements, TypeCompletion, m.Headers); err != nil {
		return nil, err
	}
	dst = appendPackString(dst, m.InvocationID)
	dst = appendPackInt(dst, kind)
	switch kind {
	case completionError:
		dst = appendPackString(dst, m.Error)
	case completionResult:
		if dst, err = appendPack(dst, m.Result); err != nil {
			return nil, fmt.Errorf("result: %w", err)
		}
	}
	return dst, nil
}

func appendPackType(dst []byte, elements uint32, kind Type) []byte {
	return appendPackInt(msgp.AppendArrayHeader(dst, elements), int64(kind))
}

// appendPackHead appends what the messages of an invocation begin with.
func appendPackHead(dst []byte, elements uint32, kind Type, headers Headers) ([]byte, error) {
	dst = appendPackType(dst, elements, kind)
	dst = msgp.AppendMapHeader(dst, uint32(len(headers)))
	if len(headers) == 0 {
		return dst, nil
	}
	for _, key := range slices.Sorted(maps.Keys(headers)) {
		if key == "" || headers[key] == "" {
			return nil, errEmptyHeader
		}
		dst = appendPackString(dst, key)
		dst = appendPackString(dst, headers[key])
	}
	return dst, nil
}

// appendPackOptional appends s, or nil if it is empty.
func appendPackOptional(dst []byte, s string) []byte {
	if s == "" {
		return msgp.AppendNil(dst)
	}
	return appendPackString(dst, s)
}
