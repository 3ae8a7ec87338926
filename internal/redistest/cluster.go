package redistest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/internal/await"
)

// allSlots is how many slots a Redis Cluster has.
const allSlots = 16384

// A Cluster is a Redis Cluster of three masters, with a third of the slots each, and three
// replicas. It takes a server for dead that has not answered for a second.
type Cluster struct {
	Servers []*Server // of which the first three were masters at the start

	t testing.TB
}

// StartCluster starts a cluster and waits until all its servers know it as it should be.
// It is stopped at the end of the test.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	var buses []int
	for i := range 6 {
		bus := freePort(t)
		buses = append(buses, bus)
		c.Servers = append(c.Servers, Start(t,
			"--cluster-enabled", "yes",
			"--cluster-config-file", filepath.Join(t.TempDir(), fmt.Sprintf("nodes-%d.conf", i)),
			"--cluster-port", strconv.Itoa(bus),
			"--cluster-node-timeout", "1000",
			"--cluster-replica-validity-factor", "0",
			"--repl-diskless-sync-delay", "0",
		))
	}
	for i, s := range c.Servers[:3] {
		c.do(s, "cluster", "addslotsrange", i*allSlots/3, (i+1)*allSlots/3-1)
		c.do(s, "cluster", "set-config-epoch", i+1)
	}
	for i, s := range c.Servers[1:] {
		c.do(c.Servers[0], "cluster", "meet", "127.0.0.1", s.port, buses[i+1])
	}
	for i, s := range c.Servers[3:] {
		id := c.id(c.Servers[i])
		await.Until(t, "the replica knows its master", func() error {
			return s.Client().Do(t.Context(), "cluster", "replicate", id).Err()
		})
	}
	await.Until(t, "the servers know the cluster", c.complete)
	return c
}

// URL returns the addresses of all servers, as redis+cluster://, without credentials and
// parameters.
func (c *Cluster) URL() string {
	var hosts []string
	for _, s := range c.Servers {
		hosts = append(hosts, s.Addr())
	}
	return "redis+cluster://" + strings.Join(hosts, ",")
}

// Owner returns the server that has the slot of the key, by the word of all servers that
// run and of its own; it waits until there is one.
func (c *Cluster) Owner(key string) *Server {
	c.t.Helper()
	var owner *Server
	await.Until(c.t, "all servers agree on the owner of a slot", func() (err error) {
		owner, err = c.owner(c.slot(key))
		return err
	})
	return owner
}

// Failover has the replica of a master take its place, while both run. It returns at once.
func (c *Cluster) Failover(master *Server) {
	c.t.Helper()
	c.do(c.replica(master), "cluster", "failover")
}

// Move moves the slot of the key from its owner to another server, with what is in it, as
// the usual tools do, and waits until all servers know.
func (c *Cluster) Move(key string, to *Server) {
	c.t.Helper()
	slot, from := c.slot(key), c.Owner(key)
	c.do(to, "cluster", "setslot", slot, "importing", c.id(from))
	c.do(from, "cluster", "setslot", slot, "migrating", c.id(to))
	for {
		keys, err := from.Client().Do(c.t.Context(), "cluster", "getkeysinslot", slot, 100).StringSlice()
		if err != nil {
			c.t.Fatalf("list keys of a slot: %v", err)
		}
		if len(keys) == 0 {
			break
		}
		arguments := []any{"migrate", "127.0.0.1", to.port, "", 0, 5000, "replace", "keys"}
		for _, k := range keys {
			arguments = append(arguments, k)
		}
		c.do(from, arguments...)
	}
	for _, s := range []*Server{to, from} {
		c.do(s, "cluster", "setslot", slot, "node", c.id(to))
	}
	await.Until(c.t, "all servers know that the slot has moved", func() error {
		if owner, err := c.owner(slot); err != nil || owner != to {
			return errors.Join(err, errors.New("they do not"))
		}
		return nil
	})
}

