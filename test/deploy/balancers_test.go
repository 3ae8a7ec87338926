package deploy

import (
	"regexp"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// pollSilence is how long a node says nothing while a client polls.
func pollSilence(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(defaultOf(t, "long-polling-timeout"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// nginx waits for longer than nodes are silent, and keeps nobody at a node.
func TestNginxNumbers(t *testing.T) {
	config := read(t, "deploy/nginx.conf")
	directives := make(map[string][]string)
	for line := range strings.Lines(config) {
		line, _, _ = strings.Cut(line, "#")
		keyword, arguments, _ := strings.Cut(strings.TrimSpace(line), " ")
		directives[keyword] = append(directives[keyword], strings.TrimSuffix(arguments, ";"))
	}
	poll := pollSilence(t)
	for _, keyword := range []string{"proxy_read_timeout", "proxy_send_timeout"} {
		if len(directives[keyword]) != 1 {
			t.Fatalf("%s is there %d times", keyword, len(directives[keyword]))
		}
		if d, err := time.ParseDuration(directives[keyword][0]); err != nil || d < poll+10*time.Second {
			t.Errorf("%s %s: %v, and polls last %v", keyword, directives[keyword][0], err, poll)
		}
	}
	for keyword, want := range map[string]string{"proxy_buffering": "off", "proxy_http_version": "1.1"} {
		if got := strings.Join(directives[keyword], " "); got != want {
			t.Errorf("%s %s, want %s", keyword, got, want)
		}
	}
	for _, sticky := range []string{"ip_hash", "hash", "sticky", "random"} {
		if _, there := directives[sticky]; there {
			t.Errorf("%q has no place here", sticky)
		}
	}
	// What a node may have seen is not sent again, but for what changes nothing.
	for _, next := range directives["proxy_next_upstream"] {
		if next != "error http_503" && next != "error http_503 non_idempotent" {
			t.Errorf("proxy_next_upstream %s", next)
		}
	}
	for _, whole := range []string{"$request ", "$request_uri", "$args", "$query_string"} {
		if strings.Contains(strings.Join(directives["log_format"], " ")+" ", whole) {
			t.Errorf("%s has tokens in it, and is logged", whole)
		}
	}
}

func TestHAProxyWaitsForPolls(t *testing.T) {
	c := readBalancer(t)
	poll := pollSilence(t)
	for _, keyword := range []string{"timeout client", "timeout server"} {
		if d := c.duration(keyword); d < poll+10*time.Second {
			t.Errorf("%s is %v, and polls last %v", keyword, d, poll)
		}
	}
}

// What docs/load-balancers.md has for those who are not run here is at least well-formed,
// and says the same.
func TestDocumentedBalancers(t *testing.T) {
	text := read(t, "docs/load-balancers.md")
	poll := pollSilence(t)
	seen := make(map[string]bool)
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(text, -1) {
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := yaml.UnmarshalStrict([]byte(block[1]), new(map[string]any)); err != nil {
			t.Errorf("%v in:\n%s", err, block[1])
			continue
		}
		if err := yaml.Unmarshal([]byte(block[1]), &kind); err != nil {
			t.Fatal(err)
		}
		seen[kind.Kind] = true
		switch kind.Kind {
		case "": // Envoy's
			checkEnvoy(t, []byte(block[1]), poll)
		case "Ingress":
			checkIngress(t, []byte(block[1]), poll)
		}
	}
	for _, kind := range []string{"", "Ingress", "BackendConfig"} {
		if !seen[kind] {
			t.Errorf("no %q was found: %v", kind, seen)
		}
	}
	for _, section := range []string{"## Envoy", "## AWS", "## Google Cloud", "## Azure"} {
		_, after, found := strings.Cut(text, "\n"+section)
		if own, _, _ := strings.Cut(after, "\n## "); !found || !strings.Contains(own, "Not run by the tests.") {
			t.Errorf("%s does not say that it has not been run", section)
		}
	}
	for _, file := range []string{"haproxy.cfg", "nginx.conf"} {
		if !strings.Contains(text, "(../deploy/"+file+")") {
			t.Errorf("%s is not mentioned", file)
		}
	}
}

func checkEnvoy(t *testing.T, document []byte, poll time.Duration) {
	t.Helper()
	var config struct {
		StaticResources struct {
			Listeners []struct {
				FilterChains []struct {
					Filters []struct {
						TypedConfig struct {
							UpgradeConfigs    []map[string]string `json:"upgrade_configs"`
							StreamIdleTimeout string              `json:"stream_idle_timeout"`
							RouteConfig       struct {
								VirtualHosts []struct {
									Routes []struct {
										Route struct {
											Cluster, Timeout string
										}
									}
								} `json:"virtual_hosts"`
							} `json:"route_config"`
						} `json:"typed_config"`
					}
				} `json:"filter_chains"`
			}
			Clusters []struct {
				Name     string
				LBPolicy string `json:"lb_policy"`
			}
		} `json:"static_resources"`
	}
	if err := yaml.Unmarshal(document, &config); err != nil {
		t.Fatal(err)
	}
	cluster := config.StaticResources.Clusters[0]
	manager := config.StaticResources.Listeners[0].FilterChains[0].Filters[0].TypedConfig
	route := manager.RouteConfig.VirtualHosts[0].Routes[0].Route
	if cluster.LBPolicy != "ROUND_ROBIN" || route.Cluster != cluster.Name || route.Timeout != "0s" {
		t.Errorf("Envoy: %+v to %+v", route, cluster)
	}
	if len(manager.UpgradeConfigs) != 1 || manager.UpgradeConfigs[0]["upgrade_type"] != "websocket" {
		t.Errorf("Envoy: upgrades %v", manager.UpgradeConfigs)
	}
	if d, err := time.ParseDuration(manager.StreamIdleTimeout); err != nil || d < poll+10*time.Second {
		t.Errorf("Envoy: stream_idle_timeout %s, and polls last %v", manager.StreamIdleTimeout, poll)
	}
}

// checkIngress checks that it leads to the service in k8s.
func checkIngress(t *testing.T, document []byte, poll time.Duration) {
	t.Helper()
	var ingress networkingv1.Ingress
	if err := yaml.UnmarshalStrict(document, &ingress); err != nil {
		t.Fatal(err)
	}
	for name, value := range ingress.Annotations {
		if strings.Contains(name, "affinity") {
			t.Errorf("%s: %s", name, value)
		}
		if strings.HasSuffix(name, "-timeout") {
			if d, err := time.ParseDuration(value + "s"); err != nil || d < poll+10*time.Second {
				t.Errorf("%s: %s, and polls last %v", name, value, poll)
			}
		}
	}
	backend := ingress.Spec.Rules[0].HTTP.Paths[0].Backend.Service
	if backend.Name != "heliograph" || backend.Port.Name != "clients" || ingress.Namespace != "heliograph" {
		t.Errorf("the ingress leads to %+v in %s", backend, ingress.Namespace)
	}
}
