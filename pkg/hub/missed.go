package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// maxMissedJoins is how many joins that were missed are made at a time. It is as many as
// the backplane keeps, and some.
const maxMissedJoins = 16384

// errMissed is why connections end that may have been removed or closed unheard.
var errMissed = errors.New("operations may have been missed")

// isKept reports whether an operation must not be missed by a node that does not hear.
// Joins that were begun before are not: the node does not know of that either.
func isKept(o backplane.Operation) bool {
	switch o.Kind {
	case backplane.OpRemove, backplane.OpRemoveFromAll, backplane.OpClose:
		return true
	case backplane.OpAddToGroup:
		return o.TargetKind != backplane.TargetConnection && o.Earlier == backplane.OperationID{}
	}
	return false
}

var _ backplane.MissedReceiver = receiver{}

// Missed implements [backplane.MissedReceiver]. What takes something away is in force when
// it returns.
func (h receiver) Missed(ch backplane.Channel, body []byte, age time.Duration) {
	o, err := backplane.ParseOperation(body, h.connections.Keys, h.address(ch))
	switch {
	case err != nil:
		h.metrics.unread(err).Inc()
		h.logger.Debug("operation that was missed ignored", "hub", h.name, "error", err)
	case !isKept(o) || h.handovers.intercept(ch, o):
	case o.Kind == backplane.OpAddToGroup:
		h.addMissed(o, age)
	default:
		r := h.apply(h.ctx, o, h.prepare(o))
		h.operations.perform(maxOperating, func() { h.replyInTime(o, r) })
	}
}

// addMissed adds those to a group that were to be added: who came later was not.
func (h *Hub) addMissed(o backplane.Operation, age time.Duration) {
	at := time.Now().Add(-age)
	t := task{targets: slices.DeleteFunc(h.targets(o), func(c *connection) bool { return c.opened.After(at) })}
	t.beginJoins(o.Group)
	performed := h.operations.perform(maxMissedJoins, func() {
		ctx, cancel := context.WithTimeout(h.ctx, h.operationTimeout)
		defer cancel()
		h.reply(ctx, o, h.apply(ctx, o, t))
	})
	if !performed {
		t.endJoins()
		h.logger.Warn("join that was missed not made: too many at a time, or leaving", "hub", h.name)
	}
}

// replyInTime replies, for as long as the asker may wait.
func (h *Hub) replyInTime(o backplane.Operation, r backplane.Reply) {
	ctx, cancel := context.WithTimeout(h.ctx, h.operationTimeout)
	defer cancel()
	h.reply(ctx, o, r)
}

// MissedUnknown implements [backplane.MissedReceiver]: whoever may have been removed or
// closed is to come again, and to be judged anew.
func (h receiver) MissedUnknown() {
	n := h.closeAll(closing{err: errMissed, allowReconnect: true}, func(*connection) bool { return true })
	h.logger.Warn("connections closed: operations may have been missed", "hub", h.name, "connections", n)
}

// closeAll ends the connections that are picked, and returns how many.
func (h *Hub) closeAll(how closing, pick func(*connection) bool) (n int) {
	var all []*connection
	h.handovers.each(h.registry, func(c *connection) {
		if pick(c) {
			all = append(all, c)
		}
	})
	for _, c := range all {
		c.end(how)
	}
	return len(all)
}
