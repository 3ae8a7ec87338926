package protocol

import (
	"encoding/json"
	"errors"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type (
	item struct {
		Name  string    `json:"name"`
		Count int       `json:"count"`
		Data  []byte    `json:"data"`
		When  time.Time `json:"when"`
		Tags  []string  `json:"tags"`
		Inner *item     `json:"inner"`
	}
	tagged struct {
		Kept     int             `json:"kept"`
		Renamed  int             `json:"re named,omitempty"`
		Dropped  int             `json:"-"`
		Empty    []int           `json:"empty,omitempty"`
		EmptyMap map[string]int  `json:",omitempty"`
		Pointer  *int            `json:"pointer,omitempty"`
		Zero     time.Time       `json:"zero,omitzero"`
		ZeroInt  int             `json:"zeroInt,omitzero"`
		Struct   struct{ X int } `json:"struct,omitempty"` // never empty
		//lint:ignore U1000 it is there to be left out
		hidden int
	}
	base struct {
		ID     int `json:"id"`
		Shared string
	}
	Middle struct {
		Shared string
		Deep   int
	}
	promoting struct {
		base
		*Middle
		Named  Middle `json:"named"`
		Shared int    // hides both
		//lint:ignore U1000 it is not a struct, and so left out
		kindInt
	}
	ambiguous struct {
		base
		Middle // Shared is in both: in neither
	}
	chosen struct {
		One struct {
			X int `json:"x"`
		}
		tagOne
		tagTwo
	}
	tagOne struct{ Name int }
	tagTwo struct {
		Other int `json:"Name"` // a tag goes before a name
	}
	kindString string
	kindInt    int16
	kindBytes  []byte
	recursive  struct {
		Children []recursive           `json:"children"`
		ByName   map[string]*recursive `json:"byName"`
	}
	jsonOnly struct{ inner int }
)

func (j jsonOnly) MarshalJSON() ([]byte, error) { return json.Marshal([]int{j.inner}) }

func (j *jsonOnly) UnmarshalJSON(data []byte) error {
	var list []int
	if err := json.Unmarshal(data, &list); err != nil || len(list) != 1 {
		return errors.New("not a list of one")
	}
	j.inner = list[0]
	return nil
}

var (
	someTime  = time.Date(2017, 4, 11, 12, 34, 56, 789, time.UTC)
	seven     = 7
	someItems = item{
		Name: "ö", Count: -3, Data: []byte{0, 255}, When: someTime, Tags: []string{},
		Inner: &item{Name: "inner", When: time.Unix(0, 0).UTC()},
	}
)

// values are written and read back in both protocols, and have to be the same.
var values = []any{
	true, false,
	0, 1, -1, int8(-128), int16(300), int32(-70000), int64(math.MinInt64), int64(math.MaxInt64),
	uint(0), uint8(255), uint16(65535), uint32(math.MaxUint32), uint64(math.MaxUint64),
	float32(1.5), 1.5, 2.0, -0.000001, 1e-7, 1e20, 1e21, math.MaxFloat64, math.SmallestNonzeroFloat64, float32(3.4e38), float32(1e-7),
	"", "text", "\"\\\b\f\n\r\t\x00\x1e\x1f\x7f\u2028\u2029ü\U0001f600", strings.Repeat("long ", 100),
	[]byte{}, []byte{1, 2, 3}, []byte(nil), make([]byte, 300), kindBytes{1},
	someTime, time.Unix(1<<33, 0).UTC(), time.Unix(1<<34, 1).UTC(), time.Unix(-1, 999999999).UTC(), time.Time{}, time.Unix(0, 0).UTC(), time.Unix(math.MaxUint32, 0).UTC(),
	[]int{}, []int{1, 2}, []int(nil), make([]int, 20), make([]uint16, 300), [3]string{"a", "b", "c"}, [2]byte{1, 2}, [][]string{{"x"}, nil, {}},
	map[string]int{}, map[string]int{"a": 1, "": 2}, map[string]int(nil), map[int]string{-5: "x", 7: "y"}, map[uint8]bool{255: true},
	map[kindString][]byte{"k": {1}}, map[netip.Addr]int{netip.MustParseAddr("::1"): 1},
	&seven, (*int)(nil),
	kindString("x"), kindInt(-5), level(3), []level{1, 2}, map[string]level{"a": 1}, netip.MustParseAddr("10.0.0.1"), jsonOnly{5}, []jsonOnly{{1}},
	json.Number("12"), json.Number("-1.5"), json.RawMessage(`{"a":[1,null]}`), time.Hour,
	item{}, someItems, []item{someItems}, map[string]item{"k": someItems}, &someItems,
	tagged{}, tagged{Kept: 1, Renamed: 2, Empty: []int{1}, EmptyMap: map[string]int{"a": 1}, Pointer: &seven, Zero: someTime, ZeroInt: 1},
	promoting{}, promoting{base: base{ID: 1}, Middle: &Middle{Deep: 2}, Named: Middle{Shared: "s"}, Shared: 3},
	ambiguous{base: base{ID: 1}, Middle: Middle{Deep: 2}}, chosen{tagTwo: tagTwo{1}},
	recursive{}, recursive{Children: []recursive{{}, {ByName: map[string]*recursive{"x": {}, "y": nil}}}},
	struct{}{},
}

func TestValuesComeBack(t *testing.T) {
	for _, v := range values {
		for _, p := range []Protocol{JSON, MessagePack} {
			raw := encode(t, p, v)
			got := reflect.New(reflect.TypeOf(v))
			if err := p.BindValue(raw, got.Interface()); err != nil {
				t.Errorf("%T in %s, %.100q: %v", v, p.Name(), raw, errors.Unwrap(err))
				continue
			}
			if diff := cmp.Diff(v, got.Elem().Interface(), cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
				t.Errorf("%T in %s, %.100q (-want +got):\n%s", v, p.Name(), raw, diff)
			}
		}
	}
}

// encoding/json is what says which fields there are, how they are called, and which
// are left out: the JSON that we write is its JSON, and so is our MessagePack when it
// is translated.
func TestValuesAreThoseOfEncodingJSON(t *testing.T) {
	for _, v := range values {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var want any
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		for _, p := range []Protocol{JSON, MessagePack} {
			var got any
			if err := json.Unmarshal(encode(t, JSON, Raw{p, encode(t, p, v)}), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%T in %s (-encoding/json +ours):\n%s", v, p.Name(), diff)
			}
		}
	}
}

// encode returns v as the only value of a message.
func encode(t testing.TB, p Protocol, v any) []byte {
	t.Helper()
	frame, err := p.Append(nil, &StreamItem{InvocationID: "1", Item: v})
	if err != nil {
		t.Fatalf("encode %T as %s: %v", v, p.Name(), err)
	}
	m, n, err := p.Parse(frame, 0)
	if err != nil || n != len(frame) {
		t.Fatalf("%T: took %d bytes of %q, error %v", v, n, frame, err)
	}
	return m.(*StreamItem).RawItem
}

// What is written, byte by byte, where readers of other makes depend on it.
func TestWrittenForms(t *testing.T) {
	tests := []struct {
		v    any
		json string
		pack string
	}{
		{nil, `null`, "\xc0"},
		{-32, `-32`, "\xe0"}, {-33, `-33`, "\xd0\xdf"}, {127, `127`, "\x7f"}, {128, `128`, "\xcc\x80"}, {255, `255`, "\xcc\xff"},
		{256, `256`, "\xcd\x01\x00"}, {-129, `-129`, "\xd1\xff\x7f"}, {65536, `65536`, "\xce\x00\x01\x00\x00"}, {int64(1) << 32, `4294967296`, "\xcf\x00\x00\x00\x01\x00\x00\x00\x00"},
		{[]int16{200}, `[200]`, "\x91\xcc\xc8"}, {uint8(5), `5`, "\x05"},
		{float32(0.5), `0.5`, "\xca\x3f\x00\x00\x00"}, {2.0, `2`, "\xcb\x40\x00\x00\x00\x00\x00\x00\x00"}, {1e20, `100000000000000000000`, "\xcb\x44\x15\xaf\x1d\x78\xb5\x8c\x40"},
		{"<&'+ü\x1e", `"<&'+ü\u001e"`, "\xa7<&'+\xc3\xbc\x1e"},
		{"a\xffb\xc3", `"a` + "\ufffd" + `b` + "\ufffd" + `"`, "\xa8a\xef\xbf\xbdb\xef\xbf\xbd"},
		{[]string{"<\x1e"}, `["<\u001e"]`, "\x91\xa2<\x1e"},
		{[]byte{1}, `"AQ=="`, "\xc4\x01\x01"}, {[]byte(nil), `null`, "\xc0"}, {[][]byte{{}}, `[""]`, "\x91\xc4\x00"},
		{time.Unix(1, 0).UTC(), `"1970-01-01T00:00:01Z"`, "\xd6\xff\x00\x00\x00\x01"},
		{time.Unix(0, 0).UTC(), `"1970-01-01T00:00:00Z"`, "\xd6\xff\x00\x00\x00\x00"},
		{time.Unix(1, 1).UTC(), `"1970-01-01T00:00:01.000000001Z"`, "\xd7\xff\x00\x00\x00\x04\x00\x00\x00\x01"},
		{time.Unix(1<<32, 0).UTC(), `"2106-02-07T06:28:16Z"`, "\xd7\xff\x00\x00\x00\x01\x00\x00\x00\x00"},
		{time.Unix(-1, 0).UTC(), `"1969-12-31T23:59:59Z"`, "\xc7\x0c\xff\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"},
		{time.Date(2000, 1, 1, 1, 0, 0, 0, time.FixedZone("", 3600)), `"2000-01-01T01:00:00+01:00"`, "\xd6\xff\x38\x6d\x43\x80"},
		{struct {
			B int `json:"b"`
			A int
		}{1, 2}, `{"b":1,"A":2}`, "\x82\xa1b\x01\xa1A\x02"},
		{map[int]any{1: nil}, `{"1":null}`, "\x81\x01\xc0"},
		{level(2), `"!!"`, "\xa2!!"},
		{&seven, `7`, "\x07"}, {[]any{Raw{}}, `[null]`, "\x91\xc0"},
	}
	for _, tt := range tests {
		if got := encode(t, JSON, tt.v); string(got) != tt.json {
			t.Errorf("%T %v as JSON is %s, want %s", tt.v, tt.v, got, tt.json)
		}
		if got := encode(t, MessagePack, tt.v); string(got) != tt.pack {
			t.Errorf("%T %v as MessagePack is % x, want % x", tt.v, tt.v, got, tt.pack)
		}
	}
}

func TestDecodeAny(t *testing.T) {
	tests := []struct {
		p    Protocol
		raw  string
		want any
	}{
		{JSON, `{"a":[null,true,1,1.5,"x"]}`, map[string]any{"a": []any{nil, true, 1.0, 1.5, "x"}}},
		{MessagePack, "\x81\xa1a\x95\xc0\xc3\x01\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\xa1x", map[string]any{"a": []any{nil, true, int64(1), 1.5, "x"}}},
		{MessagePack, "\x94\xff\xcf\x80\x00\x00\x00\x00\x00\x00\x00\xca\x3f\x80\x00\x00\xc4\x01\x02", []any{int64(-1), uint64(1) << 63, 1.0, []byte{2}}},
		{MessagePack, "\xd6\xff\x00\x00\x00\x01", time.Unix(1, 0).UTC()},
		{MessagePack, "\x84\x01\x01\xff\x02\xc3\x03\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00\x04", map[string]any{"1": int64(1), "-1": int64(2), "true": int64(3), "1.5": int64(4)}},
		{MessagePack, "\xa3a\xffb", "a\ufffdb"},
		{MessagePack, "\x90", []any{}},
		{MessagePack, "\x80", map[string]any{}},
	}
	for _, tt := range tests {
		var got any
		if err := tt.p.BindValue([]byte(tt.raw), &got); err != nil {
			t.Errorf("%q: %v", tt.raw, errors.Unwrap(err))
		} else if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.raw, diff)
		} else if when, ok := got.(time.Time); ok && when.Location() != time.UTC {
			t.Errorf("%q is of %v, want UTC", tt.raw, when.Location())
		}
	}
}

