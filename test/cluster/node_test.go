package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
)

// built returns the program, which is built once.
func built(t *testing.T) string {
	t.Helper()
	dependOnSources(t)
	program, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

var buildOnce = sync.OnceValues(func() (string, error) {
	program := filepath.Join(scratch, "node")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/node").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the node: %w\n%s", err, out)
	}
	return program, nil
})

// dependOnSources makes the go command run the test anew when the program changes: what
// a test looks at counts, what the compiler that it runs looks at does not.
func dependOnSources(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{
		"../../go.mod", "../../cmd/node/*.go", "../../internal/demo/*.go", "../../pkg/*/*.go", "../../pkg/*/redisplane/*.go",
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

// A node is a process that a test has started. It is killed at the test's end.
type node struct {
	t       *testing.T
	command *exec.Cmd
	ended   chan struct{} // closed when it has ended and all that it wrote is read
	err     error         // how it ended, once ended is closed

	address string // host and port for clients
	admin   string // the same for health and metrics

	mu     sync.Mutex
	output bytes.Buffer // guarded by mu
}

// startNode starts a node with these flags besides those that every node gets here,
// and waits until it is ready.
func startNode(t *testing.T, flags ...string) *node {
	t.Helper()
	flags = append([]string{"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, flags...)
	n := &node{t: t, command: exec.Command(built(t), flags...), ended: make(chan struct{})}
	n.command.Env = []string{} // no setting comes from the environment
	n.command.Stdout, n.command.Stderr = n, n
	n.command.SysProcAttr = dieWithParent()
	if err := n.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup waits for
		defer close(n.ended)
		n.err = n.command.Wait()
	}()
	t.Cleanup(func() {
		n.command.Process.Kill()
		<-n.ended
		if t.Failed() {
			text := n.text()
			t.Logf("output of the node at %s:\n%s", n.address, text[max(0, len(text)-2000):])
		}
	})
	await.Until(t, "the node is ready", func() error {
		if n.hasEnded() {
			t.Fatalf("it ended: %v\n%s", n.err, n.text())
		}
		public := addressPrinted.FindStringSubmatch(n.text())
		admin := adminPrinted.FindStringSubmatch(n.text())
		if public == nil || admin == nil {
			return errors.New("it has not printed its addresses")
		}
		n.address, n.admin = public[1], admin[1]
		return n.ready(t.Context())
	})
	return n
}

var (
	addressPrinted = regexp.MustCompile(`(?m)^listening on http://(\S+)$`)
	adminPrinted   = regexp.MustCompile(`curl 'http://([^/]+)/readyz`)
)

// errNotReady is what ready returns of a node that says so.
var errNotReady = errors.New("the node says that it is not ready")

// ready asks the node whether it should get connections. It returns nil if so.
func (n *node) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	switch {
	case err != nil:
		return err
	case response.StatusCode == http.StatusOK:
		return nil
	case response.StatusCode == http.StatusServiceUnavailable:
		return errNotReady
	}
	return fmt.Errorf("/readyz answers %s %q", response.Status, strings.TrimSpace(string(body)))
}

func (n *node) signal(s os.Signal) {
	n.t.Helper()
	if err := n.command.Process.Signal(s); err != nil {
		n.t.Fatalf("signal the node: %v", err)
	}
}

// awaitNotReady waits until the node, which was told to end, says that it is not ready.
func (n *node) awaitNotReady() {
	n.t.Helper()
	await.Until(n.t, "the node that ends is not ready", func() error {
		switch err := n.ready(n.t.Context()); {
		case errors.Is(err, errNotReady):
			return nil
		case err != nil:
			return err
		}
		return errors.New("it says that it is")
	})
}

// awaitEnd waits until the process has ended.
func (n *node) awaitEnd() {
	n.t.Helper()
	await.Until(n.t, "the process has ended", func() error {
		if !n.hasEnded() {
			return errors.New("it runs")
		}
		return nil
	})
}

func (n *node) hasEnded() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// Write takes the program's output.
func (n *node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.output.Write(b)
}

func (n *node) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.output.String()
}
