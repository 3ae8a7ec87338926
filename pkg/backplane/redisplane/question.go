package redisplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A question is how a witness is asked for the master.
type question struct {
	role string // that a witness has to have; empty: any
	ask  func(ctx context.Context, client *redis.Client) (answer, error)
}

// An answer is what one witness says.
type answer struct {
	addr  string // of the master; the host is empty for the witness' own
	epoch int64  // of the configuration that the witness knows
	err   error
}

// askSentinels is the question for the master that sentinels know by the name.
func askSentinels(name string) question {
	return question{role: "sentinel", ask: func(ctx context.Context, client *redis.Client) (a answer, err error) {
		p := client.Pipeline()
		where := p.Do(ctx, "sentinel", "get-master-addr-by-name", name)
		state := p.Do(ctx, "sentinel", "master", name)
		_, err = p.Exec(ctx)
		if errors.Is(where.Err(), redis.Nil) {
			return a, fmt.Errorf("knows no master %q", name)
		}
		if err != nil {
			return a, err
		}
		if a.addr, err = parseAddress(where); err != nil {
			return a, err
		}
		a.epoch, err = parseEpoch(state)
		return a, err
	}}
}

// parseAddress reads the reply to get-master-addr-by-name: host and port.
func parseAddress(c *redis.Cmd) (string, error) {
	parts, err := c.StringSlice()
	if err != nil {
		return "", err
	}
	if len(parts) != 2 || parts[0] == "" {
		return "", fmt.Errorf("the address of the master is %.60q", parts)
	}
	return net.JoinHostPort(parts[0], parts[1]), nil
}

// parseEpoch reads the reply to master: names and values in turn.
func parseEpoch(c *redis.Cmd) (int64, error) {
	fields, err := c.StringSlice()
	if err != nil {
		return 0, err
	}
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "config-epoch" {
			return strconv.ParseInt(fields[i+1], 10, 64)
		}
	}
	return 0, errors.New("the state of the master has no config-epoch")
}

const (
	// clusterKeys is what stands in a Redis Cluster for the first word of all keys, so that
	// they are in one slot, clusterSlot.
	clusterKeys = "{" + firstWord + "}"
	clusterSlot = 2254
)

// askCluster is the question for the master that has the slot.
func askCluster(slot int) question {
	return question{ask: func(ctx context.Context, client *redis.Client) (answer, error) {
		nodes, err := client.ClusterNodes(ctx).Result()
		if err != nil {
			return answer{}, err
		}
		return slotOwner(nodes, slot)
	}}
}

// slotOwner finds the owner of a slot in the reply to CLUSTER NODES, which has a line
//
//	id host:port@busport,hostname flags master ping pong epoch link slot first-last …
//
// for each server.
func slotOwner(nodes string, slot int) (a answer, err error) {
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < 9 || !ownsSlot(fields[8:], slot) {
			continue
		}
		addr, _, _ := strings.Cut(fields[1], ",")
		addr, _, _ = strings.Cut(addr, "@")
		i := strings.LastIndexByte(addr, ':') // no brackets are put around the host
		if i < 0 {
			return a, fmt.Errorf("the address of the owner of slot %d is %.60q", slot, addr)
		}
		a.addr = net.JoinHostPort(addr[:i], addr[i+1:])
		a.epoch, err = strconv.ParseInt(fields[6], 10, 64)
		return a, err
	}
	return a, fmt.Errorf("nobody has slot %d", slot)
}

// ownsSlot reads slots, and ranges of them. Those in brackets are on their way.
func ownsSlot(fields []string, slot int) bool {
	for _, field := range fields {
		first, last, isRange := strings.Cut(field, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err == nil && err2 == nil && from <= slot && slot <= to {
			return true
		}
	}
	return false
}
