package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are those for operators and contributors.
var documents = []string{"CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/deployment.md", "docs/load-balancers.md", "k8s/README.md"}

var (
	documentedFlag = regexp.MustCompile("`--([a-z0-9-]+)")
	// A default is documented beside its flag: in brackets after it, before it with the
	// flag in brackets, or in the next column of a table.
	documentedDefaults = []*regexp.Regexp{
		regexp.MustCompile("`--(?P<flag>[a-z0-9-]+)`\\s\\((?P<value>\\d+s)\\)"),
		regexp.MustCompile("(?P<value>\\d+s)(?: for [a-z ]+)?\\s\\(`--(?P<flag>[a-z0-9-]+)`\\)"),
		regexp.MustCompile("\\| `--(?P<flag>[a-z0-9-]+)` \\| (?P<value>\\d+s) \\|"),
	}
	link       = regexp.MustCompile(`\]\(([^)]+)\)`)
	makeTarget = regexp.MustCompile("(?m)(?:^|`)make ([a-z-]+)")
)

func TestDocumentedSettings(t *testing.T) {
	s := program(t)
	defaults := 0
	for _, file := range append([]string{"docker-compose.yml", "k8s/base/node.env", "k8s/base/deployment.yaml", "k8s/secret.example.yaml", "Dockerfile", "deploy/haproxy.cfg", "deploy/nginx.conf"}, documents...) {
		text := read(t, file)
		for _, name := range anyEnv.FindAllString(text, -1) {
			if _, ok := s.env[name]; !ok && name != "HELIOGRAPH_" {
				t.Errorf("%s: the program has no variable %s", file, name)
			}
		}
		for _, found := range documentedFlag.FindAllStringSubmatch(text, -1) {
			if _, ok := s.defaults[found[1]]; !ok && !slices.Contains(s.negated, found[1]) {
				t.Errorf("%s: the program has no flag --%s", file, found[1])
			}
		}
		for _, pattern := range documentedDefaults {
			for _, found := range pattern.FindAllStringSubmatch(text, -1) {
				defaults++
				flag, value := found[pattern.SubexpIndex("flag")], found[pattern.SubexpIndex("value")]
				if s.defaults[flag] != value {
					t.Errorf("%s: the default of --%s is %q, not %q", file, flag, s.defaults[flag], value)
				}
			}
		}
	}
	if defaults < 9 {
		t.Errorf("%d documented defaults were found", defaults)
	}

	grace := fmt.Sprintf("%ds", *nodePod(t, whole(t)).spec.TerminationGracePeriodSeconds)
	for _, file := range []string{"docs/deployment.md", "k8s/README.md"} {
		if !strings.Contains(read(t, file), grace) {
			t.Errorf("%s does not say that a node is killed after %s", file, grace)
		}
	}
}

func TestLinks(t *testing.T) {
	for _, file := range documents {
		for _, found := range link.FindAllStringSubmatch(read(t, file), -1) {
			target, section, _ := strings.Cut(found[1], "#")
			if strings.HasPrefix(target, "https://") {
				continue
			}
			if target == "" { // a section of the same document
				target = filepath.Base(file)
			}
			target = filepath.Join(filepath.Dir(file), target)
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s: %v", file, err)
			} else if section != "" && !hasSection(read(t, target), section) {
				t.Errorf("%s: %s has no section %s", file, target, section)
			}
		}
	}
}

// hasSection reports whether the document has a heading that a link can name so.
func hasSection(document, section string) bool {
	for line := range strings.Lines(document) {
		heading := strings.TrimLeft(line, "#")
		if heading != line && strings.ReplaceAll(strings.ToLower(strings.TrimSpace(heading)), " ", "-") == section {
			return true
		}
	}
	return false
}

func TestDocumentedTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, file := range append([]string{".github/workflows/test.yml"}, documents...) {
		for _, found := range makeTarget.FindAllStringSubmatch(read(t, file), -1) {
			if !strings.Contains(makefile, "\n"+found[1]+":") {
				t.Errorf("%s: the Makefile has no target %s", file, found[1])
			}
		}
	}
}
