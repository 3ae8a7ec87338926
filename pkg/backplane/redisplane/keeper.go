package redisplane

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/pkg/backplane"
)

const (
	// operationsKey and a hub's prefix name the stream of its operations (see site.key).
	operationsKey = "heliograph:operations:"
	// maxKept is how many operations a stream has, about.
	maxKept = 10_000
	// keptLife is how long a stream lasts that no node looks at.
	keptLife = time.Hour
	// readBatch is how many entries are read at once.
	readBatch = 500
)

// Fields of the entries of a stream. An entry without an operation marks a time.
const (
	channelField   = "channel" // without the prefix
	operationField = "operation"
	nodeField      = "node" // that has made the mark
)

// A keeper keeps operations in streams in Redis, one for each prefix, and reads there what
// this node may not have heard: after a gap, before the node hears again, and every
// interval, for what was kept and then not published.
type keeper struct {
	node       string
	commands   *commander
	subscriber *subscriber
	performing func() []*attachment // those whose operations are performed here
	ledger     func(of *attachment) *ledger
	interval   time.Duration
	logger     *slog.Logger
	clock      func() time.Duration // that of the probes
	probe      func()               // has a probe sent at once

	now chan struct{} // of capacity 1: read at once

	// mu makes beginning a reading, and taking one, a single step for all ledgers. It is
	// never held across I/O or Deliver.
	mu   sync.Mutex
	done *reading // for the receive loop to take; nil: none, or the next one has begun

	refused bool // run's alone: Redis refused the last reading, and that has been logged
}

// A reading is what was found in the streams while everything was subscribed on a link.
type reading struct {
	link  *link
	at    time.Duration // by the clock of the probes
	parts []part
}

// A part of a reading is of one stream.
type part struct {
	of       *attachment
	ledger   *ledger // of the attachment
	position string  // of the ledger; empty: not known
	entries  []entry // after that
	end      string  // id of the last entry there is; empty: not known
	// broken says that there may have been entries before these and after the ledger's
	// position, or that there is no position to go on from.
	broken bool
	lost   bool // Redis has lost the stream that the position was in; this is another one
	first  bool // the ledger's first
}

// An entry is one operation in a stream, or a mark, which has no body.
type entry struct {
	id      string
	channel backplane.Channel
	body    []byte
	age     time.Duration // when it was read, at most; 0: not known
}

func newKeeper(o Options, node string, c *commander, s *subscriber, p *prober) *keeper {
	return &keeper{
		node:       node,
		commands:   c,
		subscriber: s,
		performing: func() []*attachment { return nil },
		interval:   o.ProbeInterval,
		logger:     o.Logger,
		clock:      func() time.Duration { return time.Since(p.begin) },
		probe:      p.probe,
		now:        make(chan struct{}, 1),
	}
}

// keep appends an operation to the stream of the prefix. If that fails, sure says that it
// is not there.
func (k *keeper) keep(ctx context.Context, prefix string, ch backplane.Channel, body []byte) (sure bool, err error) {
	start := time.Now()
	b := &keptBody{bytes: body}
	add := k.add(ctx, prefix, channelField, string(ch), operationField, b)
	if err := k.commands.do(ctx, add...); err != nil {
		abandoned := ctx.Err() != nil || time.Since(start) >= k.commands.timeout
		return !abandoned && !b.written.Load(), err
	}
	return true, add[0].Err()
}

// A keptBody is the body of an operation on its way into a stream.
type keptBody struct {
	bytes   []byte
	written atomic.Bool // to the library's buffer for the socket, so it may have gone out
}

// MarshalBinary is how the library gets the body when it writes the command.
func (b *keptBody) MarshalBinary() ([]byte, error) {
	b.written.Store(true)
	return b.bytes, nil
}

// add returns the commands that append an entry. The id is the first one's reply.
func (k *keeper) add(ctx context.Context, prefix string, fields ...any) []*redis.Cmd {
	key := k.commands.site.key(operationsKey + prefix)
	add := append([]any{"xadd", key, "maxlen", "~", maxKept, "*"}, fields...)
	return []*redis.Cmd{
		redis.NewCmd(ctx, add...),
		redis.NewCmd(ctx, "pexpire", key, keptLife.Milliseconds()),
	}
}

// read has run read the streams at once. It does not block.
func (k *keeper) read() {
	select {
	case k.now <- struct{}{}:
	default:
	}
}

// run reads until ctx ends.
func (k *keeper) run(ctx context.Context) {
	ticker := time.NewTicker(k.interval)
	defer ticker.Stop()
	var pauses backoff
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-k.now:
		}
		for !k.look(ctx) && ctx.Err() == nil {
			pauses.pause(ctx)
		}
		pauses.reset()
	}
}

// look reads all streams, if that is of use now. It returns false if the node has to read
// them to hear, and could not.
func (k *keeper) look(ctx context.Context) bool {
	link, restored, caughtUp := k.subscriber.standing()
	if !restored {
		return true
	}
	r := k.begin(link)
	var refused error
	for i := range r.parts {
		p := &r.parts[i]
		switch err := k.fill(ctx, p, !caughtUp); {
		case err == nil:
		case isReply(err) && !isPassing(err):
			refused = err
			*p = part{of: p.of, ledger: p.ledger, broken: true}
		default:
			k.logger.Debug("operations not read", "error", err)
			return caughtUp
		}
	}
	if refused != nil && !k.refused {
		k.logger.Warn("redis refuses what keeps operations: connections are closed after a gap", "error", refused)
	}
	k.refused = refused != nil
	r.at = k.clock()
	k.mu.Lock()
	k.done = r
	k.mu.Unlock()
	k.probe() // with which the reading is taken: the prober's own may always come just before
	return true
}

