package deploy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

// A cluster is what docker-compose.yml describes, on this machine: the real Redis,
// nodes and balancer, with the settings that they have there. Each node has an address
// of its own with the same ports, as a container has, and a name server knows them;
// only Linux has all of 127.0.0.0/8 for that.
type cluster struct {
	nodes          []*process
	hosts          []string // their addresses
	clients, admin string   // ports of each
	balancer       *process
	address        string // of the balancer
}

// startCluster starts nodes behind the balancer of docker-compose.yml.
func startCluster(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := startNodes(t, nodes, nil)
	c.startHAProxy(t)
	return c
}

// startNodes starts nodes, with settings beside those of docker-compose.yml, and no
// balancer.
func startNodes(t *testing.T, nodes int, settings map[string]string) *cluster {
	t.Helper()
	p := loaded(t)
	env := nodeEnv(t, p)
	redis := redistest.Start(t, p.Services["redis"].Command[1:]...)
	env["HELIOGRAPH_REDIS"] = redis.URL()
	env["HELIOGRAPH_DRAIN_DELAY"] = "1h" // what the balancer does meanwhile is its own doing
	maps.Copy(env, settings)

	c := &cluster{address: freeAddress(t)}
	for n := range nodes {
		c.hosts = append(c.hosts, fmt.Sprintf("127.0.0.%d", 2+n))
	}
	c.clients = freePort(t, c.hosts)
	c.admin = freePort(t, c.hosts)
	peers := freePort(t, c.hosts)
	for _, host := range c.hosts {
		env := maps.Clone(env)
		env["HELIOGRAPH_LISTEN"] = net.JoinHostPort(host, c.clients)
		env["HELIOGRAPH_ADMIN_LISTEN"] = net.JoinHostPort(host, c.admin)
		env["HELIOGRAPH_PEER_LISTEN"] = net.JoinHostPort(host, peers)
		c.nodes = append(c.nodes, start(t, built(t).node(), env))
	}
	for n, node := range c.nodes {
		node.answers(t, c.adminURL(n)+"/readyz")
	}
	for n := range c.nodes {
		hears(t, net.JoinHostPort(c.hosts[n], c.admin))
	}
	return c
}

// startHAProxy starts the balancer with deploy/haproxy.cfg.
func (c *cluster) startHAProxy(t *testing.T) {
	t.Helper()
	file := configured(t, "deploy/haproxy.cfg", [][2]string{
		{"bind :8080\n", "bind " + c.address + "\n"},
		{"127.0.0.11:53\n", serveNames(t, "node.", c.hosts) + "\n"},
		{" node:8080\n", " node:" + c.clients + "\n"},
		{"check port 8081 ", "check port " + c.admin + " "},
		{"maxconn 20000\n", "maxconn 200\n"}, // whatever this machine's limits are
	})
	c.balancer = start(t, haproxy(t), nil, "-db", "-f", file)
}

// startNginx starts the balancer with deploy/nginx.conf, as one process.
func (c *cluster) startNginx(t *testing.T) {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatalf("this test needs nginx 1.18 or later in the PATH (such as: apt-get install nginx-light): %v", err)
	}
	file := configured(t, "deploy/nginx.conf", [][2]string{
		{"listen 8080;", "listen " + c.address + ";"},
		{"server node-1:8080 ", "server " + net.JoinHostPort(c.hosts[0], c.clients) + " "},
		{"server node-2:8080 ", "server " + net.JoinHostPort(c.hosts[1], c.clients) + " "},
		{"worker_connections 16384;", "worker_connections 200;"}, // whatever this machine's limits are
	})
	write(t, file, strings.ReplaceAll(readFile(t, file), " /tmp/", " "+t.TempDir()+"/"))
	c.balancer = start(t, program, nil, "-c", file, "-g", "daemon off; master_process off;")
	await.Until(t, "nginx listens", func() error {
		conn, err := net.Dial("tcp", c.address)
		if err == nil {
			conn.Close()
		}
		return err
	})
}

// configured returns a file of the project with what has to be another on this machine.
func configured(t *testing.T, path string, changes [][2]string) string {
	t.Helper()
	config := read(t, path)
	for _, r := range changes {
		if strings.Count(config, r[0]) != 1 {
			t.Fatalf("%q is not once in %s", r[0], path)
		}
		config = strings.Replace(config, r[0], r[1], 1)
	}
	file := filepath.Join(t.TempDir(), filepath.Base(path))
	write(t, file, config)
	return file
}

func (c *cluster) adminURL(node int) string {
	return "http://" + net.JoinHostPort(c.hosts[node], c.admin)
}

var connectionsMetric = regexp.MustCompile(`(?m)^heliograph_hub_connections\{.*\} (\d+)$`)

// connections returns how many connections each node holds.
func (c *cluster) connections(t *testing.T) []int {
	t.Helper()
	var counts []int
	for n := range c.nodes {
		metrics, err := get(t.Context(), c.adminURL(n)+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		found := connectionsMetric.FindStringSubmatch(metrics)
		if found == nil {
			t.Fatal("there is no heliograph_hub_connections")
		}
		count, err := strconv.Atoi(found[1])
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, count)
	}
	return counts
}

