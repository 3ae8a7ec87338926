package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// An upload is a stream from the client.
type upload struct {
	id    string
	items func(context.Context) iter.Seq2[any, error] // ends early with the context, as far as it can
}

// uploadOf returns the upload that the argument is, or nil if it is a plain one.
func uploadOf(arg any) (*upload, error) {
	v := reflect.ValueOf(arg)
	switch v.Kind() {
	case reflect.Chan:
		if v.Type().ChanDir()&reflect.RecvDir == 0 {
			return nil, fmt.Errorf("nothing can be received from a %s", v.Type())
		}
		if v.IsNil() {
			return nil, errors.New("channel is nil")
		}
		return &upload{items: func(ctx context.Context) iter.Seq2[any, error] { return received(ctx, v) }}, nil
	case reflect.Func:
		t := v.Type()
		if !t.CanSeq() && !(t.CanSeq2() && t.In(0).In(1) == errorType) {
			return nil, fmt.Errorf("type %s has no encoding and is no sequence", t)
		}
		if v.IsNil() {
			return nil, errors.New("sequence is nil")
		}
		return &upload{items: func(context.Context) iter.Seq2[any, error] { return elements(v) }}, nil
	}
	return nil, nil
}

// received is what comes from a channel until it is closed or the context ends.
func received(ctx context.Context, channel reflect.Value) iter.Seq2[any, error] {
	cases := []reflect.SelectCase{
		{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(ctx.Done())},
		{Dir: reflect.SelectRecv, Chan: channel},
	}
	return func(yield func(any, error) bool) {
		for {
			chosen, v, open := reflect.Select(cases)
			if chosen == 0 || !open || !yield(v.Interface(), nil) {
				return
			}
		}
	}
}

// elements is what a sequence of values, or of values and errors, gives.
func elements(sequence reflect.Value) iter.Seq2[any, error] {
	if sequence.Type().CanSeq() {
		return func(yield func(any, error) bool) {
			for v := range sequence.Seq() {
				if !yield(v.Interface(), nil) {
					return
				}
			}
		}
	}
	return func(yield func(any, error) bool) {
		for v, e := range sequence.Seq2() {
			err, _ := e.Interface().(error)
			if !yield(v.Interface(), err) {
				return
			}
		}
	}
}

// upload sends the stream until it ends, or the context, or the connection. The error
// says what kept it from being sent whole, other than an error of its own.
func (c *connection) upload(ctx context.Context, u *upload) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.ctx, func() { cancel(context.Cause(c.ctx)) })()

	failure, err := c.sendItems(ctx, u)
	if errors.Is(context.Cause(ctx), errAnswered) {
		return nil
	}
	if c.send(c.ctx, &protocol.Completion{InvocationID: u.id, Error: failure}) != nil {
		return c.lost()
	}
	return err
}

// sendItems returns the text with which the stream is to be ended as failed, if any, and
// the error of upload.
func (c *connection) sendItems(ctx context.Context, u *upload) (failure string, err error) {
	for item, failed := range u.items(ctx) {
		if ctx.Err() != nil {
			break
		}
		if failed != nil {
			return textOf(failed), nil
		}
		err := c.send(ctx, &protocol.StreamItem{InvocationID: u.id, Item: item})
		if _, unencodable := errors.AsType[*encodeError](err); unencodable {
			return err.Error(), err
		}
		if err != nil {
			break
		}
	}
	if ctx.Err() != nil { // which may be what ended the items
		return "upload cancelled", ctx.Err()
	}
	return "", nil
}

// textOf is the error's text, which must not be empty to be seen as one.
func textOf(err error) string {
	if text := err.Error(); text != "" {
		return text
	}
	return "error"
}

// uploadAll sends the streams and waits until all have ended, or the context or the
// connection has.
func (c *connection) uploadAll(ctx context.Context, uploads []*upload) error {
	results := make(chan error, len(uploads))
	for _, u := range uploads {
		if !c.spawn(func() { results <- c.upload(ctx, u) }) {
			return c.lost()
		}
	}
	for range uploads {
		select {
		case err := <-results:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return c.lost()
		}
	}
	return nil
}
