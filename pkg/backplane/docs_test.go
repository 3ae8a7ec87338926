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
	page, err := os.ReadFile("../../docs/backplane.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```hex\n")
	dump, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("no envelope found")
	}
	var digits strings.Builder
	for line := range strings.Lines(dump) {
		digits.WriteString(regexp.MustCompile(`^([0-9a-f]{2} )+`).FindString(line))
	}
	data, err := hex.DecodeString(strings.ReplaceAll(digits.String(), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
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
	if diff := cmp.Diff(hex.Dump(want), hex.Dump(data)); diff != "" {
		t.Error("(-code +page)\n", diff)
	}
}
