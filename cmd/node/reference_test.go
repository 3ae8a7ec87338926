package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// reference writes the settings as a table in Markdown. It is what docs/configuration.md
// has, to which a test compares it.
func reference(w io.Writer) error {
	parser, err := newParser(new(config), io.Discard)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "| flag | environment | default | |\n|---|---|---|---|")
	for _, f := range parser.Model.Flags {
		if f.Name == "help" {
			continue
		}
		name := f.Name
		if f.Tag.Negatable != "" {
			name = "[no-]" + name
		}
		fmt.Fprintf(w, "| `--%s%s` | `%s` | %s | %s |\n", name, placeholder(f), strings.Join(f.Envs, "`, `"), defaultOf(f), f.Help)
	}
	return nil
}

func placeholder(f *kong.Flag) string {
	if f.IsBool() {
		return ""
	}
	if f.PlaceHolder != "" {
		return "=" + f.PlaceHolder
	}
	return "=" + strings.ToUpper(f.Name[strings.LastIndex(f.Name, "-")+1:])
}

func defaultOf(f *kong.Flag) string {
	if f.Default == "" {
		return ""
	}
	return "`" + f.Default + "`"
}

var update = flag.Bool("update", false, "write the settings into docs/configuration.md")

// docs/configuration.md tells exactly the settings that there are.
func TestReference(t *testing.T) {
	const file, begin, end = "../../docs/configuration.md", "<!-- settings -->\n", "<!-- end of settings -->\n"
	var table strings.Builder
	if err := reference(&table); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("%s has no place for the settings", file)
	}
	want := before + begin + table.String() + end + after
	if want == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the program has: go test ./cmd/node -run TestReference -update", file)
	}
	if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
