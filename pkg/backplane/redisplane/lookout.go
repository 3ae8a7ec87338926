package redisplane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
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
// In a cluster there may be several places, each a slot with a master of its own, of which
// it asks at once.
//
// It asks all the time: a former master that still runs takes what is published, and
// hands it to whoever has not left either, until it learns of its fate, seconds later.
type lookout struct {
	question  question
	witnesses []*witness
	timeout   time.Duration // of a look
	logger    *slog.Logger

	now   chan struct{} // of capacity 1: look at once
	ended chan struct{} // closed when run has ended

	mu     sync.Mutex // never held across I/O
	next   *sighting  // what the next look to begin will find
	places []place

	failed bool // run's alone: the last look, and that has been logged
}

// A place is what a lookout knows of one master.
type place struct {
	master string          // address; empty: not found yet
	since  time.Time       // of master, if there was one before; else zero
	epoch  int64           // of master; 0 is the lowest there is
	moved  func(to string) // called when another is the master; nil: nobody wants to know
}

// A sighting is what a look has found.
type sighting struct {
	done   chan struct{} // closed when the rest is set
	places []found
	err    error // of all places
}

type found struct {
	addr string
	err  error
}

func newSighting() *sighting { return &sighting{done: make(chan struct{})} }

// newLookout returns nil where there is nobody to be asked.
func newLookout(t target, o Options) *lookout {
	if len(t.witnesses) == 0 {
		return nil
	}
	l := &lookout{
		question: t.question,
		timeout:  o.DialTimeout / 2, // the rest is for the master
		logger:   o.Logger,
		now:      make(chan struct{}, 1),
		ended:    make(chan struct{}),
		next:     newSighting(),
		places:   make([]place, t.question.places),
	}
	for _, options := range t.witnesses {
		s := &site{options: options, role: t.question.role, links: make(map[*link]string)}
		l.witnesses = append(l.witnesses, &witness{site: s})
	}
	return l
}

