package protocol

import (
	"fmt"
	"reflect"
	"sync"
)

// checkStrictly goes past the next value, which encoding/json takes for one of type t,
// and reports a null in it that stands for a number, a boolean or a time: on any null,
// encoding/json leaves its target alone and says nothing. It reports, too, an array in
// place of the string that bytes are.
func (s *jsonScanner) checkStrictly(t reflect.Type) error {
	begin := s.peek()
	if begin != 'n' {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
	}
	rule := nullRuleOf(t)
	switch {
	case begin == 'n' && rule == nullRefused:
		return fmt.Errorf("null is not for a %s", t)
	case begin == '[' && t.Kind() == reflect.Slice && isBytes(t):
		return fmt.Errorf("an array is not for a %s", t)
	case begin == '[' && rule == nullWithin:
		return s.checkElements(t)
	case begin == '{' && rule == nullWithin:
		return s.checkMembers(t)
	}
	return s.skip()
}

// checkElements checks the elements of an array for a slice or an array t.
func (s *jsonScanner) checkElements(t reflect.Type) error {
	if err := s.open(); err != nil {
		return err
	}
	for i := 0; ; i++ {
		more, err := s.next(']', i == 0)
		if !more {
			return err
		}
		if t.Kind() == reflect.Array && i >= t.Len() {
			err = s.skip() // dropped
		} else {
			err = s.checkStrictly(t.Elem())
		}
		if err != nil {
			return err
		}
	}
}

// checkMembers checks the members of an object for a struct or a map t.
func (s *jsonScanner) checkMembers(t reflect.Type) error {
	if err := s.open(); err != nil {
		return err
	}
	for first := true; ; first = false {
		name, more, err := s.member(first)
		if !more {
			return err
		}
		if t.Kind() == reflect.Map {
			err = s.checkStrictly(t.Elem())
		} else if field := structTypeOf(t).findFold(name.bytes()); field != nil {
			err = s.checkStrictly(field.kind)
		} else {
			err = s.skip() // of no field
		}
		if err != nil {
			return err
		}
	}
}

// A nullRule says what a null means for a type.
type nullRule int

const (
	nullTaken   nullRule = iota // it is a value, also of whatever the type contains
	nullRefused                 // it is no value
	nullWithin                  // it is a value, but may not be one of what is within
)

var nullRules sync.Map // of nullRule by reflect.Type

func nullRuleOf(t reflect.Type) nullRule {
	if rule, ok := nullRules.Load(t); ok {
		return rule.(nullRule)
	}
	rule := newNullRule(t)
	nullRules.Store(t, rule)
	return rule
}

func newNullRule(t reflect.Type) nullRule {
	if t == timeType || t == numberType {
		return nullRefused
	}
	if p := reflect.PointerTo(t); p.Implements(jsonUnmarshalerType) || p.Implements(textUnmarshalerType) {
		return nullTaken // the type's own matter
	}
	switch kind := t.Kind(); kind {
	case reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
		return nullWithin
	case reflect.String, reflect.Interface, reflect.Pointer:
		return nullTaken
	}
	return nullRefused
}