// begin begins a reading of all streams. The last one can be taken no more: what has been
// heard since is noted for this one.
func (k *keeper) begin(l *link) *reading {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done = nil
	r := &reading{link: l}
	for _, a := range k.performing() {
		l := k.ledger(a)
		position, lost := l.begin()
		r.parts = append(r.parts, part{of: a, ledger: l, position: position, broken: lost})
	}
	return r
}

// take takes the reading that was made on the link before a probe was sent, if there is
// one, and leaves in its parts what of it is to be performed.
func (k *keeper) take(l *link, sent time.Duration) *reading {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.done
	if r == nil || r.link != l || sent < r.at {
		return nil
	}
	k.done = nil
	for i := range r.parts {
		p := &r.parts[i]
		p.first = p.ledger.isNew()
		p.entries = p.ledger.take(*p)
	}
	return r
}

// isPassing reports whether an error reply is of a Redis that will take the command in time.
func isPassing(err error) bool {
	return slices.ContainsFunc([]string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "BUSY"}, func(kind string) bool {
		return strings.HasPrefix(err.Error(), kind)
	})
}

// fill reads the stream of one attachment from where its ledger stands. Where the ledger
// knows no position, it is from when the attachment began.
func (k *keeper) fill(ctx context.Context, p *part, mark bool) (err error) {
	a := p.of
	age := p.ledger.age() // before Redis is asked for the time, so that nothing from before counts
	var now int64         // Redis' clock, in milliseconds; 0: not asked
	if mark || p.position == "" {
		id, err := k.mark(ctx, a.prefix)
		if err != nil && p.position == "" {
			return err
		}
		now, p.end = milliseconds(id), id
	}
	if p.position == "" {
		since := max(0, now-age.Milliseconds()+1)
		p.entries, _, err = k.entries(ctx, a.prefix, strconv.FormatInt(since, 10), false)
		p.broken = p.broken || len(p.entries) >= maxKept
	} else {
		var found bool
		p.entries, found, err = k.entries(ctx, a.prefix, p.position, true)
		switch {
		case err != nil:
		case found:
			p.end = p.position
		default:
			err = k.anew(ctx, p)
		}
	}
	if err != nil {
		return err
	}
	if n := len(p.entries); n > 0 {
		p.end = p.entries[n-1].id
	}
	for i, e := range p.entries {
		if now > 0 {
			p.entries[i].age = time.Duration(max(0, now-milliseconds(e.id))) * time.Millisecond
		}
	}
	return nil
}

// anew fills a part whose position is not in the stream. A stream that has been trimmed has
// maxKept entries at least. One that has fewer is another one, in a Redis that has lost the
// first: all that is in it is read.
func (k *keeper) anew(ctx context.Context, p *part) (err error) {
	if p.end == "" {
		if p.end, err = k.mark(ctx, p.of.prefix); err != nil {
			return err
		}
	}
	p.entries, _, err = k.entries(ctx, p.of.prefix, "-", false)
	p.broken = len(p.entries) >= maxKept
	p.lost = !p.broken
	if p.broken {
		p.end, p.entries = p.entries[len(p.entries)-1].id, nil
	}
	return err
}

// mark appends an entry that says nothing but the time, which is its id.
func (k *keeper) mark(ctx context.Context, prefix string) (id string, err error) {
	add := k.add(ctx, prefix, nodeField, k.node)
	if err := k.commands.do(ctx, add...); err != nil {
		return "", err
	}
	return add[0].Text()
}

// entries reads all from an id on: with exact, those after it, if there is an entry of
// that id.
func (k *keeper) entries(ctx context.Context, prefix, from string, exact bool) (entries []entry, found bool, err error) {
	key := k.commands.site.key(operationsKey + prefix)
	for {
		command := redis.NewCmd(ctx, "xrange", key, from, "+", "count", readBatch)
		expire := redis.NewCmd(ctx, "pexpire", key, keptLife.Milliseconds())
		if err := k.commands.do(ctx, command, expire); err != nil {
			return nil, false, err
		}
		values, err := command.Slice()
		if err != nil {
			return nil, false, err
		}
		batch := make([]entry, 0, len(values))
		for _, v := range values {
			e, ok := parseEntry(v)
			if !ok {
				return nil, false, errNoEntry
			}
			batch = append(batch, e)
		}
		if exact {
			if len(batch) == 0 || batch[0].id != from {
				return entries, false, nil
			}
			batch = batch[1:]
		}
		entries = append(entries, batch...)
		if len(values) < readBatch {
			return entries, true, nil
		}
		from, exact = entries[len(entries)-1].id, true
	}
}

var errNoEntry = errors.New("redis replied with something other than entries of a stream")

// parseEntry parses one entry as Redis replies it: an id, and a list of fields. Fields that
// are not known here are of a later node.
func parseEntry(v any) (e entry, ok bool) {
	pair, ok := v.([]any)
	if !ok || len(pair) != 2 {
		return e, false
	}
	e.id, ok = pair[0].(string)
	fields, isList := pair[1].([]any)
	if !ok || !isList {
		return e, false
	}
	for i := 0; i+1 < len(fields); i += 2 {
		value, _ := fields[i+1].(string)
		switch fields[i] {
		case channelField:
			e.channel = backplane.Channel(value)
		case operationField:
			e.body = []byte(value)
		}
	}
	return e, true
}

// milliseconds returns the time that is in the id of an entry, by Redis' clock.
func milliseconds(id string) int64 {
	ms, _, _ := strings.Cut(id, "-")
	n, _ := strconv.ParseInt(ms, 10, 64)
	return n
}