// Keys that are integers arrive as strings from clients that have no others.
func TestIntegerKeys(t *testing.T) {
	want := map[int8]string{-5: "x"}
	for _, raw := range []string{"\x81\xfb\xa1x", "\x81\xa2-5\xa1x"} {
		var got map[int8]string
		if err := MessagePack.BindValue([]byte(raw), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v", raw, got, err)
		}
	}
	for _, raw := range []string{"\x81\xa3300\xa1x", "\x81\xa0\xa1x", "\x81\xcc\xff\xa1x"} {
		if err := MessagePack.BindValue([]byte(raw), new(map[int8]string)); err == nil {
			t.Errorf("%q: no error", raw)
		}
	}
}

// Codecs are made when a type is first met, which may be by several goroutines at
// once.
func TestFirstUseIsConcurrent(t *testing.T) {
	type leaf struct{ N int }
	type tree struct {
		Leaf     leaf
		Children []tree
		ByName   map[string]*tree
	}
	want := tree{Leaf: leaf{1}, Children: []tree{{Leaf: leaf{2}}}, ByName: map[string]*tree{"x": {Leaf: leaf{3}}}}
	var wg sync.WaitGroup
	for range 8 {
		for _, p := range []Protocol{JSON, MessagePack} {
			wg.Go(func() {
				frame, err := p.Append(nil, &StreamItem{InvocationID: "1", Item: want})
				if err != nil {
					t.Error(err)
					return
				}
				m, _, err := p.Parse(frame, 0)
				if err != nil {
					t.Error(err)
					return
				}
				var got tree
				if err := p.BindValue(m.(*StreamItem).RawItem, &got); err != nil || !cmp.Equal(got, want) {
					t.Errorf("%s: %+v, %v", p.Name(), got, err)
				}
			})
		}
	}
	wg.Wait()
}

