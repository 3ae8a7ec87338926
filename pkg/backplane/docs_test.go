package backplane_test

import (
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// The envelope in docs/backplane.md is what it says it is.
func TestDocumentedEnvelope(t *testing.T) {
	body := backplane.AppendMessage(nil, backplane.Message{
		Excluded: []string{"c1"},
		Encodings: []backplane.Encoding{
			{Protocol: "json", Frame: []byte(`{"type":1,"target":"Paid","arguments":[]}` + "\x1e")},
			{Protocol: "messagepack", Frame: []byte("\x0b\x96\x01\x80\xc0\xa4Paid\x90\x90")},
		},
	})
	want := backplane.AppendEnvelope(nil, backplane.Envelope{
		Publisher: "billing", Incarnation: 1767225600, Sequence: 1, Body: body,
	})
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(dump(t, 0))); diff != "" {
		t.Error("(-code +page)\n", diff)
	}
}

// So is the signed one.
func TestDocumentedSignature(t *testing.T) {
	keys := backplane.NewEnvelopeKeys([][]byte{[]byte("0123456789abcdef0123456789abcdef")})
	unsigned, err := backplane.ParseEnvelope(dump(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	want := keys.Append(nil, backplane.User("ada"), unsigned)
	want = want[:len(want)-len(unsigned.Body)]
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(dump(t, 1))); diff != "" {
		t.Error("(-code +page)\n", diff)
	}
}

// So is the operation.
func TestDocumentedOperation(t *testing.T) {
	keys := [][]byte{[]byte("0123456789abcdef0123456789abcdef")}
	want := backplane.Operation{
		ID:         backplane.OperationID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
		Asker:      "n1",
		Kind:       backplane.OpRemove,
		TargetKind: backplane.TargetUser,
		Target:     "ada",
		Group:      "room",
	}
	body := dump(t, 2)
	got, err := backplane.ParseOperation(body, keys, backplane.All)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("(-want +page)\n%s %v", diff, err)
	}
	if diff := cmp.Diff(hex.Dump(backplane.AppendOperation(nil, keys, backplane.All, want)), hex.Dump(body)); diff != "" {
		t.Error("(-code +page)\n", diff)
	}
}

// dump returns the bytes in a block of docs/backplane.md that is marked hex.
func dump(t *testing.T, n int) []byte {
	t.Helper()
	page, err := os.ReadFile("../../docs/backplane.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```hex\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if n >= len(blocks) {
		t.Fatalf("there are %d blocks", len(blocks))
	}
	var digits strings.Builder
	for line := range strings.Lines(blocks[n][1]) {
		digits.WriteString(regexp.MustCompile(`^([0-9a-f]{2}[ \n])+`).FindString(line))
	}
	data, err := hex.DecodeString(strings.Join(strings.Fields(digits.String()), ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
