package redisplane

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// Keys of the roster. Each has a time to live.
const (
	rosterKey       = "heliograph:nodes" // a set of node ids; some may be gone
	announcementKey = "heliograph:node:" // and the node's id
)

// announcementsMissed is how many intervals a node may fail to announce itself before
// its announcement has run out, and it counts as dead.
const announcementsMissed = 5

// A roster knows the nodes of the cluster. Every node announces itself in Redis, with a
// time to live, every interval, and sees from time to time who else does.
type roster struct {
	redis    *redis.Options
	self     announcement // without Prefixes and Hearing
	key      []byte       // signs and verifies announcements
	accepted [][]byte     // verify them too
	interval time.Duration
	timeout  time.Duration
	health   *health
	logger   *slog.Logger
	served   func() []string                  // the prefixes that this node serves
	died     func(id string, of announcement) // run calls it, one call at a time

	now   chan struct{} // of capacity 1: announce at once
	using chan *link    // of capacity 1: the link for who wants to use it; nil: to be made

	mu        sync.Mutex
	announced map[string]bool // prefixes that the last announcement had
	changed   chan struct{}   // closed when announced changes

	known map[string]announcement // of the last look; run's alone
}

// An announcement is what a node says of itself. In Redis it is JSON behind its MAC.
type announcement struct {
	ID          string   `json:"id"`
	Incarnation uint64   `json:"incarnation"`
	Prefixes    []string `json:"prefixes"` // of the hubs it serves
	Hearing     bool     `json:"hearing"`
	Left        bool     `json:"left,omitempty"` // it has been closed, and is about to be forgotten
}

func newRoster(o Options, r *redis.Options, id string, incarnation uint64, h *health) *roster {
	keys := o.Keys
	if len(keys) == 0 {
		keys = [][]byte{nil}
	}
	using := make(chan *link, 1)
	using <- nil
	return &roster{
		redis:     r,
		using:     using,
		self:      announcement{ID: id, Incarnation: incarnation},
		key:       keys[0],
		accepted:  keys,
		interval:  o.ProbeInterval,
		timeout:   o.DialTimeout,
		health:    h,
		logger:    o.Logger,
		now:       make(chan struct{}, 1),
		announced: make(map[string]bool),
		changed:   make(chan struct{}),
	}
}

// announce makes run announce the node at once.
func (r *roster) announce() {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// run announces the node until ctx ends, and then that it has left.
func (r *roster) run(ctx context.Context) {
	defer r.disconnect()
	ticker := time.NewTicker(r.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			r.leave()
			return
		case <-ticker.C:
		case <-r.now:
		}
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.logger.Debug("roster of nodes not updated", "error", err)
		}
	}
}

// look announces the node and sees who else is there.
func (r *roster) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	a := r.self
	a.Prefixes = r.served()
	a.Hearing = r.health.check() == nil
	if err := r.write(ctx, a); err != nil {
		return err
	}
	r.tellAnnounced(a.Prefixes)
	present, err := r.read(ctx)
	if err != nil {
		return err
	}
	for id, before := range r.known {
		if now, ok := present[id]; !ok && !before.Left {
			r.died(id, before)
		} else if ok && now.Left {
			delete(present, id)
		}
	}
	r.known = present
	return nil
}

