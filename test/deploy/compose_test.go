package deploy

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/heliograph/heliograph/internal/redistest"
)

const jwtSecret = "a secret of thirty-two bytes, or of more"

// compose loads docker-compose.yml as `docker compose` does, with this environment and
// no .env file.
func compose(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")}, cli.WithEnv(env))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func loaded(t *testing.T) *types.Project {
	t.Helper()
	p, err := compose(t, "HELIOGRAPH_JWT_SECRET="+jwtSecret)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// nodeEnv returns the variables that a node of the Compose file gets.
func nodeEnv(t *testing.T, p *types.Project) map[string]string {
	t.Helper()
	env := make(map[string]string)
	for name, value := range p.Services["node"].Environment {
		if value == nil {
			t.Fatalf("%s has no value of its own: it depends on who starts it", name)
		}
		env[name] = *value
	}
	return env
}

func TestComposeWantsSecret(t *testing.T) {
	for _, env := range [][]string{nil, {"HELIOGRAPH_JWT_SECRET="}} {
		_, err := compose(t, env...)
		if err == nil || !strings.Contains(err.Error(), "HELIOGRAPH_JWT_SECRET is missing") || !strings.Contains(err.Error(), ".env") {
			t.Errorf("with %q: %v, which does not help", env, err)
		}
	}
}

func TestComposeImages(t *testing.T) {
	for name, s := range loaded(t).Services {
		if s.Build == nil && !isPinned(s.Image) {
			t.Errorf("%s runs %s: say its whole version", name, s.Image)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Privileged {
			t.Errorf("%s may more than it has to", name)
		}
	}
}

// Nothing in the file speaks TLS or asks for a password.
func TestComposeKeepsToThisMachine(t *testing.T) {
	p := loaded(t)
	published := 0
	for name, s := range p.Services {
		for _, port := range s.Ports {
			if published++; port.HostIP != "127.0.0.1" {
				t.Errorf("%s is published at %q", name, port.HostIP)
			}
			if name != "balancer" {
				t.Errorf("%s is published and is not the balancer", name)
			}
		}
	}
	if published != 1 {
		t.Errorf("%d ports are published", published)
	}
	for name, s := range p.Services {
		for network := range s.Networks {
			if network == "backplane" && name != "node" && name != "redis" || network != "backplane" && name == "redis" {
				t.Errorf("%s is on the network %s", name, network)
			}
		}
	}
	if !p.Networks["backplane"].Internal {
		t.Error("Redis' network leads outside")
	}
}

func TestComposeNodes(t *testing.T) {
	p := loaded(t)
	node := p.Services["node"]
	if node.Deploy == nil || node.Deploy.Replicas == nil || *node.Deploy.Replicas < 2 {
		t.Error("that is no cluster")
	}
	if len(node.Ports) > 0 || node.ContainerName != "" {
		t.Error("a port or a name is there only once, and there are several nodes")
	}
	env := nodeEnv(t, p)
	checkGrace(t, env, time.Duration(*node.StopGracePeriod))
	for name := range env {
		if _, ok := program(t).env[name]; !ok {
			t.Errorf("the program has no variable %s", name)
		}
	}

	demo, err := compose(t, "HELIOGRAPH_JWT_SECRET="+jwtSecret, "HELIOGRAPH_DEMO=true")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"HELIOGRAPH_DEMO", "HELIOGRAPH_DEMO_FORCE"} {
		if off, on := env[name], nodeEnv(t, demo)[name]; off != "false" || on != "true" {
			t.Errorf("%s is %q, and %q when it is asked for", name, off, on)
		}
	}
}

// checkGrace checks that a node may take as long to leave as it is told to.
func checkGrace(t *testing.T, env map[string]string, grace time.Duration) {
	t.Helper()
	needed := drain(t, env) + setting(t, env, "HELIOGRAPH_SHUTDOWN_TIMEOUT")
	if grace < needed+time.Second || grace > needed+15*time.Second {
		t.Errorf("a node has %v to end, and needs %v", grace, needed)
	}
}

// drain returns how long it is from a node's SIGTERM until its last client has been
// told to go.
func drain(t *testing.T, env map[string]string) time.Duration {
	t.Helper()
	return setting(t, env, "HELIOGRAPH_DRAIN_DELAY") + setting(t, env, "HELIOGRAPH_DRAIN_DURATION")
}

// setting returns what a setting is: what the variables say, or the default.
func setting(t *testing.T, env map[string]string, name string) time.Duration {
	t.Helper()
	flag, ok := program(t).env[name]
	if !ok {
		t.Fatalf("the program has no variable %s", name)
	}
	value, ok := env[name]
	if !ok {
		value = program(t).defaults[flag]
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// The balancer finds nodes by their service's name and ports.
func TestComposeBalancer(t *testing.T) {
	p := loaded(t)
	balancer := p.Services["balancer"]
	mounted := slices.ContainsFunc(balancer.Volumes, func(v types.ServiceVolumeConfig) bool {
		source, err := filepath.Abs(filepath.Join(root, "deploy/haproxy.cfg"))
		return err == nil && v.Source == source && v.Target == "/usr/local/etc/haproxy/haproxy.cfg" && v.ReadOnly
	})
	if !mounted {
		t.Errorf("deploy/haproxy.cfg is not where HAProxy's image reads it: %v", balancer.Volumes)
	}
	env := nodeEnv(t, p)
	c := readBalancer(t)
	c.want("server-template", "node"+env["HELIOGRAPH_LISTEN"])
	c.want("default-server", "check port "+strings.TrimPrefix(env["HELIOGRAPH_ADMIN_LISTEN"], ":"))
	if published := balancer.Ports[0]; !strings.HasSuffix(c.one("bind"), ":"+port(published.Target)) {
		t.Errorf("port %d is published, and the balancer binds %s", published.Target, c.one("bind"))
	}
	if slots := c.number("server-template", `^\S+ (\d+) `); slots < *p.Services["node"].Deploy.Replicas {
		t.Errorf("%d slots for %d nodes", slots, *p.Services["node"].Deploy.Replicas)
	}
	if limit := balancer.Ulimits["nofile"]; limit == nil || limit.Single < 2*c.number("maxconn", `(\d+)`)+1000 {
		t.Errorf("%v files for %s clients", limit, c.one("maxconn"))
	}
}

// A real Redis takes the arguments, and is what they ask for.
func TestComposeRedis(t *testing.T) {
	command := loaded(t).Services["redis"].Command
	if command[0] != "redis-server" {
		t.Fatalf("Redis is started by %q", command)
	}
	redis := redistest.Start(t, command[1:]...)
	for name, want := range map[string]string{
		"save":                       "",
		"appendonly":                 "no",
		"client-output-buffer-limit": "pubsub 134217728 67108864 60",
	} {
		got, err := redis.Client().ConfigGet(t.Context(), name).Result()
		if err != nil || !strings.HasSuffix(got[name], want) {
			t.Errorf("%s is %q (%v), want %q", name, got[name], err, want)
		}
	}
}
