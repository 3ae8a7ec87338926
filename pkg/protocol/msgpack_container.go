package protocol

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

// The codecs of types with elements. Nil is the zero value of all of them.

func readPackNil(b []byte, v reflect.Value) (rest []byte) {
	v.SetZero()
	return b[1:]
}

func writePackInterface(dst []byte, v reflect.Value, depth int) ([]byte, error) {
	if v.IsNil() {
		return msgp.AppendNil(dst), nil
	}
	if depth == 0 {
		return nil, errPackDepth
	}
	return packCodecOf(v.Elem().Type()).write(dst, v.Elem(), depth-1)
}

func readPackInterface(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if msgp.IsNil(b) {
		return readPackNil(b, v), nil
	}
	if v.NumMethod() > 0 {
		return nil, mismatch(b, v.Type())
	}
	value, rest, err := readPackAny(b, depth)
	if err != nil {
		return nil, err
	}
	v.Set(reflect.ValueOf(value))
	return rest, nil
}

func packPointer(elem *packCodec) packCodec {
	return packCodec{
		write: func(dst []byte, v reflect.Value, depth int) ([]byte, error) {
			if v.IsNil() {
				return msgp.AppendNil(dst), nil
			}
			if depth == 0 {
				return nil, errPackDepth
			}
			return elem.write(dst, v.Elem(), depth-1)
		},
		read: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			if msgp.IsNil(b) {
				return readPackNil(b, v), nil
			}
			if depth == 0 {
				return nil, errPackDepth
			}
			target := reflect.New(v.Type().Elem())
			rest, err := elem.read(b, target.Elem(), depth-1)
			v.Set(target)
			return rest, err
		},
	}
}

func packSlice(elem *packCodec) packCodec {
	return packCodec{
		write: func(dst []byte, v reflect.Value, depth int) ([]byte, error) {
			if v.IsNil() {
				return msgp.AppendNil(dst), nil
			}
			return writePackElements(dst, v, elem, depth)
		},
		read: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			if msgp.IsNil(b) {
				return readPackNil(b, v), nil
			}
			count, rest, err := msgp.ReadArrayHeaderBytes(b)
			if err != nil {
				return nil, mismatch(b, v.Type())
			}
			if depth == 0 {
				return nil, errPackDepth
			}
			v.Set(reflect.MakeSlice(v.Type(), int(count), int(count)))
			for i := range int(count) {
				if rest, err = elem.read(rest, v.Index(i), depth-1); err != nil {
					return nil, fmt.Errorf("element %d: %w", i, err)
				}
			}
			return rest, nil
		},
	}
}

// packArrayOf is of arrays: as encoding/json, it drops elements that have no room.
func packArrayOf(elem *packCodec) packCodec {
	return packCodec{
		write: func(dst []byte, v reflect.Value, depth int) ([]byte, error) {
			return writePackElements(dst, v, elem, depth)
		},
		read: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			if msgp.IsNil(b) {
				return readPackNil(b, v), nil
			}
			count, rest, err := msgp.ReadArrayHeaderBytes(b)
			if err != nil {
				return nil, mismatch(b, v.Type())
			}
			if depth == 0 {
				return nil, errPackDepth
			}
			for i := range int(count) {
				if i >= v.Len() {
					_, rest = cutPack(rest)
				} else if rest, err = elem.read(rest, v.Index(i), depth-1); err != nil {
					return nil, fmt.Errorf("element %d: %w", i, err)
				}
			}
			return rest, nil
		},
	}
}

func writePackElements(dst []byte, v reflect.Value, elem *packCodec, depth int) (_ []byte, err error) {
	if depth == 0 {
		return nil, errPackDepth
	}
	dst = msgp.AppendArrayHeader(dst, uint32(v.Len()))
	for i := range v.Len() {
		if dst, err = elem.write(dst, v.Index(i), depth-1); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return dst, nil
}

func (pc packCompiler) packMapOf(t reflect.Type) packCodec {
	elem, key := pc.codec(t.Elem()), keyCodec(t.Key())
	return packCodec{
		write: func(dst []byte, v reflect.Value, depth int) (_ []byte, err error) {
			if v.IsNil() {
				return msgp.AppendNil(dst), nil
			}
			if depth == 0 {
				return nil, errPackDepth
			}
			dst = msgp.AppendMapHeader(dst, uint32(v.Len()))
			for entries := v.MapRange(); entries.Next(); {
				if dst, err = key.write(dst, entries.Key(), depth-1); err != nil {
					return nil, fmt.Errorf("key: %w", err)
				}
				if dst, err = elem.write(dst, entries.Value(), depth-1); err != nil {
					return nil, fmt.Errorf("value of a key: %w", err)
				}
			}
			return dst, nil
		},
		read: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			if msgp.IsNil(b) {
				return readPackNil(b, v), nil
			}
			count, rest, err := msgp.ReadMapHeaderBytes(b)
			if err != nil {
				return nil, mismatch(b, t)
			}
			if depth == 0 {
				return nil, errPackDepth
			}
			m := reflect.MakeMapWithSize(t, int(count))
			for range count {
				k, e := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
				if msgp.IsNil(rest) {
					return nil, errPackNilKey
				}
				if rest, err = key.read(rest, k, depth-1); err != nil {
					return nil, fmt.Errorf("key: %w", err)
				}
				if rest, err = elem.read(rest, e, depth-1); err != nil {
					return nil, fmt.Errorf("value of a key: %w", err)
				}
				m.SetMapIndex(k, e)
			}
			v.Set(m)
			return rest, nil
		},
	}
}

