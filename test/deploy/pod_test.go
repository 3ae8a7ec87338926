package deploy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

// The first commands of k8s/README.md, run with a kubectl that only writes down what it
// is told, make a secret with which a node, set up as a pod of the deployment is, starts
// and answers its probes.
func TestPodRuns(t *testing.T) {
	objects := whole(t)
	secret := followREADME(t)
	checkSecret(t, objects, secret)

	redis := redistest.Start(t, "--requirepass", secret["redis-password"])
	service := one[*corev1.Service](t, objects, "heliograph-redis")
	config := strings.ReplaceAll(secret["secrets.yaml"], fmt.Sprintf("%s:%d", service.Name, service.Spec.Ports[0].Port), redis.Addr())
	p := nodePod(t, objects)
	p.env["HELIOGRAPH_CONFIG"] = filepath.Join(t.TempDir(), "secrets.yaml")
	write(t, p.env["HELIOGRAPH_CONFIG"], config)
	p.env["HELIOGRAPH_LISTEN"] = freeAddress(t)
	admin := freeAddress(t)
	p.env["HELIOGRAPH_ADMIN_LISTEN"] = admin
	p.env["HELIOGRAPH_PEER_LISTEN"] = freeAddress(t)
	p.env["HELIOGRAPH_PEER_ADVERTISE"] = "127.0.0.1"

	node := start(t, built(t).node(), p.env)
	for _, probe := range []*corev1.Probe{p.container.StartupProbe, p.container.LivenessProbe, p.container.ReadinessProbe} {
		node.answers(t, "http://"+admin+probe.HTTPGet.Path)
	}
	hears(t, admin)
	if !strings.Contains(node.text(), `"level":"INFO"`) {
		t.Errorf("the log is no JSON:\n%s", node.text())
	}

	metrics, err := get(t.Context(), "http://"+admin+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range documents {
		for _, name := range metricName.FindAllString(read(t, document), -1) {
			if !strings.Contains(metrics, "\n"+name+" ") && !strings.Contains(metrics, "\n"+name+"{") && !strings.Contains(metrics, "\n"+name+"_bucket{") {
				t.Errorf("%s: there is no metric %s", document, name)
			}
		}
	}
}

var metricName = regexp.MustCompile(`\b(?:heliograph_(?:hub|backplane)|process)_[a-z_]+\b`)

// The rights of docs/redis.md are enough for a node.
func TestRedisPermissions(t *testing.T) {
	command := regexp.MustCompile("(?s)```sh acl=server\n(.*?)```").FindStringSubmatch(read(t, "docs/redis.md"))
	if command == nil {
		t.Fatal("docs/redis.md has no acl=server")
	}
	var arguments []any
	for _, word := range strings.Fields(command[1]) {
		arguments = append(arguments, strings.Trim(word, "'"))
	}
	redis := redistest.Start(t)
	if err := redis.Client().Do(t.Context(), arguments...).Err(); err != nil {
		t.Fatal(err)
	}
	address, admin := freeAddress(t), freeAddress(t)
	node := start(t, built(t).node(), map[string]string{
		"HELIOGRAPH_LISTEN":       address,
		"HELIOGRAPH_ADMIN_LISTEN": admin,
		"HELIOGRAPH_JWT_SECRET":   jwtSecret,
		"HELIOGRAPH_REDIS":        "redis://node:the-password@" + redis.Addr(),
	})
	node.answers(t, "http://"+admin+"/readyz")
	c := connect(t, address, userToken(t, "ada"), "")
	c.invoke("AddToGroup", "room")
	c.next(func(m message) bool { return m.Target == "Send" })
	c.invoke("SendPrivateMessage", "ada", "hello")
	c.next(func(m message) bool { return m.Target == "ReceiveMessage" })
	hears(t, admin)
	if channels := redis.Channels(t); len(channels) < 4 {
		t.Errorf("the node subscribes to %q only: was it another Redis?", channels)
	}
}

// hears waits until a node hears its own probe through Redis.
func hears(t *testing.T, admin string) {
	t.Helper()
	await.Until(t, "the node hears its own probe", func() error {
		verbose, err := get(t.Context(), "http://"+admin+"/readyz?verbose")
		if err == nil && !strings.Contains(verbose, "[+] backplane") {
			err = errors.New(verbose)
		}
		return err
	})
}

// followREADME returns the secret that the first commands of k8s/README.md make.
func followREADME(t *testing.T) map[string]string {
	t.Helper()
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(read(t, "k8s/README.md"))
	if block == nil {
		t.Fatal("k8s/README.md has no commands")
	}
	bin, out := t.TempDir(), t.TempDir()
	// Writes the literals of `kubectl create secret` into a file each.
	stand := `#!/bin/sh
for a; do case $a in --from-literal=*)
	a=${a#--from-literal=}
	printf %s "${a#*=}" > "$OUT/${a%%=*}"
esac; done
`
	for name, script := range map[string]string{"kubectl": stand, "docker": "#!/bin/sh\n"} {
		write(t, filepath.Join(bin, name), script)
		if err := os.Chmod(filepath.Join(bin, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	shell := exec.Command("sh", "-e", "-c", block[1])
	shell.Dir = root
	shell.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "OUT="+out)
	if output, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	files, err := os.ReadDir(out)
	if err != nil {
		t.Fatal(err)
	}
	secret := make(map[string]string)
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(out, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		secret[f.Name()] = string(content)
	}
	return secret
}

// freeAddress returns an address on which nobody listened just now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
