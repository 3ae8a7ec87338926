package protocol

import (
	"fmt"
	"reflect"
)

// encoding/json leaves its target alone on a null, whatever the type. Here a null that
// is the value of a number, a boolean or a time is refused, wherever it stands.

// checkNulls reports a null in raw, which has been checked, where dst takes none.
func checkNulls(raw []byte, dst any) error {
	t := reflect.TypeOf(dst)
	if t.Kind() != reflect.Pointer {
		return nil // json.Unmarshal reports it
	}
	s := jsonScanner{data: raw}
	return s.checkNulls(t.Elem())
}

func (s *jsonScanner) checkNulls(t reflect.Type) error {
	begin := s.peek()
	if begin == 'n' {
		if refusesNull(t) {
			return fmt.Errorf("null is not for a %s", t)
		}
		return s.skip()
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(jsonUnmarshalerType) || reflect.PointerTo(t).Implements(textUnmarshalerType) {
		return s.skip()
	}
	switch kind := t.Kind(); {
	case begin == '[' && (kind == reflect.Slice || kind == reflect.Array):
		return s.checkNullElements(t.Elem())
	case begin == '{' && kind == reflect.Map:
		return s.checkNullMembers(func(string) reflect.Type { return t.Elem() })
	case begin == '{' && kind == reflect.Struct:
		fields := structTypeOf(t)
		return s.checkNullMembers(func(name string) reflect.Type {
			if f := fields.findFold(name); f != nil {
				return f.kind
			}
			return anyType
		})
	}
	return s.skip()
}

var anyType = reflect.TypeFor[any]()

func (s *jsonScanner) checkNullElements(t reflect.Type) error {
	if err := s.open(); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.next(']', first)
		if !more {
			return err
		}
		if err := s.checkNulls(t); err != nil {
			return err
		}
	}
}

func (s *jsonScanner) checkNullMembers(typeOf func(name string) reflect.Type) error {
	if err := s.open(); err != nil {
		return err
	}
	for first := true; ; first = false {
		name, more, err := s.member(first)
		if !more {
			return err
		}
		if err := s.checkNulls(typeOf(name.String())); err != nil {
			return err
		}
	}
}

// refusesNull reports that a null is no value of type t.
func refusesNull(t reflect.Type) bool {
	if t == timeType {
		return true
	}
	if reflect.PointerTo(t).Implements(jsonUnmarshalerType) || reflect.PointerTo(t).Implements(textUnmarshalerType) {
		return false // its own matter
	}
	kind := t.Kind()
	return reflect.Bool <= kind && kind <= reflect.Float64
}
