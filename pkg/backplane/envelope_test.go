package backplane

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var envelopes = []struct {
	name     string
	envelope Envelope
	bytes    string
}{{
	name:     "short",
	envelope: Envelope{Publisher: "n1", Incarnation: 300, Lane: 0, Sequence: 3, Body: []byte("hi")},
	bytes:    "\x01\x07\x02n1\xac\x02\x00\x03hi",
}, {
	name:     "empty body",
	envelope: Envelope{Publisher: "n", Lane: 64, Sequence: 128, Body: []byte{}},
	bytes:    "\x01\x06\x01n\x00\x40\x80\x01",
}, {
	name: "greatest header",
	envelope: Envelope{
		Publisher: strings.Repeat("p", MaxPublisher), Incarnation: math.MaxUint64, Lane: MaxLane, Sequence: math.MaxUint64,
		Body: []byte("\x00{"),
	},
	bytes: "\x01\x96\x02\xff" + strings.Repeat("p", MaxPublisher) +
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\xff\x07\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00{",
}}

func TestEnvelopeBytes(t *testing.T) {
	for _, test := range envelopes {
		t.Run(test.name, func(t *testing.T) {
			got := AppendEnvelope([]byte("before"), test.envelope)
			if diff := cmp.Diff("before"+test.bytes, string(got)); diff != "" {
				t.Error("appended (-want +got)\n", diff)
			}
			parsed, err := ParseEnvelope([]byte(test.bytes))
			if diff := cmp.Diff(test.envelope, parsed); err != nil || diff != "" {
				t.Error("parsed (-want +got)\n", diff, err)
			}
			header := len(test.bytes) - len(test.envelope.Body)
			for n := range header {
				if _, err := ParseEnvelope([]byte(test.bytes[:n])); !errors.Is(err, ErrMalformed) {
					t.Errorf("first %d bytes: %v, want %v", n, err, ErrMalformed)
				}
			}
		})
	}
}

func TestParseEnvelope(t *testing.T) {
	tests := []struct {
		name, data string
		want       Envelope
		err        error
	}{
		{"plain", `{"target":"T"}`, Envelope{Body: []byte(`{"target":"T"}`)}, nil},
		{"longer header of a later node", "\x01\x08\x01n\x05\x00\x07new body", Envelope{"n", 5, 0, 7, []byte(" body")}, nil},
		{"empty", "", Envelope{}, ErrMalformed},
		{"space before plain", ` {"target":"T"}`, Envelope{}, ErrVersion},
		{"version 0", "\x00\x05\x01n\x05\x00\x07", Envelope{}, ErrVersion},
		{"version 2", "\x02\x05\x01n\x05\x00\x07", Envelope{}, ErrVersion},
		{"no publisher", "\x01\x04\x00\x05\x00\x07", Envelope{}, ErrMalformed},
		{"publisher beyond header", "\x01\x05\x08n\x05\x00\x07body", Envelope{}, ErrMalformed},
		{"sequence beyond header", "\x01\x04\x01n\x05\x00\x07body", Envelope{}, ErrMalformed},
		{"header beyond data", "\x01\x06\x01n\x05\x00\x07", Envelope{}, ErrMalformed},
		{"header of 64 bits", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01n\x05\x00\x07", Envelope{}, ErrMalformed},
		{"number over 64 bits", "\x01\x0e\x01n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x00\x07", Envelope{}, ErrMalformed},
		{"lane 1024", "\x01\x06\x01n\x05\x80\x08\x07", Envelope{}, ErrMalformed},
		{"sequence 0", "\x01\x05\x01n\x05\x00\x00", Envelope{}, ErrMalformed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseEnvelope([]byte(test.data))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
			for _, e := range []error{ErrMalformed, ErrVersion} {
				if errors.Is(err, e) != (e == test.err) {
					t.Errorf("error %v, want %v", err, test.err)
				}
			}
			if got.Plain() != (test.name == "plain" || test.err != nil) {
				t.Errorf("Plain is %v", got.Plain())
			}
		})
	}
}

func TestEnvelopeBodyRefersToData(t *testing.T) {
	data := []byte("\x01\x05\x01n\x05\x00\x07body")
	e, err := ParseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	if &e.Body[0] != &data[len(data)-len("body")] {
		t.Error("the body was copied")
	}
}

func TestAppendEnvelopePanics(t *testing.T) {
	for name, e := range map[string]Envelope{
		"no publisher":   {Sequence: 1},
		"long publisher": {Publisher: strings.Repeat("p", MaxPublisher+1), Sequence: 1},
		"great lane":     {Publisher: "n", Lane: MaxLane + 1, Sequence: 1},
		"no sequence":    {Publisher: "n", Body: []byte("{}")},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			AppendEnvelope(nil, e)
		})
	}
}

// Whatever parses means the same when it is written anew, and what does not parse
// costs no more than saying so.
func FuzzParseEnvelope(f *testing.F) {
	for _, test := range envelopes {
		f.Add([]byte(test.bytes))
	}
	f.Add([]byte(`{"target":"T","arguments":["hi"]}`))
	f.Add([]byte("\x01\x08\x01n\x05\x00\x07new body"))
	f.Add([]byte("\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var e Envelope
		var err error
		if n := allocated(func() { e, err = ParseEnvelope(data) }); n > mayAllocate(len(data)) {
			t.Fatalf("%d bytes allocated for %d", n, len(data))
		}
		switch {
		case err != nil:
			if errors.Is(err, ErrMalformed) == errors.Is(err, ErrVersion) {
				t.Fatalf("error %v is neither or both", err)
			}
			return
		case e.Plain():
			if !bytes.Equal(e.Body, data) || data[0] != '{' {
				t.Fatalf("%q is plain with body %q", data, e.Body)
			}
			return
		}
		again, err := ParseEnvelope(AppendEnvelope(nil, e))
		if diff := cmp.Diff(e, again); err != nil || diff != "" {
			t.Fatal(diff, err)
		}
		if !bytes.HasSuffix(data, e.Body) || len(e.Publisher)+len(e.Body) > len(data) {
			t.Fatalf("%q parses to %+v", data, e)
		}
	})
}
