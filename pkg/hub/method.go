package hub

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A method is an exported method of the hub's value, ready to be invoked. It is made
// once, by New, and not changed.
type method struct {
	name       string // as declared
	function   reflect.Value
	parameters []reflect.Type // without context and caller
	hasResult  bool
	hasError   bool
}

// methods finds methods by name without regard to case.
type methods map[string]*method

var (
	contextType = reflect.TypeFor[context.Context]()
	callerType  = reflect.TypeFor[*Caller]()
	errorType   = reflect.TypeFor[error]()
	rawType     = reflect.TypeFor[protocol.Raw]()
	textType    = reflect.TypeFor[encoding.TextMarshaler]()
)

// lifecycle names the methods that the hub itself calls: not for clients.
var lifecycle = map[string]reflect.Type{
	"OnConnected":    reflect.TypeFor[ConnectedHandler](),
	"OnDisconnected": reflect.TypeFor[DisconnectedHandler](),
}

// methodsOf compiles the exported methods of value, or says all that is wrong with
// any of them.
func methodsOf(value any) (methods, error) {
	t := reflect.TypeOf(value)
	if t == nil {
		return nil, errors.New("hub is nil")
	}
	found := make(methods)
	var wrong []error
	for declared := range t.Methods() {
		name := declared.Name
		if handler, ok := lifecycle[name]; ok {
			if !t.Implements(handler) {
				wrong = append(wrong, fmt.Errorf("method %s.%s is not that of %s", t, name, handler))
			}
			continue
		}
		m, err := compile(name, reflect.ValueOf(value).MethodByName(name))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("method %s.%s %w", t, name, err))
			continue
		}
		key := strings.ToLower(name)
		if found[key] != nil {
			wrong = append(wrong, fmt.Errorf("method %s.%s: Duplicate definitions of '%s'. Overloading is not supported.", t, name, name))
			continue
		}
		found[key] = m
	}
	return found, errors.Join(wrong...)
}

// lookup returns the method that clients call name, or nil.
func (ms methods) lookup(name string) *method {
	if m := ms[name]; m != nil { // as written in lower case
		return m
	}
	return ms[strings.ToLower(name)]
}

const wantedSignature = "func(context.Context, *hub.Caller, ...) with at most a value and an error as results"

func compile(name string, function reflect.Value) (*method, error) {
	t := function.Type()
	if t.NumIn() < 2 || t.In(0) != contextType || t.In(1) != callerType {
		return nil, fmt.Errorf("is exported but does not begin with a context and the caller: want %s", wantedSignature)
	}
	if t.IsVariadic() {
		return nil, errors.New("is variadic, which clients cannot call")
	}
	m := &method{name: name, function: function}
	var wrong []error
	for i := 2; i < t.NumIn(); i++ {
		if err := encodable(t.In(i), nil); err != nil {
			wrong = append(wrong, fmt.Errorf("parameter %d: %w", i+1, err))
		}
		m.parameters = append(m.parameters, t.In(i))
	}
	results := t.NumOut()
	if results > 0 && t.Out(results-1) == errorType {
		m.hasError = true
		results--
	}
	if results > 1 {
		wrong = append(wrong, fmt.Errorf("has too many results: want %s", wantedSignature))
	}
	if results == 1 {
		m.hasResult = true
		if err := encodable(t.Out(0), nil); err != nil {
			wrong = append(wrong, fmt.Errorf("result: %w", err))
		}
	}
	return m, errors.Join(wrong...)
}

// encodable reports what in a type has no encoding.
func encodable(t reflect.Type, seen map[reflect.Type]bool) error {
	if seen[t] || t == rawType || t.Implements(textType) || reflect.PointerTo(t).Implements(textType) {
		return nil
	}
	if seen == nil {
		seen = make(map[reflect.Type]bool)
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128, reflect.Uintptr:
		return fmt.Errorf("type %s has no encoding", t)
	case reflect.Interface:
		if t.NumMethod() > 0 {
			return fmt.Errorf("type %s has methods, so what it stands for cannot be known", t)
		}
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return encodable(t.Elem(), seen)
	case reflect.Map:
		return errors.Join(encodable(t.Key(), seen), encodable(t.Elem(), seen))
	case reflect.Struct:
		for field := range t.Fields() {
			if !field.IsExported() || field.Tag.Get("json") == "-" {
				continue
			}
			if err := encodable(field.Type, seen); err != nil {
				return fmt.Errorf("field %s of %s: %w", field.Name, t, err)
			}
		}
	}
	return nil
}

// bind decodes the arguments of an invocation. Nothing in them refers to raw.
func (m *method) bind(p protocol.Protocol, raw []byte) ([]reflect.Value, error) {
	targets := make([]any, len(m.parameters))
	// The first two are the context and the caller, which invoke adds.
	values := make([]reflect.Value, len(m.parameters)+2)
	for i, t := range m.parameters {
		v := reflect.New(t)
		targets[i], values[i+2] = v.Interface(), v.Elem()
	}
	if err := p.BindArguments(raw, targets...); err != nil {
		return nil, err
	}
	return values, nil
}

// invoke runs the method. arguments are those that bind made.
func (m *method) invoke(ctx context.Context, caller *Caller, arguments []reflect.Value) (any, error) {
	arguments[0], arguments[1] = reflect.ValueOf(ctx), reflect.ValueOf(caller)
	results := m.function.Call(arguments)
	if m.hasError {
		if err, _ := results[len(results)-1].Interface().(error); err != nil {
			return nil, err
		}
	}
	if !m.hasResult {
		return nil, nil
	}
	return results[0].Interface(), nil
}
