package protocol

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// The codecs of types without elements, and of types that encode themselves.

func writePackBool(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	return msgp.AppendBool(dst, v.Bool()), nil
}

func readPackBool(b []byte, v reflect.Value, _ int) ([]byte, error) {
	value, rest, err := msgp.ReadBoolBytes(b)
	if err != nil {
		return nil, mismatch(b, v.Type())
	}
	v.SetBool(value)
	return rest, nil
}

func writePackInt(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	return appendPackInt(dst, v.Int()), nil
}

func readPackInt(b []byte, v reflect.Value, _ int) ([]byte, error) {
	n, rest, err := msgp.ReadInt64Bytes(b)
	if err != nil {
		return nil, mismatch(b, v.Type())
	}
	if v.OverflowInt(n) {
		return nil, outOfRange(v.Type())
	}
	v.SetInt(n)
	return rest, nil
}

func writePackUint(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	return msgp.AppendUint64(dst, v.Uint()), nil
}

func readPackUint(b []byte, v reflect.Value, _ int) ([]byte, error) {
	n, rest, err := msgp.ReadUint64Bytes(b)
	if err != nil {
		return nil, mismatch(b, v.Type())
	}
	if v.OverflowUint(n) {
		return nil, outOfRange(v.Type())
	}
	v.SetUint(n)
	return rest, nil
}

func writePackFloat(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	if v.Kind() == reflect.Float32 {
		return msgp.AppendFloat32(dst, float32(v.Float())), nil
	}
	return msgp.AppendFloat64(dst, v.Float()), nil
}

// readPackFloat takes integers too: clients write whole numbers so.
func readPackFloat(b []byte, v reflect.Value, _ int) ([]byte, error) {
	var f float64
	var rest []byte
	switch kindOf(b) {
	case packFloat:
		f, rest = readPackFloat64(b)
	case packInt:
		var n packInteger
		n, rest = readPackInteger(b)
		f = n.float()
	default:
		return nil, mismatch(b, v.Type())
	}
	if v.OverflowFloat(f) {
		return nil, outOfRange(v.Type())
	}
	v.SetFloat(f)
	return rest, nil
}

func writePackStr(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	return appendPackString(dst, v.String()), nil
}

func readPackStrValue(b []byte, v reflect.Value, _ int) ([]byte, error) {
	s, rest, ok := readPackStr(b)
	if !ok {
		return nil, mismatch(b, v.Type())
	}
	v.SetString(packString(s))
	return rest, nil
}

func writePackBytes(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	if v.IsNil() {
		return msgp.AppendNil(dst), nil
	}
	return msgp.AppendBytes(dst, v.Bytes()), nil
}

// readPackBytes takes strings too: the first MessagePack had no bin.
func readPackBytes(b []byte, v reflect.Value, _ int) ([]byte, error) {
	var value, rest []byte
	switch kindOf(b) {
	case packNil:
		return readPackNil(b, v), nil
	case packBin:
		value, rest, _ = msgp.ReadBytesZC(b)
	case packStr:
		value, rest, _ = msgp.ReadStringZC(b)
	default:
		return nil, mismatch(b, v.Type())
	}
	v.SetBytes(bytes.Clone(value))
	return rest, nil
}

func writePackTime(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	return appendPackTime(dst, v.Interface().(time.Time)), nil
}

func readPackTimeValue(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if kindOf(b) != packExt {
		return nil, mismatch(b, v.Type())
	}
	t, rest, err := readPackTime(b)
	if err != nil {
		return nil, err
	}
	v.Set(reflect.ValueOf(t))
	return rest, nil
}

// writePackNumber writes a json.Number as the number that it is; empty means zero.
func writePackNumber(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	text := v.String()
	if text == "" {
		text = "0"
	}
	s := jsonScanner{data: []byte(text)}
	if _, err := s.number(); err != nil || !s.ended() {
		return nil, errors.New("json.Number that is no number")
	}
	return appendPackNumber(dst, text)
}

func readPackNumber(b []byte, v reflect.Value, _ int) (rest []byte, err error) {
	var text []byte
	switch kindOf(b) {
	case packInt:
		var n packInteger
		n, rest = readPackInteger(b)
		text = n.appendText(nil)
	case packFloat:
		var f float64
		f, rest = readPackFloat64(b)
		text, err = appendJSONFloat(nil, f, 64)
	default:
		return nil, mismatch(b, v.Type())
	}
	v.SetString(string(text))
	return rest, err
}

func writePackRaw(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	return appendRawPack(dst, v.Interface().(Raw))
}

func readPackRaw(b []byte, v reflect.Value, _ int) ([]byte, error) {
	value, rest := cutPack(b)
	v.Set(reflect.ValueOf(Raw{Protocol: packProtocol{}, Bytes: bytes.Clone(value)}))
	return rest, nil
}

// writePackJSON writes a type that has its own JSON: as that, translated.
func writePackJSON(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	text, err := addressable(v).Interface().(json.Marshaler).MarshalJSON()
	if err != nil {
		return nil, err
	}
	return appendRawPack(dst, Raw{Protocol: jsonProtocol{}, Bytes: text})
}

func readPackJSON(b []byte, v reflect.Value, _ int) ([]byte, error) {
	value, rest := cutPack(b)
	text, err := appendRawJSON(nil, Raw{Protocol: packProtocol{}, Bytes: value})
	if err != nil {
		return nil, err
	}
	return rest, v.Addr().Interface().(json.Unmarshaler).UnmarshalJSON(text)
}

func writePackText(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	text, err := addressable(v).Interface().(encoding.TextMarshaler).MarshalText()
	if err != nil {
		return nil, err
	}
	return appendPackString(dst, string(text)), nil
}

func readPackText(b []byte, v reflect.Value, _ int) ([]byte, error) {
	if msgp.IsNil(b) {
		return readPackNil(b, v), nil
	}
	text, rest, err := msgp.ReadStringZC(b)
	if err != nil {
		return nil, mismatch(b, v.Type())
	}
	if !utf8.Valid(text) {
		text = []byte(packString(text))
	}
	return rest, v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(text)
}

// addressable returns a pointer to v, or to a copy of it.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}