// What is given twice counts the second time, also where that is null.
func TestRepeatedFields(t *testing.T) {
	type fields struct {
		List []int          `json:"l"`
		Map  map[string]int `json:"m"`
		Ptr  *int           `json:"p"`
		Any  any            `json:"a"`
		N    int            `json:"n"`
	}
	want := fields{N: 2}
	for p, raw := range map[Protocol]string{
		JSON: `{"l":[1],"m":{"k":1},"p":1,"a":1,"n":1,"l":null,"m":null,"p":null,"a":null,"n":2}`,
		MessagePack: "\x8a\xa1l\x91\x01\xa1m\x81\xa1k\x01\xa1p\x01\xa1a\x01\xa1n\x01" +
			"\xa1l\xc0\xa1m\xc0\xa1p\xc0\xa1a\xc0\xa1n\x02",
	} {
		var got fields
		if err := p.BindValue([]byte(raw), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", p.Name(), got, err)
		}
	}
}

// An embedded pointer to an unexported struct cannot be set by anyone but its package.
func TestUnsettableField(t *testing.T) {
	type outer struct{ *base }
	for p, raw := range map[Protocol]string{JSON: `{"id":1}`, MessagePack: "\x81\xa2id\x01"} {
		if err := p.BindValue([]byte(raw), new(outer)); err == nil {
			t.Errorf("%s: no error", p.Name())
		}
		got := outer{new(base)}
		if err := p.BindValue([]byte(raw), &got); err != nil || got.ID != 1 {
			t.Errorf("%s: %v, %v", p.Name(), got.base, err)
		}
	}
}

