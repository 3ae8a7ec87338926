package backplane

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	oldKey = []byte("an old key of the cluster, 32 bytes or more")
	newKey = []byte("a new key of the cluster, 32 bytes or more")
)

func signedEnvelope() Envelope {
	return Envelope{Publisher: "n1", Incarnation: 300, Lane: 5, Sequence: 3, Body: []byte("hi")}
}

func TestSignedEnvelope(t *testing.T) {
	keys := NewEnvelopeKeys([][]byte{newKey, oldKey})
	for _, e := range []Envelope{
		signedEnvelope(),
		{Publisher: "n", Sequence: 1, Body: []byte{}},
		{Publisher: strings.Repeat("p", MaxPublisher), Incarnation: math.MaxUint64, Lane: MaxLane, Sequence: math.MaxUint64, Body: []byte("{")},
	} {
		for _, signer := range [][]byte{newKey, oldKey} {
			data := NewEnvelopeKeys([][]byte{signer}).Append([]byte("before"), "user:ada", e)[len("before"):]
			got, err := keys.Parse(data, "user:ada")
			if diff := cmp.Diff(e, got); err != nil || diff != "" {
				t.Error("(-want +got)\n", diff, err)
			}
			// Nodes that demand no MAC, and those that know of none, read it as well.
			got, err = ParseEnvelope(data)
			if diff := cmp.Diff(e, got); err != nil || diff != "" {
				t.Error("without keys (-want +got)\n", diff, err)
			}
		}
	}
	if data := keys.Append(nil, "a", signedEnvelope()); len(data) != len(AppendEnvelope(nil, signedEnvelope()))+1+macSize {
		t.Errorf("%d bytes", len(data))
	}
}

// A later version may add to the header of what it signs.
func TestSignedEnvelopeOfALaterVersion(t *testing.T) {
	keys := NewEnvelopeKeys([][]byte{newKey})
	e := signedEnvelope()
	data := append(appendHeader(nil, &e, 1+macSize+3), macSize)
	at := len(data)
	data = append(data, make([]byte, macSize)...)
	data = append(data, "newhi"...)
	copy(data[at:], keys.mac(keys.hashes[0], "a", data, at))
	got, err := keys.Parse(data, "a")
	if diff := cmp.Diff(e, got); err != nil || diff != "" {
		t.Error("(-want +got)\n", diff, err)
	}
	data[at+macSize] = 'N'
	if _, err := keys.Parse(data, "a"); !errors.Is(err, ErrForged) {
		t.Errorf("with the addition changed: %v", err)
	}
}

// Not a bit of it can be changed, nor can it be moved.
func TestForgedEnvelope(t *testing.T) {
	keys := NewEnvelopeKeys([][]byte{newKey, oldKey})
	data := keys.Append(nil, "chat/group:a", signedEnvelope())
	for i := range data {
		for bit := range 8 {
			forged := bytes.Clone(data)
			forged[i] ^= 1 << bit
			if e, err := keys.Parse(forged, "chat/group:a"); err == nil {
				t.Errorf("bit %d of byte %d changed, and got %+v", bit, i, e)
			}
		}
	}
	for n := range len(data) {
		if _, err := keys.Parse(data[:n], "chat/group:a"); err == nil {
			t.Errorf("cut off after %d bytes", n)
		}
	}
	for _, ch := range []Channel{"group:a", "chat/group:", "chat/user:a", "chat2/group:a", "", "all"} {
		if _, err := keys.Parse(data, ch); !errors.Is(err, ErrForged) {
			t.Errorf("moved to %q: %v", ch, err)
		}
	}
	if _, err := NewEnvelopeKeys([][]byte{[]byte("another")}).Parse(data, "chat/group:a"); !errors.Is(err, ErrForged) {
		t.Errorf("of another cluster: %v", err)
	}
}

func TestUnsignedEnvelope(t *testing.T) {
	keys := NewEnvelopeKeys([][]byte{newKey})
	e := signedEnvelope()
	empty := append(append(appendHeader(nil, &e, 1), 0), "hi"...)
	other := append(append(appendHeader(nil, &e, 3), "\x02ab"...), "hi"...)
	for name, data := range map[string][]byte{
		"plain":                 []byte(`{"target":"T"}`),
		"no MAC":                AppendEnvelope(nil, e),
		"MAC of no length":      empty,
		"MAC of another length": other,
	} {
		if _, err := keys.Parse(data, "a"); !errors.Is(err, ErrUnsigned) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ParseEnvelope(data); err != nil {
			t.Errorf("%s, where none is demanded: %v", name, err)
		}
	}
	for name, test := range map[string]struct {
		data string
		want error
	}{
		"unknown version": {"\x02", ErrVersion},
		"no bytes":        {"", ErrMalformed},
		"MAC cut off":     {"\x01\x08\x01n\x05\x00\x07\x20ab body", ErrMalformed},
	} {
		if _, err := keys.Parse([]byte(test.data), "a"); !errors.Is(err, test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Without a key nothing is let through but what was signed, as it was signed; and what is
// not costs no more than saying so.
func FuzzSignedEnvelope(f *testing.F) {
	keys := NewEnvelopeKeys([][]byte{newKey, oldKey})
	genuine := keys.Append(nil, "user:ada", signedEnvelope())
	f.Add(genuine, "user:ada")
	f.Add(genuine, "user:bob")
	f.Add(genuine[:40], "user:ada")
	f.Add(AppendEnvelope(nil, signedEnvelope()), "user:ada")
	f.Add([]byte(`{"target":"T"}`), "all")
	f.Add([]byte("\x01\x08\x01n\x05\x00\x07\x20ab body"), "all")
	for _, test := range envelopes {
		f.Add([]byte(test.bytes), "all")
	}
	f.Fuzz(func(t *testing.T, data []byte, channel string) {
		e, err := keys.Parse(data, Channel(channel))
		if (err == nil) != (bytes.Equal(data, genuine) && channel == "user:ada") {
			t.Fatalf("%q on %q: %v", data, channel, err)
		}
		unverified, parsed := ParseEnvelope(data)
		switch {
		case err == nil:
			if diff := cmp.Diff(unverified, e); diff != "" {
				t.Fatal(diff)
			}
		case errors.Is(err, ErrForged), errors.Is(err, ErrUnsigned):
			if parsed != nil || e.Body != nil {
				t.Fatalf("%v, but otherwise %v; returned %+v", err, parsed, e)
			}
		case parsed == nil:
			t.Fatalf("%v, but without keys it parses", err)
		}
		if parsed != nil || unverified.Plain() {
			return
		}
		again := keys.Append(nil, Channel(channel), unverified)
		if e, err := keys.Parse(again, Channel(channel)); err != nil {
			t.Fatal(err)
		} else if diff := cmp.Diff(unverified, e); diff != "" {
			t.Fatal(diff)
		}
	})
}
