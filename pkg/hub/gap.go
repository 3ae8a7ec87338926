package hub

import (
	"errors"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// errGap is why connections end that are to come again after a gap.
var errGap = errors.New("messages may have been missed")

// GapReconnects says whose clients are asked to reconnect after a gap.
type GapReconnects int

// The choices of [WithReconnectAfterGap].
const (
	ReconnectNone     GapReconnects = iota // nobody's
	ReconnectStateful                      // those with stateful reconnect
	ReconnectAll                           // all
)

// A Gap is a time in which this node was deaf to the others, after it had heard them. What
// was sent then may not have reached its connections; operations have, see
// [backplane.MissedReceiver].
type Gap struct {
	Began, Ended time.Time
}

// WithGapEnded has f called after each gap, in a goroutine of its own: so that the
// application can have its clients catch up. A panic of f is logged. [Hub.Shutdown] waits for
// a call that is running. The default is to tell nobody; gaps are logged and counted in any
// case.
func WithGapEnded(f func(Gap)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("gap ended function is nil")
		}
		c.gapEnded = f
		return nil
	}
}

// WithReconnectAfterGap has connections closed at the end of a gap, before anything else is
// delivered to them, with the advice to reconnect: for applications whose clients fetch what
// they need when they connect, and take messages for complete after that. The default is
// [ReconnectNone].
func WithReconnectAfterGap(who GapReconnects) Option {
	return func(c *config) error {
		if who < ReconnectNone || who > ReconnectAll {
			return errors.New("reconnect after gap: no such choice")
		}
		c.gapReconnects = who
		return nil
	}
}

var _ backplane.GapWatcher = receiver{}

// GapEnded implements [backplane.GapWatcher].
func (h receiver) GapEnded(began time.Time) {
	gap := Gap{Began: began, Ended: time.Now()}
	if h.gapReconnects != ReconnectNone {
		n := h.closeAll(closing{err: errGap, allowReconnect: true}, func(c *connection) bool {
			return c.stateful != nil || h.gapReconnects == ReconnectAll
		})
		h.logger.Warn("connections closed after a gap", "hub", h.name, "connections", n, "gap", gap.Ended.Sub(gap.Began))
	}
	if h.gapEnded == nil {
		return
	}
	told := h.operations.perform(maxOperating, func() {
		defer func() {
			if v := recover(); v != nil {
				h.logPanic(v)
			}
		}()
		h.gapEnded(gap)
	})
	if !told {
		h.logger.Warn("gap not told of: too much to do at a time, or leaving", "hub", h.name)
	}
}
