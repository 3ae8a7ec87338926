package redisplane

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/pkg/backplane"
)

const (
	// announcementsMissed is how many intervals a node may fail to announce itself
	// before its announcement has run out, and it counts as dead.
	announcementsMissed = 5
	// leftRemembered is for how many such times it is remembered of a node that it has
	// left: longer than most nodes are cut off from Redis, and then look for it.
	leftRemembered = 4
	// leavePause is how long a node that closes may take to say so.
	leavePause = time.Second
)

// A roster knows the nodes of the cluster. Every node announces itself in Redis, with a
// time to live, every interval, and looks who else does. No clock is compared with that
// of another machine.
type roster struct {
	site     *site
	self     announcement // but for Prefixes, Hearing and Address
	keys     [][]byte     // the first signs announcements, all verify them
	interval time.Duration
	life     time.Duration // of an announcement
	timeout  time.Duration
	hears    func() bool // whether this node hears
	logger   *slog.Logger
	served   func() []string                  // the prefixes that this node serves
	gone     func(of announcement, died bool) // run calls it, one call at a time

	now chan struct{} // of capacity 1: announce at once
	// using is of capacity 1 and has the link for who wants to use it, nil where that is
	// to be made. It is empty for good when run has ended.
	using chan *link

	agreement agreement
	directory directory
	searching chan struct{} // of capacity 1: full while node reads the roster

	mu        sync.Mutex      // never held across I/O
	address   string          // as advertised
	announced map[string]bool // prefixes that others can know to be served here
	// returned is whom nodes has found since the last look of run, for the census to know.
	// They are no more than the nodes there are and those that have just gone.
	returned map[string]announcement
	doubts   uint64        // calls of renew
	failure  error         // why the last announcement failed; nil: it did not
	changed  chan struct{} // closed, and replaced, when announced has been set

	// run's alone:

	census  census
	refused bool // the last look, by Redis, and that has been logged
}

func newRoster(o Options, s *site, id string, incarnation uint64) *roster {
	keys := o.Keys
	if len(keys) == 0 {
		keys = [][]byte{nil}
	}
	using := make(chan *link, 1)
	using <- nil
	return &roster{
		site:      s,
		using:     using,
		searching: make(chan struct{}, 1),
		self:      announcement{ID: id, Incarnation: incarnation},
		keys:      keys,
		interval:  o.ProbeInterval,
		life:      announcementsMissed * o.ProbeInterval,
		timeout:   o.DialTimeout,
		hears:     func() bool { return false },
		logger:    o.Logger,
		now:       make(chan struct{}, 1),
		changed:   make(chan struct{}),
	}
}

// advertise has the node announced under the address. It does not block.
func (r *roster) advertise(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.address = address
	r.announce()
}

func (r *roster) advertised() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.address
}

// announce makes run announce the node at once. It does not block.
func (r *roster) announce() {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// renew has the node announced at once, and what was announced before count no more: it
// may be lost, or wrong. It does not block.
func (r *roster) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.announced = nil
	r.doubts++
	r.announce()
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
		r.log(ctx, r.look(ctx))
	}
}

// log tells of a failure to look. Only one by Redis' own will is news: the loss of Redis
// is told of already.
func (r *roster) log(ctx context.Context, err error) {
	refused := isReply(err)
	switch {
	case err == nil || ctx.Err() != nil:
	case refused && !r.refused:
		r.logger.Warn("redis refuses what keeps the roster of nodes", "error", err)
	default:
		r.logger.Debug("roster of nodes not updated", "error", err)
	}
	r.refused = refused
}

// look announces the node and sees who else is there.
func (r *roster) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	doubts := r.doubted() // before the prefixes are looked up
	a := r.self
	a.Prefixes = r.served()
	a.Hearing = r.hears()
	a.Address = r.advertised()
	kept, err := r.write(ctx, a, r.life)
	r.tellAnnounced(doubts, a.Prefixes, err)
	if err != nil {
		return err
	}
	r.census.know(r.takeReturned()) // before it is seen who is there now
	present, err := r.read(ctx)
	if err != nil {
		return err
	}
	r.agreement.look(r.logger, r.self, present)
	_, there := present[a.ID]
	died, left := r.census.take(time.Now(), present, kept && there, r.life)
	r.directory.replace(r.census.known)
	for _, of := range died {
		r.gone(of, true)
	}
	for _, of := range left {
		if of.ID != a.ID {
			r.gone(of, false)
		}
	}
	return nil
}

func (r *roster) takeReturned() map[string]announcement {
	r.mu.Lock()
	defer r.mu.Unlock()
	returned := r.returned
	r.returned = nil
	return returned
}

func (r *roster) doubted() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doubts
}

// tellAnnounced notes what came of an announcement of the prefixes that was made after
// so many doubts.
func (r *roster) tellAnnounced(doubts uint64, prefixes []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure = err; err != nil || doubts != r.doubts {
		return
	}
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
			return r.unannounced()
		}
	}
}

func (r *roster) unannounced() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == nil {
		return fmt.Errorf("%w: this node has not been announced in time", backplane.ErrUnavailable)
	}
	return fmt.Errorf("%w: this node has not been announced: %w", backplane.ErrUnavailable, r.failure)
}

