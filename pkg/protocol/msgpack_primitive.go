package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// Reading and writing single values. The read functions that return no error want
// bytes that skipPack has passed, and of the kind that they read.

// A packInteger is an integer from the range of int64 and uint64 together.
type packInteger struct {
	negative bool // bits are those of an int64
	bits     uint64
}

func readPackInteger(b []byte) (n packInteger, rest []byte) {
	if signed, rest, err := msgp.ReadInt64Bytes(b); err == nil {
		return packInteger{signed < 0, uint64(signed)}, rest
	}
	n.bits, rest, _ = msgp.ReadUint64Bytes(b)
	return n, rest
}

// value returns an int64 if the integer is one, and else a uint64.
func (n packInteger) value() any {
	if n.negative || int64(n.bits) >= 0 {
		return int64(n.bits)
	}
	return n.bits
}

func (n packInteger) float() float64 {
	if n.negative {
		return float64(int64(n.bits))
	}
	return float64(n.bits)
}

func (n packInteger) appendText(dst []byte) []byte {
	if n.negative {
		return strconv.AppendInt(dst, int64(n.bits), 10)
	}
	return strconv.AppendUint(dst, n.bits, 10)
}

// appendPackInt appends the shortest form of n.
func appendPackInt(dst []byte, n int64) []byte {
	if n >= 0 {
		return msgp.AppendUint64(dst, uint64(n)) // AppendInt64 uses signed forms
	}
	return msgp.AppendInt64(dst, n)
}

// readPackFloat64 reads a float of either size.
func readPackFloat64(b []byte) (float64, []byte) {
	f, rest, _ := msgp.ReadFloat64Bytes(b)
	return f, rest
}

// appendPackString appends s. What is not UTF-8 becomes U+FFFD.
func appendPackString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = toValidUTF8(s)
	}
	return msgp.AppendString(dst, s)
}

// readPackStr returns the bytes of the string that b begins with; those of nil are
// none.
func readPackStr(b []byte) (s, rest []byte, ok bool) {
	if msgp.IsNil(b) {
		return nil, b[1:], true
	}
	s, rest, err := msgp.ReadStringZC(b)
	return s, rest, err == nil
}

// packString copies the bytes of a string. What is not UTF-8 becomes U+FFFD.
func packString(b []byte) string {
	if !utf8.Valid(b) {
		return toValidUTF8(string(b))
	}
	return string(b)
}

// toValidUTF8 replaces every byte that is not UTF-8, as encoding/json does.
func toValidUTF8(s string) string {
	var valid strings.Builder
	for _, r := range s {
		valid.WriteRune(r)
	}
	return valid.String()
}

// readExt returns the type and the payload of an extension.
func readExt(b []byte) (kind int8, payload, rest []byte) {
	size, _, _ := measure(b)
	head := 2
	switch b[0] {
	case 0xc7:
		head = 3
	case 0xc8:
		head = 4
	case 0xc9:
		head = 6
	}
	return int8(b[head-1]), b[head:size], b[size:]
}

var errPackTime = errors.New("invalid timestamp")

// readPackTime reads an extension, which must be a timestamp in one of its forms.
func readPackTime(b []byte) (t time.Time, rest []byte, err error) {
	kind, payload, rest := readExt(b)
	if kind != msgp.MsgTimeExtension {
		return time.Time{}, nil, fmt.Errorf("extension of type %d has no meaning here", kind)
	}
	var seconds, nanos int64
	switch len(payload) {
	case 4:
		seconds = int64(binary.BigEndian.Uint32(payload))
	case 8:
		both := binary.BigEndian.Uint64(payload)
		seconds, nanos = int64(both&(1<<34-1)), int64(both>>34)
	case 12:
		seconds, nanos = int64(binary.BigEndian.Uint64(payload[4:])), int64(binary.BigEndian.Uint32(payload))
	default:
		return time.Time{}, nil, errPackTime
	}
	if nanos >= int64(time.Second) {
		return time.Time{}, nil, errPackTime
	}
	return time.Unix(seconds, nanos).UTC(), rest, nil
}

// appendPackTime appends the shortest form of t's timestamp.
func appendPackTime(dst []byte, t time.Time) []byte {
	const extension = 0xff // type -1
	seconds, nanos := t.Unix(), t.Nanosecond()
	switch {
	case seconds>>34 != 0:
		dst = append(dst, 0xc7, 12, extension)
		dst = binary.BigEndian.AppendUint32(dst, uint32(nanos))
		return binary.BigEndian.AppendUint64(dst, uint64(seconds))
	case nanos != 0 || seconds>>32 != 0:
		return binary.BigEndian.AppendUint64(append(dst, 0xd7, extension), uint64(nanos)<<34|uint64(seconds))
	}
	return binary.BigEndian.AppendUint32(append(dst, 0xd6, extension), uint32(seconds))
}
