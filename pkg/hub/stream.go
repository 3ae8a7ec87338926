package hub

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// errStreamStopped ends a stream of which nobody wants more.
var errStreamStopped = errors.New("stream stopped")

// stream sends what a streaming method returned, item by item, and the completion. It
// takes the next item when there is room for this one on its way to the client.
func (c *connection) stream(i *invocation, result any) {
	v := reflect.ValueOf(result)
	if !i.method.result.isOf(v) { // a filter may return anything
		c.hub.metrics.failed.Inc()
		c.answer(i, nil, fmt.Sprintf("The value returned by the streaming method '%s' is not a ChannelReader<> or IAsyncEnumerable<>.", i.method.name))
		return
	}
	c.hub.guardThen(func() error {
		return eachItem(&i.ctx, i.method.result, v, func(item any) error { return c.sendItem(i, item) })
	}, func(err error) { c.endStream(i, err) })
}

// endStream completes a stream of which all has been sent, or that has failed.
func (c *connection) endStream(i *invocation, err error) {
	if i.ctx.Err() != nil {
		err = nil // stopped by the client, or there is none any more
	}
	c.count(err)
	if err != nil {
		c.logFailure("stream failed", i, err)
		c.answer(i, nil, c.hub.withDetails("An error occurred on the server while streaming results.", err))
		return
	}
	c.done(i)
	if i.answered.Swap(true) {
		return
	}
	if err := c.send(&protocol.Completion{InvocationID: i.id}); err != nil {
		panic("completion: " + err.Error()) // no value in it can fail to encode
	}
}

// isOf reports whether v is a stream of the kind, of whatever items.
func (k resultKind) isOf(v reflect.Value) bool {
	switch {
	case k == channelResult:
		return v.Kind() == reflect.Chan && v.Type().ChanDir()&reflect.RecvDir != 0 && !v.IsNil()
	case v.Kind() != reflect.Func || v.IsNil():
		return false
	case k == fallibleResult:
		return v.Type().CanSeq2() && v.Type().In(0).In(1) == errorType
	default:
		return v.Type().CanSeq()
	}
}

func (c *connection) sendItem(i *invocation, item any) error {
	frame, err := c.protocol().Append(nil, &protocol.StreamItem{InvocationID: i.id, Item: item})
	if err != nil {
		c.fail(fmt.Errorf("encode stream item: %w", err)) // as complete does
		return errStreamStopped
	}
	if err := c.out.enqueueWhenRoom(&i.ctx, frame); err != nil {
		return errStreamStopped
	}
	c.hub.metrics.sent.Inc()
	return nil
}

// eachItem calls send for each item of a stream until that is over, fails, or ctx ends.
func eachItem(ctx context.Context, kind resultKind, v reflect.Value, send func(any) error) error {
	switch kind {
	case sequenceResult:
		for item := range v.Seq() {
			if err := send(item.Interface()); err != nil {
				return err
			}
		}
	case fallibleResult:
		for item, failed := range v.Seq2() {
			if err, _ := failed.Interface().(error); err != nil {
				return err
			}
			if err := send(item.Interface()); err != nil {
				return err
			}
		}
	case channelResult:
		cases := []reflect.SelectCase{
			{Dir: reflect.SelectRecv, Chan: v},
			{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())},
		}
		for {
			chosen, item, open := reflect.Select(cases)
			if chosen == 1 || !open {
				return nil
			}
			if err := send(item.Interface()); err != nil {
				return err
			}
		}
	}
	return nil
}
