// Command mutations shows that the tests bite: it breaks the code on purpose, in one
// way at a time, and expects a named test to fail.
//
//	go run ./test/mutations [NAME ...]
//
// Each *.patch beside this file begins with lines that say what it breaks and how that
// is to be noticed:
//
//	Breaks: a join that does not wait for the subscription
//	Test: ./pkg/backplane/redisplane TestJoinThenSend
//	Where: go              (or: interop)
//
// Test names a package and a test function, or with "Where: interop" a file of
// test/interop and the name of a test in it. The patch is applied to a copy of the tree
// as git sees it, in which the test passed before. A patch that does not apply, does not
// compile, or goes unnoticed makes the command fail.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// limit bounds the test of one mutation. One that runs into it has failed: a mutation
// may well make something wait for ever.
const limit = 3 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutations:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	root, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return fmt.Errorf("find the tree: %w", err)
	}
	mutations, err := load(filepath.Join(root, "test", "mutations"))
	if err != nil {
		return err
	}
	copied, err := os.MkdirTemp("", "mutations")
	if err != nil {
		return err
	}
	defer os.RemoveAll(copied)

	var survived []error
	count := 0
	for _, m := range mutations {
		if len(names) > 0 && !slices.Contains(names, m.name) {
			continue
		}
		count++
		started := time.Now()
		if err := m.try(ctx, root, copied); err != nil {
			survived = append(survived, fmt.Errorf("%s (%s): %w", m.name, m.breaks, err))
			fmt.Printf("SURVIVED %-28s %s: %v\n", m.name, m.breaks, err)
			continue
		}
		fmt.Printf("caught   %-28s %s, by %s (%.0fs)\n", m.name, m.breaks, m.test, time.Since(started).Seconds())
	}
	if count == 0 {
		return errors.New("no such mutation")
	}
	fmt.Printf("%d mutations, %d caught\n", count, count-len(survived))
	return errors.Join(survived...)
}

// A mutation is one patch.
type mutation struct {
	name, file          string
	breaks, test, where string
}

func load(dir string) ([]mutation, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	mutations := make([]mutation, len(files))
	for i, file := range files {
		if mutations[i], err = read(file); err != nil {
			return nil, fmt.Errorf("read %s: %w", filepath.Base(file), err)
		}
	}
	return mutations, nil
}

func read(file string) (mutation, error) {
	m := mutation{file: file, name: strings.TrimSuffix(filepath.Base(file), ".patch"), where: "go"}
	text, err := os.ReadFile(file)
	if err != nil {
		return m, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan() && !strings.HasPrefix(lines.Text(), "diff "); {
		switch key, value, _ := strings.Cut(lines.Text(), ": "); key {
		case "Breaks":
			m.breaks = value
		case "Test":
			m.test = value
		case "Where":
			m.where = value
		}
	}
	if m.breaks == "" || len(strings.Fields(m.test)) < 2 || (m.where != "go" && m.where != "interop") {
		return m, errors.New("header is not complete")
	}
	return m, nil
}

// try applies the mutation to a fresh copy of the tree and returns nil if its test
// fails there.
func (m mutation) try(ctx context.Context, root, copied string) error {
	if err := copyTree(ctx, root, copied); err != nil {
		return fmt.Errorf("copy the tree: %w", err)
	}
	if out, _, err := m.runTest(ctx, root, copied); err != nil {
		return fmt.Errorf("the test fails without the patch: %w: %s", err, out)
	}
	if _, err := output(ctx, copied, "git", "apply", "--whitespace=nowarn", m.file); err != nil {
		return fmt.Errorf("patch does not apply: %w", err)
	}
	out, failed, err := m.runTest(ctx, root, copied)
	switch {
	case err == nil:
		return errors.New("the test passes all the same")
	case !failed:
		return fmt.Errorf("the test did not run: %w: %s", err, out)
	}
	return nil
}

// runTest runs the mutation's test in the copy. It reports what the command printed,
// and whether that says that the test has failed.
func (m mutation) runTest(ctx context.Context, root, copied string) (out string, failed bool, err error) {
	place, test, _ := strings.Cut(m.test, " ")
	command := []string{"go", "test", "-count=1", "-timeout", limit.String(), "-run", "^" + test + "$", place}
	marks := regexp.MustCompile("(?m)--- FAIL: " + test + "|^panic: ") // a panic, or a time-out, takes all down
	if m.where == "interop" {
		if err := prepareInterop(ctx, root, copied); err != nil {
			return "", false, err
		}
		command = []string{"node", "--test", "--test-reporter", "tap", "--test-timeout", strconv.FormatInt(limit.Milliseconds(), 10),
			"--test-name-pattern", test, filepath.Join("test/interop", place)}
		marks = regexp.MustCompile("not ok .*" + test)
	} else if out, err := output(ctx, copied, "go", "vet", place); err != nil {
		return out, false, fmt.Errorf("compile: %w", err)
	}
	out, err = output(ctx, copied, command[0], command[1:]...)
	return out, err != nil && marks.MatchString(out), err
}

// copyTree makes dir a copy of what git tracks or would track, as it is on disk, and
// nothing else.
func copyTree(ctx context.Context, root, dir string) error {
	list, err := output(ctx, root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
	if err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	for name := range strings.SplitSeq(list, "\x00") {
		content, err := os.ReadFile(filepath.Join(root, name))
		if name == "" || errors.Is(err, os.ErrNotExist) {
			continue // deleted and not committed
		}
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, content, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// prepareInterop builds the broken test hub, and lends the copy the packages of the
// official client.
func prepareInterop(ctx context.Context, root, copied string) error {
	binary := filepath.Join(copied, "bin", "testhub")
	if out, err := output(ctx, copied, "go", "build", "-o", binary, "./test/testhub"); err != nil {
		return fmt.Errorf("code does not compile: %w: %s", err, out)
	}
	if err := os.Setenv("TESTHUB", binary); err != nil {
		return err
	}
	const packages = "test/interop/node_modules"
	err := os.Symlink(filepath.Join(root, packages), filepath.Join(copied, packages))
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	return err
}

// output runs a command and returns all that it prints, without the last line's end.
func output(ctx context.Context, dir, name string, arguments ...string) (string, error) {
	c := exec.CommandContext(ctx, name, arguments...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	return strings.TrimRight(string(out), "\n"), err
}