func (r *roster) tellAnnounced(prefixes []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.announced = make(map[string]bool)
	for _, p := range prefixes {
		r.announced[p] = true
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *roster) isAnnounced(prefix string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.announced[prefix]
}

// wait returns once the node has been announced to serve the prefix.
func (r *roster) wait(ctx context.Context, prefix string, detached <-chan struct{}) error {
	for {
		r.mu.Lock()
		announced, changed := r.announced[prefix], r.changed
		r.mu.Unlock()
		if announced {
			return nil
		}
		select {
		case <-changed:
		case <-detached:
			return backplane.ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: this node has not been announced", backplane.ErrUnavailable)
		}
	}
}

// use calls f with a client of Redis, and ends its socket when ctx ends. One call runs
// at a time.
func (r *roster) use(ctx context.Context, f func(ctx context.Context, client *redis.Client) error) error {
	var l *link
	select {
	case l = <-r.using:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l == nil {
		l = newLink(r.redis, true)
	}
	stop := context.AfterFunc(ctx, func() { l.cut(ctx.Err()) })
	err := f(ctx, l.client)
	if !stop() || err != nil {
		l.close()
		r.using <- nil
		return l.cause(err)
	}
	r.using <- l
	return nil
}

func (r *roster) disconnect() {
	if l := <-r.using; l != nil {
		l.close()
	}
	r.using <- nil
}

// write puts the announcement where others see it.
func (r *roster) write(ctx context.Context, a announcement) error {
	value, err := r.sign(a)
	if err != nil {
		return err
	}
	life := announcementsMissed * r.interval
	err = r.use(ctx, func(ctx context.Context, client *redis.Client) error {
		p := client.Pipeline()
		p.Set(ctx, announcementKey+a.ID, value, life)
		p.SAdd(ctx, rosterKey, a.ID)
		p.PExpire(ctx, rosterKey, 2*life)
		_, err := p.Exec(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	return nil
}

// leave says that the node is gone on purpose, in a last short time.
func (r *roster) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	a := r.self
	a.Left = true
	if err := r.write(ctx, a); err != nil {
		r.logger.Debug("node not signed off", "error", err)
	}
}

// read returns the announcements there are, without those that nobody has signed, and
// forgets ids that have none.
func (r *roster) read(ctx context.Context) (map[string]announcement, error) {
	var ids []string
	var values []any
	err := r.use(ctx, func(ctx context.Context, client *redis.Client) (err error) {
		if ids, err = client.SMembers(ctx, rosterKey).Result(); err != nil || len(ids) == 0 {
			return err
		}
		keys := make([]string, len(ids))
		for i, id := range ids {
			keys[i] = announcementKey + id
		}
		if values, err = client.MGet(ctx, keys...).Result(); err != nil {
			return err
		}
		var gone []any
		for i, v := range values {
			if v == nil {
				gone = append(gone, ids[i])
			}
		}
		if len(gone) == 0 {
			return nil
		}
		return client.SRem(ctx, rosterKey, gone...).Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	present := make(map[string]announcement)
	for i, v := range values {
		if text, ok := v.(string); ok {
			if a, ok := r.verify(text); ok && a.ID == ids[i] {
				present[a.ID] = a
			}
		}
	}
	return present, nil
}

// nodes returns those that serve the prefix now.
func (r *roster) nodes(ctx context.Context, prefix string) ([]backplane.NodeState, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	present, err := r.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", backplane.ErrUnavailable, err)
	}
	var nodes []backplane.NodeState
	for _, id := range slices.Sorted(maps.Keys(present)) {
		if a := present[id]; !a.Left && slices.Contains(a.Prefixes, prefix) {
			nodes = append(nodes, backplane.NodeState{ID: id, Hearing: a.Hearing})
		}
	}
	return nodes, nil
}

func (r *roster) sign(a announcement) (string, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return "", fmt.Errorf("announce: %w", err)
	}
	return base64.RawStdEncoding.EncodeToString(announcementMAC(r.key, text)) + " " + string(text), nil
}

func (r *roster) verify(value string) (a announcement, ok bool) {
	sum, text, found := strings.Cut(value, " ")
	mac, err := base64.RawStdEncoding.DecodeString(sum)
	if !found || err != nil {
		return a, false
	}
	signed := slices.ContainsFunc(r.accepted, func(key []byte) bool {
		return hmac.Equal(mac, announcementMAC(key, []byte(text)))
	})
	if !signed || json.Unmarshal([]byte(text), &a) != nil {
		return announcement{}, false
	}
	return a, true
}

func announcementMAC(key, text []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("announcement\x00"))
	m.Write(text)
	return m.Sum(nil)
}
