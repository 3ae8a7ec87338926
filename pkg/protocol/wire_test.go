package protocol

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wire has one row for each form of each message (HubProtocol, "Message types"), with
// the frames that the reference implementation writes for it. read is what Parse makes
// of them where that is not msg itself: raw values instead of Go values.
var wire = []struct {
	name string
	msg  Message
	json string // without the record separator
	pack string // without the length
}{{
	name: "Invocation/no answer",
	msg:  &Invocation{Target: "method"},
	json: `{"type":1,"target":"method","arguments":[]}`,
	pack: "\x96\x01\x80\xc0\xa6method\x90\x90",
}, {
	name: "Invocation/answer",
	msg:  &Invocation{InvocationID: "xyz", Target: "method", Arguments: []any{42}},
	json: `{"type":1,"invocationId":"xyz","target":"method","arguments":[42]}`,
	pack: "\x96\x01\x80\xa3xyz\xa6method\x91\x2a\x90",
}, {
	name: "Invocation/everything",
	msg: &Invocation{
		Headers:      Headers{"Foo": "Bar", "A<b>": "\"\n\x1e\u00fc"},
		InvocationID: "123",
		Target:       "Target",
		Arguments:    []any{nil, true, "a\x1e<b>&", 2.0, -1, []any{"x"}, map[string]any{"k": nil}},
		StreamIDs:    []string{"1", "2"},
	},
	json: `{"type":1,"headers":{"A<b>":"\"\n\u001eü","Foo":"Bar"},"invocationId":"123","target":"Target",` +
		`"arguments":[null,true,"a\u001e<b>&",2,-1,["x"],{"k":null}],"streamIds":["1","2"]}`,
	pack: "\x96\x01\x82\xa4A<b>\xa5\"\n\x1e\u00fc\xa3Foo\xa3Bar\xa3123\xa6Target" +
		"\x97\xc0\xc3\xa6a\x1e<b>&\xcb\x40\x00\x00\x00\x00\x00\x00\x00\xff\x91\xa1x\x81\xa1k\xc0" + "\x92\xa11\xa12",
}, {
	name: "StreamItem/value",
	msg:  &StreamItem{InvocationID: "xyz", Item: float32(42)},
	json: `{"type":2,"invocationId":"xyz","item":42}`,
	pack: "\x94\x02\x80\xa3xyz\xca\x42\x28\x00\x00",
}, {
	name: "StreamItem/null",
	msg:  &StreamItem{InvocationID: "4"},
	json: `{"type":2,"invocationId":"4","item":null}`,
	pack: "\x94\x02\x80\xa14\xc0",
}, {
	name: "StreamItem/headers",
	msg:  &StreamItem{Headers: Headers{"Foo": "Bar"}, InvocationID: "4", Item: map[string]int{"n": 1}},
	json: `{"type":2,"headers":{"Foo":"Bar"},"invocationId":"4","item":{"n":1}}`,
	pack: "\x94\x02\x81\xa3Foo\xa3Bar\xa14\x81\xa1n\x01",
}, {
	name: "Completion/error",
	msg:  &Completion{InvocationID: "xyz", Error: "Error", HasError: true},
	json: `{"type":3,"invocationId":"xyz","error":"Error"}`,
	pack: "\x95\x03\x80\xa3xyz\x01\xa5Error",
}, {
	name: "Completion/void",
	msg:  &Completion{InvocationID: "xyz"},
	json: `{"type":3,"invocationId":"xyz"}`,
	pack: "\x94\x03\x80\xa3xyz\x02",
}, {
	name: "Completion/result",
	msg:  &Completion{InvocationID: "xyz", HasResult: true, Result: 42},
	json: `{"type":3,"invocationId":"xyz","result":42}`,
	pack: "\x95\x03\x80\xa3xyz\x03\x2a",
}, {
	name: "Completion/null result",
	msg:  &Completion{Headers: Headers{"Foo": "Bar"}, InvocationID: "xyz", HasResult: true},
	json: `{"type":3,"headers":{"Foo":"Bar"},"invocationId":"xyz","result":null}`,
	pack: "\x95\x03\x81\xa3Foo\xa3Bar\xa3xyz\x03\xc0",
}, {
	name: "StreamInvocation/no streams",
	msg:  &StreamInvocation{Invocation{InvocationID: "xyz", Target: "method"}},
	json: `{"type":4,"invocationId":"xyz","target":"method","arguments":[]}`,
	pack: "\x96\x04\x80\xa3xyz\xa6method\x90\x90",
}, {
	name: "StreamInvocation/everything",
	msg: &StreamInvocation{Invocation{
		Headers: Headers{"Foo": "Bar"}, InvocationID: "5", Target: "Count", Arguments: []any{10}, StreamIDs: []string{"6"},
	}},
	json: `{"type":4,"headers":{"Foo":"Bar"},"invocationId":"5","target":"Count","arguments":[10],"streamIds":["6"]}`,
	pack: "\x96\x04\x81\xa3Foo\xa3Bar\xa15\xa5Count\x91\x0a\x91\xa16",
}, {
	name: "CancelInvocation",
	msg:  &CancelInvocation{InvocationID: "xyz"},
	json: `{"type":5,"invocationId":"xyz"}`,
	pack: "\x93\x05\x80\xa3xyz",
}, {
	name: "CancelInvocation/headers",
	msg:  &CancelInvocation{Headers: Headers{"Foo": "Bar"}, InvocationID: "xyz"},
	json: `{"type":5,"headers":{"Foo":"Bar"},"invocationId":"xyz"}`,
	pack: "\x93\x05\x81\xa3Foo\xa3Bar\xa3xyz",
}, {
	name: "Ping",
	msg:  &Ping{},
	json: `{"type":6}`,
	pack: "\x91\x06",
}, {
	name: "Close",
	msg:  &Close{},
	json: `{"type":7}`,
	pack: "\x93\x07\xc0\xc2",
}, {
	name: "Close/reconnect",
	msg:  &Close{AllowReconnect: true},
	json: `{"type":7,"allowReconnect":true}`,
	pack: "\x93\x07\xc0\xc3",
}, {
	name: "Close/error",
	msg:  &Close{Error: "Error!"},
	json: `{"type":7,"error":"Error!"}`,
	pack: "\x93\x07\xa6Error!\xc2",
}, {
	name: "Close/error and reconnect",
	msg:  &Close{Error: "Connection closed with an error.", AllowReconnect: true},
	json: `{"type":7,"error":"Connection closed with an error.","allowReconnect":true}`,
	pack: "\x93\x07\xd9\x20Connection closed with an error.\xc3",
}, {
	name: "Ack",
	msg:  &Ack{SequenceID: 42},
	json: `{"type":8,"sequenceId":42}`,
	pack: "\x92\x08\x2a",
}, {
	name: "Ack/largest",
	msg:  &Ack{SequenceID: math.MaxInt64},
	json: `{"type":8,"sequenceId":9223372036854775807}`,
	pack: "\x92\x08\xcf\x7f\xff\xff\xff\xff\xff\xff\xff",
}, {
	name: "Sequence",
	msg:  &Sequence{SequenceID: 146},
	json: `{"type":9,"sequenceId":146}`,
	pack: "\x92\x09\xcc\x92",
}}

