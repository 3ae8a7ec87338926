package main

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/transport"
)

const secret = "a shared secret of thirty-two bytes or more"

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name      string
		file      string
		env       map[string]string
		arguments []string
		check     func(config) bool
		err       string // is contained
	}{
		{name: "defaults", arguments: []string{"--allow-anonymous"}, check: func(c config) bool {
			return c.Listen == ":8080" && c.Redis == "" && c.KeepAliveInterval == 15*time.Second && c.MaximumReceiveMessageSize == 32768
		}},
		{name: "file", file: "allow-anonymous: true\nlisten: a:1\nkeep-alive-interval: 7s\nmaximum-receive-message-size: 9\n",
			check: func(c config) bool {
				return c.Listen == "a:1" && c.KeepAliveInterval == 7*time.Second && c.MaximumReceiveMessageSize == 9 && c.AllowAnonymous
			}},
		{name: "environment before file", file: "allow-anonymous: true\nlisten: a:1", env: map[string]string{"HELIOGRAPH_LISTEN": "b:2"},
			check: func(c config) bool { return c.Listen == "b:2" && c.AllowAnonymous }},
		{name: "flag before environment", file: "listen: a:1", env: map[string]string{"HELIOGRAPH_LISTEN": "b:2"},
			arguments: []string{"--listen", "c:3", "--allow-anonymous"}, check: func(c config) bool { return c.Listen == "c:3" }},
		{name: "several cluster keys", arguments: []string{"--jwt-secret", secret, "--cluster-key", "one, and a comma", "--cluster-key", "two"},
			check: func(c config) bool {
				return len(c.ClusterKey) == 2 && c.ClusterKey[0] == "one, and a comma" && c.ClusterKey[1] == "two"
			}},
		{name: "several cluster keys in a file", file: "allow-anonymous: true\ncluster-key: [one, two]",
			check: func(c config) bool { return len(c.ClusterKey) == 2 && c.ClusterKey[1] == "two" }},
		{name: "lists", arguments: []string{"--allow-anonymous", "--allowed-origins", "https://a.example,https://b.example", "--trusted-proxies", "10.0.0.0/8,fd00::/8", "--transports", "WebSockets"},
			check: func(c config) bool {
				return slices.Equal(c.AllowedOrigins, []string{"https://a.example", "https://b.example"}) &&
					slices.Equal(c.TrustedProxies, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}) &&
					slices.Equal(c.Transports, []transport.Kind{transport.WebSockets})
			}},
		{name: "lists in a file", file: "allow-anonymous: true\nallowed-origins: [\"https://a.example\", \"https://b.example\"]\ntrusted-proxies: [10.0.0.0/8, \"fd00::/8\"]\ntransports: [WebSockets, LongPolling]\n",
			check: func(c config) bool {
				return len(c.AllowedOrigins) == 2 && len(c.TrustedProxies) == 2 && len(c.Transports) == 2
			}},
		{name: "what is on can be turned off", arguments: []string{"--allow-anonymous", "--no-allow-credentials"}, env: map[string]string{"HELIOGRAPH_STATEFUL_RECONNECTS": "false"},
			check: func(c config) bool { return !c.AllowCredentials && !c.StatefulReconnects }},
		{name: "no network", arguments: []string{"--allow-anonymous", "--trusted-proxies", "10.0.0.1"}, err: "trusted-proxies"},
		{name: "no transport", arguments: []string{"--allow-anonymous", "--transports", "WebSockets,Pigeons"}, err: "--transports"},
		{name: "certificate without a key", arguments: []string{"--allow-anonymous", "--tls-cert", "a"}, err: "--tls-key"},
		{name: "key without a certificate", arguments: []string{"--allow-anonymous", "--tls-key", "a"}, err: "--tls-cert"},
		{name: "certificate for nodes without authorities", arguments: []string{"--allow-anonymous", "--peer-tls-cert", "a", "--peer-tls-key", "b"}, err: "--peer-tls-ca"},
		{name: "authorities without a certificate for nodes", arguments: []string{"--allow-anonymous", "--peer-tls-ca", "a"}, err: "--peer-tls-cert"},
		{name: "empty file", file: "\n", arguments: []string{"--allow-anonymous"}, check: func(c config) bool { return c.Listen == ":8080" }},
		{name: "unknown setting in file", file: "lisen: a:1", arguments: []string{"--allow-anonymous"}, err: `there is no setting "lisen"`},
		{name: "file is not YAML", file: "{", arguments: []string{"--allow-anonymous"}, err: "read config file"},
		{name: "unknown flag", arguments: []string{"--allow-anonymous", "--nope"}, err: "--nope"},
		{name: "nobody could connect", err: "nobody could connect"},
		{name: "no key to share", arguments: []string{"--allow-anonymous", "--redis", "redis://localhost"}, err: "--cluster-key"},
		{name: "demo in a cluster", arguments: []string{"--demo", "--jwt-secret", secret, "--redis", "redis://localhost"}, err: "--demo-force"},
		{name: "demo in a cluster, forced", arguments: []string{"--demo-force", "--jwt-secret", secret, "--redis", "redis://localhost"}, check: func(c config) bool { return c.demo() }},
		{name: "demo needs no secret", arguments: []string{"--demo"}, check: func(c config) bool { return c.demo() }},
		{name: "key from secret", arguments: []string{"--jwt-secret", secret, "--redis", "redis://localhost"}, check: func(c config) bool { return c.Redis != "" }},
		{name: "bad duration", arguments: []string{"--allow-anonymous", "--keep-alive-interval", "soon"}, err: "soon"},
		{name: "bad log format", arguments: []string{"--allow-anonymous", "--log-format", "xml"}, err: "log-format"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			arguments := tt.arguments
			if tt.file != "" {
				file := filepath.Join(t.TempDir(), "node.yaml")
				if err := os.WriteFile(file, []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
				arguments = append([]string{"--config", file}, arguments...)
			}
			c, err := parse(arguments, io.Discard)
			switch {
			case tt.err == "" && err != nil:
				t.Fatal(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Fatalf("got %v, want an error that contains %q", err, tt.err)
			case tt.err == "" && !tt.check(c):
				t.Errorf("got %+v", c)
			}
		})
	}
}
