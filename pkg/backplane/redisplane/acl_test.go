package redisplane

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// documentedUser gives the server the user that docs/redis.md has under the name, and the
// further rules.
func documentedUser(t *testing.T, s *redistest.Server, name string, further ...any) {
	t.Helper()
	if err := s.Client().Do(inTime(t), append(documentedRules(t, name), further...)...).Err(); err != nil {
		t.Fatal(err)
	}
}

// documentedRules returns the words of the command that docs/redis.md has under the name.
func documentedRules(t *testing.T, name string) (words []any) {
	t.Helper()
	page, err := os.ReadFile("../../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile("(?s)```sh acl=" + name + "\n(.*?)```").FindSubmatch(page)
	if command == nil {
		t.Fatalf("docs/redis.md has no acl=%s", name)
	}
	for _, word := range strings.Fields(string(command[1])) {
		words = append(words, strings.Trim(word, "'"))
	}
	return words
}

// checkUsed checks that some of the servers have been sent each command that the rules
// allow: those that nobody sends need not be allowed.
func checkUsed(t *testing.T, name string, servers ...*redistest.Server) {
	t.Helper()
	stats := ""
	for _, s := range servers {
		text, err := s.Client().Info(inTime(t), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		stats += text
	}
	for _, rule := range documentedRules(t, name) {
		command, isCommand := strings.CutPrefix(fmt.Sprint(rule), "+")
		if isCommand && !regexp.MustCompile(`cmdstat_`+regexp.QuoteMeta(command)+`:calls=[1-9]`).MatchString(stats) {
			t.Errorf("%s is allowed, and nobody has sent it", command)
		}
	}
}

// The contract holds with the rights of docs/redis.md, but for the channels of its own that
// it uses.
func TestContractWithRights(t *testing.T) {
	server := redistest.Start(t)
	documentedUser(t, server, "server", "allchannels")
	if err := server.Client().SAdd(inTime(t), rosterKey, "gone").Err(); err != nil { // to be removed
		t.Fatal(err)
	}
	runContract(t, Options{URL: "redis://node:the-password@" + server.Addr()})
	checkUsed(t, "server", server)
}

// exerciseRights runs the contract, or where time matters what needs the rights of it.
func exerciseRights(t *testing.T, o Options) {
	t.Helper()
	if soak() {
		runContract(t, o)
		return
	}
	n := start(t, o.URL, func(other *Options) {
		o.Logger = other.Logger
		*other = o
	})
	n.join(t, "user:ada")
	n.send(t, "hi", "user:ada")
	n.awaitLast(t, "user:ada hi")
	claim(t, n, "c")
	for method, err := range methods(inTime(t), n, "c", 1) {
		if err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	if _, err := n.PublishKept(inTime(t), []byte("kept"), "user:ada"); err != nil {
		t.Error(err)
	}
	if _, err := n.Nodes(inTime(t)); err != nil {
		t.Error(err)
	}
}

func TestSentinelsWithRights(t *testing.T) {
	sentinels := redistest.StartSentinels(t)
	for _, s := range sentinels.Servers {
		documentedUser(t, s, "server", "allchannels")
	}
	for _, s := range sentinels.Sentinels {
		documentedUser(t, s, "sentinel")
	}
	url := strings.Replace(sentinels.URL(), "://", "://node:the-password@", 1)
	wrong := startDeaf(t, url+"?sentinel_username=watcher&sentinel_password=wrong")
	await.Until(t, "the node says why it is deaf", func() error {
		if err := wrong.Healthy(); err == nil || !strings.Contains(err.Error(), "WRONGPASS") || strings.Contains(err.Error(), "the-password") {
			return fmt.Errorf("it says %v", err)
		}
		return nil
	})
	exerciseRights(t, Options{
		URL: url, SentinelUsername: "watcher", SentinelPassword: "the-other-password", ProbeInterval: time.Second,
	})
}

func TestClusterWithRights(t *testing.T) {
	cluster := redistest.StartCluster(t)
	for _, s := range cluster.Servers {
		documentedUser(t, s, "cluster", "allchannels")
	}
	url := strings.Replace(cluster.URL(), "://", "://node:the-password@", 1) + "?pubsub=classic"
	exerciseRights(t, Options{URL: url, ProbeInterval: time.Second})
}

func TestShardedWithRights(t *testing.T) {
	cluster := redistest.StartCluster(t)
	for _, s := range cluster.Servers {
		documentedUser(t, s, "sharded")
	}
	url := strings.Replace(cluster.URL(), "://", "://node:the-password@", 1)
	if err := cluster.Owner(clusterKeys).Client().SAdd(inTime(t), clusterKeys+":nodes", "gone").Err(); err != nil { // to be removed
		t.Fatal(err)
	}
	t.Run("all", func(t *testing.T) { exerciseRights(t, Options{URL: url, ProbeInterval: time.Second}) })
	if soak() {
		checkUsed(t, "sharded", cluster.Servers...)
	}

	n := start(t, url)
	channels := channelsOf(n)[:5]
	n.join(t, channels...)
	want := 3*len(channels) + 1 + len(cluster.Servers)
	await.Until(t, "the node has its connections, and no others", func() error {
		named := 0
		for _, s := range cluster.Servers {
			clients, err := s.Client().ClientList(inTime(t)).Result()
			if err != nil {
				return err
			}
			named += strings.Count(clients, " user=node ")
		}
		if named != want {
			return fmt.Errorf("there are %d, want %d", named, want)
		}
		return n.Healthy()
	})
}

// With the rights of docs/redis.md, what a hub needs is allowed, and no more.
func TestRightsAreForHubs(t *testing.T) {
	server := redistest.Start(t)
	documentedUser(t, server, "server")
	n := start(t, "redis://node:the-password@"+server.Addr())
	for _, ch := range []string{"all", "user:ada", "group:", "connection:c"} {
		n.join(t, backplane.Channel(ch))
		n.send(t, "hi", backplane.Channel(ch))
		n.awaitLast(t, ch+" hi")
	}
	if err := n.Publish(inTime(t), []byte("hi"), "elsewhere"); err == nil || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("publish elsewhere: %v", err)
	}
}

// The client's name is seen at the server, and the database is that of the URL.
func TestNameAndDatabase(t *testing.T) {
	server := redistest.Start(t)
	documentedUser(t, server, "server", "+client|setname", "+select")
	n := start(t, "redis://node:the-password@"+server.Addr()+"/3?client_name=node-of-the-test")
	claim(t, n, "c")
	clients, err := server.Client().ClientList(inTime(t)).Result()
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for line := range strings.Lines(clients) {
		if !strings.Contains(line, " user=node ") {
			continue
		}
		named++
		if !strings.Contains(line, " name=node-of-the-test ") {
			t.Errorf("a connection of the node has no name: %s", line)
		}
		if !strings.Contains(line, " db=3 ") {
			t.Errorf("a connection of the node has another database: %s", line)
		}
	}
	if named != 4 {
		t.Errorf("the node has %d connections, want 4", named)
	}
	keyspace, err := server.Client().Info(inTime(t), "keyspace").Result()
	if err != nil || !strings.Contains(keyspace, "db3:") || strings.Contains(keyspace, "db0:") {
		t.Errorf("keys are in %q, %v", keyspace, err)
	}
}