// frames returns the whole frame of a row in each protocol.
func frames(json, pack string) map[Protocol]string {
	return map[Protocol]string{JSON: json + "\x1e", MessagePack: packed(pack)}
}

// packed puts the length before a body.
func packed(body string) string {
	prefix := ""
	n := len(body)
	for ; n >= 0x80; n >>= 7 {
		prefix += string([]byte{byte(n) | 0x80})
	}
	return prefix + string([]byte{byte(n)}) + body
}

func TestWire(t *testing.T) {
	for _, row := range wire {
		for p, frame := range frames(row.json, row.pack) {
			t.Run(row.name+"/"+p.Name(), func(t *testing.T) {
				got, err := p.Append([]byte("before"), row.msg)
				if err != nil || string(got) != "before"+frame {
					t.Errorf("Append = %q, %v\nwant %q", got, err, "before"+frame)
				}

				m, n, err := p.Parse([]byte(frame+frame), 0)
				if err != nil || n != len(frame) {
					t.Fatalf("Parse: took %d bytes of %d, error %v", n, len(frame), err)
				}
				again, err := p.Append(nil, rewritable(t, p, m))
				if err != nil || string(again) != frame {
					t.Errorf("Append after Parse = %q, %v\nwant %q", again, err, frame)
				}
				if diff := cmp.Diff(withoutValues(row.msg), withoutValues(m)); diff != "" {
					t.Errorf("Parse (-want +got):\n%s", diff)
				}

				for cut := range frame {
					if _, n, err := p.Parse([]byte(frame[:cut]), 0); !errors.Is(err, ErrIncomplete) || n != 0 {
						t.Fatalf("Parse of %q = %d, %v, want ErrIncomplete", frame[:cut], n, err)
					}
				}
			})
		}
	}
}