var errPackNilKey = errors.New("a map's key is nil")

// keyCodec returns the codec for a type of keys: those that encoding/json has, except
// that integers stay integers.
func keyCodec(t reflect.Type) packCodec {
	c := unencodable(t)
	switch kind := t.Kind(); {
	case kind == reflect.String:
		c = packCodec{writePackStr, readPackStrValue}
	case reflect.Int <= kind && kind <= reflect.Int64:
		c = packCodec{writePackInt, readPackIntKey}
	case reflect.Uint <= kind && kind <= reflect.Uint64:
		c = packCodec{writePackUint, readPackUintKey}
	}
	if t.Implements(textMarshalerType) && t.Kind() != reflect.String {
		c.write = writePackText
	}
	if reflect.PointerTo(t).Implements(textUnmarshalerType) {
		c.read = readPackText
	}
	return c
}

// readPackIntKey takes a string too: clients may have no other keys.
func readPackIntKey(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if kindOf(b) != packStr {
		return readPackInt(b, v, depth)
	}
	s, rest, _ := readPackStr(b)
	n, err := strconv.ParseInt(string(s), 10, v.Type().Bits())
	if err != nil {
		return nil, mismatch(b, v.Type())
	}
	v.SetInt(n)
	return rest, nil
}

func readPackUintKey(b []byte, v reflect.Value, depth int) ([]byte, error) {
	if kindOf(b) != packStr {
		return readPackUint(b, v, depth)
	}
	s, rest, _ := readPackStr(b)
	n, err := strconv.ParseUint(string(s), 10, v.Type().Bits())
	if err != nil {
		return nil, mismatch(b, v.Type())
	}
	v.SetUint(n)
	return rest, nil
}

// packStruct is of structs, which are maps by the fields' names.
func (pc packCompiler) packStruct(t reflect.Type) packCodec {
	s := structTypeOf(t)
	codecs := make([]*packCodec, len(s.fields))
	for i, f := range s.fields {
		codecs[i] = pc.codec(f.kind)
	}
	return packCodec{
		write: func(dst []byte, v reflect.Value, depth int) (_ []byte, err error) {
			if depth == 0 {
				return nil, errPackDepth
			}
			count := 0
			for i := range s.fields {
				if _, ok := s.fields[i].in(v); ok {
					count++
				}
			}
			dst = msgp.AppendMapHeader(dst, uint32(count))
			for i := range s.fields {
				value, ok := s.fields[i].in(v)
				if !ok {
					continue
				}
				dst = msgp.AppendString(dst, s.fields[i].name)
				if dst, err = codecs[i].write(dst, value, depth-1); err != nil {
					return nil, fmt.Errorf("field %s: %w", s.fields[i].name, err)
				}
			}
			return dst, nil
		},
		read: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			if msgp.IsNil(b) {
				return readPackNil(b, v), nil
			}
			count, rest, err := msgp.ReadMapHeaderBytes(b)
			if err != nil {
				return nil, mismatch(b, t)
			}
			if depth == 0 {
				return nil, errPackDepth
			}
			for range count {
				var name []byte
				if kindOf(rest) == packStr {
					name, rest, _ = readPackStr(rest)
				} else {
					_, rest = cutPack(rest) // the name of no field
				}
				i, ok := s.byName[string(name)]
				if !ok {
					_, rest = cutPack(rest)
					continue
				}
				field, err := s.fields[i].of(v)
				if err == nil {
					rest, err = codecs[i].read(rest, field, depth-1)
				}
				if err != nil {
					return nil, fmt.Errorf("field %s: %w", s.fields[i].name, err)
				}
			}
			return rest, nil
		},
	}
}
