package hub

import (
	"hash/maphash"
	"sync"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// shards is how many locks the registry spreads over; a power of two.
const shards = 64

// registry knows the node's connections by id, and by the channels whose messages
// they are to get. Joining and leaving take constant time.
type registry struct {
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu          sync.RWMutex
	connections map[string]*connection
	members     map[backplane.Channel][]*member // never empty slices
}

// A member is a connection's place in one channel. index, which is negative once it has
// left, is guarded by the shard's lock; the rest is constant.
type member struct {
	connection *connection
	channel    backplane.Channel
	index      int
}

func newRegistry() *registry {
	r := &registry{seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].connections = make(map[string]*connection)
		r.shards[i].members = make(map[backplane.Channel][]*member)
	}
	return r
}

func (r *registry) shardOf(key string) *shard {
	return &r.shards[maphash.String(r.seed, key)&(shards-1)]
}

// add makes the connection known by its id.
func (r *registry) add(c *connection) {
	s := r.shardOf(c.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connections[c.id] = c
}

func (r *registry) remove(c *connection) {
	s := r.shardOf(c.id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.connections[c.id] == c {
		delete(s.connections, c.id)
	}
}

// connection returns the local connection with that id, or nil.
func (r *registry) connection(id string) *connection {
	s := r.shardOf(id)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.connections[id]
}

// join makes the connection a member of the channel.
func (r *registry) join(ch backplane.Channel, c *connection) *member {
	s := r.shardOf(string(ch))
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &member{connection: c, channel: ch, index: len(s.members[ch])}
	s.members[ch] = append(s.members[ch], m)
	return m
}

// leave ends a membership, once. The last member takes the place of the one that left.
func (r *registry) leave(m *member) {
	s := r.shardOf(string(m.channel))
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.index < 0 {
		return
	}
	all := s.members[m.channel]
	last := len(all) - 1
	all[m.index] = all[last]
	all[m.index].index = m.index
	m.index = -1
	all[last] = nil
	if last == 0 {
		delete(s.members, m.channel)
		return
	}
	s.members[m.channel] = all[:last]
}

// eachMember calls f for each member of the channel, with the shard locked for
// reading: f must not block nor use the registry.
func (r *registry) eachMember(ch backplane.Channel, f func(*connection)) {
	s := r.shardOf(string(ch))
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, m := range s.members[ch] {
		f(m.connection)
	}
}

// each calls f for each connection, with one shard at a time locked for reading: f
// must not block nor use the registry.
func (r *registry) each(f func(*connection)) {
	for i := range r.shards {
		r.shards[i].each(f)
	}
}

func (s *shard) each(f func(*connection)) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range s.connections {
		f(c)
	}
}
