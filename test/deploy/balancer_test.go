package deploy

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// balancerFile is the balancer's configuration, read line by line.
type balancerFile struct {
	t          *testing.T
	directives map[string][]string // arguments, by keyword; "timeout x" is one keyword
}

func readBalancer(t *testing.T) balancerFile {
	t.Helper()
	c := balancerFile{t, make(map[string][]string)}
	for line := range strings.Lines(read(t, "deploy/haproxy.cfg")) {
		line, _, _ = strings.Cut(line, "#")
		keyword, arguments, _ := strings.Cut(strings.TrimSpace(line), " ")
		if keyword == "timeout" || keyword == "option" || keyword == "http-check" {
			var second string
			second, arguments, _ = strings.Cut(arguments, " ")
			keyword += " " + second
		}
		c.directives[keyword] = append(c.directives[keyword], strings.TrimSpace(arguments))
	}
	return c
}

// one returns the arguments of a keyword that has to be there exactly once.
func (c balancerFile) one(keyword string) string {
	c.t.Helper()
	if n := len(c.directives[keyword]); n != 1 {
		c.t.Fatalf("%q is there %d times", keyword, n)
	}
	return c.directives[keyword][0]
}

func (c balancerFile) want(keyword, part string) {
	c.t.Helper()
	if got := c.one(keyword); !strings.Contains(got+" ", part+" ") {
		c.t.Errorf("%s %s: want %q in it", keyword, got, part)
	}
}

func (c balancerFile) number(keyword, pattern string) int {
	c.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(c.one(keyword))
	if found == nil {
		c.t.Fatalf("%s %s: want %s in it", keyword, c.one(keyword), pattern)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

func (c balancerFile) duration(keyword string) time.Duration {
	c.t.Helper()
	d, err := time.ParseDuration(c.one(keyword))
	if err != nil {
		c.t.Fatalf("%s: %v", keyword, err)
	}
	return d
}

func port(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func haproxy(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		t.Fatalf("this test needs haproxy 2.6 or later in the PATH (such as: apt-get install haproxy): %v", err)
	}
	return program
}

func TestBalancerIsAccepted(t *testing.T) {
	out, err := exec.Command(haproxy(t), "-c", "-f", filepath.Join(root, "deploy/haproxy.cfg")).CombinedOutput()
	if err != nil || strings.Contains(string(out), "[WARNING]") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestBalancerNumbers(t *testing.T) {
	c := readBalancer(t)
	env := nodeEnv(t, loaded(t))

	seen := time.Duration(c.number("default-server", `inter (\d+)s`))*time.Second + c.duration("timeout check")
	seen *= time.Duration(c.number("default-server", `fall (\d+)`))
	if delay := setting(t, env, "HELIOGRAPH_DRAIN_DELAY"); seen >= delay {
		t.Errorf("a node that drains takes connections for %v, and may be unnoticed for %v", delay, seen)
	}
	for _, name := range []string{"HELIOGRAPH_KEEP_ALIVE_INTERVAL", "HELIOGRAPH_CLIENT_TIMEOUT_INTERVAL"} {
		if silence, d := c.duration("timeout tunnel"), setting(t, env, name); silence < 2*d {
			t.Errorf("WebSockets are cut after %v of silence, and %s is %v", silence, name, d)
		}
	}
	if method := c.one("balance"); method != "roundrobin" {
		t.Errorf("balance %s", method)
	}
	for _, sticky := range []string{"cookie", "stick-table", "stick", "option httplog"} {
		if _, there := c.directives[sticky]; there {
			t.Errorf("%q has no place here", sticky)
		}
	}
	if strings.Contains(c.one("default-server"), "shutdown-sessions") {
		t.Error("a node that drains is cut off from its clients")
	}
}