func (c *Cluster) do(s *Server, command ...any) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	if err := s.Client().Do(ctx, command...).Err(); err != nil {
		c.t.Fatalf("%v: %v", command, err)
	}
}

func (c *Cluster) id(s *Server) string {
	c.t.Helper()
	id, err := s.Client().Do(c.t.Context(), "cluster", "myid").Text()
	if err != nil {
		c.t.Fatalf("ask for a server's id: %v", err)
	}
	return id
}

func (c *Cluster) slot(key string) int {
	c.t.Helper()
	for _, s := range c.Servers {
		if !s.running {
			continue
		}
		slot, err := s.Client().Do(c.t.Context(), "cluster", "keyslot", key).Int()
		if err != nil {
			c.t.Fatalf("ask for the slot of a key: %v", err)
		}
		return slot
	}
	c.t.Fatal("no server runs")
	return 0
}

// replica returns a server that follows the master.
func (c *Cluster) replica(master *Server) *Server {
	c.t.Helper()
	id := c.id(master)
	for _, s := range c.Servers {
		lines, err := clusterNodes(s)
		if err != nil {
			continue
		}
		for _, fields := range lines {
			if strings.Contains(fields[2], "myself,slave") && fields[3] == id {
				return s
			}
		}
	}
	c.t.Fatalf("%s has no replica", master.Addr())
	return nil
}

// owner returns the server that all take for the owner of the slot.
func (c *Cluster) owner(slot int) (*Server, error) {
	addr := ""
	for _, s := range c.Servers {
		if !s.running {
			continue
		}
		lines, err := clusterNodes(s)
		if err != nil {
			return nil, err
		}
		for _, fields := range lines {
			if !hasSlot(fields[8:], slot) {
				continue
			}
			says, _, _ := strings.Cut(fields[1], "@")
			if addr != "" && addr != says {
				return nil, fmt.Errorf("the owner of slot %d is %s or %s", slot, addr, says)
			}
			addr = says
		}
	}
	for _, s := range c.Servers {
		if s.running && s.Addr() == addr {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no server runs at %q", addr)
}

// complete returns nil if each server knows three masters and three replicas that follow
// them.
func (c *Cluster) complete() error {
	for _, s := range c.Servers {
		lines, err := clusterNodes(s)
		if err != nil {
			return err
		}
		masters, replicas := 0, 0
		for _, fields := range lines {
			switch {
			case fields[7] != "connected":
			case strings.HasSuffix(fields[2], "master") && len(fields) > 8:
				masters++
			case strings.HasSuffix(fields[2], "slave"):
				replicas++
			}
		}
		if masters != 3 || replicas != 3 || len(lines) != 6 {
			return fmt.Errorf("a server knows %d masters and %d replicas among %d servers", masters, replicas, len(lines))
		}
		info, err := s.Client().Info(context.Background(), "replication").Result()
		if err != nil || strings.Contains(info, "master_link_status:down") {
			return errors.Join(err, errors.New("a replica has not followed yet"))
		}
		if state, err := s.Client().ClusterInfo(context.Background()).Result(); err != nil || !strings.Contains(state, "cluster_state:ok") {
			return errors.Join(err, errors.New("the cluster is not ready"))
		}
	}
	return nil
}

// hasSlot reads the slots of a line of CLUSTER NODES, but for those that are on their way.
func hasSlot(fields []string, slot int) bool {
	for _, field := range fields {
		var first, last int
		switch n, _ := fmt.Sscanf(field, "%d-%d", &first, &last); n {
		case 1:
			last = first
		case 0:
			continue
		}
		if first <= slot && slot <= last {
			return true
		}
	}
	return false
}

// clusterNodes returns the fields of each line of CLUSTER NODES.
func clusterNodes(s *Server) (lines [][]string, err error) {
	if !s.running {
		return nil, net.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Deadline)
	defer cancel()
	text, err := s.Client().ClusterNodes(ctx).Result()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 8 {
			lines = append(lines, fields)
		}
	}
	return lines, nil
}
