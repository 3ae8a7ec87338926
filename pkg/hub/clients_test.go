package hub

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// What one message leaves in the memory that the next is encoded in is not part of it,
// whatever became of the first.
func TestEncodeUsesMemoryAgain(t *testing.T) {
	h, _ := serve(t, benchHub{})
	long := strings.Repeat("long", maxScratch/4)
	for _, argument := range []any{"first", long, failing{}, "x", "second"} {
		m := &protocol.Invocation{Target: "m", Arguments: []any{argument}}
		body, err := h.encode(m, nil)
		if _, fails := argument.(failing); fails {
			if !errors.Is(err, errFailing) || body != nil {
				t.Fatalf("got %q, %v", body, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := backplane.ParseMessage(body)
		if err != nil || len(got.Encodings) != len(h.protocols) {
			t.Fatalf("%d encodings, %v", len(got.Encodings), err)
		}
		for i, p := range h.protocols {
			want, err := p.Append(nil, m)
			if err != nil {
				t.Fatal(err)
			}
			if e := got.Encodings[i]; e.Protocol != p.Name() || !bytes.Equal(e.Frame, want) {
				t.Errorf("%s: %.40q, want %.40q", e.Protocol, e.Frame, want)
			}
		}
	}
}

var errFailing = errors.New("does not want to")

// failing cannot be encoded.
type failing struct{}

func (failing) MarshalText() ([]byte, error) { return nil, errFailing }

func TestUnique(t *testing.T) {
	for names, want := range map[string]string{"": "", "a": "a", "a a": "a", "b a b": "b a"} {
		given := strings.Fields(names)
		got := unique(given)
		if text := strings.Join(got, " "); text != want {
			t.Errorf("unique of %q is %q, want %q", names, text, want)
		}
		if len(got) > 0 && &got[0] == &given[0] {
			t.Errorf("unique of %q is the slice that it was given", names)
		}
	}
}
