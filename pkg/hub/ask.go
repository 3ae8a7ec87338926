package hub

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// remoteInvocationID is the invocation id of a question that another node asks.
func remoteInvocationID(id backplane.OperationID) string { return "r" + hex.EncodeToString(id[:]) }

// askElsewhere has the node that holds the connection ask it, and waits for the answer:
// as long as an operation may take until the client has been asked, and from then on
// until ctx ends.
func (h *Hub) askElsewhere(ctx context.Context, connectionID string, m *protocol.Invocation) (answer, error) {
	p := h.operations.expect()
	defer p.forget()
	m.InvocationID = remoteInvocationID(p.id)
	encodings, err := h.encodings(m)
	if err != nil {
		return answer{}, fmt.Errorf("encode: %w", err)
	}
	r, err := h.atHolder(ctx, p, backplane.Operation{
		Kind: backplane.OpAsk, TargetKind: backplane.TargetConnection, Target: connectionID, Encodings: encodings, Lease: h.leaseMillis(),
	})
	if err == nil && r.Outcome == backplane.OutcomeAccepted {
		r, err = h.awaitAnswer(ctx, p, connectionID)
	}
	switch {
	case errors.Is(err, ErrNoConnection):
		return answer{}, errDoesNotExist(connectionID)
	case errors.Is(err, ErrDisconnected):
		return answer{}, err
	case err != nil:
		h.forgetElsewhere(backplane.Connection(connectionID), p.id)
		if ctx.Err() != nil {
			err = errAskCanceled(ctx)
		}
		return answer{}, err
	}
	switch r.Outcome {
	case backplane.OutcomeDone:
		return answer{result: protocol.Raw{Protocol: protocol.ByName(r.Result.Protocol), Bytes: r.Result.Frame}}, nil
	case backplane.OutcomeFailed:
		if r.Error == errTooManyOperations.Error() {
			return answer{}, &remoteError{r.Node, r.Error}
		}
		return answer{}, &Error{Message: r.Error}
	default:
		return answer{}, errDoesNotExist(connectionID)
	}
}

// awaitAnswer waits for the answer of a client that has been asked elsewhere. Now and
// then it tells the client's node that it does, and learns whether that one does too.
func (h *Hub) awaitAnswer(ctx context.Context, p *pendingOperation, connectionID string) (backplane.Reply, error) {
	renew := time.NewTicker(h.lease / leaseRenewals)
	defer renew.Stop()
	kept := h.operations.expect()
	defer kept.forget()
	keep := h.keepOperation(kept.id, p.id, backplane.TargetConnection, connectionID)
	for {
		var gone, lost bool
		select {
		case <-p.replied:
		case <-kept.replied:
			r, ok := kept.next()
			gone, lost = ok && r.Outcome == backplane.OutcomeNothing, ok && r.Outcome == backplane.OutcomeFailed
		case <-renew.C:
			publishing, cancel := h.operating(ctx)
			gone = errors.Is(h.publishToHolder(publishing, keep), ErrNoConnection)
			cancel()
		case <-ctx.Done():
			return backplane.Reply{}, ctx.Err()
		case <-h.ctx.Done():
			return backplane.Reply{}, ErrClosed
		}
		r, ok := p.next() // first: the answer may have come just before
		for ok && r.Outcome == backplane.OutcomeAccepted {
			r, ok = p.next()
		}
		switch {
		case ok && r.Outcome == backplane.OutcomeNothing, !ok && gone:
			return backplane.Reply{}, errDisconnected(connectionID)
		case ok:
			return r, nil
		case lost:
			return backplane.Reply{}, fmt.Errorf("%w: the node of the connection waits no longer for the answer", backplane.ErrUnavailable)
		}
	}
}

// expectFor makes this node expect a client's answer for another node, which gets it
// when there is one. The client has not been asked yet.
func (h *Hub) expectFor(o backplane.Operation, c *connection) error {
	if frameFor(o, c) == nil {
		return errors.New("the client's hub protocol is not spoken by the node that asks")
	}
	id := remoteInvocationID(o.ID)
	if !h.holdings.hold(o, task{}, func() { h.results.forget(id) }) {
		return errHeldAlready
	}
	h.results.expectAs(id, c, func(a answer) {
		performed := h.operations.perform(math.MaxInt, func() { // one for each answer that was awaited
			ctx, cancel := context.WithTimeout(h.ctx, h.operationTimeout)
			defer cancel()
			h.reply(ctx, o, a.reply())
			h.holdings.drop(o.ID) // not before, so that the asker is not told that it is lost
		})
		if !performed {
			h.holdings.take(o.ID)
		}
	})
	if !h.holdings.holds(o.ID) { // the node that asks has gone in between
		h.results.forget(id)
	}
	return nil
}

// askFor asks a client whose answer has been made to be expected.
func (h *Hub) askFor(o backplane.Operation, c *connection) backplane.Reply {
	if h.results.expects(remoteInvocationID(o.ID)) { // else it was forgotten at once
		c.enqueue(frameFor(o, c))
		h.results.abandonEnded(c)
	}
	return backplane.Reply{Outcome: backplane.OutcomeAccepted}
}

// frameFor returns the question as the client understands it, or nil.
func frameFor(o backplane.Operation, c *connection) []byte {
	name := c.protocol().Name()
	at := slices.IndexFunc(o.Encodings, func(e backplane.Encoding) bool { return e.Protocol == name })
	if at < 0 {
		return nil
	}
	return o.Encodings[at].Frame
}
