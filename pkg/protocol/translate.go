package protocol

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// maxTranslatedDepth leaves room for the object and the array that surround arguments
// in a message.
const maxTranslatedDepth = maxJSONDepth - 2

// appendRawJSON appends r as JSON.
func appendRawJSON(dst []byte, r Raw) ([]byte, error) {
	switch r.Protocol.(type) {
	case nil:
		if len(r.Bytes) == 0 {
			return append(dst, "null"...), nil
		}
	case jsonProtocol:
		if err := checkJSON(r.Bytes); err != nil {
			return nil, fmt.Errorf("raw value: %w", err)
		}
		return append(dst, r.Bytes...), nil
	case packProtocol:
		if err := checkPack(r.Bytes); err != nil {
			return nil, fmt.Errorf("raw value: %w", err)
		}
		dst, _, err := packToJSON(dst, r.Bytes, maxTranslatedDepth)
		if err != nil {
			return nil, fmt.Errorf("raw value to JSON: %w", err)
		}
		return dst, nil
	}
	return nil, errUnknownRaw(r)
}

// appendRawPack appends r as MessagePack.
func appendRawPack(dst []byte, r Raw) ([]byte, error) {
	switch r.Protocol.(type) {
	case nil:
		if len(r.Bytes) == 0 {
			return msgp.AppendNil(dst), nil
		}
	case packProtocol:
		if err := checkPack(r.Bytes); err != nil {
			return nil, fmt.Errorf("raw value: %w", err)
		}
		return append(dst, r.Bytes...), nil
	case jsonProtocol:
		if err := checkJSON(r.Bytes); err != nil {
			return nil, fmt.Errorf("raw value: %w", err)
		}
		s := jsonScanner{data: r.Bytes, depth: maxJSONDepth - maxTranslatedDepth}
		dst, err := jsonToPack(dst, &s)
		if err != nil {
			return nil, fmt.Errorf("raw value to MessagePack: %w", err)
		}
		return dst, nil
	}
	return nil, errUnknownRaw(r)
}

// packToJSON appends the first value of b, which has been checked, as JSON.
func packToJSON(dst, b []byte, depth int) (_, rest []byte, err error) {
	switch kindOf(b) {
	case packNil:
		return append(dst, "null"...), b[1:], nil
	case packBool:
		return strconv.AppendBool(dst, b[0] == 0xc3), b[1:], nil
	case packInt:
		n, err := readPackNumber(b)
		if n.big {
			return strconv.AppendUint(dst, n.unsigned, 10), n.rest, err
		}
		return strconv.AppendInt(dst, n.signed, 10), n.rest, err
	case packFloat:
		f, rest := readPackFloat64(b)
		bits := 64
		if b[0] == 0xca {
			bits = 32
		}
		dst, err = appendJSONFloat(dst, f, bits)
		return dst, rest, err
	case packStr:
		s, rest, _ := readPackStr(b)
		return appendJSONString(dst, s), rest, nil
	case packBin:
		value, rest, _ := msgp.ReadBytesZC(b)
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, value)
		return append(dst, '"'), rest, nil
	case packExt:
		t, rest, err := readPackTime(b)
		if err != nil {
			return nil, nil, err
		}
		dst, err = appendJSONTime(dst, t)
		return dst, rest, err
	case packArray:
		count, rest, err := msgp.ReadArrayHeaderBytes(b)
		if depth == 0 {
			err = errPackDepth
		}
		dst = append(dst, '[')
		for i := uint32(0); i < count && err == nil; i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst, rest, err = packToJSON(dst, rest, depth-1)
		}
		return append(dst, ']'), rest, err
	case packMap:
		count, rest, err := msgp.ReadMapHeaderBytes(b)
		if depth == 0 {
			err = errPackDepth
		}
		dst = append(dst, '{')
		for i := uint32(0); i < count && err == nil; i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			var key string
			if key, rest, err = packKey(rest); err != nil {
				return nil, nil, err
			}
			dst = append(appendJSONString(dst, key), ':')
			dst, rest, err = packToJSON(dst, rest, depth-1)
		}
		return append(dst, '}'), rest, err
	}
	return nil, nil, errPackPrefix
}

// appendJSONTime appends t as encoding/json does.
func appendJSONTime(dst []byte, t time.Time) ([]byte, error) {
	text, err := t.MarshalJSON()
	return append(dst, text...), err
}

// jsonToPack appends the next value of s, which has been checked, as MessagePack.
func jsonToPack(dst []byte, s *jsonScanner) (_ []byte, err error) {
	switch s.peek() {
	case 'n':
		return msgp.AppendNil(dst), s.skip()
	case 't':
		return msgp.AppendBool(dst, true), s.skip()
	case 'f':
		return msgp.AppendBool(dst, false), s.skip()
	case '"':
		text, err := s.str()
		return msgp.AppendStringFromBytes(dst, text.bytes()), err
	case '[':
		if err := s.open(); err != nil {
			return nil, err
		}
		start := len(dst)
		dst = append(dst, 0)
		for count := uint32(0); ; count++ {
			more, err := s.next(']', count == 0)
			if err != nil {
				return nil, err
			}
			if !more {
				return replaceHeader(dst, start, msgp.AppendArrayHeader, count), nil
			}
			if dst, err = jsonToPack(dst, s); err != nil {
				return nil, err
			}
		}
	case '{':
		if err := s.open(); err != nil {
			return nil, err
		}
		start := len(dst)
		dst = append(dst, 0)
		for count := uint32(0); ; count++ {
			name, more, err := s.member(count == 0)
			if err != nil {
				return nil, err
			}
			if !more {
				return replaceHeader(dst, start, msgp.AppendMapHeader, count), nil
			}
			dst = msgp.AppendStringFromBytes(dst, name.bytes())
			if dst, err = jsonToPack(dst, s); err != nil {
				return nil, err
			}
		}
	}
	number, err := s.number()
	if err != nil {
		return nil, err
	}
	return appendPackNumber(dst, string(number))
}

// replaceHeader puts the header of an array or a map, whose elements are counted only
// now, in the place of the byte at start.
func replaceHeader(dst []byte, start int, appendHeader func([]byte, uint32) []byte, count uint32) []byte {
	var room [5]byte
	return slices.Replace(dst, start, start+1, appendHeader(room[:0], count)...)
}

// appendPackNumber appends a number of JSON: an integer as such if it is written as
// one and has 64 bits at most.
func appendPackNumber(dst []byte, text string) ([]byte, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return appendPackInt(dst, n), nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return msgp.AppendUint64(dst, n), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(f, 0) {
		return nil, fmt.Errorf("number %s is out of range", text)
	}
	return msgp.AppendFloat64(dst, f), nil
}
