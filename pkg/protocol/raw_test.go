package protocol

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTranslate(t *testing.T) {
	many := strings.Repeat("7,", 15) + "7"
	tests := []struct {
		json  string
		pack  string
		other string // the JSON that comes back, if not json
	}{
		{`null`, "\xc0", ""},
		{`true`, "\xc3", ""}, {`false`, "\xc2", ""},
		{`0`, "\x00", ""}, {`-0`, "\x00", `0`}, {`-33`, "\xd0\xdf", ""}, {`128`, "\xcc\x80", ""},
		{`9223372036854775807`, "\xcf\x7f\xff\xff\xff\xff\xff\xff\xff", ""},
		{`18446744073709551615`, "\xcf\xff\xff\xff\xff\xff\xff\xff\xff", ""},
		{`-9223372036854775808`, "\xd3\x80\x00\x00\x00\x00\x00\x00\x00", ""},
		{`18446744073709551616`, "\xcb\x43\xf0\x00\x00\x00\x00\x00\x00", `18446744073709552000`},
		{`-9223372036854775809`, "\xcb\xc3\xe0\x00\x00\x00\x00\x00\x00", `-9223372036854776000`},
		{`1.5`, "\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00", ""},
		{`1.0`, "\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00", `1`},
		{`1e2`, "\xcb\x40\x59\x00\x00\x00\x00\x00\x00", `100`},
		{`1e-7`, "\xcb\x3e\x7a\xd7\xf2\x9a\xbc\xaf\x48", ""},
		{`1e-999`, "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", `0`},
		{`""`, "\xa0", ""},
		{`"aü\n\u001e"`, "\xa5a\xc3\xbc\n\x1e", ""},
		{`"\u0061\ud83d\ude00\/"`, "\xa6a\xf0\x9f\x98\x80/", `"a😀/"`},
		{`"\ud800"`, "\xa3\xef\xbf\xbd", `"` + "\ufffd" + `"`},
		{`[]`, "\x90", ""}, {`{}`, "\x80", ""},
		{`[1,[2,[]],{"a":[{"b":null}]}]`, "\x93\x01\x92\x02\x90\x81\xa1a\x91\x81\xa1b\xc0", ""},
		{` [ 1 , { "a" : 2 } ] `, "\x92\x01\x81\xa1a\x02", `[1,{"a":2}]`},
		{`[` + many + `]`, "\xdc\x00\x10" + strings.Repeat("\x07", 16), ""},
		{`[[` + many + `],1]`, "\x92\xdc\x00\x10" + strings.Repeat("\x07", 16) + "\x01", ""},
		{`{"a":1,"a":2}`, "\x82\xa1a\x01\xa1a\x02", ""},
	}
	for _, tt := range tests {
		if got := encode(t, MessagePack, Raw{JSON, []byte(tt.json)}); string(got) != tt.pack {
			t.Errorf("JSON %s is % x\nwant % x", tt.json, got, tt.pack)
		}
		want := tt.other
		if want == "" {
			want = tt.json
		}
		if got := encode(t, JSON, Raw{MessagePack, []byte(tt.pack)}); string(got) != want {
			t.Errorf("MessagePack % x is %s\nwant %s", tt.pack, got, want)
		}
		// In its own protocol, a value passes as it is.
		if got := encode(t, JSON, []Raw{{JSON, []byte(tt.json)}}); !equalJSON(t, got, `[`+tt.json+`]`) {
			t.Errorf("JSON %s passes as %s", tt.json, got)
		}
		if got := encode(t, MessagePack, Raw{MessagePack, []byte(tt.pack)}); string(got) != tt.pack {
			t.Errorf("MessagePack % x passes as % x", tt.pack, got)
		}
	}
}

