package redisplane

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A site is the Redis that the links of a partition lead to: the one at an address, or the one
// that is the master by the word of sentinels, or of a cluster's servers. That may become
// another; then the links to the former one are cut, and whose they were makes others.
type site struct {
	options *redis.Options // without an address if there is a lookout
	role    string         // that the other side has to have; empty: any
	lookout *lookout       // shared; nil: the address is options.Addr
	place   int            // of the lookout, and the number of the partition
	keys    string         // what all keys begin with
	tag     string         // what the names of channels begin with, which are sharded then; or empty

	mu    sync.Mutex
	links map[*link]string // connected, not closed yet: to which address
}

// errReadOnly reports that the Redis does not take writes any more. It still takes what
// is published, for those who are subscribed there alone.
var errReadOnly = errors.New("redis has become a read-only replica")

// errMoved reports that another server of the cluster has the keys.
var errMoved = errors.New("another server has the keys now")

// newSite returns the site of one partition of a target: the lookout's place of that number,
// where there is a lookout. The node's own health is told of doubts.
func newSite(t target, l *lookout, place int, h *health) *site {
	s := &site{options: t.redis, role: "master", lookout: l, place: place, keys: t.keys, tag: t.layout.tags[place], links: make(map[*link]string)}
	if s.tag != "" {
		s.keys = s.tag
	}
	if l != nil {
		l.watch(place, func(to string) {
			h.doubts(time.Now().Add(-settlePause)) // others may have left for it earlier
			s.leave(fmt.Errorf("%s has become the master", to), to)
		})
	}
	return s
}

// locate returns the address to dial.
func (s *site) locate(ctx context.Context) (string, error) {
	if s.lookout == nil {
		return s.options.Addr, nil
	}
	return s.lookout.find(ctx, s.place)
}

// enter notes that the link is connected to the address, unless that is no longer the
// one to be connected to.
func (s *site) enter(l *link, addr string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lookout != nil && !s.lookout.is(s.place, addr) {
		return fmt.Errorf("%s is no longer the master", addr)
	}
	s.links[l] = addr
	return nil
}

func (s *site) exit(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.links, l)
}

// leave cuts the links that are not connected to the address.
func (s *site) leave(reason error, to string) {
	s.mu.Lock()
	var elsewhere []*link
	for l, addr := range s.links {
		if addr != to {
			elsewhere = append(elsewhere, l)
		}
	}
	s.mu.Unlock()
	for _, l := range elsewhere {
		l.cut(reason)
	}
}

// demoted cuts all links if err, which may be nil, is the reply of a Redis that does not take writes, or that
// the keys are no longer at: one of them has found out for all.
func (s *site) demoted(err error) {
	switch {
	case !isReply(err):
	case strings.Contains(err.Error(), "READONLY"):
		s.leave(errReadOnly, "")
	case strings.HasPrefix(err.Error(), "MOVED "):
		s.leave(errMoved, "")
	}
}

// publish returns the command that publishes on a channel.
func (s *site) publish() string {
	if s.tag != "" {
		return "spublish"
	}
	return "publish"
}

func (s *site) subscribe(ctx context.Context, pubsub *redis.PubSub, channels ...string) error {
	if s.tag != "" {
		return pubsub.SSubscribe(ctx, channels...)
	}
	return pubsub.Subscribe(ctx, channels...)
}

func (s *site) unsubscribe(ctx context.Context, pubsub *redis.PubSub, channels ...string) error {
	if s.tag != "" {
		return pubsub.SUnsubscribe(ctx, channels...)
	}
	return pubsub.Unsubscribe(ctx, channels...)
}

// confirmed returns what a confirmation confirms, "subscribe" or "unsubscribe" if it is one
// of a channel of the site.
func (s *site) confirmed(c *redis.Subscription) string {
	if s.tag == "" {
		return c.Kind
	}
	kind, _ := strings.CutPrefix(c.Kind, "s")
	return kind
}

// key returns the key of Redis that has the name. In a cluster all keys of a partition are in
// one slot, so that one server has them.
func (s *site) key(name string) string {
	if s.keys == firstWord {
		return name
	}
	return s.keys + strings.TrimPrefix(name, firstWord)
}

// unsettled returns for how long nodes may still publish at a former master.
func (s *site) unsettled() time.Duration {
	if s.lookout == nil {
		return 0
	}
	return s.lookout.unsettled(s.place)
}

// greet returns an error if the other side of a new connection has not the role that it
// has to have. Where there is no lookout, it may be something that does not know or tell
// its role.
func (s *site) greet(ctx context.Context, conn *redis.Conn) error {
	if s.role == "" {
		return nil
	}
	reply, err := conn.Do(ctx, "role").Slice()
	switch {
	case isReply(err) && s.lookout == nil:
		return nil
	case err != nil:
		return fmt.Errorf("ask for the role: %w", err)
	case len(reply) == 0 || reply[0] != s.role:
		return fmt.Errorf("what answers there says its role is %.30q, not %q", fmt.Sprint(reply[:min(1, len(reply))]...), s.role)
	}
	return nil
}
