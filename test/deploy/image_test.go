package deploy

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// image is what the Dockerfile describes, with its first stage carried out on this
// machine, from nothing but what a builder would be sent. It stands in for building
// the image, for which there would have to be a container engine.
type image struct {
	stages  []instructions.Stage
	context *patternmatcher.PatternMatcher // what .dockerignore keeps out
	files   string                         // directory with the files of the first stage
}

// node returns the program as the Dockerfile builds it.
func (i *image) node() string { return filepath.Join(i.files, "src", "node") }

var buildOnce = sync.OnceValues(build)

func built(t *testing.T) *image {
	t.Helper()
	i, err := buildOnce()
	if err != nil {
		t.Fatalf("build as the Dockerfile does: %v", err)
	}
	return i
}

func build() (*image, error) {
	i := &image{files: filepath.Join(scratch, "build")}
	if err := i.parse(); err != nil {
		return nil, err
	}
	dir := "/"
	for _, c := range i.stages[0].Commands {
		var err error
		switch c := c.(type) {
		case *instructions.WorkdirCommand:
			dir = c.Path
			err = os.MkdirAll(filepath.Join(i.files, dir), 0o755)
		case *instructions.CopyCommand:
			err = i.copy(c.SourcePaths, filepath.Join(i.files, dir, c.DestPath))
		case *instructions.RunCommand:
			err = i.run(dir, c.CmdLine)
		default:
			err = errors.New("this test does not know the instruction")
		}
		if err != nil {
			return nil, fmt.Errorf("%v: %w", c, err)
		}
	}
	return i, nil
}

func (i *image) parse() error {
	content, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		return err
	}
	parsed, err := parser.Parse(bytes.NewReader(content))
	if err != nil {
		return err
	}
	if len(parsed.Warnings) > 0 {
		return fmt.Errorf("warnings: %v", parsed.Warnings)
	}
	if i.stages, _, err = instructions.Parse(parsed.AST, nil); err != nil {
		return err
	}
	ignore, err := os.Open(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return err
	}
	defer ignore.Close()
	patterns, err := ignorefile.ReadAll(ignore)
	if err != nil {
		return err
	}
	i.context, err = patternmatcher.New(patterns)
	return err
}

// copy copies files, or the content of one directory, that .dockerignore lets through.
func (i *image) copy(sources []string, to string) error {
	for _, source := range sources {
		copied := 0
		err := filepath.WalkDir(filepath.Join(root, source), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			inContext, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			if ignored, err := i.context.MatchesOrParentMatches(inContext); err != nil || ignored {
				return err
			}
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			inSource, err := filepath.Rel(filepath.Join(root, source), file)
			if err != nil {
				return err
			}
			target := filepath.Join(to, inSource)
			if inSource == "." {
				target = filepath.Join(to, filepath.Base(file))
			}
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			copied++
			return os.WriteFile(target, content, 0o644)
		})
		if err != nil {
			return err
		}
		if copied == 0 {
			return fmt.Errorf(".dockerignore leaves nothing of %s", source)
		}
	}
	return nil
}

func (i *image) run(dir string, command []string) error {
	c := exec.Command("sh", "-c", strings.Join(command, " "))
	c.Dir = filepath.Join(i.files, dir)
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "GOWORK=") })
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func TestImage(t *testing.T) {
	i := built(t)
	if len(i.stages) != 2 {
		t.Fatalf("%d stages, want a build and what is left of it", len(i.stages))
	}
	if base := i.stages[0].BaseName; !isPinned(base) {
		t.Errorf("the build starts from %s: say its whole version", base)
	}
	last := i.stages[1]
	if last.BaseName != "scratch" {
		t.Errorf("the image starts from %s", last.BaseName)
	}
	var copied, exposed []string
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.CopyCommand:
			if c.From != i.stages[0].Name {
				t.Errorf("%v: not from the build", c)
			}
			copied = append(copied, c.DestPath)
			for _, source := range c.SourcePaths {
				if !strings.HasPrefix(source, "/src/") {
					continue // the base image's
				}
				if _, err := os.Stat(filepath.Join(i.files, source)); err != nil {
					t.Errorf("%v: %v", c, err)
				}
			}
		case *instructions.UserCommand:
			user, _, _ := strings.Cut(c.User, ":")
			if id, err := strconv.Atoi(user); err != nil || id == 0 {
				t.Errorf("user %q, want a number that is not root's", c.User)
			}
		case *instructions.ExposeCommand:
			exposed = append(exposed, c.Ports...)
		case *instructions.EntrypointCommand:
			if len(c.CmdLine) != 1 || !slices.Contains(copied, c.CmdLine[0]) || c.PrependShell {
				t.Errorf("entry point %q, of the files %q and without a shell", c.CmdLine, copied)
			}
		}
	}
	for _, kind := range []string{"USER", "ENTRYPOINT", "EXPOSE"} {
		if !slices.ContainsFunc(last.Commands, func(c instructions.Command) bool { return strings.EqualFold(c.Name(), kind) }) {
			t.Errorf("no %s", kind)
		}
	}
	for name, address := range map[string]string{"clients": defaultOf(t, "listen"), "admin": defaultOf(t, "admin-listen")} {
		if port := address[strings.LastIndex(address, ":")+1:]; !slices.Contains(exposed, port) {
			t.Errorf("the port for %s, %s, is not exposed", name, port)
		}
	}
}

func TestImageIsStatic(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this machine builds no Linux program")
	}
	program, err := elf.Open(built(t).node())
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program needs a dynamic linker, and the image has none")
		}
	}
}

func TestBuildContext(t *testing.T) {
	i := built(t)
	for _, kept := range []string{".env", ".git/config", "go.work", "test/go.mod", "k8s/secret.example.yaml", "bin/node", "cmd/node/main_test.go"} {
		if ignored, err := i.context.MatchesOrParentMatches(kept); err != nil || !ignored {
			t.Errorf("%s is sent to the builder (%v)", kept, err)
		}
	}
}

// isPinned reports whether the image's tag is a version down to the patch.
func isPinned(image string) bool {
	_, tag, _ := strings.Cut(path.Base(image), ":")
	version, _, _ := strings.Cut(tag, "-")
	return strings.Count(version, ".") == 2
}
