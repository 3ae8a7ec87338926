package protocol

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
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
		return nil, fmt.Errorf("integer %d is out of range for a %s", n, v.Type())
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
		return nil, fmt.Errorf("integer %d is out of range for a %s", n, v.Type())
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
		n, err := readPackNumber(b)
		if err != nil {
			return nil, err
		}
		f, rest = n.float(), n.rest
	default:
		return nil, mismatch(b, v.Type())
	}
	if v.OverflowFloat(f) {
		return nil, fmt.Errorf("number %g is out of range for a %s", f, v.Type())
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
		v.SetZero()
		return b[1:], nil
	case packBin:
		value, rest, _ = msgp.ReadBytesZC(b)
	case packStr:
		value, rest, _ = msgp.ReadStringZC(b)
	default:
		return nil, mismatch(b, v.Type())
	}
	v.SetBytes(append(make([]byte, 0, len(value)), value...))
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

func writePackRaw(dst []byte, v reflect.Value, _ int) ([]byte, error) {
	return appendRawPack(dst, v.Interface().(Raw))
}

func readPackRaw(b []byte, v reflect.Value, _ int) ([]byte, error) {
	value, rest := cutPack(b)
	v.Set(reflect.ValueOf(Raw{Protocol: packProtocol{}, Bytes: append([]byte(nil), value...)}))
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
		v.SetZero()
		return b[1:], nil
	}
	text, rest, err := msgp.ReadStringZC(b)
	if err != nil {
		return nil, mismatch(b, v.Type())
	}
	// It may keep what it is given.
	return rest, v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(packString(text)))
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

// A packNumber is an integer that was read: of int64 if it fits, of uint64 if not.
type packNumber struct {
	signed   int64
	unsigned uint64 // if big
	big      bool
	rest     []byte
}

func readPackNumber(b []byte) (packNumber, error) {
	if b[0] == 0xcf {
		n, rest, err := msgp.ReadUint64Bytes(b)
		return packNumber{signed: int64(n), unsigned: n, big: int64(n) < 0, rest: rest}, err
	}
	n, rest, err := msgp.ReadInt64Bytes(b)
	return packNumber{signed: n, rest: rest}, err
}

func (n packNumber) float() float64 {
	if n.big {
		return float64(n.unsigned)
	}
	return float64(n.signed)
}

// readPackFloat64 reads a float of either size that has been checked.
func readPackFloat64(b []byte) (float64, []byte) {
	f, rest, _ := msgp.ReadFloat64Bytes(b)
	return f, rest
}
