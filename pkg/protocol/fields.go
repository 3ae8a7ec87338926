package protocol

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// A structField is a field of a struct as encoding/json sees it.
type structField struct {
	name      string
	index     []int // as of reflect.Value.FieldByIndex
	kind      reflect.Type
	omitEmpty bool
	omitZero  bool
}

// A structType is what encoding/json would write and read of a struct.
type structType struct {
	fields []structField
	byName map[string]int // index into fields
}

var structTypes sync.Map // of *structType by reflect.Type

// structTypeOf returns the fields of struct type t, those of embedded structs among
// them.
func structTypeOf(t reflect.Type) *structType {
	if s, ok := structTypes.Load(t); ok {
		return s.(*structType)
	}
	s := &structType{byName: make(map[string]int)}
	for _, c := range dominant(candidates(t)) {
		s.byName[c.name] = len(s.fields)
		s.fields = append(s.fields, c.structField)
	}
	actual, _ := structTypes.LoadOrStore(t, s)
	return actual.(*structType)
}

// findFold returns the field that encoding/json sets for a name, which is one that
// differs only in case if there is none of that very name.
func (s *structType) findFold(name []byte) *structField {
	if i, ok := s.byName[string(name)]; ok {
		return &s.fields[i]
	}
	for i := range s.fields {
		if bytes.EqualFold([]byte(s.fields[i].name), name) {
			return &s.fields[i]
		}
	}
	return nil
}

// A candidate is a field that another of the same name may hide.
type candidate struct {
	structField
	tagged bool
}

// An embedding is a struct whose fields count as those of the struct around it.
type embedding struct {
	kind  reflect.Type
	index []int
}

// candidates returns the fields of t and of the structs embedded in it, level by level.
func candidates(t reflect.Type) []candidate {
	var found []candidate
	visited := map[reflect.Type]bool{} // on a level above, which hides what is below
	for level := []embedding{{kind: t}}; len(level) > 0; {
		level = slices.DeleteFunc(level, func(e embedding) bool { return visited[e.kind] })
		var next []embedding
		for _, e := range level {
			visited[e.kind] = true
			fields, deeper := e.fields()
			found, next = append(found, fields...), append(next, deeper...)
		}
		level = next
	}
	return found
}

// fields returns the fields of the struct, and the structs embedded in it unless a
// tag gives them a name.
func (e embedding) fields() (fields []candidate, deeper []embedding) {
	for i := range e.kind.NumField() {
		f := e.kind.Field(i)
		tag := f.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		index := append(slices.Clip(e.index), i)
		if inner, ok := embedded(f); ok && name == "" {
			deeper = append(deeper, embedding{inner, index})
			continue
		}
		if !f.IsExported() {
			continue
		}
		c := candidate{structField{name: name, index: index, kind: f.Type}, name != ""}
		if !c.tagged {
			c.name = f.Name
		}
		for option := range strings.SplitSeq(options, ",") {
			c.omitEmpty = c.omitEmpty || option == "omitempty"
			c.omitZero = c.omitZero || option == "omitzero"
		}
		fields = append(fields, c)
	}
	return fields, deeper
}

// embedded returns the struct that f embeds, by itself or by a pointer.
func embedded(f reflect.StructField) (reflect.Type, bool) {
	t := f.Type
	if t.Name() == "" && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t, f.Anonymous && t.Kind() == reflect.Struct
}

// dominant leaves, of the candidates for a name, the one that Go's rules for embedded
// fields choose, except that a tag goes before none; or none if that is not one. They
// come out in the order of declaration.
func dominant(all []candidate) []candidate {
	best := make(map[string][]candidate)
	for _, c := range all {
		rivals := best[c.name]
		switch {
		case len(rivals) == 0 || beats(c, rivals[0]):
			best[c.name] = []candidate{c}
		case !beats(rivals[0], c):
			best[c.name] = append(rivals, c)
		}
	}
	chosen := slices.DeleteFunc(all, func(c candidate) bool {
		rivals := best[c.name]
		return len(rivals) > 1 || !slices.Equal(rivals[0].index, c.index)
	})
	slices.SortFunc(chosen, func(a, b candidate) int { return slices.Compare(a.index, b.index) })
	return chosen
}

func beats(a, b candidate) bool {
	if len(a.index) != len(b.index) {
		return len(a.index) < len(b.index)
	}
	return a.tagged && !b.tagged
}

// in returns the field's value in v. It is not ok if the field is to be left out.
func (f *structField) in(v reflect.Value) (value reflect.Value, ok bool) {
	for i, n := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	if f.omitEmpty && isEmpty(v) || f.omitZero && isZero(v) {
		return reflect.Value{}, false
	}
	return v, true
}

// of returns the field of v to set. It makes the embedded structs on the way.
func (f *structField) of(v reflect.Value) (reflect.Value, error) {
	for i, n := range f.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return reflect.Value{}, fmt.Errorf("embedded pointer to unexported struct %s cannot be set", v.Type().Elem())
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v, nil
}

// isEmpty is what encoding/json calls empty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

func isZero(v reflect.Value) bool {
	if v.CanInterface() {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok {
			return v.Kind() == reflect.Pointer && v.IsNil() || z.IsZero()
		}
	}
	return v.IsZero()
}
