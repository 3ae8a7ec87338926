package protocol

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const bindingError = "InvalidDataException: Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked."

// Arguments that fail their invocation only, with the reference implementation's
// texts.
func TestBindArgumentsErrors(t *testing.T) {
	count := func(provided, expected string) string {
		return "InvalidDataException: Invocation provides " + provided + " argument(s) but target expects " + expected + "."
	}
	number, text := new(int), new(string)
	tests := []struct {
		p    Protocol
		raw  string
		dst  []any
		want string
	}{
		{JSON, `[]`, []any{number}, count("0", "1")},
		{JSON, `[1]`, nil, count("1", "0")},
		{JSON, `[1,"x",{"y":[]}]`, []any{number, text}, count("3", "2")},
		{JSON, `["x","y"]`, []any{number}, bindingError}, // before the count
		{JSON, `["x"]`, []any{number, number}, bindingError},
		{JSON, `[1]`, []any{number, number}, count("1", "2")},
		{JSON, `{}`, nil, "InvalidDataException: Expected 'arguments' to be of type Array."},
		{JSON, ``, nil, readingJSON},
		{JSON, `[1`, []any{number}, readingJSON},
		{JSON, `[1 2]`, []any{number, number}, readingJSON},
		{JSON, `[1]]`, []any{number}, readingJSON},
		{JSON, `["` + "\xff" + `"]`, []any{text}, readingJSON},
		{JSON, `[1]`, []any{nil}, bindingError},
		{JSON, `[null]`, []any{nil}, bindingError},
		{JSON, `[{}]`, []any{(*struct{})(nil)}, bindingError},

		{MessagePack, "\x90", []any{number}, count("0", "1")},
		{MessagePack, "\x93\x01\x02\x03", []any{number, number}, count("3", "2")},
		{MessagePack, "\x92\xa1x\xa1x", []any{number}, count("2", "1")}, // before any type
		{MessagePack, "\xdd\xff\xff\xff\xff", []any{number}, count("4294967295", "1")},
		{MessagePack, "\x91\xa1x", []any{number}, bindingError},
		{MessagePack, "\x92\x01", []any{number, number}, bindingError},
		{MessagePack, "\x91\xc1", []any{number}, bindingError},
		{MessagePack, "\x91\xa5x", []any{text}, bindingError},
		{MessagePack, "\x91\x01\x02", []any{number}, bindingError},
		{MessagePack, "\x91\x01", []any{nil}, bindingError},
		{MessagePack, "\x91\x01", []any{5}, bindingError},
		{MessagePack, "\x91\x01", []any{(*int)(nil)}, bindingError},
		{MessagePack, "", nil, "InvalidDataException: Reading array length for 'arguments' failed."},
		{MessagePack, "\xc0", nil, "InvalidDataException: Reading array length for 'arguments' failed."},
		{MessagePack, "\x80", nil, "InvalidDataException: Reading array length for 'arguments' failed."},
	}
	for _, tt := range tests {
		err := tt.p.BindArguments([]byte(tt.raw), tt.dst...)
		if _, ok := errors.AsType[*Error](err); !ok || err.Error() != tt.want {
			t.Errorf("%s %q into %d: %T\n got %q\nwant %q", tt.p.Name(), tt.raw, len(tt.dst), err, err, tt.want)
		}
	}
}

// The cause is for logs and says which argument it was.
func TestBindErrorCause(t *testing.T) {
	var n int
	var s string
	for p, raw := range map[Protocol]string{JSON: `["x",5]`, MessagePack: "\x92\xa1x\x05"} {
		err := p.BindArguments([]byte(raw), &s, &s)
		if cause := errors.Unwrap(err); cause == nil || !strings.Contains(cause.Error(), "argument 2: ") {
			t.Errorf("%s: cause is %v", p.Name(), cause)
		}
	}
	for p, raw := range map[Protocol]string{JSON: `"x"`, MessagePack: "\xa1x"} {
		err := p.BindValue([]byte(raw), &n)
		const want = "InvalidDataException: Deserializing object of the `int` type failed."
		if _, ok := errors.AsType[*Error](err); !ok || err.Error() != want {
			t.Errorf("%s: %v, want %s", p.Name(), err, want)
		}
	}
}

