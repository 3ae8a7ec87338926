package redisplane

import (
	"bytes"
	"os"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// Records of c1 of the hub with the prefix chat/, as a home and as a tombstone; the MACs
// are of another implementation of HMAC.
const (
	recordKey = "heliograph:home:chat/c1"
	record    = "1 2 n1 RsJNNOIwhYoPpbF9mK0KNwZjM1eB3xl/AvoIx1q5VCY"
	tombstone = "1 2  8Pki3CsC9+WvZAo0x1ncPjND/fIG+XNFnzuXfiu0hPM"
)

func TestHomeRecord(t *testing.T) {
	for value, home := range map[string]backplane.Home{
		record:    {Node: "n1", Epoch: 2},
		tombstone: {Epoch: 2},
	} {
		if got := signHome(clusterKey, recordKey, home); got != value {
			t.Errorf("signed %v is %q, want %q", home, got, value)
		}
		for _, keys := range [][][]byte{{clusterKey}, {[]byte("new"), clusterKey}} {
			if got, ok := verifyHome(value, recordKey, keys); !ok || got != home {
				t.Errorf("%q is %v, %t; want %v", value, got, ok, home)
			}
		}
		for _, keys := range [][][]byte{nil, {nil}, {[]byte("new")}} {
			if got, ok := verifyHome(value, recordKey, keys); ok || got != (backplane.Home{}) {
				t.Errorf("with the keys %q, %q is %v", keys, value, got)
			}
		}
		if got, ok := verifyHome(value, homeKey+"chat/c2", [][]byte{clusterKey}); ok {
			t.Errorf("under the key of another connection, %q is %v", value, got)
		}
	}
}

// The record in docs/backplane.md is this one.
func TestDocumentedHomeRecord(t *testing.T) {
	page, err := os.ReadFile("../../../docs/backplane.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"\n" + record + "\n", "`" + recordKey + "`", "`" + string(clusterKey) + "`"} {
		if !bytes.Contains(page, []byte(what)) {
			t.Errorf("the page has no %q", what)
		}
	}
}

// No change of a byte, and no cut, says anything.
func TestChangedHomeRecord(t *testing.T) {
	for _, value := range []string{record, tombstone} {
		for i := range value {
			for _, flip := range []byte{0x01, 0x10, 0x20, 0x80} {
				changed := []byte(value)
				changed[i] ^= flip
				if h, ok := verifyHome(string(changed), recordKey, [][]byte{clusterKey}); ok {
					t.Errorf("%q says %v", changed, h)
				}
			}
			if h, ok := verifyHome(value[:i], recordKey, [][]byte{clusterKey}); ok {
				t.Errorf("%q says %v", value[:i], h)
			}
		}
	}
}

// What is taken is exactly what would have been signed.
func FuzzHomeRecord(f *testing.F) {
	f.Add(record, recordKey)
	f.Add(tombstone, recordKey)
	f.Add("1 2 n1 ", homeKey)
	f.Add("   ", "")
	f.Fuzz(func(t *testing.T, value, key string) {
		h, ok := verifyHome(value, key, [][]byte{clusterKey})
		switch {
		case !ok && h != (backplane.Home{}):
			t.Errorf("%q is not taken, and says %v", value, h)
		case ok && signHome(clusterKey, key, h) != value:
			t.Errorf("%q says %v, which is %q", value, h, signHome(clusterKey, key, h))
		}
	})
}
