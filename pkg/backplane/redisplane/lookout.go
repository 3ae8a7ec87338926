package redisplane

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

const (
	// lookInterval is how often witnesses are asked, as long as nobody has to know more.
	lookInterval = 500 * time.Millisecond
	// lookPause is how long looks are apart at least.
	lookPause = 50 * time.Millisecond
	// lookPatience is how much longer those witnesses are waited for that have not
	// answered when most have.
	lookPatience = 100 * time.Millisecond
	// settlePause is how long after a change of the master some nodes may not know of it:
	// sentinels tell each other within two seconds, the servers of a cluster sooner, and
	// nodes ask them twice a second.
	settlePause = 3 * time.Second
)

// A lookout knows which Redis is the master, from witnesses: sentinels, or servers of a
// Redis Cluster. Of what they say, what has the highest epoch of their configuration counts.
//
// It asks all the time: a former master that still runs takes what is published, and
// hands it to whoever has not left either, until it learns of its fate, seconds later.
type lookout struct {
	question  question
	witnesses []*witness
	timeout   time.Duration // of a look
	logger    *slog.Logger
	moved     func(to string) // run calls it when another is the master

	now   chan struct{} // of capacity 1: look at once
	ended chan struct{} // closed when run has ended

	mu     sync.Mutex // never held across I/O
	next   *sighting  // what the next look to begin will find
	master string     // address; empty: not found yet
	since  time.Time  // of master, if there was one before; else zero

	// run's alone:

	epoch  int64 // of master; 0 is the lowest there is
	failed bool  // the last look, and that has been logged
}

// A sighting is what a look has found.
type sighting struct {
	done chan struct{} // closed when the rest is set
	addr string
	err  error
}

func newSighting() *sighting { return &sighting{done: make(chan struct{})} }

func newLookout(t target, o Options) *lookout {
	l := &lookout{
		question: t.question,
		timeout:  o.DialTimeout / 2, // the rest is for the master
		logger:   o.Logger,
		now:      make(chan struct{}, 1),
		ended:    make(chan struct{}),
		next:     newSighting(),
	}
	for _, options := range t.witnesses {
		s := &site{options: options, role: t.question.role, links: make(map[*link]string)}
		l.witnesses = append(l.witnesses, &witness{site: s})
	}
	return l
}

// find returns the address of the master, by a look that begins after the call.
func (l *lookout) find(ctx context.Context) (string, error) {
	l.mu.Lock()
	s := l.next
	l.mu.Unlock()
	select {
	case l.now <- struct{}{}:
	default:
	}
	select {
	case <-s.done:
		return s.addr, s.err
	case <-l.ended:
		return "", backplane.ErrClosed
	case <-ctx.Done():
		return "", fmt.Errorf("wait to know the master: %w", ctx.Err())
	}
}

// is reports whether the address is the master's, as far as is known.
func (l *lookout) is(addr string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.master == addr
}

// unsettled returns for how long there may still be nodes that do not know of the last
// change of the master.
func (l *lookout) unsettled() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return 0
	}
	return max(0, settlePause-time.Since(l.since))
}

// run looks until ctx ends.
func (l *lookout) run(ctx context.Context) {
	defer close(l.ended)
	defer func() {
		for _, w := range l.witnesses {
			w.disconnect()
		}
	}()
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-l.now:
		}
		l.look(ctx)
		pause := time.NewTimer(lookPause)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// look asks the witnesses and tells who waits for what they say.
func (l *lookout) look(ctx context.Context) {
	l.mu.Lock()
	s := l.next
	l.next = newSighting()
	before := l.master
	l.mu.Unlock()
	defer close(s.done)

	says, most, err := l.ask(ctx)
	if ctx.Err() != nil {
		s.err = backplane.ErrClosed
		return
	}
	l.log(err)
	if err != nil {
		s.err = err
		return
	}
	if s.addr = before; l.believes(says, most) {
		s.addr, l.epoch = says.addr, says.epoch
	}
	if s.addr == before {
		return
	}
	l.mu.Lock()
	l.master = s.addr
	if before != "" {
		l.since = time.Now()
	}
	l.mu.Unlock()
	if before != "" {
		l.logger.Warn("redis has another master", "master", s.addr, "before", before)
		l.moved(s.addr)
	}
}

// believes reports whether an answer counts, which most witnesses agree to or have an
// earlier one than: the few may be cut off from the rest, and behind what is known.
func (l *lookout) believes(says answer, most bool) bool {
	return most || says.epoch >= l.epoch
}

// log tells when looks begin to fail, and no longer do.
func (l *lookout) log(err error) {
	switch {
	case err != nil && !l.failed:
		l.logger.Warn("nobody says which redis is the master", "error", err)
	case err == nil && l.failed:
		l.logger.Info("it is known again which redis is the master")
	}
	l.failed = err != nil
}

// ask returns the answer that counts, and whether most witnesses have given one.
func (l *lookout) ask(ctx context.Context) (best answer, most bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	answers := make(chan answer, len(l.witnesses))
	for _, w := range l.witnesses {
		asking.Go(func() { answers <- w.say(ctx, l.question) })
	}

	var failures []error
	var enough <-chan time.Time
	given := 0
	for range l.witnesses {
		select {
		case a := <-answers:
			if a.err != nil {
				failures = append(failures, a.err)
				continue
			}
			if given == 0 || a.epoch > best.epoch {
				best = a
			}
			if given++; given == len(l.witnesses)/2+1 {
				most = true
				timer := time.NewTimer(lookPatience)
				defer timer.Stop()
				enough = timer.C
			}
		case <-enough:
			return best, most, nil
		}
	}
	if given == 0 {
		return best, false, fmt.Errorf("find the master: %w", errors.Join(failures...))
	}
	return best, most, nil
}

// A witness is asked by one look at a time.
type witness struct {
	site *site
	link *link // nil while there is none
}

func (w *witness) say(ctx context.Context, q question) answer {
	a, err := w.answer(ctx, q)
	if err != nil {
		a.err = fmt.Errorf("ask %s: %w", w.site.options.Addr, err)
	}
	return a
}

func (w *witness) answer(ctx context.Context, q question) (answer, error) {
	if w.link == nil {
		w.link = newLink(w.site, true)
	}
	l := w.link
	stop := context.AfterFunc(ctx, func() { l.cut(ctx.Err()) })
	a, err := q.ask(ctx, l.client)
	if !stop() || err != nil {
		err = l.cause(err)
		w.disconnect()
	}
	if host, port, split := net.SplitHostPort(a.addr); err == nil && split == nil && host == "" {
		host, _, _ = net.SplitHostPort(w.site.options.Addr)
		a.addr = net.JoinHostPort(host, port)
	}
	return a, err
}

func (w *witness) disconnect() {
	if w.link != nil {
		w.link.close()
		w.link = nil
	}
}
