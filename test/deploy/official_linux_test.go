package deploy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
)

// The official client connects by every transport through each balancer, whose files are
// those of the documentation, to two nodes that get its requests in turn.
func TestOfficialClientThroughBalancers(t *testing.T) {
	if _, err := os.Stat("../interop/node_modules/.package-lock.json"); err != nil {
		t.Fatal("the packages of the official client are not installed: make test-deps, or npm ci in test/interop")
	}
	for _, file := range []string{"official.mjs", "../interop/lib/client.mjs", "../interop/package-lock.json"} {
		readFile(t, file) // so that the go command runs the test anew when it changes
	}
	for name, balance := range map[string]func(*cluster, *testing.T){"HAProxy": (*cluster).startHAProxy, "nginx": (*cluster).startNginx} {
		t.Run(name, func(t *testing.T) {
			c := startNodes(t, 2, map[string]string{
				"HELIOGRAPH_ALLOW_ANONYMOUS": "false",
				"HELIOGRAPH_LOG_LEVEL":       "debug",
			})
			balance(c, t)
			ada, ben := userToken(t, "ada"), userToken(t, "ben")
			c.passesOn(t, ada, 0, 1)
			c.passesOn(t, ada, 1, 0)
			await.Until(t, "the balancer lets clients negotiate", func() error {
				_, err := negotiate(t.Context(), c.address, ada)
				return err
			})
			before := c.served("")

			script := exec.CommandContext(t.Context(), "node", "official.mjs")
			script.Env = append(os.Environ(), "URL=http://"+c.address, "ADA="+ada, "BEN="+ben)
			script.Cancel = func() error { return script.Process.Signal(syscall.SIGTERM) }
			script.WaitDelay = 10 * time.Second
			out, err := script.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if n := strings.Count(string(out), ": all has come\n"); n != 5 {
				t.Errorf("%d combinations came through:\n%s", n, out)
			}

			// 50 messages in each of three combinations are requests of their own.
			await.Until(t, "the balancer has logged all messages", func() error {
				if n := len(c.served("POST /chat")); n < 150 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
			by := make(map[string]int)
			for _, host := range c.served("")[len(before):] {
				by[host]++
			}
			for _, host := range c.hosts {
				if all := by[c.hosts[0]] + by[c.hosts[1]]; by[host] < all*2/5 {
					t.Errorf("of %d requests, %s got %d", all, host, by[host])
				}
			}
			for _, p := range append(c.nodes, c.balancer) {
				for _, token := range []string{ada, ben} {
					if signature := token[strings.LastIndexByte(token, '.')+1:]; strings.Contains(p.text(), signature) {
						t.Errorf("there are access tokens in the log of %s", p.command.Path)
					}
				}
				if strings.Contains(p.text(), "access_token") || strings.Contains(p.text(), "?id=") {
					t.Errorf("there are queries in the log of %s", p.command.Path)
				}
			}
		})
	}
}

// nginx does not ask nodes for their health: what a node that drains refuses goes to the
// next one.
func TestNginxGoesPastNodesThatDrain(t *testing.T) {
	c := startNodes(t, 2, map[string]string{"HELIOGRAPH_DRAIN_DELAY": "0s", "HELIOGRAPH_DRAIN_DURATION": "10m"})
	c.startNginx(t)
	access := userToken(t, "ada")
	leaving := net.JoinHostPort(c.hosts[0], c.clients)
	for range 5 { // that the node drains for minutes
		connect(t, leaving, access, "")
	}
	if err := c.nodes[0].command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the node takes no more connections", func() error {
		if _, err := negotiate(t.Context(), leaving, access); err == nil || !strings.Contains(err.Error(), "503") {
			return fmt.Errorf("negotiation: %w", err)
		}
		return nil
	})
	for range 4 {
		token, err := negotiate(t.Context(), c.address, access)
		if err != nil {
			t.Fatal(err)
		}
		connect(t, c.address, access, token)
	}
	if held := c.connections(t); held[1] != 4 {
		t.Errorf("the nodes have %v connections", held)
	}
	if text := c.balancer.text(); !strings.Contains(text, c.hosts[0]+":"+c.clients+", "+c.hosts[1]+":"+c.clients) {
		t.Errorf("the node that drains was not asked:\n%s", text)
	}
}

// passesOn waits until a node passes requests on to the connection's home: nodes learn of
// each other's address within seconds.
func (c *cluster) passesOn(t *testing.T, access string, from, home int) {
	t.Helper()
	ask := func(method string, node int, query, body string) error {
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+net.JoinHostPort(c.hosts[node], c.clients)+"/chat?id="+query, strings.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+access)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s at node %d: %s", method, node, response.Status)
		}
		return nil
	}
	await.Until(t, fmt.Sprintf("node %d passes on what is for node %d", from, home), func() error {
		connection, err := negotiate(t.Context(), net.JoinHostPort(c.hosts[from], c.clients), access)
		if err != nil {
			return err
		}
		id := url.QueryEscape(connection)
		return errors.Join(
			ask(http.MethodGet, home, id, ""), // the first poll is answered at once, and makes the home
			ask(http.MethodPost, from, id, "{\"protocol\":\"json\",\"version\":1}\x1e"),
			ask(http.MethodGet, from, id, ""),
		)
	})
}

// As the balancers log it: HAProxy the server and then the request, nginx the other way
// round.
var (
	servedHAProxy = regexp.MustCompile(`(?m) (127\.\S+):\d+ \S+ \d+ \d+ \S+ (\S+ \S+)$`)
	servedNginx   = regexp.MustCompile(`(?m)\] (\S+ \S+) \d+ (127\.\S+):\d+ \S+$`)
)

// served returns the addresses of the nodes that got requests, or those of one kind, such
// as "POST /chat", in the order in which they were answered.
func (c *cluster) served(request string) []string {
	var hosts []string
	text := c.balancer.text()
	for _, found := range servedHAProxy.FindAllStringSubmatch(text, -1) {
		if request == "" || found[2] == request {
			hosts = append(hosts, found[1])
		}
	}
	for _, found := range servedNginx.FindAllStringSubmatch(text, -1) {
		if request == "" || found[1] == request {
			hosts = append(hosts, found[2])
		}
	}
	return hosts
}
