package protocol

import (
	"fmt"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

// readPackAny reads a value, which has been checked, into the Go type that is nearest
// to it: nil, bool, int64 (uint64 beyond its range), float64, string, []byte,
// time.Time, []any or map[string]any.
func readPackAny(b []byte, depth int) (value any, rest []byte, err error) {
	switch kindOf(b) {
	case packNil:
		return nil, b[1:], nil
	case packBool:
		return msgp.ReadBoolBytes(b)
	case packInt:
		n, rest := readPackInteger(b)
		return n.value(), rest, nil
	case packFloat:
		f, rest := readPackFloat64(b)
		return f, rest, nil
	case packStr:
		s, rest, _ := readPackStr(b)
		return packString(s), rest, nil
	case packBin:
		return msgp.ReadBytesBytes(b, nil)
	case packExt:
		return readPackTime(b)
	case packArray:
		return readPackAnySlice(b, depth)
	case packMap:
		return readPackAnyMap(b, depth)
	}
	return nil, nil, errPackPrefix
}

func readPackAnySlice(b []byte, depth int) (any, []byte, error) {
	if depth == 0 {
		return nil, nil, errPackDepth
	}
	count, rest, err := msgp.ReadArrayHeaderBytes(b)
	values := make([]any, count)
	for i := range values {
		if values[i], rest, err = readPackAny(rest, depth-1); err != nil {
			return nil, nil, err
		}
	}
	return values, rest, err
}

func readPackAnyMap(b []byte, depth int) (any, []byte, error) {
	if depth == 0 {
		return nil, nil, errPackDepth
	}
	count, rest, err := msgp.ReadMapHeaderBytes(b)
	values := make(map[string]any, count)
	for range count {
		var key []byte
		if key, rest, err = appendPackKey(nil, rest); err != nil {
			return nil, nil, err
		}
		if values[string(key)], rest, err = readPackAny(rest, depth-1); err != nil {
			return nil, nil, err
		}
	}
	return values, rest, err
}

// appendPackKey appends the key of a map as the text that it would be in JSON.
func appendPackKey(dst, b []byte) (text, rest []byte, err error) {
	switch kindOf(b) {
	case packStr:
		s, rest, _ := readPackStr(b)
		return append(dst, packString(s)...), rest, nil
	case packInt:
		n, rest := readPackInteger(b)
		return n.appendText(dst), rest, nil
	case packFloat:
		f, rest := readPackFloat64(b)
		text, err = appendJSONFloat(dst, f, 64)
		return text, rest, err
	case packBool:
		return strconv.AppendBool(dst, b[0] == 0xc3), b[1:], nil
	}
	return nil, nil, fmt.Errorf("MessagePack %s cannot be a map's key", kindOf(b))
}