// Values of MessagePack that JSON has no form of its own for.
func TestTranslateToJSON(t *testing.T) {
	tests := []struct{ pack, want string }{
		{"\xc4\x03\x01\x02\xff", `"AQL/"`},
		{"\xc5\x00\x01\x01", `"AQ=="`},
		{"\xd6\xff\x00\x00\x00\x01", `"1970-01-01T00:00:01Z"`},
		{"\xd7\xff\x00\x00\x00\x04\x00\x00\x00\x01", `"1970-01-01T00:00:01.000000001Z"`},
		{"\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff", `"1969-12-31T23:59:59Z"`},
		{"\xca\x3d\xcc\xcc\xcd", `0.1`}, // not that of 64 bits
		{"\xd1\x00\x05", `5`},
		{"\xa3a\xffb", `"a` + "\ufffd" + `b"`},
		{"\xde\x00\x04\xff\x01\xc2\x02\xca\x3f\x00\x00\x00\x03\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x04", `{"-1":1,"false":2,"0.5":3,"18446744073709551615":4}`},
		{"\xdf\x00\x00\x00\x01\xa1\"\xdd\x00\x00\x00\x00", `{"\"":[]}`},
	}
	for _, tt := range tests {
		if got := encode(t, JSON, Raw{MessagePack, []byte(tt.pack)}); string(got) != tt.want {
			t.Errorf("% x is %s, want %s", tt.pack, got, tt.want)
		}
	}
}

type otherProtocol struct{ Protocol }

func TestRawErrors(t *testing.T) {
	deep := func(open, end string, n int) []byte { return []byte(strings.Repeat(open, n) + strings.Repeat(end, n)) }
	tests := []struct {
		name string
		to   Protocol
		raw  Raw
		ok   bool
	}{
		{"extension", JSON, Raw{MessagePack, []byte("\xd4\x07\x00")}, false},
		{"extension", MessagePack, Raw{MessagePack, []byte("\xd4\x07\x00")}, true},
		{"time out of JSON's range", JSON, Raw{MessagePack, []byte("\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff")}, false},
		{"not a number", JSON, Raw{MessagePack, []byte("\xca\x7f\xc0\x00\x00")}, false},
		{"infinity", JSON, Raw{MessagePack, []byte("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00")}, false},
		{"key nil", JSON, Raw{MessagePack, []byte("\x81\xc0\x01")}, false},
		{"key array", JSON, Raw{MessagePack, []byte("\x81\x90\x01")}, false},
		{"key infinity", JSON, Raw{MessagePack, []byte("\x81\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00\x01")}, false},
		{"number too large", MessagePack, Raw{JSON, []byte("1e999")}, false},
		{"62 deep", MessagePack, Raw{JSON, deep("[", "]", 62)}, true},
		{"63 deep", MessagePack, Raw{JSON, deep("[", "]", 63)}, false},
		{"62 deep", JSON, Raw{MessagePack, append(deep("\x91", "", 61), 0x90)}, true},
		{"63 deep", JSON, Raw{MessagePack, append(deep("\x91", "", 62), 0x90)}, false},
		{"63 deep", JSON, Raw{MessagePack, append(deep("\x81\x01", "", 62), 0x80)}, false},

		{"nothing", JSON, Raw{JSON, nil}, false},
		{"nothing", MessagePack, Raw{JSON, nil}, false},
		{"nothing", JSON, Raw{MessagePack, nil}, false},
		{"nothing", MessagePack, Raw{MessagePack, nil}, false},
		{"two values", JSON, Raw{JSON, []byte("1 2")}, false},
		{"two values", MessagePack, Raw{JSON, []byte("1 2")}, false},
		{"two values", JSON, Raw{MessagePack, []byte("\x01\x02")}, false},
		{"two values", MessagePack, Raw{MessagePack, []byte("\x01\x02")}, false},
		{"a way out of the frame", JSON, Raw{JSON, []byte("1}\x1e{\"type\":6")}, false},
		{"a raw separator", JSON, Raw{JSON, []byte("\"\x1e\"")}, false},
		{"not UTF-8", JSON, Raw{JSON, []byte("\"\xff\"")}, false},
		{"never used", MessagePack, Raw{MessagePack, []byte("\xc1")}, false},
		{"cut", MessagePack, Raw{MessagePack, []byte("\x92\x01")}, false},

		{"zero", JSON, Raw{}, true},
		{"zero", MessagePack, Raw{}, true},
		{"no protocol", JSON, Raw{nil, []byte("1")}, false},
		{"no protocol", MessagePack, Raw{nil, []byte("1")}, false},
		{"unknown protocol", JSON, Raw{otherProtocol{}, []byte("1")}, false},
		{"unknown protocol", MessagePack, Raw{otherProtocol{}, []byte("1")}, false},
	}
	for _, tt := range tests {
		for _, v := range []any{tt.raw, &tt.raw, []Raw{tt.raw}, map[string]any{"k": tt.raw}} {
			got, err := tt.to.Append([]byte("before"), &Invocation{Target: "M", Arguments: []any{v}})
			if (err == nil) != tt.ok {
				t.Errorf("%s to %s, in a %T: %v", tt.name, tt.to.Name(), v, err)
			}
			if err != nil && string(got) != "before" {
				t.Errorf("%s to %s, in a %T: dst is %q", tt.name, tt.to.Name(), v, got)
			}
		}
	}
}