// watch has moved called, by run, whenever another becomes the master of the place.
func (l *lookout) watch(at int, moved func(to string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.places[at].moved = moved
}

// find returns the address of the place's master, by a look that begins after the call.
func (l *lookout) find(ctx context.Context, at int) (string, error) {
	l.mu.Lock()
	s := l.next
	l.mu.Unlock()
	select {
	case l.now <- struct{}{}:
	default:
	}
	select {
	case <-s.done:
		if s.err != nil {
			return "", s.err
		}
		return s.places[at].addr, s.places[at].err
	case <-l.ended:
		return "", backplane.ErrClosed
	case <-ctx.Done():
		return "", fmt.Errorf("wait to know the master: %w", ctx.Err())
	}
}

// is reports whether the address is that of the place's master, as far as is known.
func (l *lookout) is(at int, addr string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.places[at].master == addr
}

// unsettled returns for how long there may still be nodes that do not know of the last
// change of the place's master.
func (l *lookout) unsettled(at int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.places[at].since
	if since.IsZero() {
		return 0
	}
	return max(0, settlePause-time.Since(since))
}

// run looks until ctx ends. A nil lookout has nothing to do.
func (l *lookout) run(ctx context.Context) {
	if l == nil {
		return
	}
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

// look asks the witnesses and tells who waits for what they say, and who has another master
// now.
func (l *lookout) look(ctx context.Context) {
	l.mu.Lock()
	s := l.next
	l.next = newSighting()
	l.mu.Unlock()
	opinions := l.ask(ctx)
	if ctx.Err() != nil {
		s.err = backplane.ErrClosed
		close(s.done)
		return
	}
	var failure error
	var moves []move
	l.mu.Lock()
	for i := range l.places {
		f, m := l.places[i].take(opinions[i])
		s.places = append(s.places, f)
		failure = cmp.Or(failure, f.err)
		if m != nil {
			moves = append(moves, *m)
		}
	}
	l.mu.Unlock()
	close(s.done)
	l.log(failure)
	l.tell(moves)
}

// A move is that another has become the master of a place.
type move struct {
	to, before string
	moved      func(to string)
}

// take takes in what witnesses say of the place.
func (p *place) take(o opinion) (found, *move) {
	if o.given == 0 {
		return found{err: fmt.Errorf("find the master: %w", errors.Join(o.failures...))}, nil
	}
	if !p.believes(o) {
		return found{addr: p.master}, nil
	}
	before := p.master
	p.master, p.epoch = o.addr, o.epoch
	if before == "" || before == p.master {
		return found{addr: p.master}, nil
	}
	p.since = time.Now()
	return found{addr: p.master}, &move{p.master, before, p.moved}
}

// believes reports whether an opinion counts, which most witnesses agree to or have an
// earlier one than: the few may be cut off from the rest, and behind what is known.
func (p *place) believes(o opinion) bool {
	return o.most || o.epoch >= p.epoch
}

// tell tells who has another master now. What goes from one server to another is logged
// once, however many places it is.
func (l *lookout) tell(moves []move) {
	logged := make(map[[2]string]bool)
	for _, m := range moves {
		if way := [2]string{m.before, m.to}; !logged[way] {
			logged[way] = true
			l.logger.Warn("redis has another master", "master", m.to, "before", m.before)
		}
		if m.moved != nil {
			m.moved(m.to)
		}
	}
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

// An opinion is what the witnesses say of one place.
type opinion struct {
	answer        // the one that counts, if any was given
	given    int  // by how many
	most     bool // of the witnesses
	failures []error
}

// ask returns what the witnesses say of each place.
func (l *lookout) ask(ctx context.Context) []opinion {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	statements := make(chan []answer, len(l.witnesses))
	for _, w := range l.witnesses {
		asking.Go(func() { statements <- w.say(ctx, l.question) })
	}

	opinions := make([]opinion, len(l.places))
	var enough <-chan time.Time
	most := len(l.witnesses)/2 + 1
	heard := 0 // witnesses that had something to say
	for range l.witnesses {
		select {
		case says := <-statements:
			something := false
			for i, a := range says {
				o := &opinions[i]
				if a.err != nil {
					o.failures = append(o.failures, a.err)
					continue
				}
				something = true
				if o.given == 0 || a.epoch > o.epoch {
					o.answer = a
				}
				o.given++
				o.most = o.given >= most
			}
			if something {
				heard++
			}
			if heard == most && enough == nil {
				timer := time.NewTimer(lookPatience)
				defer timer.Stop()
				enough = timer.C
			}
		case <-enough:
			return opinions
		}
	}
	return opinions
}

// A witness is asked by one look at a time.
type witness struct {
	site *site
	link *link // nil while there is none
}

// say returns an answer for each place.
func (w *witness) say(ctx context.Context, q question) []answer {
	answers, err := w.answer(ctx, q)
	if err != nil {
		answers = slices.Repeat([]answer{{err: err}}, q.places)
	}
	for i := range answers {
		if a := &answers[i]; a.err != nil {
			a.err = fmt.Errorf("ask %s: %w", w.site.options.Addr, a.err)
		} else {
			a.addr = w.complete(a.addr)
		}
	}
	return answers
}

func (w *witness) answer(ctx context.Context, q question) ([]answer, error) {
	if w.link == nil {
		w.link = newLink(w.site, true)
	}
	l := w.link
	stop := context.AfterFunc(ctx, func() { l.cut(ctx.Err()) })
	answers, err := q.ask(ctx, l.client)
	if !stop() || err != nil {
		err = l.cause(err)
		w.disconnect()
	}
	return answers, err
}

// complete puts the witness' own host into an address that has none.
func (w *witness) complete(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host != "" {
		return addr
	}
	host, _, _ = net.SplitHostPort(w.site.options.Addr)
	return net.JoinHostPort(host, port)
}

func (w *witness) disconnect() {
	if w.link != nil {
		w.link.close()
		w.link = nil
	}
}
