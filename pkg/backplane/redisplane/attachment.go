package redisplane

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// An attachment is one hub's use of a [Plane].
type attachment struct {
	plane    *Plane
	prefix   string
	receiver backplane.Receiver
	began    time.Time
	ctx      context.Context    // ends with Detach
	end      context.CancelFunc // of ctx
	once     sync.Once          // of Detach

	mu      sync.Mutex
	ledgers map[*partition]*ledger
}

// Partition implements [backplane.Attachment].
func (a *attachment) Partition(ch backplane.Channel) int {
	return a.plane.layout.partition(a.prefix, ch)
}

// Subscribe implements [backplane.Attachment].
func (a *attachment) Subscribe(channels ...backplane.Channel) func(ctx context.Context) error {
	if a.plane.withoutClients && slices.ContainsFunc(channels, a.isForClients) {
		return func(context.Context) error {
			return fmt.Errorf("wait for subscription: %w: this node is one without clients", backplane.ErrUnavailable)
		}
	}
	portions := a.plane.layout.split(a.prefix, channels)
	names := make([][]string, len(portions))
	for i, s := range portions {
		if p := a.plane.partitions.get(s.partition); p != nil {
			names[i] = a.names(p, s.channels)
			p.subscriber.hold(a, names[i])
		}
	}
	return func(ctx context.Context) error {
		deadline := time.Now().Add(a.plane.subscribeTimeout)
		var err error
		for i, s := range portions {
			if p := a.plane.partitions.find(s.partition); p != nil && err == nil {
				err = p.subscriber.wait(ctx, deadline, names[i], a.ctx.Done())
			}
		}
		if err == nil {
			err = a.announced(ctx, deadline)
		}
		if a.isDetached() {
			err = backplane.ErrClosed
		}
		if err != nil {
			return fmt.Errorf("wait for subscription: %w", err)
		}
		return nil
	}
}

// isForClients reports whether the channel is not for this node alone.
func (a *attachment) isForClients(ch backplane.Channel) bool {
	return ch != backplane.Node(a.plane.id)
}

// announced returns once others can know that this node serves the prefix, if it does.
func (a *attachment) announced(ctx context.Context, deadline time.Time) error {
	if a.plane.withoutClients || a.plane.roster.isAnnounced(a.prefix) {
		return nil
	}
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := a.plane.roster.wait(waiting, a.prefix, a.ctx.Done())
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// Nodes implements [backplane.Attachment].
func (a *attachment) Nodes(ctx context.Context) ([]backplane.NodeState, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	nodes, err := a.plane.roster.nodes(ctx, a.prefix)
	if a.isDetached() {
		nodes, err = nil, backplane.ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	return nodes, nil
}

// Node implements [backplane.Attachment].
func (a *attachment) Node(ctx context.Context, id string) (n backplane.NodeState, known bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.ctx, cancel)()
	n, known, err = a.plane.roster.node(ctx, a.prefix, id)
	if a.isDetached() {
		n, known, err = backplane.NodeState{}, false, backplane.ErrClosed
	}
	if err != nil {
		return n, known, fmt.Errorf("find node %q: %w", id, err)
	}
	return n, known, nil
}

// Homes implements [backplane.Attachment].
func (a *attachment) Homes() backplane.Homes { return homes{a} }

// Unsubscribe implements [backplane.Attachment].
func (a *attachment) Unsubscribe(channels ...backplane.Channel) {
	if a.plane.withoutClients && slices.ContainsFunc(channels, a.isForClients) {
		return // as refused
	}
	for _, s := range a.plane.layout.split(a.prefix, channels) {
		if p := a.plane.partitions.find(s.partition); p != nil {
			p.subscriber.release(a, a.names(p, s.channels))
		}
	}
}

// Detach implements [backplane.Attachment].
func (a *attachment) Detach() {
	a.once.Do(func() {
		a.end()
		for _, p := range a.plane.partitions.all() {
			p.subscriber.releaseAll(a)
		}
		a.plane.attachments.remove(a) // then, lest what is released is the next one's
		a.plane.roster.renew()
	})
}

func (a *attachment) isDetached() bool { return a.ctx.Err() != nil }

// names returns what the channels, which lie in the partition, are called in Redis.
func (a *attachment) names(in *partition, channels []backplane.Channel) []string {
	names := make([]string, len(channels))
	for i, ch := range channels {
		names[i] = in.site.tag + a.prefix + string(ch)
	}
	return names
}

// ledger returns that of the operations on the attachment's channels in the partition. What
// was published before both of them began does not concern it.
func (a *attachment) ledger(of *partition) *ledger {
	a.mu.Lock()
	defer a.mu.Unlock()
	l, ok := a.ledgers[of]
	if !ok {
		began := a.began
		if of.began.After(began) {
			began = of.began
		}
		l = newLedger(began)
		a.ledgers[of] = l
	}
	return l
}

// attachments are those of a plane, by prefix. The receive loop looks them up without a
// lock.
type attachments struct {
	byPrefix atomic.Pointer[map[string]*attachment] // read-only; nil: none

	mu     sync.Mutex // guards replacing byPrefix, and closed
	closed bool
}

func (s *attachments) find(prefix string) *attachment {
	if m := s.byPrefix.Load(); m != nil {
		return (*m)[prefix]
	}
	return nil
}

// prefixes returns those that are attached.
func (s *attachments) prefixes() []string {
	if m := s.byPrefix.Load(); m != nil {
		return slices.Sorted(maps.Keys(*m))
	}
	return nil
}

func (s *attachments) add(a *attachment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return backplane.ErrClosed
	}
	if s.find(a.prefix) != nil {
		return fmt.Errorf("prefix %q is attached already", a.prefix)
	}
	s.replace(func(m map[string]*attachment) { m[a.prefix] = a })
	return nil
}

func (s *attachments) remove(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.find(a.prefix) == a {
		s.replace(func(m map[string]*attachment) { delete(m, a.prefix) })
	}
}

// close lets no more be added, and returns those there are.
func (s *attachments) close() []*attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.all()
}

// all returns those there are.
func (s *attachments) all() (all []*attachment) {
	if m := s.byPrefix.Load(); m != nil {
		for _, a := range *m {
			all = append(all, a)
		}
	}
	return all
}

// replace changes a copy; mu is held.
func (s *attachments) replace(change func(map[string]*attachment)) {
	m := make(map[string]*attachment)
	if old := s.byPrefix.Load(); old != nil {
		maps.Copy(m, *old)
	}
	change(m)
	s.byPrefix.Store(&m)
}

// prefixOf returns the prefix (see [backplane.CheckPrefix]) that the channel begins
// with, if it does. A channel of a hub without a prefix has a colon before any slash, or
// no slash.
func prefixOf(channel string) string {
	for i := range len(channel) {
		switch c := channel[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-':
		case c == '/' && i > 0:
			return channel[:i+1]
		default:
			return ""
		}
	}
	return ""
}