// rewritable returns m with its raw values as values to write.
func rewritable(t testing.TB, p Protocol, m Message) Message {
	t.Helper()
	switch m := m.(type) {
	case *Invocation:
		c := *m
		c.Arguments = elements(t, p, m.RawArguments)
		return &c
	case *StreamInvocation:
		c := *m
		c.Arguments = elements(t, p, m.RawArguments)
		return &c
	case *StreamItem:
		c := *m
		c.Item = Raw{p, m.RawItem}
		return &c
	case *Completion:
		c := *m
		c.Result = Raw{p, m.RawResult}
		return &c
	}
	return m
}

func elements(t testing.TB, p Protocol, raw []byte) []any {
	t.Helper()
	values, err := Elements(Raw{p, raw})
	if err != nil {
		t.Fatalf("Elements(%q): %v", raw, err)
	}
	return values
}

// withoutValues returns m without its values, in whatever form they are.
func withoutValues(m Message) Message {
	switch m := m.(type) {
	case *Invocation:
		c := *m
		c.Arguments, c.RawArguments = nil, nil
		return &c
	case *StreamInvocation:
		c := *m
		c.Arguments, c.RawArguments = nil, nil
		return &c
	case *StreamItem:
		c := *m
		c.Item, c.RawItem = nil, nil
		return &c
	case *Completion:
		c := *m
		c.Result, c.RawResult = nil, nil
		return &c
	}
	return m
}

