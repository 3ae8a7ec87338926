package redisplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A question is how a witness is asked for masters, each of a place: of what is in one slot
// of a cluster, or of all that there is.
type question struct {
	role   string // that a witness has to have; empty: any
	places int
	ask    func(ctx context.Context, client *redis.Client) ([]answer, error) // one of each place
}

// An answer is what one witness says of one place.
type answer struct {
	addr  string // of the master; the host is empty for the witness' own
	epoch int64  // of the configuration that the witness knows
	err   error  // why the witness cannot say
}

// askSentinels is the question for the master that sentinels know by the name.
func askSentinels(name string) question {
	return question{role: "sentinel", places: 1, ask: func(ctx context.Context, client *redis.Client) ([]answer, error) {
		p := client.Pipeline()
		where := p.Do(ctx, "sentinel", "get-master-addr-by-name", name)
		state := p.Do(ctx, "sentinel", "master", name)
		_, err := p.Exec(ctx)
		if errors.Is(where.Err(), redis.Nil) {
			return nil, fmt.Errorf("knows no master %q", name)
		}
		if err != nil {
			return nil, err
		}
		var a answer
		if a.addr, err = parseAddress(where); err != nil {
			return nil, err
		}
		a.epoch, err = parseEpoch(state)
		return []answer{a}, err
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

// askCluster is the question for the masters that have the slots.
func askCluster(slots ...int) question {
	return question{places: len(slots), ask: func(ctx context.Context, client *redis.Client) ([]answer, error) {
		nodes, err := client.ClusterNodes(ctx).Result()
		if err != nil {
			return nil, err
		}
		return slotOwners(nodes, slots), nil
	}}
}

// slotOwners finds the owners of slots in the reply to CLUSTER NODES, which has a line
//
//	id host:port@busport,hostname flags master ping pong epoch link slot first-last …
//
// for each server.
func slotOwners(nodes string, slots []int) []answer {
	answers := make([]answer, len(slots))
	for i, slot := range slots {
		answers[i].err = fmt.Errorf("nobody has slot %d", slot)
	}
	for line := range strings.Lines(nodes) {
		fields := strings.Fields(line)
		if len(fields) < 9 {
			continue
		}
		ranges := parseSlots(fields[8:])
		for i, slot := range slots {
			if slices.ContainsFunc(ranges, func(r slotRange) bool { return r.first <= slot && slot <= r.last }) {
				answers[i] = parseOwner(fields)
			}
		}
	}
	return answers
}

// parseOwner reads the address and the epoch in a line's fields.
func parseOwner(fields []string) (a answer) {
	addr, _, _ := strings.Cut(fields[1], ",")
	addr, _, _ = strings.Cut(addr, "@")
	i := strings.LastIndexByte(addr, ':') // no brackets are put around the host
	if i < 0 {
		a.err = fmt.Errorf("the address of an owner of slots is %.60q", addr)
		return a
	}
	a.addr = net.JoinHostPort(addr[:i], addr[i+1:])
	a.epoch, a.err = strconv.ParseInt(fields[6], 10, 64)
	return a
}

type slotRange struct{ first, last int }

// parseSlots reads slots, and ranges of them. Those in brackets are on their way.
func parseSlots(fields []string) (ranges []slotRange) {
	for _, field := range fields {
		first, last, isRange := strings.Cut(field, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err == nil && err2 == nil {
			ranges = append(ranges, slotRange{from, to})
		}
	}
	return ranges
}
