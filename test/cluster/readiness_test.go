package cluster

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

// readiness returns what /readyz says.
func (n *node) readiness() (status int, report string, err error) {
	answer, err := http.Get("http://" + n.admin + "/readyz?verbose")
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

func (n *node) awaitReadiness(what string, status int, contained string) {
	n.t.Helper()
	await.Until(n.t, what, func() error {
		got, report, err := n.readiness()
		if err == nil && (got != status || !strings.Contains(report, contained)) {
			err = fmt.Errorf("/readyz: %d %q", got, report)
		}
		return err
	})
}

// Of a node that Redis is lost to, another one tells whether that is its own trouble.
func TestReadiness(t *testing.T) {
	server := redistest.Start(t)
	near, far := redistest.NewProxy(t, server), redistest.NewProxy(t, server)
	flags := []string{"--jwt-secret", "a secret of thirty-two bytes, or more", "--peer-listen", "127.0.0.1:0"}
	one := startNode(t, append(flags, "--redis", near.URL())...)
	two := startNode(t, append(flags, "--redis", far.URL())...)
	strict := startNode(t, append(flags, "--redis", far.URL(), "--strict-readiness")...)
	nodes := []*node{one, two, strict}
	for _, n := range nodes {
		n.awaitReadiness("it hears", 200, "[+] backplane: ok")
	}
	await.Until(t, "the nodes know each other", func() error {
		n, err := server.Client().SCard(t.Context(), "heliograph:nodes").Result()
		if err == nil && n != 3 {
			err = errors.New("not all are announced")
		}
		return err
	})

	far.Refuse(true)
	far.Cut()
	two.awaitReadiness("the node that is cut off is not ready", 503, ", while node ")
	one.awaitReadiness("the other one is", 200, "[+] backplane: ok")
	strict.awaitReadiness("a strict node is not ready", 503, "[-] backplane: ")
	far.Refuse(false)
	two.awaitReadiness("the node is ready again", 200, "[+] backplane: ok")
	strict.awaitReadiness("the strict node is ready again", 200, "[+] backplane: ok")

	server.Stop()
	for _, n := range []*node{one, two} {
		n.awaitReadiness("it stays ready while nobody hears", 200, "no other node is known to")
	}
	strict.awaitReadiness("the strict node does not", 503, "[-] backplane: ")
	server.Restart()
	for _, n := range nodes {
		n.awaitReadiness("it hears again", 200, "[+] backplane: ok")
	}
}
