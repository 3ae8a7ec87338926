package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documents are those that people read first.
func documents(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	return append(files, "../README.md", "../CONTRIBUTING.md", "../k8s/README.md", "../loadtest/README.md")
}

// Every whole program in the documents compiles.
func TestProgramsInDocuments(t *testing.T) {
	blocks := regexp.MustCompile("(?ms)^```go\n(package main\n.*?)^```$")
	programs := 0
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range blocks.FindAllSubmatch(text, -1) {
			programs++
			// The default one shows the command line and more to whoever asks for it.
			if strings.Contains(string(block[1]), "http.Handle(") || strings.Contains(string(block[1]), ", nil))") {
				t.Errorf("a program in %s serves the default mux", file)
			}
			program := filepath.Join(t.TempDir(), "main.go")
			if err := os.WriteFile(program, block[1], 0o600); err != nil {
				t.Fatal(err)
			}
			build := exec.CommandContext(t.Context(), "go", "build", "-o", os.DevNull, program)
			build.Dir = ".."
			if out, err := build.CombinedOutput(); err != nil {
				t.Errorf("a program in %s does not compile: %v\n%s", file, err, out)
			}
		}
	}
	if programs < 2 {
		t.Errorf("%d programs found, there were more", programs)
	}
}

// Every link from one file to another leads somewhere.
func TestLinksInDocuments(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, file := range documents(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], " ") {
				continue // no link, but Go's f(x)[y](z) or the like
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), link[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}
