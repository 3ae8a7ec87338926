package hub

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// leaseRenewals is how often a lease is renewed before it would run out.
const leaseRenewals = 3

// A remoteJoin is a join of connections that are, or may be, on other nodes, from before
// anybody is asked whether it may be. It is begun where it will take effect, so that a
// removal meanwhile cancels it there, whoever asks for that.
type remoteJoin struct {
	hub     *Hub
	target  backplane.Operation // what both steps are for
	id      backplane.OperationID
	nodes   []string          // on which it was begun; nil: a connection's
	commits *pendingOperation // made first, so that it knows of nodes that go meanwhile
	stop    func()            // of keep
}

// beginRemoteJoin begins a join everywhere where the target may be. end is to be called.
func (h *Hub) beginRemoteJoin(ctx context.Context, kind backplane.TargetKind, target, group string) (*remoteJoin, error) {
	j := &remoteJoin{
		hub:     h,
		target:  backplane.Operation{TargetKind: kind, Target: target, Group: group},
		commits: h.operations.expect(),
	}
	if err := j.begin(ctx); err != nil {
		j.commits.forget()
		return nil, err
	}
	j.stop = h.keep(ctx, h.keepOperation(newOperationID(), j.id, kind, target))
	return j, nil
}

func (j *remoteJoin) begin(ctx context.Context) (err error) {
	h, o := j.hub, j.target
	o.Kind, o.Lease = backplane.OpBeginJoin, h.leaseMillis()
	p := h.operations.expect()
	defer p.forget()
	j.id = p.id
	defer func() {
		if err != nil && !errors.Is(err, ErrNoConnection) {
			h.forgetElsewhere(channelOf(o), j.id)
		}
	}()
	if o.TargetKind == backplane.TargetConnection {
		r, err := h.atHolder(ctx, p, o)
		if err != nil {
			return err
		}
		return errorAtHolder(r)
	}
	ctx, cancel := h.operating(ctx)
	defer cancel()
	if j.nodes, err = h.nodes(ctx); err != nil {
		return err
	}
	_, err = h.atNodes(ctx, p, o, j.nodes)
	return err
}

// commit makes the join that add describes.
func (j *remoteJoin) commit(ctx context.Context, add backplane.Operation) error {
	j.stop()
	add.Earlier = j.id
	if add.TargetKind == backplane.TargetConnection {
		r, err := j.hub.atHolder(ctx, j.commits, add)
		if err != nil {
			return err
		}
		return errorAtHolder(r)
	}
	ctx, cancel := j.hub.operating(ctx)
	defer cancel()
	_, err := j.hub.atNodes(ctx, j.commits, add, j.nodes)
	return err
}

// end gives up what has not been committed.
func (j *remoteJoin) end(committed bool) {
	j.stop()
	j.commits.forget()
	if !committed {
		j.hub.forgetElsewhere(channelOf(j.target), j.id)
	}
}

// channelOf is where an operation is published.
func channelOf(o backplane.Operation) backplane.Channel {
	if o.TargetKind == backplane.TargetConnection {
		return backplane.Connection(o.Target)
	}
	return backplane.All
}

func (h *Hub) leaseMillis() uint64 { return uint64(h.lease / time.Millisecond) }

// keepOperation renews the lease of an earlier one.
func (h *Hub) keepOperation(id, earlier backplane.OperationID, kind backplane.TargetKind, target string) backplane.Operation {
	return backplane.Operation{ID: id, Kind: backplane.OpKeep, TargetKind: kind, Target: target, Earlier: earlier, Lease: h.leaseMillis()}
}

// keep publishes an operation that renews a lease, as often as that takes, until stop is
// called, which waits for the goroutine.
func (h *Hub) keep(ctx context.Context, o backplane.Operation) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	renewing.Go(func() { // owner: who calls stop
		for sleep(ctx, h.lease/leaseRenewals) {
			publishing, cancel := h.operating(ctx)
			err := h.publishOperation(publishing, channelOf(o), o)
			cancel()
			if err != nil {
				h.logger.Debug("lease not renewed", "hub", h.name, "error", err)
			}
		}
	})
	return func() {
		cancel()
		renewing.Wait()
	}
}

// forgetElsewhere tells other nodes that nobody waits any more for what an operation has
// left with them. Who does not hear it gives it up when its lease has run out.
func (h *Hub) forgetElsewhere(ch backplane.Channel, id backplane.OperationID) {
	h.operations.perform(math.MaxInt, func() { // one for each operation that has been given up
		ctx, cancel := context.WithTimeout(h.ctx, h.operationTimeout)
		defer cancel()
		o := backplane.Operation{ID: newOperationID(), Kind: backplane.OpForget, Earlier: id}
		if err := h.publishOperation(ctx, ch, o); err != nil {
			h.logger.Debug("operation not taken back", "hub", h.name, "error", err)
		}
	})
}