func TestBindArguments(t *testing.T) {
	type point struct{ X, Y int }
	for p, raw := range map[Protocol]string{
		JSON:        `[ "ann" , -7 ,null,{"x":1,"Y":2,"z":[3]},[1.5,2],true, {"k":1}, "AQI=", ["k"] ]`,
		MessagePack: "\x99\xa3ann\xf9\xc0\x83\xa1X\x01\xa1Y\x02\xa1z\x91\x03\x92\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x02\xc3\x81\xa1k\x01\xc4\x02\x01\x02\x91\xa1k",
	} {
		input := []byte(raw)
		var name string
		var n int8
		var missing *point
		var where point
		var numbers []float64
		var flag bool
		var left Raw
		var data []byte
		var anything any
		err := p.BindArguments(input, &name, &n, &missing, &where, &numbers, &flag, &left, &data, &anything)
		for i := range input {
			input[i] = 'z' // nothing may refer to it
		}
		if err != nil {
			t.Fatalf("%s: %v", p.Name(), errors.Unwrap(err))
		}
		got := []any{name, n, missing, where, numbers, flag, data, anything}
		want := []any{"ann", int8(-7), (*point)(nil), point{1, 2}, []float64{1.5, 2}, true, []byte{1, 2}, []any{"k"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name(), diff)
		}
		if want := map[Protocol]string{JSON: `{"k":1}`, MessagePack: "\x81\xa1k\x01"}[p]; left.Protocol != p || string(left.Bytes) != want {
			t.Errorf("raw argument is %v %q, want %q", left.Protocol, left.Bytes, want)
		}
	}
}

// A type of each kind that the tables below decode into.
type (
	kinds struct {
		Bool   bool
		Int8   int8
		Uint8  uint8
		Int64  int64
		Uint64 uint64
		F32    float32
		F64    float64
		Str    string
		Bytes  []byte
		Time   time.Time
		List   []int
		Map    map[string]int
		Ptr    *int
		Any    any
		Array  [2]int
		Struct struct{ N int }
		Level  level
		Number json.Number
	}
	level int // a number with names
)

func (l level) MarshalText() ([]byte, error) { return []byte(strings.Repeat("!", int(l))), nil }

func (l *level) UnmarshalText(text []byte) error {
	if strings.Trim(string(text), "!") != "" {
		return errors.New("a level is made of exclamation marks")
	}
	*l = level(len(text))
	return nil
}

