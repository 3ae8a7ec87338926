package redisplane

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

var errNotYet = errors.New("not connected yet")

// health is whether the node hears a partition, and the record of its gaps. A gap lasts from the
// last proof before that the node heard, or from a doubt that is older, until all is
// subscribed again and a probe has been heard. The time before a node hears for
// the first time is none.
type health struct {
	logger  *slog.Logger
	later   bool             // than the node itself: that it has not connected yet is no deafness
	changed func()           // called, with mu held, when the node comes to hear, or no longer does
	proven  func() time.Time // returns until when it is proven that the node has heard all

	mu     sync.Mutex
	err    error     // why the node does not hear; nil: it does
	since  time.Time // of err
	doubt  time.Time // of the first that may not have been heard, if there is one now
	heard  bool      // ever
	count  int       // gaps
	closed time.Duration
}

func newHealth(logger *slog.Logger) *health {
	return &health{logger: logger, changed: func() {}, proven: func() (never time.Time) { return }, err: errNotYet, since: time.Now()}
}

// check returns nil while the node hears, and otherwise since when and why not.
func (h *health) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || h.later && errors.Is(h.err, errNotYet) {
		return nil
	}
	return &backplane.DeafError{Since: h.since, Err: h.err}
}

// gaps returns how many gaps there were and how long they lasted, the present one
// included.
func (h *health) gaps() (int, time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	total := h.closed
	if h.heard && h.err != nil {
		total += time.Since(h.since)
	}
	return h.count, total
}

// gap returns when the present gap has begun, if there is one.
func (h *health) gap() (since time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.since, h.heard && h.err != nil
}

// doubts notes that what was published at the time, such as a probe, may not have been
// heard.
func (h *health) doubts(published time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.doubt.IsZero() || published.Before(h.doubt) {
		h.doubt = published
	}
}

// trusts takes doubts back.
func (h *health) trusts() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.doubt = time.Time{}
}

// lost notes that the node does not hear, and the latest reason.
func (h *health) lost(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		h.logger.Debug("still deaf to the cluster", "error", err)
		first := errors.Is(h.err, errNotYet)
		h.err = err
		if first {
			h.logger.Warn("cannot connect to redis", "error", err)
			h.changed()
		}
		return
	}
	h.err, h.since = err, time.Now()
	h.changed()
	for _, earlier := range []time.Time{h.doubt, h.proven()} {
		if !earlier.IsZero() && earlier.Before(h.since) {
			h.since = earlier
		}
	}
	h.count++
	h.logger.Warn("deaf to the cluster", "since", h.since, "error", err)
}

// hears notes that all is subscribed and the node hears.
func (h *health) hears() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.doubt = time.Time{}
	if h.err == nil {
		return
	}
	gap := time.Since(h.since)
	h.err = nil
	h.changed()
	if !h.heard {
		h.heard = true
		h.logger.Info("hears the cluster")
		return
	}
	h.closed += gap
	h.logger.Info("hears the cluster again", "gap", gap)
}

// close makes ErrClosed the last word.
func (h *health) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.heard && h.err != nil {
		h.closed += time.Since(h.since)
	}
	h.heard = false
	h.err, h.since = backplane.ErrClosed, time.Now()
}
