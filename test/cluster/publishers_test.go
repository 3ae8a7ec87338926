package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/protocol"
)

const clusterKey = "another shared secret of thirty-two bytes or more"

// The publishers in docs/backplane.md do what they are there to show: as they stand on the
// page, but for the address of Redis. Nodes that demand signatures hear those that sign.
func TestPublishersInDocuments(t *testing.T) {
	redis := redistest.Start(t)
	lenient := startNode(t, "--redis", redis.URL(), "--jwt-secret", jwtSecret, "--cluster-key", clusterKey)
	strict := startNode(t, "--redis", redis.URL(), "--jwt-secret", jwtSecret, "--cluster-key", clusterKey, "--require-signed-envelopes")

	page, err := os.ReadFile("../../docs/backplane.md")
	if err != nil {
		t.Fatal(err)
	}
	shell, python := blocks(string(page), "sh"), blocks(string(page), "python")
	if len(shell) != 1 || len(python) != 2 {
		t.Fatalf("the page has %d programs for the shell and %d in Python", len(shell), len(python))
	}
	address := regexp.MustCompile(`\("localhost", 6379\)`)
	if len(address.FindAllString(python[0], -1)) != 1 {
		t.Fatal("the page's first program in Python does not name Redis' address once")
	}
	host, port, _ := strings.Cut(redis.Addr(), ":")
	python[0] = address.ReplaceAllString(python[0], fmt.Sprintf("(%q, %s)", host, port))
	path := redisCLI(t, host, port)

	for _, test := range []struct {
		name    string
		command []string
		program string
		signed  bool
		want    []string
	}{
		{"shell", []string{"sh"}, shell[0], false, []string{"hi"}},
		{"Python, plain", []string{"python3", "-"}, python[0], false, []string{"hi"}},
		{"Python, signed", []string{"python3", "-"}, python[1], true, []string{"hello", "again"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			at := map[*node][]*receiver{}
			for _, n := range []*node{lenient, strict} {
				for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
					at[n] = append(at[n], receive(t, n, "ada", p))
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), await.Deadline)
			defer cancel()
			run := exec.CommandContext(ctx, test.command[0], test.command[1:]...)
			run.Stdin = strings.NewReader(test.program)
			run.Env = append(os.Environ(), "PATH="+path, "HELIOGRAPH_CLUSTER_KEY="+clusterKey)
			if out, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, test.program, out)
			}
			sender, err := connect(t, lenient.address, "sender")
			if err != nil {
				t.Fatal(err)
			}
			if err := sender.Invoke(ctx, "SendPrivateMessage", "ada", "end"); err != nil {
				t.Fatal(err)
			}
			for n, receivers := range at {
				want := append(slices.Clone(test.want), "end")
				if n == strict && !test.signed {
					want = []string{"end"}
				}
				for _, r := range receivers {
					r.expect(t, want)
				}
			}
		})
	}
	refused := `heliograph_backplane_dropped_total{reason="unsigned"} 2`
	if metrics := strict.metrics(t); !strings.Contains(metrics, refused) {
		t.Errorf("the strict node's metrics do not have %s", refused)
	}
	if metrics := lenient.metrics(t); strings.Contains(metrics, refused) {
		t.Errorf("the lenient node's metrics have %s", refused)
	}
}

// What cannot be read is counted by the program's metrics, and what comes next is
// delivered.
func TestUnreadableEnvelopes(t *testing.T) {
	redis := redistest.Start(t)
	n := startNode(t, "--redis", redis.URL(), "--jwt-secret", jwtSecret)
	r := receive(t, n, "ada", protocol.JSON)
	envelope := func(sequence uint64, text string) string {
		return string(backplane.AppendEnvelope(nil, backplane.Envelope{
			Publisher: "p", Sequence: sequence, Body: fmt.Appendf(nil, `{"target":"ReceiveMessage","arguments":[%q]}`, text),
		}))
	}
	for _, payload := range []string{
		envelope(2, "first"), envelope(1, "late"), "\x02" + envelope(3, "new version")[1:], envelope(3, "cut off")[:3], "",
		envelope(4, "last"),
	} {
		if err := redis.Client().Publish(t.Context(), "user:ada", payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.expect(t, []string{"first", "last"})
	metrics := n.metrics(t)
	for reason, want := range map[string]int{"late": 1, "version": 1, "malformed": 2, "unsigned": 0, "forged": 0} {
		line := fmt.Sprintf("heliograph_backplane_dropped_total{reason=%q} %d\n", reason, want)
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics do not have %s", line)
		}
	}
}

// metrics returns what the node tells of itself.
func (n *node) metrics(t *testing.T) string {
	t.Helper()
	response, err := http.Get("http://" + n.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("metrics: %s, %v", response.Status, err)
	}
	return string(text)
}

// blocks returns the page's programs in the language.
func blocks(page, language string) (programs []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		programs = append(programs, m[1])
	}
	return programs
}

// redisCLI returns a PATH on which redis-cli speaks to the test's Redis by default.
func redisCLI(t *testing.T, host, port string) (path string) {
	t.Helper()
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nexec '%s' -h %s -p %s \"$@\"\n", cli, host, port)
	if err := os.WriteFile(filepath.Join(directory, "redis-cli"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return directory + string(os.PathListSeparator) + os.Getenv("PATH")
}

// A receiver is a client that keeps the private messages that it gets.
type receiver struct {
	name     string
	messages chan string
}

func receive(t *testing.T, n *node, user string, p protocol.Protocol) *receiver {
	t.Helper()
	r := &receiver{fmt.Sprint(p.Name(), " client at ", n.address), make(chan string, 100)}
	c, err := connect(t, n.address, user, client.WithProtocol(p))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.On("ReceiveMessage", func(text string) { r.messages <- text }); err != nil {
		t.Fatal(err)
	}
	return r
}

// expect waits for the messages, of which nothing may come between.
func (r *receiver) expect(t *testing.T, want []string) {
	t.Helper()
	for _, text := range want {
		select {
		case got := <-r.messages:
			if got != text {
				t.Errorf("%s got %q, want %q", r.name, got, text)
				return
			}
		case <-time.After(await.Deadline):
			t.Errorf("%s did not get %q", r.name, text)
			return
		}
	}
}
