package deploy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
)

// A process is a program that a test has started. It is killed at the test's end.
type process struct {
	command *exec.Cmd
	ended   chan struct{} // closed when it has ended and all that it wrote is read

	mu     sync.Mutex
	output bytes.Buffer // guarded by mu
}

// start starts the program with these variables and no others.
func start(t *testing.T, program string, env map[string]string, arguments ...string) *process {
	t.Helper()
	p := &process{ended: make(chan struct{})}
	p.command = exec.Command(program, arguments...)
	p.command.Env = []string{}
	for name, value := range env {
		p.command.Env = append(p.command.Env, name+"="+value)
	}
	p.command.Stdout, p.command.Stderr = p, p
	p.command.SysProcAttr = dieWithParent()
	if err := p.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process, which the cleanup waits for
		defer close(p.ended)
		p.command.Wait()
	}()
	t.Cleanup(func() {
		p.command.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("output of %s %s:\n%s", program, strings.Join(arguments, " "), tail(p.text()))
		}
	})
	return p
}

// Write takes the program's output.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

func tail(text string) string { return text[max(0, len(text)-4000):] }

// answers waits until the URL, which the process serves, is answered with 200.
func (p *process) answers(t *testing.T, url string) {
	t.Helper()
	await.Until(t, url+" answers", func() error {
		select {
		case <-p.ended:
			t.Fatalf("the program ended:\n%s", tail(p.text()))
		default:
		}
		_, err := get(t.Context(), url)
		return err
	})
}

// get returns what the URL is answered with, if it is with 200.
func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return string(body), err
}
