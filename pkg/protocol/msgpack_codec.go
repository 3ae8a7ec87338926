package protocol

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// A packCodec writes and reads the values of one Go type. depth is how many levels of
// nesting are left. read is given bytes that skipPack has passed, so it need not look
// for their end, and may allocate by the lengths in them; v is settable.
type packCodec struct {
	write func(dst []byte, v reflect.Value, depth int) ([]byte, error)
	read  func(b []byte, v reflect.Value, depth int) (rest []byte, err error)
}

var packCodecs sync.Map // of *packCodec by reflect.Type

// packCodecOf returns the codec of type t.
func packCodecOf(t reflect.Type) *packCodec {
	if c, ok := packCodecs.Load(t); ok {
		return c.(*packCodec)
	}
	compiler := packCompiler{}
	compiler.codec(t)
	for t, c := range compiler {
		packCodecs.LoadOrStore(t, c) // where another goroutine was first, both do
	}
	return compiler[t]
}

// A packCompiler makes the codecs of a type and of those in it. It holds the ones that
// are finished or being made, so that a type may contain itself.
type packCompiler map[reflect.Type]*packCodec

var (
	rawType             = reflect.TypeFor[Raw]()
	timeType            = reflect.TypeFor[time.Time]()
	numberType          = reflect.TypeFor[json.Number]()
	jsonMarshalerType   = reflect.TypeFor[json.Marshaler]()
	jsonUnmarshalerType = reflect.TypeFor[json.Unmarshaler]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (pc packCompiler) codec(t reflect.Type) *packCodec {
	if c := pc[t]; c != nil {
		return c
	}
	c := new(packCodec)
	pc[t] = c
	switch t {
	case rawType:
		*c = packCodec{writePackRaw, readPackRaw}
		return c
	case timeType:
		*c = packCodec{writePackTime, readPackTimeValue}
		return c
	case numberType:
		*c = packCodec{writePackNumber, readPackNumber}
		return c
	}
	*c = pc.byKind(t)
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Interface {
		return c // what they point to decides
	}
	switch p := reflect.PointerTo(t); {
	case p.Implements(jsonMarshalerType):
		c.write = writePackJSON
	case p.Implements(textMarshalerType):
		c.write = writePackText
	}
	switch p := reflect.PointerTo(t); {
	case p.Implements(jsonUnmarshalerType):
		c.read = readPackJSON
	case p.Implements(textUnmarshalerType):
		c.read = readPackText
	}
	return c
}

func (pc packCompiler) byKind(t reflect.Type) packCodec {
	switch t.Kind() {
	case reflect.Bool:
		return packCodec{writePackBool, readPackBool}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return packCodec{writePackInt, readPackInt}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return packCodec{writePackUint, readPackUint}
	case reflect.Float32, reflect.Float64:
		return packCodec{writePackFloat, readPackFloat}
	case reflect.String:
		return packCodec{writePackStr, readPackStrValue}
	case reflect.Interface:
		return packCodec{writePackInterface, readPackInterface}
	case reflect.Pointer:
		return packPointer(pc.codec(t.Elem()))
	case reflect.Slice:
		if isBytes(t) {
			return packCodec{writePackBytes, readPackBytes}
		}
		return packSlice(pc.codec(t.Elem()))
	case reflect.Array:
		return packArrayOf(pc.codec(t.Elem()))
	case reflect.Map:
		return pc.packMapOf(t)
	case reflect.Struct:
		return pc.packStruct(t)
	}
	return unencodable(t)
}

// isBytes reports that encoding/json writes slice type t as base64.
func isBytes(t reflect.Type) bool {
	elem := reflect.PointerTo(t.Elem())
	return t.Elem().Kind() == reflect.Uint8 && !elem.Implements(jsonMarshalerType) && !elem.Implements(textMarshalerType)
}

func unencodable(t reflect.Type) packCodec {
	err := fmt.Errorf("type %s has no encoding", t)
	return packCodec{
		write: func([]byte, reflect.Value, int) ([]byte, error) { return nil, err },
		read:  func([]byte, reflect.Value, int) ([]byte, error) { return nil, err },
	}
}

// appendPack appends the value v: what is common directly, the rest by its codec.
func appendPack(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return msgp.AppendNil(dst), nil
	case string:
		return appendPackString(dst, v), nil
	case bool:
		return msgp.AppendBool(dst, v), nil
	case int:
		return appendPackInt(dst, int64(v)), nil
	case int32:
		return appendPackInt(dst, int64(v)), nil
	case int64:
		return appendPackInt(dst, v), nil
	case float64:
		return msgp.AppendFloat64(dst, v), nil
	case []byte:
		if v != nil {
			return msgp.AppendBytes(dst, v), nil
		}
	case Raw:
		return appendRawPack(dst, v)
	}
	return packCodecOf(reflect.TypeOf(v)).write(dst, reflect.ValueOf(v), maxPackDepth)
}

// Errors name types and not values, since they go into logs.

// mismatch is the error of a value that type t does not take.
func mismatch(b []byte, t reflect.Type) error {
	return fmt.Errorf("cannot decode a MessagePack %s into a %s", kindOf(b), t)
}

// outOfRange is the error of a number that type t has no room for.
func outOfRange(t reflect.Type) error { return fmt.Errorf("number is out of range for a %s", t) }
