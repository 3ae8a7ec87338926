package protocol

import (
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

// Nesting as deep as JSON may be, and one deeper, counted from the message's object.
func TestJSONDepth(t *testing.T) {
	frame := func(n int) []byte {
		return []byte(`{"type":1,"target":"M","arguments":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}\x1e")
	}
	m, _, err := JSON.Parse(frame(63), 0)
	if err != nil {
		t.Fatalf("64 deep: %v", err)
	}
	var v any
	if err := JSON.BindArguments(m.(*Invocation).RawArguments, &v); err != nil {
		t.Errorf("64 deep: %v", err)
	}
	for _, n := range []int{64, 100_000} {
		if _, _, err := JSON.Parse(frame(n), 0); !errors.Is(err, errJSONDepth) {
			t.Errorf("%d deep: %v", n+1, err)
		}
	}
}

// Nested values go through Parse at any depth, since they are skipped without a stack,
// and through a Bind method up to its limit.
func TestMessagePackDepth(t *testing.T) {
	for _, shape := range []struct{ name, open, end string }{
		{"arrays", "\x91", "\x90"},
		{"maps", "\x81\xa1k", "\x80"},
		{"wide arrays", "\xdd\x00\x00\x00\x01", "\x90"},
	} {
		for _, n := range []int{maxPackDepth, maxPackDepth + 1, 100_000} {
			body := "\x95\x03\x80\xa11\x03" + strings.Repeat(shape.open, n-1) + shape.end
			frame := []byte(packed(body))
			m, taken, err := MessagePack.Parse(frame, 0)
			if err != nil || taken != len(frame) {
				t.Fatalf("%s, %d deep: took %d of %d, %v", shape.name, n, taken, len(frame), err)
			}
			raw := m.(*Completion).RawResult
			if len(raw) != len(body)-6 {
				t.Fatalf("%s, %d deep: result of %d bytes, want %d", shape.name, n, len(raw), len(body)-6)
			}
			var v any
			if err := MessagePack.BindValue(raw, &v); (err == nil) != (n <= maxPackDepth) {
				t.Errorf("%s, %d deep: %v", shape.name, n, err)
			}
			var list nested
			if shape.name == "arrays" {
				if err := MessagePack.BindValue(raw, &list); (err == nil) != (n <= maxPackDepth) {
					t.Errorf("%s, %d deep into slices: %v", shape.name, n, err)
				}
			}
			var kept Raw
			if err := MessagePack.BindValue(raw, &kept); err != nil || len(kept.Bytes) != len(raw) {
				t.Errorf("%s, %d deep into Raw: %v", shape.name, n, err)
			}
		}
	}
}

type nested []nested

// Lengths that are not true cost no memory.
func TestDeclaredLengths(t *testing.T) {
	wide := func(head string, n int) string { return strings.Repeat(head, n) }
	type big struct{ A, B, C, D [8]int }
	tests := []struct {
		name string
		raw  string
		dst  any
	}{
		{"array", "\xdd\xff\xff\xff\xff", new([]big)},
		{"array of any", "\xdd\xff\xff\xff\xff", new(any)},
		{"map", "\xdf\xff\xff\xff\xff", new(map[string]big)},
		{"map of any", "\xdf\x7f\xff\xff\xff", new(any)},
		{"string", "\xdb\xff\xff\xff\xff", new(string)},
		{"bin", "\xc6\xff\xff\xff\xff", new([]byte)},
		{"bin of any", "\xc6\xff\xff\xff\xff", new(any)},
		{"extension", "\xc9\xff\xff\xff\xff\xff", new(any)},
		// Each says that the rest is all its own: together they would be the square.
		{"nested arrays", wide("\xdc\x27\x10", 10_000), new(any)},
		{"nested maps", wide("\xde\x10\x00\xa1k", 8_000), new(any)},
		{"nested slices", wide("\xdc\x27\x10", 10_000), new(nested)},
	}
	for _, tt := range tests {
		for what, bind := range map[string]func() error{
			"value":     func() error { return MessagePack.BindValue([]byte(tt.raw), tt.dst) },
			"arguments": func() error { return MessagePack.BindArguments([]byte("\x91"+tt.raw), tt.dst) },
			"elements":  func() error { _, err := Elements(Raw{MessagePack, []byte("\x91" + tt.raw)}); return err },
			"translation": func() error {
				_, err := JSON.Append(nil, &StreamItem{Item: Raw{MessagePack, []byte(tt.raw)}})
				return err
			},
		} {
			var err error
			allocated := allocatedBytes(func() { err = bind() })
			if err == nil {
				t.Errorf("%s, %s: no error", tt.name, what)
			}
			if limit := uint64(10*len(tt.raw) + 64<<10); allocated > limit {
				t.Errorf("%s, %s: %d bytes allocated for an input of %d", tt.name, what, allocated, len(tt.raw))
			}
		}
	}
	for name, body := range map[string]string{
		"headers":   "\x96\x01\xdf\x7f\xff\xff\xff",
		"streamIds": "\x96\x01\x80\xa11\xa1M\x90\xdd\xff\xff\xff\xff",
		"arguments": "\x96\x01\x80\xa11\xa1M\xdd\xff\xff\xff\xff",
		"message":   "\xdd\xff\xff\xff\xff\x06",
	} {
		frame := []byte(packed(body))
		if allocated := allocatedBytes(func() { _, _, _ = MessagePack.Parse(frame, 0) }); allocated > 64<<10 {
			t.Errorf("%s: %d bytes allocated for an input of %d", name, allocated, len(frame))
		}
	}
}

// allocatedBytes returns how many bytes f allocates.
func allocatedBytes(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Large honest values are decoded in memory of the order of what they are.
func TestHonestLengths(t *testing.T) {
	const n = 100_000
	list := make([]int, n)
	raw := encode(t, MessagePack, list)
	var got []int
	allocated := allocatedBytes(func() {
		if err := MessagePack.BindValue(raw, &got); err != nil {
			t.Error(err)
		}
	})
	if !reflect.DeepEqual(got, list) {
		t.Error("list came back as another")
	}
	if allocated > 10*n {
		t.Errorf("%d bytes allocated for %d integers", allocated, n)
	}
}
