package protocol

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

var errNumberRange = errors.New("number is out of range")

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
		n, rest := readPackInteger(b)
		return n.appendText(dst), rest, nil
	case packFloat:
		f, rest := readPackFloat64(b)
		dst, err = appendJSONFloat(dst, f, 8*(len(b)-len(rest)-1))
		return dst, rest, err
	case packStr:
		s, rest, _ := readPackStr(b)
		return appendJSONString(dst, s), rest, nil
	case packBin:
		value, rest, err := msgp.ReadBytesZC(b)
		dst = base64.StdEncoding.AppendEncode(append(dst, '"'), value)
		return append(dst, '"'), rest, err
	case packExt:
		t, rest, err := readPackTime(b)
		if err != nil {
			return nil, nil, err
		}
		text, err := t.MarshalJSON() // what encoding/json would write
		return append(dst, text...), rest, err
	case packArray:
		return packArrayToJSON(dst, b, depth)
	case packMap:
		return packMapToJSON(dst, b, depth)
	}
	return nil, nil, errPackPrefix
}

func packArrayToJSON(dst, b []byte, depth int) (_, rest []byte, err error) {
	if depth == 0 {
		return nil, nil, errPackDepth
	}
	count, rest, err := msgp.ReadArrayHeaderBytes(b)
	dst = append(dst, '[')
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, rest, err = packToJSON(dst, rest, depth-1); err != nil {
			return nil, nil, err
		}
	}
	return append(dst, ']'), rest, err
}

func packMapToJSON(dst, b []byte, depth int) (_, rest []byte, err error) {
	if depth == 0 {
		return nil, nil, errPackDepth
	}
	count, rest, err := msgp.ReadMapHeaderBytes(b)
	dst = append(dst, '{')
	for i := range count {
		if i > 0 {
			dst = append(dst, ',')
		}
		var key []byte
		if key, rest, err = appendPackKey(nil, rest); err != nil {
			return nil, nil, err
		}
		dst = append(appendJSONString(dst, key), ':')
		if dst, rest, err = packToJSON(dst, rest, depth-1); err != nil {
			return nil, nil, err
		}
	}
	return append(dst, '}'), rest, err
}

// jsonToPack appends the next value of s, which has been checked, as MessagePack.
func jsonToPack(dst []byte, s *jsonScanner) ([]byte, error) {
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
		return jsonArrayToPack(dst, s)
	case '{':
		return jsonObjectToPack(dst, s)
	}
	number, err := s.number()
	if err != nil {
		return nil, err
	}
	return appendPackNumber(dst, string(number))
}

func jsonArrayToPack(dst []byte, s *jsonScanner) ([]byte, error) {
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
}

func jsonObjectToPack(dst []byte, s *jsonScanner) ([]byte, error) {
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
		return nil, errNumberRange
	}
	return msgp.AppendFloat64(dst, f), nil
}
