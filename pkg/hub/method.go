package hub

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// A method is an exported method of the hub's value, ready to be invoked. It is made
// once, by New, and not changed.
type method struct {
	name       string        // by which clients invoke it
	receiver   reflect.Value // the hub's value
	function   reflect.Value // takes the receiver first: a method value would be made anew by each call
	parameters []parameter   // without context and caller
	values     int           // parameters that come as arguments
	uploads    int           // parameters that are streams from the client
	result     resultKind
	hasError   bool
	filters    []Filter           // of this method, the outermost first
	requires   []auth.Requirement // of whoever invokes it
	reusable   bool               // the memory of its arguments can be used again
	spare      sync.Pool          // of *arguments whose values are zero
}

// leading is how many values come before those of a method's parameters when it is called:
// the receiver, the context and the caller.
const leading = 3

// arguments are what a method is called with.
type arguments struct {
	values  []reflect.Value
	targets []any // pointers to the values that come as arguments, in order
}

// A parameter of a method is a value or, if item is not nil, a stream of such items.
type parameter struct {
	reflect.Type
	item reflect.Type
}

// resultKind says what a method's first result is, if it is no error.
type resultKind int

const (
	noResult resultKind = iota
	valueResult
	sequenceResult // iter.Seq[T]: a stream
	fallibleResult // iter.Seq2[T, error]: a stream
	channelResult  // <-chan T: a stream
)

func (m *method) streams() bool { return m.result >= sequenceResult }

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

// methodsOf compiles the exported methods of value and adjusts them, or says all that
// is wrong with any of them.
func methodsOf(value any, options []methodOptions) (methods, error) {
	t := reflect.TypeOf(value)
	if t == nil {
		return nil, errors.New("hub is nil")
	}
	declared := make(map[string]*method)
	var wrong []error
	for d := range t.Methods() {
		if handler, ok := lifecycle[d.Name]; ok {
			if !t.Implements(handler) {
				wrong = append(wrong, fmt.Errorf("method %s.%s is not that of %s", t, d.Name, handler))
			}
			continue
		}
		m, err := compile(d, reflect.ValueOf(value))
		if err != nil {
			wrong = append(wrong, fmt.Errorf("method %s.%s %w", t, d.Name, err))
			continue
		}
		declared[d.Name] = m
	}
	wrong = append(wrong, adjust(declared, options))
	found := make(methods)
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		m := declared[name]
		key := strings.ToLower(m.name)
		if found[key] != nil {
			wrong = append(wrong, fmt.Errorf("method %s.%s: %w", t, name, &referenceError{text: "Duplicate definitions of '" + m.name + "'. Overloading is not supported."}))
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

const wantedSignature = "func(context.Context, *hub.Caller, ...) with at most a value or a stream and an error as results"

func compile(declared reflect.Method, receiver reflect.Value) (*method, error) {
	t := receiver.MethodByName(declared.Name).Type()
	if t.NumIn() < 2 || t.In(0) != contextType || t.In(1) != callerType {
		return nil, fmt.Errorf("is exported but does not begin with a context and the caller: want %s", wantedSignature)
	}
	if t.IsVariadic() {
		return nil, errors.New("is variadic, which clients cannot call")
	}
	m := &method{name: declared.Name, receiver: receiver, function: declared.Func, reusable: true}
	var wrong []error
	for i := 2; i < t.NumIn(); i++ {
		p := parameter{Type: t.In(i), item: uploadItem(t.In(i))}
		encoded := p.Type
		if p.item == nil {
			m.values++
			m.reusable = m.reusable && keepsNothing(p.Type)
		} else {
			m.uploads++
			encoded = p.item
		}
		if err := encodable(encoded, nil); err != nil {
			wrong = append(wrong, fmt.Errorf("parameter %d: %w", i+1, err))
		}
		m.parameters = append(m.parameters, p)
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
		var encoded reflect.Type
		m.result, encoded = resultOf(t.Out(0))
		if err := encodable(encoded, nil); err != nil {
			wrong = append(wrong, fmt.Errorf("result: %w", err))
		}
	}
	return m, errors.Join(wrong...)
}

// uploadItem returns the T of an iter.Seq2[T, error], and nil of any other type.
func uploadItem(t reflect.Type) reflect.Type {
	if kind, item := resultOf(t); kind == fallibleResult {
		return item
	}
	return nil
}

// resultOf tells what kind of result the type is, and the type that is to be encoded.
func resultOf(t reflect.Type) (resultKind, reflect.Type) {
	switch {
	case t.Kind() == reflect.Chan && t.ChanDir() == reflect.RecvDir:
		return channelResult, t.Elem()
	case t.CanSeq2() && t.Kind() == reflect.Func && t.In(0).In(1) == errorType:
		return fallibleResult, t.In(0).In(0)
	case t.CanSeq() && t.Kind() == reflect.Func:
		return sequenceResult, t.In(0).In(0)
	}
	return valueResult, t
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

// keepsNothing reports whether decoding into a variable of the type leaves nobody else
// with its address: the type has no methods, nor have those that it consists of.
func keepsNothing(t reflect.Type) bool {
	return t.PkgPath() == "" && (t.Kind() <= reflect.Float64 && t.Kind() != reflect.Invalid || t.Kind() == reflect.String)
}

// newArguments returns arguments whose values are zero.
func (m *method) newArguments() *arguments {
	if a, ok := m.spare.Get().(*arguments); ok {
		return a
	}
	a := &arguments{values: make([]reflect.Value, leading+len(m.parameters)), targets: make([]any, 0, m.values)}
	for i, parameter := range m.parameters {
		if parameter.item == nil {
			v := reflect.New(parameter.Type)
			a.targets, a.values[leading+i] = append(a.targets, v.Interface()), v.Elem()
		}
	}
	return a
}

// release takes arguments back that nobody uses any more.
func (m *method) release(a *arguments) {
	if !m.reusable {
		return
	}
	clear(a.values[:leading])
	for i, parameter := range m.parameters {
		if parameter.item == nil {
			a.values[leading+i].SetZero()
		} else {
			a.values[leading+i] = reflect.Value{}
		}
	}
	m.spare.Put(a)
}

// bind decodes the arguments of an invocation. Nothing in them refers to raw. What leads
// and the streams are missing: invoke adds the one, and addUploads the other.
func (m *method) bind(p protocol.Protocol, raw []byte) (*arguments, error) {
	a := m.newArguments()
	if err := p.BindArguments(raw, a.targets...); err != nil {
		return nil, err
	}
	return a, nil
}

// invoke runs the method. a is what bind made, with the streams put in.
func (m *method) invoke(ctx context.Context, caller *Caller, a *arguments) (any, error) {
	a.values[0], a.values[1], a.values[2] = m.receiver, reflect.ValueOf(ctx), reflect.ValueOf(caller)
	results := m.function.Call(a.values)
	if m.hasError {
		if err, _ := results[len(results)-1].Interface().(error); err != nil {
			return nil, err
		}
	}
	if m.result == noResult {
		return nil, nil
	}
	return results[0].Interface(), nil
}
