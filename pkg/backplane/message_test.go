package backplane

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var messages = []struct {
	name    string
	message Message
	bytes   string
}{{
	name: "two protocols",
	message: Message{Encodings: []Encoding{
		{"json", []byte(`{"type":6}` + "\x1e")},
		{"messagepack", []byte("\x02\x91\x06")},
	}},
	bytes: "\x01\x00\x02\x04json\x0b{\"type\":6}\x1e\x0bmessagepack\x03\x02\x91\x06",
}, {
	name: "excluded",
	message: Message{
		Excluded:  []string{"abc", "", "\x00ü"},
		Encodings: []Encoding{{"json", []byte{}}},
	},
	bytes: "\x01\x03\x03abc\x00\x03\x00ü\x01\x04json\x00",
}, {
	name:    "long frame",
	message: Message{Encodings: []Encoding{{"p", bytes.Repeat([]byte{'f'}, 300)}}},
	bytes:   "\x01\x00\x01\x01p\xac\x02" + strings.Repeat("f", 300),
}, {
	name:    "nothing",
	message: Message{},
	bytes:   "\x01\x00\x00",
}}

func TestMessageBytes(t *testing.T) {
	for _, test := range messages {
		t.Run(test.name, func(t *testing.T) {
			got := AppendMessage([]byte("before"), test.message)
			if diff := cmp.Diff("before"+test.bytes, string(got)); diff != "" {
				t.Error("appended (-want +got)\n", diff)
			}
			for _, after := range []string{"", "of a later node"} {
				parsed, err := ParseMessage([]byte(test.bytes + after))
				if diff := cmp.Diff(test.message, parsed); err != nil || diff != "" {
					t.Errorf("parsed with %q after it (-want +got)\n%s %v", after, diff, err)
				}
			}
			for n := range test.bytes {
				if _, err := ParseMessage([]byte(test.bytes[:n])); !errors.Is(err, ErrMalformed) {
					t.Errorf("first %d bytes: %v, want %v", n, err, ErrMalformed)
				}
			}
		})
	}
}

func TestPlainMessage(t *testing.T) {
	const plain = `{"target":"T"}`
	m, err := ParseMessage([]byte(plain))
	if diff := cmp.Diff(Message{Plain: []byte(plain)}, m); err != nil || diff != "" {
		t.Error(diff, err)
	}
	if got := string(AppendMessage(nil, m)); got != plain {
		t.Errorf("appended %s, want %s", got, plain)
	}
}

func TestParseMessageErrors(t *testing.T) {
	const huge = "\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
	tests := []struct {
		name, body string
		err        error
	}{
		{"empty", "", ErrMalformed},
		{"kind 0", "\x00\x00\x00", ErrVersion},
		{"kind 2", "\x02\x00\x00", ErrVersion},
		{"array", "[]", ErrVersion},
		{"many excluded", "\x01" + huge + "\x00", ErrMalformed},
		{"long excluded", "\x01\x01" + huge + "abc", ErrMalformed},
		{"many encodings", "\x01\x00" + huge + "\x04json\x00", ErrMalformed},
		{"one encoding too many", "\x01\x00\x02\x04json\x00", ErrMalformed},
		{"long protocol", "\x01\x00\x01" + huge + "json\x00", ErrMalformed},
		{"long frame", "\x01\x00\x01\x04json" + huge + "abc", ErrMalformed},
		{"protocol without a name", "\x01\x00\x01\x00\x02ab", ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseMessage([]byte(test.body))
			if !errors.Is(err, test.err) || errors.Is(err, ErrVersion) && errors.Is(err, ErrMalformed) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if diff := cmp.Diff(Message{}, m); diff != "" {
				t.Error("also a message", diff)
			}
		})
	}
}

func TestFramesReferToBody(t *testing.T) {
	body := []byte("\x01\x00\x02\x01a\x02fr\x01b\x02am")
	m, err := ParseMessage(body)
	if err != nil {
		t.Fatal(err)
	}
	if &m.Encodings[0].Frame[0] != &body[6] {
		t.Error("the frame was copied")
	}
	if first := append(m.Encodings[0].Frame, "xxxx"...); string(body[8:]) != "\x01b\x02am" {
		t.Errorf("appending to a frame (%q) wrote over the next: %q", first, body)
	}
}

// allocated returns how many bytes f has allocated. Others in the process may add to it.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// mayAllocate is how many bytes a parser may allocate for input of the length: an
// element takes up to 40 where its bytes are 3. The rest is for errors, and others.
func mayAllocate(length int) uint64 { return 64<<10 + 20*uint64(length) }

// Nothing is allocated for what only a number promises.
func TestParsersDoNotOverAllocate(t *testing.T) {
	const sixteenMillion = "\xff\xff\xff\x07"
	for _, data := range []string{
		"\x01" + sixteenMillion + "\x00", "\x01\x01" + sixteenMillion + "id", "\x01\x00" + sixteenMillion + "\x04json\x00",
		"\x01\x00\x01\x04json" + sixteenMillion + "frame", "\x01" + sixteenMillion + "\x01n\x05\x00\x07",
		"\x01\x80\x80\x04" + strings.Repeat("\x00", 1<<16), "\x01\x00\x80\x80\x01" + strings.Repeat("\x01p\x00", 1<<14),
	} {
		if n := allocated(func() { ParseMessage([]byte(data)) }); n > mayAllocate(len(data)) {
			t.Errorf("message of %d bytes: %d allocated", len(data), n)
		}
		if n := allocated(func() { ParseEnvelope([]byte(data)) }); n > mayAllocate(len(data)) {
			t.Errorf("envelope of %d bytes: %d allocated", len(data), n)
		}
	}
}

// Whatever parses means the same when it is written anew, and nothing is allocated
// for what is only promised by a number.
func FuzzParseMessage(f *testing.F) {
	for _, test := range messages {
		f.Add([]byte(test.bytes))
	}
	f.Add([]byte(`{"target":"T","arguments":["hi"]}`))
	f.Add([]byte("\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00"))
	f.Add([]byte("\x01\x00\xff\xff\xff\x07\x04json\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		var m Message
		var err error
		if n := allocated(func() { m, err = ParseMessage(body) }); n > mayAllocate(len(body)) {
			t.Fatalf("%d bytes allocated for %d", n, len(body))
		}
		if err != nil {
			if errors.Is(err, ErrMalformed) == errors.Is(err, ErrVersion) {
				t.Fatalf("error %v is neither or both", err)
			}
			return
		}
		if (m.Plain != nil) != (body[0] == '{') {
			t.Fatalf("%q has plain form %q", body, m.Plain)
		}
		again, err := ParseMessage(AppendMessage(nil, m))
		if diff := cmp.Diff(m, again); err != nil || diff != "" {
			t.Fatal(diff, err)
		}
	})
}
