package redisplane

import (
	"fmt"
	"strings"

	"github.com/heliograph/heliograph/pkg/backplane"
)

const (
	// defaultPartitions is how many there are of sharded channels, unless the URL says
	// otherwise: enough for the masters that carry a large cluster, and few enough for the
	// connections that each of them takes.
	defaultPartitions = 16
	maxPartitions     = backplane.MaxLane + 1
	// clusterSlots is how many slots a Redis Cluster has.
	clusterSlots = 16384
)

// A layout is how channels lie in partitions. All nodes of a cluster need the same.
type layout struct {
	// tags are what the names of channels begin with in Redis, by partition. There is one,
	// and it is empty, where channels are classic ones.
	tags []string
}

// classic is the layout of classic channels, with their bare names.
var classic = layout{tags: []string{""}}

// sharded returns the layout of sharded channels in n partitions. A tag decides in which of
// the cluster's slots a channel is. The slots are cut into n parts, beginning with the slot
// of the first word; each partition has the first of the tags heliograph, heliograph1,
// heliograph2 and so on whose slot is in its part. So partitions are spread over the slots,
// and thereby over servers, and whoever knows n can find the tags.
func sharded(n int) layout {
	tags := make([]string, n)
	for found, i := 0, 0; found < n; i++ {
		word := firstWord
		if i > 0 {
			word = fmt.Sprint(firstWord, i)
		}
		part := (slotOf(word) - clusterSlot + clusterSlots) % clusterSlots * n / clusterSlots
		if tags[part] == "" {
			tags[part] = "{" + word + "}"
			found++
		}
	}
	return layout{tags}
}

// isSharded reports whether channels are sharded ones.
func (l layout) isSharded() bool { return l.tags[0] != "" }

// slots returns the slot of each partition.
func (l layout) slots() []int {
	slots := make([]int, len(l.tags))
	for i, tag := range l.tags {
		slots[i] = slotOf(strings.Trim(tag, "{}"))
	}
	return slots
}

// partition returns the number of the one that the channel lies in: the first, if it is for
// all connections or for a node, so that nodes which have no connections need no other; else
// FNV-1a, of 32 bits, of the channel's name, modulo the number of partitions.
func (l layout) partition(prefix string, ch backplane.Channel) int {
	if len(l.tags) == 1 || ch == backplane.All || strings.HasPrefix(string(ch), string(backplane.Node(""))) {
		return 0
	}
	h := fnv1a(fnv1a(2166136261, prefix), string(ch))
	return int(h % uint32(len(l.tags)))
}

// fnv1a goes on with a hash: that of package hash/fnv would have to be allocated.
func fnv1a(h uint32, s string) uint32 {
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h
}

// common returns the number of the partition that all of the channels lie in, if there is
// one.
func (l layout) common(prefix string, channels []backplane.Channel) (n int, ok bool) {
	if len(l.tags) == 1 {
		return 0, true
	}
	for i, ch := range channels {
		switch of := l.partition(prefix, ch); {
		case i == 0:
			n = of
		case n != of:
			return 0, false
		}
	}
	return n, true
}

// A portion is those of some channels that lie in one partition.
type portion struct {
	partition int
	channels  []backplane.Channel
}

// split returns the channels by partition, in their order in each.
func (l layout) split(prefix string, channels []backplane.Channel) []portion {
	if len(l.tags) == 1 {
		return []portion{{0, channels}}
	}
	var portions []portion
	at := make(map[int]int) // where in portions a partition's is
	for _, ch := range channels {
		n := l.partition(prefix, ch)
		i, there := at[n]
		if !there {
			i = len(portions)
			at[n] = i
			portions = append(portions, portion{partition: n})
		}
		portions[i].channels = append(portions[i].channels, ch)
	}
	return portions
}

// slotOf returns the slot of a key, or of a key with the tag: CRC-16 as of XMODEM.
func slotOf(tag string) int {
	crc := uint16(0)
	for i := range len(tag) {
		crc ^= uint16(tag[i]) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
	}
	return int(crc) % clusterSlots
}