// What cannot be written leaves dst as it was, and says what it was.
func TestUnencodable(t *testing.T) {
	type cyclic struct{ Self *cyclic }
	loop := new(cyclic)
	loop.Self = loop
	var endless any
	endless = &endless

	tests := []struct {
		name       string
		v          any
		json, pack bool // there is an encoding
	}{
		{"channel", make(chan int), false, false},
		{"function", func() {}, false, false},
		{"complex", complex(1, 1), false, false},
		{"channel in a field", struct{ C chan int }{}, false, false},
		{"channel in a map", map[string]any{"k": make(chan int)}, false, false},
		{"keys", map[float64]int{1: 1}, false, false},
		{"cycle", loop, false, false},
		{"cycle of interfaces", endless, false, false},
		{"not a number", math.NaN(), false, true},
		{"infinity in a slice", []float32{float32(math.Inf(1))}, false, true},
		{"failing text", failing{}, false, false},
		{"JSON that is none", badJSON("{"), false, false},
		{"JSON that is not UTF-8", badJSON("\"\xff\""), false, false},
		{"time of year 10000", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), false, true},
		{"number that is none", json.Number("0x10"), false, false},
	}
	for _, tt := range tests {
		for p, can := range map[Protocol]bool{JSON: tt.json, MessagePack: tt.pack} {
			for what, m := range map[string]Message{
				"argument 2: ": &Invocation{Target: "M", Arguments: []any{1, tt.v}},
				"item: ":       &StreamItem{InvocationID: "1", Item: tt.v},
				"result: ":     &Completion{InvocationID: "1", HasResult: true, Result: tt.v},
			} {
				dst := append(make([]byte, 0, 1000), "before"...)
				got, err := p.Append(dst, m)
				switch {
				case can && err != nil:
					t.Errorf("%s in %s: %v", tt.name, p.Name(), err)
				case !can && (err == nil || !strings.HasPrefix(err.Error(), what)):
					t.Errorf("%s in %s: error is %v, want one that begins with %q", tt.name, p.Name(), err, what)
				case !can && string(got) != "before":
					t.Errorf("%s in %s: dst is %q", tt.name, p.Name(), got)
				}
			}
		}
	}
}

type failing struct{}

func (failing) MarshalText() ([]byte, error) { return nil, errors.New("no text") }

type badJSON string

func (b badJSON) MarshalJSON() ([]byte, error) { return []byte(b), nil }

func TestUnwritable(t *testing.T) {
	for _, p := range []Protocol{JSON, MessagePack} {
		if got, err := p.Append([]byte("before"), &Unknown{MessageType: 42}); err == nil || string(got) != "before" {
			t.Errorf("%s: %q, %v", p.Name(), got, err)
		}
	}
	for _, headers := range []Headers{{"": "x"}, {"x": ""}} {
		m := &Invocation{Headers: headers, Target: "M"}
		if _, err := MessagePack.Append(nil, m); !errors.Is(err, errEmptyHeader) {
			t.Errorf("headers %q: %v", headers, err)
		}
	}
}