// What a type takes beyond its own form, and what it refuses, alone and in a struct,
// a slice and a map.
func TestStrictness(t *testing.T) {
	const ok, refused = true, false
	tests := []struct {
		field string // of kinds
		p     Protocol
		raw   string
		takes bool
	}{
		{"Bool", JSON, `null`, refused}, {"Bool", MessagePack, "\xc0", refused},
		{"Bool", JSON, `0`, refused}, {"Bool", MessagePack, "\x00", refused},
		{"Bool", JSON, `"true"`, refused}, {"Bool", MessagePack, "\xa4true", refused},

		{"Int8", JSON, `null`, refused}, {"Int8", MessagePack, "\xc0", refused},
		{"Int8", JSON, `-128`, ok}, {"Int8", MessagePack, "\xd3\xff\xff\xff\xff\xff\xff\xff\x80", ok},
		{"Int8", JSON, `128`, refused}, {"Int8", MessagePack, "\xcc\x80", refused},
		{"Int8", JSON, `-129`, refused}, {"Int8", MessagePack, "\xd1\xff\x7f", refused},
		{"Int8", JSON, `1.0`, refused}, {"Int8", MessagePack, "\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", refused},
		{"Int8", JSON, `1e1`, refused}, {"Int8", MessagePack, "\xca\x3f\x80\x00\x00", refused},
		{"Int8", JSON, `"1"`, refused}, {"Int8", MessagePack, "\xa11", refused},
		{"Int8", JSON, `true`, refused}, {"Int8", MessagePack, "\xc3", refused},
		{"Int8", JSON, `[1]`, refused}, {"Int8", MessagePack, "\x91\x01", refused},

		{"Uint8", JSON, `null`, refused}, {"Uint8", MessagePack, "\xc0", refused},
		{"Uint8", JSON, `255`, ok}, {"Uint8", MessagePack, "\xcc\xff", ok},
		{"Uint8", MessagePack, "\xd1\x00\xff", ok},
		{"Uint8", JSON, `256`, refused}, {"Uint8", MessagePack, "\xcd\x01\x00", refused},
		{"Uint8", JSON, `-1`, refused}, {"Uint8", MessagePack, "\xff", refused},

		{"Int64", JSON, `null`, refused}, {"Int64", MessagePack, "\xc0", refused},
		{"Int64", JSON, `9223372036854775807`, ok}, {"Int64", MessagePack, "\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", ok},
		{"Int64", JSON, `9223372036854775808`, refused}, {"Int64", MessagePack, "\xcf\x80\x00\x00\x00\x00\x00\x00\x00", refused},

		{"Uint64", JSON, `18446744073709551615`, ok}, {"Uint64", MessagePack, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", ok},
		{"Uint64", JSON, `18446744073709551616`, refused}, {"Uint64", MessagePack, "\xd0\xff", refused},

		{"F32", JSON, `null`, refused}, {"F32", MessagePack, "\xc0", refused},
		{"F32", JSON, `1e39`, refused}, {"F32", MessagePack, "\xcb\x48\x07\x82\x87\xf4\x9c\x4a\x1d", refused},
		{"F32", JSON, `1`, ok}, {"F32", MessagePack, "\x01", ok},
		{"F64", JSON, `null`, refused}, {"F64", MessagePack, "\xc0", refused},
		{"F64", JSON, `-1`, ok}, {"F64", MessagePack, "\xff", ok},
		{"F64", JSON, `18446744073709551615`, ok}, {"F64", MessagePack, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", ok},
		{"F64", JSON, `"1"`, refused}, {"F64", MessagePack, "\xa11", refused},
		{"F64", JSON, `1e999`, refused},

		{"Str", JSON, `null`, ok}, {"Str", MessagePack, "\xc0", ok},
		{"Str", JSON, `1`, refused}, {"Str", MessagePack, "\x01", refused},
		{"Str", JSON, `[]`, refused}, {"Str", MessagePack, "\xc4\x01a", refused},

		{"Bytes", JSON, `null`, ok}, {"Bytes", MessagePack, "\xc0", ok},
		{"Bytes", JSON, `[1]`, refused}, {"Bytes", MessagePack, "\x91\x01", refused},
		{"Bytes", JSON, `[]`, refused}, {"Bytes", MessagePack, "\x90", refused},
		{"Bytes", JSON, `"AQI="`, ok}, {"Bytes", MessagePack, "\xa2\x01\x02", ok},
		{"Bytes", JSON, `"A"`, refused}, {"Bytes", MessagePack, "\x01", refused},

		{"Time", JSON, `null`, refused}, {"Time", MessagePack, "\xc0", refused},
		{"Time", JSON, `"2017-04-11T00:00:00Z"`, ok}, {"Time", MessagePack, "\xd6\xff\x00\x00\x00\x00", ok},
		{"Time", JSON, `"yesterday"`, refused}, {"Time", MessagePack, "\xd6\x05\x00\x00\x00\x00", refused},
		{"Time", JSON, `0`, refused}, {"Time", MessagePack, "\x00", refused},
		{"Time", MessagePack, "\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00", refused}, // nanoseconds
		{"Time", MessagePack, "\xc7\x03\xff\x00\x00\x00", refused},
		{"Time", MessagePack, "\xc7\x04\xff\x00\x00\x00\x00", ok},
		{"Time", MessagePack, "\xc9\x00\x00\x00\x0c\xff\x3b\x9a\xca\x00\x00\x00\x00\x00\x00\x00\x00\x00", refused},

		{"List", JSON, `null`, ok}, {"List", MessagePack, "\xc0", ok},
		{"List", JSON, `[1,null]`, refused}, {"List", MessagePack, "\x92\x01\xc0", refused},
		{"List", JSON, `{}`, refused}, {"List", MessagePack, "\x80", refused},

		{"Map", JSON, `null`, ok}, {"Map", MessagePack, "\xc0", ok},
		{"Map", JSON, `{"null":null}`, refused}, {"Map", MessagePack, "\x81\xa4null\xc0", refused},
		{"Map", JSON, `[]`, refused}, {"Map", MessagePack, "\x90", refused},
		{"Map", MessagePack, "\x81\x01\x01", refused}, // key
		{"Map", MessagePack, "\x81\xc0\x01", refused},

		{"Ptr", JSON, `null`, ok}, {"Ptr", MessagePack, "\xc0", ok},
		{"Ptr", JSON, `1.5`, refused}, {"Ptr", MessagePack, "\xa0", refused},
		{"Any", JSON, `null`, ok}, {"Any", MessagePack, "\xc0", ok},
		{"Any", MessagePack, "\xd4\x07\x00", refused}, // extension
		{"Any", MessagePack, "\x81\x90\x01", refused}, // key
		{"Any", MessagePack, "\x81\xc0\x01", refused},

		{"Array", JSON, `null`, ok}, {"Array", MessagePack, "\xc0", ok},
		{"Array", JSON, `[1]`, ok}, {"Array", MessagePack, "\x91\x01", ok},
		{"Array", JSON, `[1,2,"x"]`, ok}, {"Array", MessagePack, "\x93\x01\x02\xa1x", ok},
		{"Array", JSON, `[1,2,null]`, ok}, {"Array", MessagePack, "\x93\x01\x02\xc0", ok},
		{"Array", JSON, `[1,null]`, refused}, {"Array", MessagePack, "\x92\x01\xc0", refused},

		{"Struct", JSON, `null`, ok}, {"Struct", MessagePack, "\xc0", ok},
		{"Struct", JSON, `{"n":null}`, refused}, {"Struct", MessagePack, "\x81\xa1N\xc0", refused},
		{"Struct", JSON, `{"other":null}`, ok}, {"Struct", MessagePack, "\x81\xa5other\xc0", ok},
		{"Struct", MessagePack, "\x81\xa1n\xa1x", ok}, // case matters, so this is no field
		{"Struct", MessagePack, "\x81\x01\xa1x", ok},
		{"Struct", JSON, `[]`, refused}, {"Struct", MessagePack, "\x90", refused},

		{"Level", JSON, `null`, ok}, {"Level", MessagePack, "\xc0", ok},
		{"Level", JSON, `"!!"`, ok}, {"Level", MessagePack, "\xa2!!", ok},
		{"Level", JSON, `"??"`, refused}, {"Level", MessagePack, "\xa2??", refused},
		{"Level", JSON, `2`, refused}, {"Level", MessagePack, "\x02", refused},

		{"Number", JSON, `null`, refused}, {"Number", MessagePack, "\xc0", refused},
		{"Number", JSON, `1.50`, ok}, {"Number", MessagePack, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", ok},
		{"Number", JSON, `true`, refused}, {"Number", MessagePack, "\xc3", refused},
		{"Number", MessagePack, "\xca\x7f\xc0\x00\x00", refused}, // not a number
	}
	for _, tt := range tests {
		field, found := reflect.TypeFor[kinds]().FieldByName(tt.field)
		if !found {
			t.Fatalf("no field %s", tt.field)
		}
		alone := field.Type
		inStruct := reflect.StructOf([]reflect.StructField{{Name: "V", Type: alone}})
		for where, form := range map[string]struct {
			into reflect.Type
			raw  string
		}{
			"alone":        {alone, tt.raw},
			"in a pointer": {reflect.PointerTo(alone), tt.raw},
			"in a struct":  {inStruct, map[Protocol]string{JSON: `{"V":` + tt.raw + `}`, MessagePack: "\x81\xa1V" + tt.raw}[tt.p]},
			"in a slice":   {reflect.SliceOf(inStruct), map[Protocol]string{JSON: `[{"V":` + tt.raw + `}]`, MessagePack: "\x91\x81\xa1V" + tt.raw}[tt.p]},
			"in a map":     {reflect.MapOf(reflect.TypeFor[string](), alone), map[Protocol]string{JSON: `{"k":` + tt.raw + `}`, MessagePack: "\x81\xa1k" + tt.raw}[tt.p]},
		} {
			takes := tt.takes
			if where == "in a pointer" && (tt.raw == "null" || tt.raw == "\xc0") {
				takes = true
			}
			v := reflect.New(form.into)
			err := tt.p.BindValue([]byte(form.raw), v.Interface())
			if (err == nil) != takes {
				t.Errorf("%s %s, %s %q: %v, want ok %v", tt.field, where, tt.p.Name(), form.raw, errors.Unwrap(err), takes)
			}
			if isNull := tt.raw == "null" || tt.raw == "\xc0"; isNull && takes && where == "alone" && !v.Elem().IsZero() {
				t.Errorf("%s, %s: null is %v", tt.field, tt.p.Name(), v.Elem())
			}
		}
	}
}
