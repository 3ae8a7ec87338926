package redisplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// Publish implements [backplane.Attachment].
func (a *attachment) Publish(ctx context.Context, body []byte, channels ...backplane.Channel) error {
	_, err := a.publish(ctx, body, channels)
	return err
}

// PublishCounted implements [backplane.Attachment].
func (a *attachment) PublishCounted(ctx context.Context, body []byte, ch backplane.Channel) (int, error) {
	return a.publish(ctx, body, []backplane.Channel{ch})
}

// PublishKept implements [backplane.Attachment]. The operation is kept first: so a node
// that reads what is kept once it is subscribed has either read it or will hear it.
func (a *attachment) PublishKept(ctx context.Context, operation []byte, ch backplane.Channel) (subscribers int, err error) {
	var p *partition
	if !a.isDetached() {
		p = a.plane.partitions.get(a.Partition(ch))
	}
	if p == nil { // closed
		return a.publish(ctx, operation, []backplane.Channel{ch})
	}
	sure, kept := p.keeper.keep(ctx, a.prefix, ch, bytes.Clone(operation))
	subscribers, err = a.publish(ctx, operation, []backplane.Channel{ch})
	switch {
	case kept != nil && err == nil:
		err = unknown(fmt.Errorf("not kept for nodes that do not hear: %w", kept))
	case errors.Is(err, backplane.ErrNotSent) && (kept == nil || !sure):
		err = unknown(fmt.Errorf("nodes may read what was not published: %v", err))
	}
	return subscribers, err
}

func (a *attachment) publish(ctx context.Context, body []byte, channels []backplane.Channel) (receivers int, err error) {
	if a.isDetached() {
		err = notSent(backplane.ErrClosed)
	} else {
		receivers, err = publish(ctx, a.plane.layout, a.plane.laneOf, body, a.prefix, channels)
	}
	a.plane.metrics.publishError(err)
	return receivers, err
}

// publish publishes body on the channels, over the lanes of all partitions that they lie in
// at the same time. A partition has no lane any more, nil, when what it is for was closed.
func publish(ctx context.Context, in layout, laneOf func(n int) *lane, body []byte, prefix string, channels []backplane.Channel) (receivers int, err error) {
	if n, ok := in.common(prefix, channels); ok {
		l := laneOf(n)
		if l == nil {
			return 0, notSent(backplane.ErrClosed)
		}
		return l.publish(ctx, body, prefix, channels)
	}
	if err := ctx.Err(); err != nil {
		return 0, notSent(err)
	}
	var all outcome
	type published struct {
		lane    *lane
		request *request
	}
	var waiting []published
	for _, s := range in.split(prefix, channels) {
		l := laneOf(s.partition)
		if l == nil {
			all.add(outcome{err: backplane.ErrClosed})
			continue
		}
		r, err := l.begin(body, prefix, s.channels)
		if err != nil {
			all.add(outcome{err: err})
			continue
		}
		waiting = append(waiting, published{l, r})
	}
	for _, w := range waiting {
		all.add(w.lane.end(ctx, w.request))
	}
	return all.receivers, all.result()
}
