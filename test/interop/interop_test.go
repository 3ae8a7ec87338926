// Package interop runs the tests in this directory, which are written in JavaScript,
// as a Go test.
package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	_ "github.com/heliograph/heliograph/pkg/publish"      // see dependOnSources
	_ "github.com/heliograph/heliograph/test/testhub/app" // see dependOnSources
)

// TestOfficialClient lets the official JavaScript client judge a cluster of test hubs
// that are built with the race detector.
func TestOfficialClient(t *testing.T) {
	dependOnSources(t)
	if _, err := os.Stat("node_modules/.package-lock.json"); err != nil {
		t.Fatal("the packages of the official client are not installed: make test-deps, or npm ci in test/interop")
	}
	binaries := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", binaries, "../testhub", "../opshub", "../publisher")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}

	tests := exec.CommandContext(t.Context(), "npm", "test", "--silent")
	tests.Env = append(os.Environ(),
		"TESTHUB="+filepath.Join(binaries, "testhub"),
		"OPSHUB="+filepath.Join(binaries, "opshub"),
		"PUBLISHER="+filepath.Join(binaries, "publisher"))
	// Whoever is asked to end stops the servers that it started.
	tests.Cancel = func() error { return tests.Process.Signal(syscall.SIGTERM) }
	tests.WaitDelay = 10 * time.Second
	if out, err := tests.CombinedOutput(); err != nil {
		t.Fatalf("npm test: %v\n%s", err, out)
	}
}

// dependOnSources makes the go command run the test anew when anything changes that it
// is about. Otherwise the result would be kept until something changes that the test
// imports, or looks at itself.
func dependOnSources(t *testing.T) {
	t.Helper()
	os.Getenv("HELIOGRAPH_SOAK")
	for _, pattern := range []string{"*.mjs", "lib/*.mjs", "package*.json", "../testhub/*.go", "../opshub/*.go", "../publisher/*.go"} {
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
