package hub

import (
	"context"
	"reflect"
	"sync"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// An upload is a stream from the client to a method. The reader puts items in, the
// method takes them out through the iterator that is its parameter.
type upload struct {
	id         string
	item       reflect.Type
	ctx        context.Context // the invocation's
	connection context.Context // the connection's
	budget     *budget         // that waiting items count in

	arrived chan struct{} // of capacity 1: there is something to look at

	mu     sync.Mutex
	items  []uploadedItem
	ended  bool  // by the client: nothing comes after items
	err    error // how, if ended
	closed bool  // by the method's end: nothing more is taken
}

type uploadedItem struct {
	value reflect.Value
	size  int
}

// What the reader of an upload gets when the connection has ended, and when the
// invocation has been canceled, or completed.
var (
	errUploadEnded    = &protocol.Error{Kind: kindOperationCancel, Detail: "The underlying connection was closed.", Err: context.Canceled}
	errUploadCanceled = &protocol.Error{Kind: kindOperationCancel, Detail: "The operation was canceled.", Err: context.Canceled}
)

// addUploads makes the streams that an invocation declares, and puts their iterators
// among its arguments.
func (c *connection) addUploads(i *invocation, ids []string) {
	next := 0
	for p, parameter := range i.method.parameters {
		if parameter.item == nil {
			continue
		}
		u := &upload{id: ids[next], item: parameter.item, ctx: &i.ctx, connection: c.ctx, budget: &c.waiting, arrived: make(chan struct{}, 1)}
		next++
		i.uploads = append(i.uploads, u)
		i.arguments.values[leading+p] = u.iterator(parameter.Type)
	}
}

// receiveItem takes an item from the client. When too much waits, the reader waits
// here. An item of no stream is dropped.
func (c *connection) receiveItem(m *protocol.StreamItem, size int) {
	u := c.upload(m.InvocationID)
	if u == nil {
		return
	}
	v := reflect.New(u.item)
	if err := c.guard(func() error { return c.protocol().BindValue(m.RawItem, v.Interface()) }); err != nil {
		c.forgetUpload(u)
		u.end(&Error{Message: c.hub.withDetails("Failed to bind Stream message.", err), Err: err})
		return
	}
	size = charge(itemOverhead, size, footprint(v.Elem()))
	if c.waiting.acquire(c.ctx, size) != nil {
		return
	}
	if !u.push(uploadedItem{v.Elem(), size}) {
		c.waiting.release(size)
	}
}

// receiveCompletion takes the end of a stream that the client uploads, or else the
// answer to what the client was asked.
func (c *connection) receiveCompletion(m *protocol.Completion) {
	u := c.upload(m.InvocationID)
	if u == nil {
		c.receiveResult(m)
		return
	}
	c.forgetUpload(u)
	var err error
	if m.HasError {
		err = &Error{Message: m.Error}
	}
	u.end(err)
}

// push adds an item, and reports whether it was taken.
func (u *upload) push(i uploadedItem) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || u.ended {
		return false
	}
	u.items = append(u.items, i)
	u.signal()
	return true
}

// end says that no more items come; err is what the method gets after the last one.
func (u *upload) end(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.ended {
		u.ended, u.err = true, err
		u.signal()
	}
}

// close drops what the method did not take.
func (u *upload) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	for _, i := range u.items {
		u.budget.release(i.size)
	}
	u.items = nil
}

func (u *upload) signal() {
	select {
	case u.arrived <- struct{}{}:
	default:
	}
}

// next waits for the next item. Without one there is an error, or the stream is over.
func (u *upload) next() (v reflect.Value, err error, ok bool) {
	for {
		u.mu.Lock()
		if len(u.items) > 0 {
			i := u.items[0]
			u.items[0] = uploadedItem{}
			u.items = u.items[1:]
			u.mu.Unlock()
			u.budget.release(i.size)
			return i.value, nil, true
		}
		ended, err := u.ended, u.err
		u.mu.Unlock()
		if ended {
			return reflect.Zero(u.item), err, false
		}
		select {
		case <-u.arrived:
		case <-u.ctx.Done():
			if u.connection.Err() == nil {
				return reflect.Zero(u.item), errUploadCanceled, false
			}
			return reflect.Zero(u.item), errUploadEnded, false
		}
	}
}

// iterator returns the upload as the iter.Seq2[T, error] that is the method's
// parameter. It is for one goroutine at a time; what one loop leaves, the next one gets.
func (u *upload) iterator(t reflect.Type) reflect.Value {
	none := reflect.Zero(errorType)
	return reflect.MakeFunc(t, func(arguments []reflect.Value) []reflect.Value {
		yield := arguments[0]
		for {
			v, err, ok := u.next()
			switch {
			case ok:
				if !yield.Call([]reflect.Value{v, none})[0].Bool() {
					return nil
				}
			case err != nil:
				yield.Call([]reflect.Value{v, reflect.ValueOf(&err).Elem()})
				return nil
			default:
				return nil
			}
		}
	})
}
