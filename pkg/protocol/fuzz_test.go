package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"runtime/metrics"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func FuzzJSON(f *testing.F) {
	for _, row := range wire {
		f.Add([]byte(row.json + "\x1e"))
	}
	f.Add([]byte(`{"x":[1.5e-3,"\u00e9\ud83d\ude00",{"a":{}}],"type":1,"target":"M","arguments":[null]} x` + "\x1e"))
	f.Fuzz(func(t *testing.T, data []byte) {
		checkSyntax(t, data)
		checkParse(t, JSON, data)
	})
}

func FuzzMessagePack(f *testing.F) {
	for _, row := range wire {
		f.Add([]byte(packed(row.pack)))
	}
	for _, v := range values {
		if frame, err := MessagePack.Append(nil, &StreamItem{InvocationID: "1", Item: v}); err == nil && len(frame) < 200 {
			f.Add(frame)
		}
	}
	f.Add([]byte(packed("\x94\x02\x80\xa11\xdc\x00\x03\xdd\x00\x00\x00\x00\xdf\x00\x00\x00\x00\xc9\x00\x00\x00\x04\xff\x00\x00\x00\x00")))
	f.Fuzz(func(t *testing.T, data []byte) { checkParse(t, MessagePack, data) })
}

// checkSyntax holds the scanner to what encoding/json takes for JSON.
func checkSyntax(t *testing.T, data []byte) {
	text := bytes.TrimSuffix(data, []byte{recordSeparator})
	ours := checkJSON(text)
	theirs := json.Valid(text) && utf8.Valid(text)
	if (ours == nil) != theirs && !errors.Is(ours, errJSONDepth) {
		t.Errorf("%q: encoding/json takes it: %v, we say %v", text, theirs, ours)
	}
}

// checkParse checks what must be true of Parse whatever it is given, and goes on with
// what it returns.
func checkParse(t *testing.T, p Protocol, data []byte) {
	var m Message
	var n int
	var err error
	checkAllocations(t, len(data), func() { m, n, err = p.Parse(data, 0) })
	if err != nil {
		if _, ok := errors.AsType[*Error](err); !ok && !errors.Is(err, ErrIncomplete) || m != nil || n != 0 {
			t.Fatalf("Parse = %v, %d, %v", m, n, err)
		}
		return
	}
	if n <= 0 || n > len(data) {
		t.Fatalf("took %d bytes of %d", n, len(data))
	}
	if _, _, err := p.Parse(data[:n-1], 0); !errors.Is(err, ErrIncomplete) {
		t.Errorf("%q is whole, but without its last byte it is %v", data[:n], err)
	}
	switch m := m.(type) {
	case *Invocation:
		checkArguments(t, p, m.RawArguments)
	case *StreamInvocation:
		checkArguments(t, p, m.RawArguments)
	case *StreamItem:
		checkBind(t, p, m.RawItem)
	case *Completion:
		if m.HasResult {
			checkBind(t, p, m.RawResult)
		}
	}
	checkRewrite(t, p, m)
}

func checkArguments(t *testing.T, p Protocol, raw []byte) {
	values, err := Elements(Raw{p, raw})
	if err != nil {
		var v any
		if err := p.BindArguments(raw, &v); err == nil {
			t.Errorf("%q is not an array, but binds", raw)
		}
		return
	}
	targets := make([]any, len(values))
	for i := range targets {
		targets[i] = new(Raw)
	}
	if err := p.BindArguments(raw, targets...); err != nil {
		t.Errorf("%q does not bind to its own elements: %v", raw, err)
	}
	for i, v := range values {
		if got := targets[i].(*Raw); !bytes.Equal(got.Bytes, v.(Raw).Bytes) {
			t.Errorf("%q: element %d is %q when bound, and else %q", raw, i, got.Bytes, v.(Raw).Bytes)
		}
		checkBind(t, p, v.(Raw).Bytes)
	}
}

// checkBind decodes raw into types of each kind. What comes out of any must go in
// again.
func checkBind(t *testing.T, p Protocol, raw []byte) {
	for _, target := range []any{
		new(any), new(kinds), new(int), new(uint8), new(float32), new(string), new([]byte), new(bool), new(time.Time), new(Raw),
		new(item), new([]item), new(map[string]*item), new(map[int]any), new([3]string), new(nested), new(recursive),
		new(promoting), new(level), new(map[level]json.Number), new(json.RawMessage), new([]jsonOnly),
	} {
		var err error
		checkAllocations(t, len(raw), func() { err = p.BindValue(raw, target) })
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%q into %T: %v", raw, target, err)
			}
			continue
		}
		// A byte that is not UTF-8 becomes three.
		if held := heldElements(reflect.ValueOf(target)); held > 3*len(raw) && p == MessagePack {
			t.Errorf("%T holds %d elements and bytes of an input of %d", target, held, len(raw))
		}
		if _, err := p.Append(nil, &StreamItem{InvocationID: "1", Item: target}); err != nil {
			t.Errorf("%q into %T cannot be written: %v", raw, target, err)
		}
	}
}

// heldElements counts the bytes of strings and the elements of slices and maps in v.
func heldElements(v reflect.Value) int {
	count := 0
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.Type() != reflect.TypeFor[Protocol]() && !v.IsNil() {
			count = heldElements(v.Elem())
		}
	case reflect.String:
		count = v.Len()
	case reflect.Slice, reflect.Array:
		count = v.Len()
		for i := range v.Len() {
			count += heldElements(v.Index(i))
		}
		if v.Kind() == reflect.Array || v.Type().Elem().Kind() == reflect.Uint8 {
			count -= v.Len()
		}
	case reflect.Map:
		count = v.Len()
		for entries := v.MapRange(); entries.Next(); {
			count += heldElements(entries.Key()) + heldElements(entries.Value())
		}
	case reflect.Struct:
		if v.Type() == timeType {
			return 0
		}
		for i := range v.NumField() {
			count += heldElements(v.Field(i))
		}
	}
	return count
}