// What the official clients send, which differs from what a server writes.
func TestClientForms(t *testing.T) {
	tests := []struct {
		name  string
		p     Protocol
		frame string
		want  Message
	}{
		{"type last", JSON, `{"target":"M","arguments":[1],"invocationId":"0","type":1}`, &Invocation{InvocationID: "0", Target: "M", RawArguments: []byte("[1]")}},
		{"arguments first", JSON, `{"arguments":[ 1 , {"a":[]} ],"target":"M","type":1}`, &Invocation{Target: "M", RawArguments: []byte(`[ 1 , {"a":[]} ]`)}},
		{"empty id", JSON, `{"type":1,"invocationId":"","target":"M","arguments":[]}`, &Invocation{Target: "M", RawArguments: []byte("[]")}},
		{"upload", JSON, `{"target":"M","arguments":[],"invocationId":"1","streamIds":["0"],"type":4}`, &StreamInvocation{Invocation{InvocationID: "1", Target: "M", RawArguments: []byte("[]"), StreamIDs: []string{"0"}}}},
		{"no streams", JSON, `{"target":"M","arguments":[],"streamIds":[],"type":1}`, &Invocation{Target: "M", RawArguments: []byte("[]")}},
		{"item before id", JSON, `{"item":{"n": 1},"invocationId":"0","type":2}`, &StreamItem{InvocationID: "0", RawItem: []byte(`{"n": 1}`)}},
		{"result before id", JSON, `{"result":null,"invocationId":"0","type":3}`, &Completion{InvocationID: "0", HasResult: true, RawResult: []byte("null")}},
		{"empty error", JSON, `{"error":"","invocationId":"0","type":3}`, &Completion{InvocationID: "0", HasError: true}},
		{"space", JSON, " {\t\"type\" :\r\n 6 } ", &Ping{}},
		{"duplicates", JSON, `{"type":1,"target":"a","type":5,"invocationId":"1","invocationId":"2"}`, &CancelInvocation{InvocationID: "2"}},
		{"escaped names", JSON, `{"\u0074ype":3,"invocation\u0049d":"\u0031\ud83d\ude00\ud800"}`, &Completion{InvocationID: "1\U0001f600\ufffd"}},
		{"unknown members", JSON, `{"x":[{"y":[1.5e-3,true]}],"Type":7,"type":6,"item":1}`, &Ping{}},
		{"after the object", JSON, `{"type":6} and more`, &Ping{}},
		{"headers ignored", JSON, `{"type":6,"headers":{"a":"b"}}`, &Ping{}},
		{"duplicate headers", JSON, `{"type":5,"invocationId":"1","headers":{"a":"b","a":"c"}}`, &CancelInvocation{Headers: Headers{"a": "c"}, InvocationID: "1"}},
		{"empty close error", JSON, `{"type":7,"error":""}`, &Close{}},
		{"unknown type", JSON, `{"type":42,"invocationId":"1"}`, &Unknown{MessageType: 42}},
		{"negative type", JSON, `{"type":-1}`, &Unknown{MessageType: -1}},
		{"negative sequence", JSON, `{"type":8,"sequenceId":-5}`, &Ack{SequenceID: -5}},

		{"five elements", MessagePack, "\x95\x01\x80\xc0\xa1M\x91\x01", &Invocation{Target: "M", RawArguments: []byte("\x91\x01")}},
		{"empty id", MessagePack, "\x96\x01\x80\xa0\xa1M\x90\x90", &Invocation{Target: "M", RawArguments: []byte("\x90")}},
		{"short close", MessagePack, "\x92\x07\xc0", &Close{}},
		{"empty close error", MessagePack, "\x93\x07\xa0\xc3", &Close{AllowReconnect: true}},
		{"empty error", MessagePack, "\x95\x03\x80\xa11\x01\xa0", &Completion{InvocationID: "1", HasError: true}},
		{"nil error", MessagePack, "\x95\x03\x80\xa11\x01\xc0", &Completion{InvocationID: "1", HasError: true}},
		{"more elements", MessagePack, "\x98\x01\x80\xc0\xa1M\x90\x90\xc0\xc1", &Invocation{Target: "M", RawArguments: []byte("\x90")}},
		{"bytes after the array", MessagePack, "\x91\x06\xff\xff", &Ping{}},
		{"long forms", MessagePack, "\xdd\x00\x00\x00\x03\xd3\x00\x00\x00\x00\x00\x00\x00\x05\xdf\x00\x00\x00\x00\xdb\x00\x00\x00\x011", &CancelInvocation{InvocationID: "1"}},
		{"unknown type", MessagePack, "\x92\x2a\xc0", &Unknown{MessageType: 42}},
		{"negative sequence", MessagePack, "\x92\x08\xfb", &Ack{SequenceID: -5}},
		{"invalid UTF-8", MessagePack, "\x93\x05\x80\xa3a\xffb", &CancelInvocation{InvocationID: "a\ufffdb"}},

		// Arguments that only their invocation suffers from.
		{"arguments nil", MessagePack, "\x96\x01\x80\xa11\xa1M\xc0\x90", &Invocation{InvocationID: "1", Target: "M", RawArguments: []byte("\xc0")}},
		{"arguments missing", MessagePack, "\x94\x01\x80\xa11\xa1M", &Invocation{InvocationID: "1", Target: "M", RawArguments: []byte{}}},
		{"arguments cut", MessagePack, "\x96\x01\x80\xa11\xa1M\x92\x01", &Invocation{InvocationID: "1", Target: "M", RawArguments: []byte("\x92\x01")}},
		{"item missing", MessagePack, "\x93\x02\x80\xa11", &StreamItem{InvocationID: "1", RawItem: []byte{}}},
		{"result invalid", MessagePack, "\x95\x03\x80\xa11\x03\xc1", &Completion{InvocationID: "1", HasResult: true, RawResult: []byte("\xc1")}},
	}
	for _, tt := range tests {
		t.Run(tt.p.Name()+"/"+tt.name, func(t *testing.T) {
			frame := tt.frame + "\x1e"
			if tt.p == MessagePack {
				frame = packed(tt.frame)
			}
			m, n, err := tt.p.Parse([]byte(frame), 0)
			if err != nil || n != len(frame) {
				t.Fatalf("Parse: took %d bytes of %d, error %v", n, len(frame), err)
			}
			if diff := cmp.Diff(tt.want, m); diff != "" {
				t.Errorf("Parse (-want +got):\n%s", diff)
			}
		})
	}
}

