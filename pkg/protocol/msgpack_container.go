package protocol

import (
	"fmt"
	"reflect"
	"strconv"

	"github.com/tinylib/msgp/msgp"
)

// The codecs of types with elements. Nil is the zero value of all of them.

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
	value, rest, err := readPackAny(b, depth)
	if err != nil || value == nil {
		return rest, err
	}
	if v.NumMethod() > 0 {
		return nil, mismatch(b, v.Type())
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
				return b[1:], nil
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
				return b[1:], nil
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
				return b[1:], nil
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
	elem := pc.codec(t.Elem())
	key, ok := pc.keyCodec(t.Key())
	if !ok {
		return unencodable(t)
	}
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
					return nil, fmt.Errorf("key %v: %w", entries.Key(), err)
				}
				if dst, err = elem.write(dst, entries.Value(), depth-1); err != nil {
					return nil, fmt.Errorf("value of key %v: %w", entries.Key(), err)
				}
			}
			return dst, nil
		},
		read: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			if msgp.IsNil(b) {
				return b[1:], nil
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
				if rest, err = key.read(rest, k, depth-1); err != nil {
					return nil, fmt.Errorf("key: %w", err)
				}
				if rest, err = elem.read(rest, e, depth-1); err != nil {
					return nil, fmt.Errorf("value of key %v: %w", k, err)
				}
				m.SetMapIndex(k, e)
			}
			v.Set(m)
			return rest, nil
		},
	}
}

// keyCodec returns the codec for a type of keys: strings, types with a text, and
// integers, which may also be read from strings, as clients have no other keys.
func (pc packCompiler) keyCodec(t reflect.Type) (*packCodec, bool) {
	switch {
	case t.Kind() == reflect.String:
		return &packCodec{writePackStr, readPackStrValue}, true
	case t.Implements(textMarshalerType) || reflect.PointerTo(t).Implements(textUnmarshalerType):
		c := *pc.codec(t)
		if t.Implements(textMarshalerType) {
			c.write = writePackText
		}
		if reflect.PointerTo(t).Implements(textUnmarshalerType) {
			c.read = readPackText
		}
		return &c, true
	case reflect.Int <= t.Kind() && t.Kind() <= reflect.Int64, reflect.Uint <= t.Kind() && t.Kind() <= reflect.Uint64:
		c := *pc.codec(t)
		return &packCodec{write: c.write, read: func(b []byte, v reflect.Value, depth int) ([]byte, error) {
			if kindOf(b) != packStr {
				return c.read(b, v, depth)
			}
			s, rest, _ := readPackStr(b)
			return rest, setInteger(v, string(s))
		}}, true
	}
	return nil, false
}

func setInteger(v reflect.Value, text string) error {
	if v.CanInt() {
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
		return err
	}
	n, err := strconv.ParseUint(text, 10, v.Type().Bits())
	v.SetUint(n)
	return err
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
				return b[1:], nil
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
