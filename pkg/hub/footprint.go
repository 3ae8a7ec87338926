package hub

import (
	"encoding"
	"encoding/json"
	"reflect"
	"sync"
)

// What waits of a client's input takes more memory than its bytes: an invocation of eight
// bytes is an entry in tables and queues, with a context, and a value of one byte on the
// wire may be a large struct. So each counts for what it takes, roughly: these, measured
// and rounded up, and the footprint of its values.
const (
	invocationOverhead = 640
	itemOverhead       = 96
)

// charge is what a message counts for while it waits that has size bytes, and has been
// decoded to values of this footprint. Of values that decode themselves only the size tells.
func charge(overhead, size, footprint int) int { return overhead + max(size, footprint) }

// footprint is how many bytes a decoded value takes, with all that it refers to. What
// decodes itself counts for its own size, since it may refer to anything.
func footprint(v reflect.Value) int { return int(v.Type().Size()) + referredTo(v) }

// What a map takes beside its entries, and an entry beside its key and value.
const (
	mapOverhead   = 48
	entryOverhead = 16
)

// referredTo is how many bytes a value takes beyond its own size.
func referredTo(v reflect.Value) (bytes int) {
	if !refers(v.Type()) {
		return 0
	}
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			bytes = footprint(v.Elem())
		}
	case reflect.Slice:
		bytes = v.Cap() * int(v.Type().Elem().Size())
		if refers(v.Type().Elem()) {
			for i := range v.Len() {
				bytes += referredTo(v.Index(i))
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			bytes += referredTo(v.Index(i))
		}
	case reflect.Map:
		if v.IsNil() {
			return 0
		}
		bytes = mapOverhead
		for entries := v.MapRange(); entries.Next(); {
			bytes += entryOverhead + footprint(entries.Key()) + footprint(entries.Value())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			bytes += referredTo(v.Field(i))
		}
	}
	return bytes
}

// referring remembers refers: it grows by the types of the hubs' methods.
var referring sync.Map // of bool, by reflect.Type

// refers reports whether values of the type refer to memory that was made by decoding.
func refers(t reflect.Type) bool {
	if known, ok := referring.Load(t); ok {
		return known.(bool)
	}
	r := findRefers(t)
	referring.Store(t, r)
	return r
}

var selfDecoding = []reflect.Type{
	reflect.TypeFor[encoding.TextUnmarshaler](),
	reflect.TypeFor[json.Unmarshaler](),
}

func findRefers(t reflect.Type) bool {
	if t == rawType {
		return false
	}
	for _, decoding := range selfDecoding {
		if reflect.PointerTo(t).Implements(decoding) {
			return false
		}
	}
	switch t.Kind() {
	case reflect.String, reflect.Interface, reflect.Pointer, reflect.Slice, reflect.Map:
		return true
	case reflect.Array:
		return refers(t.Elem())
	case reflect.Struct:
		for field := range t.Fields() {
			if refers(field.Type) {
				return true
			}
		}
	}
	return false
}
