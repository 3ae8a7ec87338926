package deploy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// workflow is what these tests use of one.
type workflow struct {
	Permissions map[string]string `json:"permissions"`
	Jobs        map[string]struct {
		TimeoutMinutes int `json:"timeout-minutes"`
		Steps          []struct {
			Uses string `json:"uses"`
			Run  string `json:"run"`
		} `json:"steps"`
	} `json:"jobs"`
}

// Workflows do what the Makefile does and nothing else, with actions that nobody can
// change behind our back.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%d workflows, %v", len(files), err)
	}
	pinned := regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40}$`)
	var runs []string
	for _, file := range files {
		name, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		text := read(t, name)
		var w workflow
		if err := yaml.Unmarshal([]byte(text), &w); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(w.Permissions) != 1 || w.Permissions["contents"] != "read" {
			t.Errorf("%s: permissions are %v", name, w.Permissions)
		}
		for job, j := range w.Jobs {
			if j.TimeoutMinutes == 0 {
				t.Errorf("%s: %s may take for ever", name, job)
			}
			for _, step := range j.Steps {
				if step.Run != "" {
					runs = append(runs, step.Run)
				} else if !pinned.MatchString(step.Uses) || !strings.Contains(text, step.Uses+" # v") {
					t.Errorf("%s: %s is not pinned, or does not say to what version", name, step.Uses)
				}
			}
		}
	}
	slices.Sort(runs)
	if want := []string{"make lint", "make test", `sudo env "PATH=$PATH" scripts/test-deps`}; !slices.Equal(runs, want) {
		t.Errorf("the workflows run %q, want %q", runs, want)
	}
}