// checkRewrite writes what was read: it must be read as the same, and be written the
// same way again.
func checkRewrite(t *testing.T, p Protocol, m Message) {
	if _, ok := m.(*Unknown); ok {
		return
	}
	switch m := m.(type) {
	case *Invocation:
		if _, err := Elements(Raw{p, m.RawArguments}); err != nil {
			return
		}
	case *StreamInvocation:
		if _, err := Elements(Raw{p, m.RawArguments}); err != nil {
			return
		}
	case *StreamItem:
		if p == MessagePack && checkPack(m.RawItem) != nil {
			return
		}
	case *Completion:
		if p == MessagePack && m.HasResult && checkPack(m.RawResult) != nil {
			return
		}
	}
	frame, err := p.Append(nil, rewritable(t, p, m))
	if err != nil {
		t.Fatalf("%#v cannot be written: %v", m, err)
	}
	again, n, err := p.Parse(frame, 0)
	if err != nil || n != len(frame) {
		t.Fatalf("%q cannot be read: took %d, %v", frame, n, err)
	}
	want, got := withoutValues(m), withoutValues(again)
	if c, ok := want.(*Completion); ok && p == JSON && c.Error == "" {
		c.HasError = false // which JSON has no form for
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rewritten (-want +got):\n%s", diff)
	}
	second, err := p.Append(nil, rewritable(t, p, again))
	if err != nil || !bytes.Equal(second, frame) {
		t.Errorf("written %q, then %q, %v", frame, second, err)
	}
}

// checkAllocations fails the test if f allocates more than in proportion to the size
// of its input. The bound is generous: what it is to find is lengths that were
// believed, which are off by thousands.
func checkAllocations(t *testing.T, size int, f func()) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	f()
	metrics.Read(sample)
	if allocated := sample[0].Value.Uint64() - before; allocated > 4<<20+1000*uint64(size) {
		t.Errorf("%d bytes allocated for an input of %d", allocated, size)
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte(`{"protocol":"json","version":1}` + "\x1e"))
	f.Add([]byte(`{"error":"no","x":[{}]}` + "\x1e{}"))
	f.Add([]byte("{}\x1e"))
	f.Fuzz(func(t *testing.T, data []byte) {
		request, n, err := ParseHandshakeRequest(data, 0)
		if checkHandshake(t, data, n, err) {
			again, _, err := ParseHandshakeRequest(AppendHandshakeRequest(nil, request), 0)
			if err != nil || again != request {
				t.Errorf("%v became %v, %v", request, again, err)
			}
		}
		text, n, err := ParseHandshakeResponse(data, 0)
		if checkHandshake(t, data, n, err) {
			again, _, err := ParseHandshakeResponse(AppendHandshakeResponse(nil, text), 0)
			if err != nil || again != text {
				t.Errorf("%q became %q, %v", text, again, err)
			}
		}
	})
}

func checkHandshake(t *testing.T, data []byte, n int, err error) (ok bool) {
	end := bytes.IndexByte(data, recordSeparator)
	if err == nil {
		if n != end+1 {
			t.Errorf("%q: took %d bytes", data, n)
		}
		return true
	}
	if _, isError := errors.AsType[*Error](err); n != 0 || isError == (end < 0) || errors.Is(err, ErrIncomplete) == (end >= 0) {
		t.Errorf("%q: %d, %v", data, n, err)
	}
	return false
}

func FuzzTranslate(f *testing.F) {
	for _, v := range values {
		for _, p := range []Protocol{JSON, MessagePack} {
			if raw := encode(f, p, v); len(raw) < 200 {
				f.Add(raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if back, ok := thereAndBack(t, Raw{JSON, data}); ok {
			if !sameJSON(data, back) {
				t.Errorf("JSON %s came back as %s", data, back)
			}
			if again, ok := thereAndBack(t, Raw{JSON, back}); !ok || !bytes.Equal(again, back) {
				t.Errorf("JSON %s came back as %s and then as %s", data, back, again)
			}
		}
		if back, ok := thereAndBack(t, Raw{MessagePack, data}); ok {
			// Numbers may take another form, whose JSON is the same.
			before, err := translate(JSON, Raw{MessagePack, data})
			after, err2 := translate(JSON, Raw{MessagePack, back})
			if err != nil || err2 != nil || !bytes.Equal(before, after) {
				t.Errorf("MessagePack %q is %s, %v; when it has come back, %s, %v", data, before, err, after, err2)
			}
		}
	})
}

// thereAndBack translates r into the other protocol and back. It is not ok if the
// first cannot be done; the second must.
func thereAndBack(t *testing.T, r Raw) (back []byte, ok bool) {
	other := map[Protocol]Protocol{JSON: MessagePack, MessagePack: JSON}[r.Protocol]
	there, err := translate(other, r)
	if err != nil {
		return nil, false
	}
	back, err = translate(r.Protocol, Raw{other, there})
	if err != nil {
		t.Fatalf("%s %q became %q, which cannot come back: %v", r.Protocol.Name(), r.Bytes, there, err)
	}
	return back, true
}

// translate returns the value as it stands in a message of another protocol.
func translate(to Protocol, r Raw) ([]byte, error) {
	frame, err := to.Append(nil, &Invocation{Target: "M", Arguments: []any{r}})
	if err != nil {
		return nil, err
	}
	m, _, err := to.Parse(frame, 0)
	if err != nil {
		return nil, err
	}
	var value Raw
	err = to.BindArguments(m.(*Invocation).RawArguments, &value)
	return value.Bytes, err
}

func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