// use calls f with a client of Redis, and ends its socket when ctx ends. One call runs
// at a time. When run has ended there is none: use waits for ctx to end.
func (r *roster) use(ctx context.Context, f func(ctx context.Context, client *redis.Client) error) error {
	var l *link
	select {
	case l = <-r.using:
	case <-ctx.Done():
		return ctx.Err()
	}
	if l != nil && l.isCut() {
		l.close()
		l = nil
	}
	if l == nil {
		l = newLink(r.site, true)
	}
	stop := context.AfterFunc(ctx, func() { l.cut(ctx.Err()) })
	err := f(ctx, l.client)
	if err != nil {
		err = l.cause(err)
		r.site.demoted(err)
	}
	if !stop() || err != nil {
		l.close()
		r.using <- nil
		return err
	}
	r.using <- l
	return nil
}

// disconnect takes the link away for good.
func (r *roster) disconnect() {
	if l := <-r.using; l != nil {
		l.close()
	}
}

// write puts the announcement where others see it, and reports whether one of this node
// was still there.
func (r *roster) write(ctx context.Context, a announcement, life time.Duration) (kept bool, err error) {
	value, err := a.sign(r.keys[0])
	if err != nil {
		return false, fmt.Errorf("announce: %w", err)
	}
	own, all := r.site.key(announcementKey+a.ID), r.site.key(rosterKey)
	err = r.use(ctx, func(ctx context.Context, client *redis.Client) error {
		p := client.Pipeline()
		before := p.MGet(ctx, own)
		p.Set(ctx, own, value, life)
		p.SAdd(ctx, all, a.ID)
		p.PExpire(ctx, all, 2*leftRemembered*r.life)
		_, err := p.Exec(ctx)
		kept = len(before.Val()) == 1 && before.Val()[0] != nil
		return err
	})
	if err != nil {
		return false, fmt.Errorf("announce: %w", err)
	}
	return kept, nil
}

// leave says that the node is gone on purpose.
func (r *roster) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), leavePause)
	defer cancel()
	a := r.self
	a.Left = true
	if _, err := r.write(ctx, a, leftRemembered*r.life); err != nil {
		r.logger.Debug("node not signed off", "error", err)
	}
}

// read returns the announcements there are, without those that nobody has signed, and
// forgets ids that have none.
func (r *roster) read(ctx context.Context) (map[string]announcement, error) {
	var ids []string
	var values []any
	err := r.use(ctx, func(ctx context.Context, client *redis.Client) (err error) {
		if ids, err = client.SMembers(ctx, r.site.key(rosterKey)).Result(); err != nil || len(ids) == 0 {
			return err
		}
		if values, err = client.MGet(ctx, r.announcementKeys(ids)...).Result(); err != nil {
			return err
		}
		var gone []string
		for i, v := range values {
			if v == nil {
				gone = append(gone, ids[i])
			}
		}
		return r.forget(ctx, client, gone)
	})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	present := make(map[string]announcement)
	for i, v := range values {
		if text, ok := v.(string); ok {
			if a, ok := verifyAnnouncement(text, r.keys); ok && a.ID == ids[i] {
				present[a.ID] = a
			}
		}
	}
	return present, nil
}

// forget takes the ids out of the roster, except for those that have been announced
// meanwhile: their nodes were cut off, and are back.
func (r *roster) forget(ctx context.Context, client *redis.Client, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	p := client.Pipeline()
	p.SRem(ctx, r.site.key(rosterKey), ids)
	announced := p.MGet(ctx, r.announcementKeys(ids)...)
	if _, err := p.Exec(ctx); err != nil {
		return err
	}
	var back []string
	for i, v := range announced.Val() {
		if v != nil {
			back = append(back, ids[i])
		}
	}
	if len(back) == 0 {
		return nil
	}
	return client.SAdd(ctx, r.site.key(rosterKey), back).Err()
}

func (r *roster) announcementKeys(ids []string) []string {
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = r.site.key(announcementKey + id)
	}
	return keys
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
			nodes = append(nodes, a.state())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.returned == nil {
		r.returned = make(map[string]announcement)
	}
	maps.Copy(r.returned, present)
	return nodes, nil
}

// node returns one that serves the prefix: from the directory, or, where that does not
// know it, from a look of its own.
func (r *roster) node(ctx context.Context, prefix, id string) (n backplane.NodeState, known bool, err error) {
	if n, known, settled := r.directory.find(prefix, id); settled {
		return n, known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	select {
	case r.searching <- struct{}{}:
		defer func() { <-r.searching }()
	case <-ctx.Done():
		return n, false, fmt.Errorf("%w: %w", backplane.ErrUnavailable, ctx.Err())
	}
	if n, known, settled := r.directory.find(prefix, id); settled { // another has looked
		return n, known, nil
	}
	present, err := r.read(ctx)
	if err != nil {
		return n, false, fmt.Errorf("%w: %w", backplane.ErrUnavailable, err)
	}
	r.directory.add(present)
	r.directory.miss(prefix, id)
	n, known, _ = r.directory.find(prefix, id)
	return n, known, nil
}
