// Package browser runs the tests in this directory, which are written in JavaScript,
// as a Go test.
package browser

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestPage drives the try-out page of a real node, and pages of another origin, in a real
// browser.
func TestPage(t *testing.T) {
	dependOnSources(t)
	for _, packages := range []string{"node_modules/.package-lock.json", "../interop/node_modules/.package-lock.json"} {
		if _, err := os.Stat(packages); err != nil {
			t.Fatal("the browser's driver or the official client is not installed: make test-deps, or npm ci in test/browser and test/interop")
		}
	}
	binary := filepath.Join(t.TempDir(), "node")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/node")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the node: %v\n%s", err, out)
	}
	tests := exec.CommandContext(t.Context(), "npm", "test", "--silent")
	tests.Env = append(os.Environ(), "NODE_BINARY="+binary)
	// Whoever is asked to end stops the programs that it started.
	tests.Cancel = func() error { return tests.Process.Signal(syscall.SIGTERM) }
	tests.WaitDelay = 10 * time.Second
	out, err := tests.CombinedOutput()
	t.Logf("npm test:\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// dependOnSources makes the go command run the test anew when anything changes that it
// is about: what a test looks at counts, what a program that it runs looks at does not.
func dependOnSources(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{
		"*.mjs", "lib/*js", "package*.json", "../../cmd/node/*.go", "../../internal/demo/*.go", "../../internal/demo/page/*", "../../internal/demo/page/*/*",
		"../../internal/demo/README.md", "../../go.mod", "../../pkg/backplane/redisplane/*.go",
		"../../pkg/*/*.go", "../interop/lib/*.mjs",
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				t.Fatal(err)
			}
		}
	}
}