var negotiation = regexp.MustCompile(`(?m) (127\.\S+):\d+ \S+ 200 \d+ \S+ POST /chat/negotiate$`)

// negotiated returns the addresses of the nodes that have negotiated, in order.
func (c *cluster) negotiated() []string {
	var hosts []string
	for _, found := range negotiation.FindAllStringSubmatch(c.balancer.text(), -1) {
		hosts = append(hosts, found[1])
	}
	return hosts
}

// balances waits until the balancer has found all nodes.
func (c *cluster) balances(t *testing.T, access string) {
	t.Helper()
	await.Until(t, "the balancer knows all nodes", func() error {
		if _, err := negotiate(t.Context(), c.address, access); err != nil {
			return err
		}
		asked := c.negotiated()
		slices.Sort(asked)
		if asked = slices.Compact(asked); len(asked) < len(c.hosts) {
			return fmt.Errorf("%v have been asked", asked)
		}
		return nil
	})
}

func freePort(t *testing.T, hosts []string) string {
	t.Helper()
	for range 50 {
		var listeners []net.Listener
		port := "0"
		for _, host := range hosts {
			l, err := net.Listen("tcp", net.JoinHostPort(host, port))
			if err != nil {
				break
			}
			listeners = append(listeners, l)
			_, port, _ = net.SplitHostPort(l.Addr().String())
		}
		for _, l := range listeners {
			l.Close()
		}
		if len(listeners) == len(hosts) {
			return port
		}
	}
	t.Fatalf("no port is free on all of %v", hosts)
	return ""
}

// serveNames starts a name server that knows one name, and returns its address. It ends
// with the test.
func serveNames(t *testing.T, name string, hosts []string) string {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends when the cleanup closes the socket
		defer close(ended)
		query := make([]byte, 4096)
		for {
			n, from, err := socket.ReadFrom(query)
			if err != nil {
				return
			}
			if reply, err := answerQuery(query[:n], name, hosts); err == nil {
				socket.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() {
		socket.Close()
		<-ended
	})
	return socket.LocalAddr().String()
}

func answerQuery(query []byte, name string, hosts []string) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil, err
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	reply := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	switch {
	case question.Name.String() != name:
		reply.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA:
		for _, host := range hosts {
			reply.Answers = append(reply.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte(net.ParseIP(host).To4())},
			})
		}
	}
	return reply.Pack()
}

func TestBalancedCluster(t *testing.T) {
	c := startCluster(t, 3)
	access := userToken(t, "ada")
	c.balances(t, access)
	var clients []*client
	open := func(connection string) {
		t.Helper()
		clients = append(clients, connect(t, c.address, access, connection))
	}

	for range 6 {
		open("")
	}
	if held := c.connections(t); !slices.Equal(held, []int{2, 2, 2}) {
		t.Fatalf("six connections are at the nodes as %v", held)
	}

	elsewhere := 0
	for range 3 {
		before, asked := c.connections(t), len(c.negotiated())
		token, err := negotiate(t.Context(), c.address, access)
		if err != nil {
			t.Fatal(err)
		}
		await.Until(t, "the balancer has logged the negotiation", func() error {
			if n := len(c.negotiated()); n != asked+1 {
				return fmt.Errorf("%d, there were %d", n, asked)
			}
			return nil
		})
		open(token)
		for n, count := range c.connections(t) {
			if count > before[n] && c.hosts[n] != c.negotiated()[asked] {
				elsewhere++
			}
		}
	}
	if elsewhere != 3 {
		t.Errorf("%d of 3 connections were opened at another node than the one that negotiated them", elsewhere)
	}

	for _, each := range clients {
		each.invoke("AddToGroup", "room")
	}
	clients[0].invoke("SendToGroup", "room", "to the group")
	clients[0].invoke("SendPrivateMessage", "ada", "to the user")
	for _, each := range clients {
		each.next(func(m message) bool { return m.Target == "Send" && slices.Equal(m.Arguments, []any{"to the group"}) })
		each.next(func(m message) bool {
			return m.Target == "ReceiveMessage" && slices.Equal(m.Arguments, []any{"to the user"})
		})
	}

	held := c.connections(t)
	if err := c.nodes[0].command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the balancer has noticed that a node drains", func() error {
		if !regexp.MustCompile(`Server nodes/\S+ is DOWN`).MatchString(c.balancer.text()) {
			return errors.New(tail(c.balancer.text()))
		}
		return nil
	})
	for range 4 {
		open("")
	}
	if now := c.connections(t); !slices.Equal(now, []int{held[0], held[1] + 2, held[2] + 2}) {
		t.Errorf("four connections turned %v into %v, and the first node drains", held, now)
	}
	if _, err := get(t.Context(), c.adminURL(0)+"/readyz"); err == nil {
		t.Error("the node that drains says that it is ready")
	}

	clients[1].socket.Close()
	await.Until(t, "the balancer has logged a WebSocket", func() error {
		if !strings.Contains(c.balancer.text(), " GET /chat\n") {
			return errors.New(tail(c.balancer.text()))
		}
		return nil
	})
	if strings.Contains(c.balancer.text(), access) {
		t.Error("there are access tokens in the balancer's log")
	}
}