// A completion with an error has no result, whatever else it is said to have.
func TestErrorExcludesResult(t *testing.T) {
	m := &Completion{InvocationID: "1", Error: "e", HasResult: true, Result: make(chan int)}
	for p, want := range frames(`{"type":3,"invocationId":"1","error":"e"}`, "\x95\x03\x80\xa11\x01\xa1e") {
		if got, err := p.Append(nil, m); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", p.Name(), got, err, want)
		}
	}
	// An empty error has a form in MessagePack only.
	m = &Completion{InvocationID: "1", HasError: true, HasResult: true, Result: 5}
	for p, want := range frames(`{"type":3,"invocationId":"1"}`, "\x95\x03\x80\xa11\x01\xa0") {
		if got, err := p.Append(nil, m); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", p.Name(), got, err, want)
		}
	}
}

// The sizes that the reference implementation's tests expect.
func TestSizes(t *testing.T) {
	one := []any{1}
	tests := []struct {
		name       string
		m          Message
		json, pack int
	}{
		{"invocation", &Invocation{Target: "Target", Arguments: one}, 45, 15},
		{"invocation with id", &Invocation{InvocationID: "1", Target: "Target", Arguments: one}, 64, 16},
		{"invocation with stream", &Invocation{InvocationID: "1", Target: "Target", Arguments: one, StreamIDs: []string{"1"}}, 0, 18},
		{"close", &Close{}, 11, 5},
		{"ping", &Ping{}, 11, 3},
		{"void completion", &Completion{InvocationID: "1"}, 30, 7},
		{"completion", &Completion{InvocationID: "1", HasResult: true, Result: 1}, 41, 8},
		{"failed completion", &Completion{InvocationID: "1", Error: "error"}, 0, 13},
		{"cancel", &CancelInvocation{InvocationID: "1"}, 0, 6},
	}
	for _, tt := range tests {
		for p, want := range map[Protocol]int{JSON: tt.json, MessagePack: tt.pack} {
			frame, err := p.Append(nil, tt.m)
			if err != nil {
				t.Fatal(err)
			}
			if want != 0 && len(frame) != want {
				t.Errorf("%s, %s: %d bytes, want %d: %q", tt.name, p.Name(), len(frame), want, frame)
			}
		}
	}
}

// Bodies of the sizes where the length takes another byte.
func TestLengthPrefix(t *testing.T) {
	tests := []struct {
		body   int
		prefix string
	}{
		{100, "\x64"}, {127, "\x7f"}, {128, "\x80\x01"}, {5248, "\x80\x29"},
		{1<<14 - 1, "\xff\x7f"}, {1 << 14, "\x80\x80\x01"}, {1<<21 - 1, "\xff\xff\x7f"}, {1 << 21, "\x80\x80\x80\x01"},
	}
	for _, tt := range tests {
		size := tt.body - len("\x96\x01\x80\xc0\xa4Send\x91\xd9\x00\x90")
		switch {
		case size >= 1<<16:
			size -= 3 // its own length takes more
		case size >= 1<<8:
			size--
		}
		text := strings.Repeat("x", size)
		frame, err := MessagePack.Append([]byte("before"), &Invocation{Target: "Send", Arguments: []any{text}})
		if err != nil {
			t.Fatal(err)
		}
		frame, ok := bytes.CutPrefix(frame, []byte("before"))
		if !ok || len(frame) != len(tt.prefix)+tt.body || string(frame[:len(tt.prefix)]) != tt.prefix {
			t.Errorf("body of %d bytes: frame of %d, which begins with % x, want % x", tt.body, len(frame), frame[:len(tt.prefix)], tt.prefix)
		}
		m, n, err := MessagePack.Parse(frame, 0)
		if err != nil || n != len(frame) {
			t.Fatalf("size %d: took %d bytes of %d, error %v", size, n, len(frame), err)
		}
		var got string
		if err := MessagePack.BindArguments(m.(*Invocation).RawArguments, &got); err != nil || got != text {
			t.Errorf("size %d: came back with %d characters, error %v", size, len(got), err)
		}
		if _, _, err := MessagePack.Parse(frame[:len(frame)-1], 0); !errors.Is(err, ErrIncomplete) {
			t.Errorf("size %d, cut: %v, want ErrIncomplete", size, err)
		}
	}
}
