// Package test holds the tests that concern the project as a whole.
package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/heliograph/heliograph/"

// mayImport says which packages of the project each package may import: the arrows of
// docs/architecture.md, and nothing else.
var mayImport = map[string][]string{
	"pkg/protocol":                {},
	"pkg/auth":                    {},
	"pkg/backplane":               {},
	"pkg/backplane/backplanetest": {"pkg/backplane", "internal/await"},
	"pkg/backplane/redisplane":    {"pkg/backplane"},
	"pkg/peer":                    {},
	"pkg/transport":               {"pkg/auth", "pkg/backplane", "pkg/peer", "pkg/protocol"},
	"pkg/hub":                     {"pkg/auth", "pkg/backplane", "pkg/peer", "pkg/protocol", "pkg/transport"},
	"pkg/server":                  {"pkg/backplane", "pkg/hub", "pkg/peer"},
	"pkg/client":                  {"pkg/protocol"},
	"pkg/publish":                 {"pkg/backplane", "pkg/protocol"},
	"cmd/node": {
		"internal/demo", "pkg/auth", "pkg/backplane", "pkg/backplane/redisplane", "pkg/hub", "pkg/peer", "pkg/server", "pkg/transport",
	},
	"loadtest":           {"pkg/auth", "pkg/backplane", "pkg/hub", "pkg/protocol", "pkg/server", "pkg/transport"},
	"internal/await":     {},
	"internal/demo":      {},
	"internal/redistest": {"internal/await"},
}

// pure packages compute: they neither reach out of the process nor wait.
var pure = map[string][]string{
	"pkg/protocol": {"context", "io", "net", "net/http", "os"},
}

func TestImports(t *testing.T) {
	list := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	list.Dir = ".."
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, module)
		allowed, known := mayImport[name]
		if !known {
			t.Errorf("package %s has no place in the structure: say here what it may import", name)
		}
		for _, i := range p.Imports {
			if own, is := strings.CutPrefix(i, module); is && !slices.Contains(allowed, own) {
				t.Errorf("%s imports %s", name, own)
			}
			if slices.Contains(pure[name], i) {
				t.Errorf("%s imports %s", name, i)
			}
		}
	}
	if seen < len(mayImport) {
		t.Errorf("%d packages found, %d described", seen, len(mayImport))
	}
}
