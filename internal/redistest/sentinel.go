package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
)

// masterName is what the sentinels know their master by.
const masterName = "main"

// Sentinels are three sentinels that watch a master with two replicas. They take a server
// for dead that has not answered for half a second, if two of them agree.
type Sentinels struct {
	Servers   []*Server // of which the first was the master at the start
	Sentinels []*Server

	t testing.TB
}

// StartSentinels starts a master, two replicas and three sentinels, and waits until all
// know each other. They are stopped at the end of the test. The arguments are added to
// those of the master and the replicas.
func StartSentinels(t testing.TB, arguments ...string) *Sentinels {
	t.Helper()
	arguments = append([]string{"--repl-diskless-sync-delay", "0"}, arguments...)
	master := Start(t, arguments...)
	s := &Sentinels{t: t, Servers: []*Server{master}}
	for range 2 {
		s.Servers = append(s.Servers, Start(t, append(arguments, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.port))...))
	}
	await.Until(t, "the replicas have followed the master", s.replicated)
	for range 3 {
		s.Sentinels = append(s.Sentinels, startSentinel(t, master))
	}
	await.Until(t, "the sentinels know each other and the replicas", s.complete)
	return s
}

// startSentinel starts one sentinel. It writes what it learns to its file of settings.
func startSentinel(t testing.TB, master *Server) *Server {
	t.Helper()
	s := newServer(t)
	settings := filepath.Join(filepath.Dir(s.log), "sentinel.conf")
	s.arguments = []string{settings, "--sentinel"}
	err := os.WriteFile(settings, fmt.Appendf(nil, `
port %d
bind 127.0.0.1
dir %q
logfile %q
sentinel monitor %[4]s 127.0.0.1 %[5]d 2
sentinel down-after-milliseconds %[4]s 500
sentinel failover-timeout %[4]s 2000
sentinel parallel-syncs %[4]s 2
`, s.port, filepath.Dir(s.log), s.log, masterName, master.port), 0o600)
	if err != nil {
		t.Fatalf("write settings of a sentinel: %v", err)
	}
	s.Restart()
	return s
}

// URL returns the address of the master by way of the sentinels, as redis+sentinel://,
// without credentials.
func (s *Sentinels) URL() string {
	var hosts []string
	for _, sentinel := range s.Sentinels {
		hosts = append(hosts, sentinel.Addr())
	}
	return "redis+sentinel://" + strings.Join(hosts, ",") + "/" + masterName
}

// Master returns the server that is the master by the word of all sentinels that run, and
// by its own; it waits until there is one.
func (s *Sentinels) Master() *Server {
	s.t.Helper()
	var master *Server
	await.Until(s.t, "all sentinels agree on a master that is one", func() (err error) {
		master, err = s.agreed()
		return err
	})
	return master
}

// Failover has a replica made the master, which goes on running for some seconds as
// another one before it is made a replica. It returns at once.
func (s *Sentinels) Failover() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	if err := s.Sentinels[0].Client().Do(ctx, "sentinel", "failover", masterName).Err(); err != nil {
		s.t.Fatalf("ask for a failover: %v", err)
	}
}

func (s *Sentinels) agreed() (*Server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	addr := ""
	for _, sentinel := range s.Sentinels {
		if !sentinel.running {
			continue
		}
		parts, err := sentinel.Client().Do(ctx, "sentinel", "get-master-addr-by-name", masterName).StringSlice()
		if err != nil || len(parts) != 2 {
			return nil, fmt.Errorf("a sentinel says %q, %v", parts, err)
		}
		says := net.JoinHostPort(parts[0], parts[1])
		if addr != "" && says != addr {
			return nil, fmt.Errorf("the master is %s or %s", addr, says)
		}
		addr = says
	}
	for _, server := range s.Servers {
		if server.Addr() != addr || !server.running {
			continue
		}
		if role, err := server.Role(ctx); err != nil || role != "master" {
			return nil, fmt.Errorf("the role of %s is %q, %v", addr, role, err)
		}
		return server, nil
	}
	return nil, fmt.Errorf("no server runs at %s", addr)
}

// Role returns what the server says it is: master or slave.
func (s *Server) Role(ctx context.Context) (string, error) {
	reply, err := s.Client().Do(ctx, "role").Slice()
	if err != nil || len(reply) == 0 {
		return "", errors.Join(err, errors.New("no role"))
	}
	return fmt.Sprint(reply[0]), nil
}

func (s *Sentinels) replicated() error {
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	for _, replica := range s.Servers[1:] {
		info, err := replica.Client().Info(ctx, "replication").Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, "master_link_status:up") {
			return errors.New("a replica has not followed yet")
		}
	}
	return nil
}

func (s *Sentinels) complete() error {
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	for _, sentinel := range s.Sentinels {
		client := redis.NewSentinelClient(&redis.Options{Addr: sentinel.Addr()})
		master, errMaster := client.Master(ctx, masterName).Result()
		replicas, errReplicas := client.Replicas(ctx, masterName).Result()
		client.Close()
		if err := errors.Join(errMaster, errReplicas); err != nil {
			return err
		}
		if master["num-other-sentinels"] != "2" || len(replicas) != 2 {
			return fmt.Errorf("a sentinel knows %s others and %d replicas", master["num-other-sentinels"], len(replicas))
		}
		for _, replica := range replicas {
			if replica["master-link-status"] != "ok" || replica["flags"] != "slave" {
				return fmt.Errorf("a replica is %q, its link to the master %q", replica["flags"], replica["master-link-status"])
			}
		}
	}
	return nil
}