// A Raw within other values takes its part of what came, and gives it back in either
// protocol.
func TestNestedRaw(t *testing.T) {
	type envelope struct {
		ID   int            `json:"id"`
		Body Raw            `json:"body"`
		List []Raw          `json:"list"`
		Map  map[string]Raw `json:"map"`
		Ptr  *Raw           `json:"ptr"`
	}
	const text = `{"id":1,"body":{"x":[1,null]},"list":["a",null],"map":{"k":true},"ptr":null}`
	pack := encode(t, MessagePack, Raw{JSON, []byte(text)})
	for p, raw := range map[Protocol][]byte{JSON: []byte(text), MessagePack: pack} {
		var got envelope
		input := append([]byte(nil), raw...)
		if err := p.BindValue(input, &got); err != nil {
			t.Fatalf("%s: %v", p.Name(), err)
		}
		clear(input)
		if got.Body.Protocol != p || got.Ptr != nil {
			t.Errorf("%s: body %v, pointer %v", p.Name(), got.Body, got.Ptr)
		}
		for _, to := range []Protocol{JSON, MessagePack} {
			back := encode(t, JSON, Raw{to, encode(t, to, got)})
			if !equalJSON(t, back, text) {
				t.Errorf("%s to %s: %s", p.Name(), to.Name(), back)
			}
		}
	}
}

func equalJSON(t *testing.T, a []byte, b string) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Fatalf("%q: %v", a, err)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return reflect.DeepEqual(x, y)
}

func TestElements(t *testing.T) {
	tests := []struct {
		raw  Raw
		want []any // nil: an error
	}{
		{Raw{JSON, []byte(` [ 1 , [2] , "]" ] `)}, []any{Raw{JSON, []byte("1")}, Raw{JSON, []byte("[2]")}, Raw{JSON, []byte(`"]"`)}}},
		{Raw{JSON, []byte(`[]`)}, []any{}},
		{Raw{JSON, []byte(`{}`)}, nil},
		{Raw{JSON, []byte(`[1`)}, nil},
		{Raw{JSON, []byte(`[1,]`)}, nil},
		{Raw{JSON, []byte(`[1]x`)}, nil},
		{Raw{JSON, []byte("[\"\xff\"]")}, nil},
		{Raw{JSON, nil}, nil},
		{Raw{MessagePack, []byte("\x93\x01\x91\x02\xa1x")}, []any{Raw{MessagePack, []byte("\x01")}, Raw{MessagePack, []byte("\x91\x02")}, Raw{MessagePack, []byte("\xa1x")}}},
		{Raw{MessagePack, []byte("\x90")}, []any{}},
		{Raw{MessagePack, []byte("\x80")}, nil},
		{Raw{MessagePack, []byte("\x92\x01")}, nil},
		{Raw{MessagePack, []byte("\x91\x01\x01")}, nil},
		{Raw{MessagePack, []byte("\xdd\xff\xff\xff\xff\x01")}, nil},
		{Raw{MessagePack, nil}, nil},
		{Raw{}, nil},
	}
	for _, tt := range tests {
		got, err := Elements(tt.raw)
		if tt.want == nil {
			if err == nil {
				t.Errorf("%v: %v, want an error", tt.raw, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", tt.raw, err)
			continue
		}
		if len(got) != len(tt.want) || len(got) > 0 && !cmp.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.raw, got, tt.want)
		}
	}
}
