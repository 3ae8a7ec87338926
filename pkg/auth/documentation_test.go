package auth_test

import (
	"os"
	"strings"
	"testing"
)

// The code in the documentation is that of examples, which compile and run.
func TestDocumentationIsOfExamples(t *testing.T) {
	page := read(t, "../../docs/authorization.md")
	examples := read(t, "example_test.go") + "\n" + read(t, "../hub/example_authorization_test.go")
	blocks := codeBlocks(page)
	if len(blocks) < 5 {
		t.Fatalf("%d blocks of code found", len(blocks))
	}
	for _, block := range blocks {
		if !strings.Contains(examples, "\n"+block) {
			t.Errorf("in no example:\n%s", block)
		}
	}
}

// codeBlocks returns the Go code of a page, by fence.
func codeBlocks(page string) []string {
	var blocks []string
	for i, part := range strings.Split("\n"+page, "\n```") {
		if code, ok := strings.CutPrefix(part, "go\n"); ok && i%2 == 1 {
			blocks = append(blocks, code+"\n")
		}
	}
	return blocks
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
