package redistest

import (
	"os"
	"path/filepath"
	"testing"
)

// Which server is started is said by the variable, or by what there is.
func TestProgram(t *testing.T) {
	dir := t.TempDir()
	install := func(names ...string) string {
		t.Helper()
		bin, err := os.MkdirTemp(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(bin, name), nil, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return bin
	}
	for _, test := range []struct {
		variable string
		path     string
		want     string // empty: an error
	}{
		{"", install("redis-server"), "redis-server"},
		{"", install("redis-server", "valkey-server"), "redis-server"},
		{"", install("valkey-server"), "valkey-server"},
		{"", install(), ""},
		{"valkey-server", install("redis-server", "valkey-server"), "valkey-server"},
		{"valkey-server", install("redis-server"), ""},
	} {
		t.Setenv("PATH", test.path)
		t.Setenv(serverVariable, test.variable)
		got, err := program()
		if (err == nil) != (test.want != "") || err == nil && got != filepath.Join(test.path, test.want) {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
}
