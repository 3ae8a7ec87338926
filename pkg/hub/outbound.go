package hub

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// coalesceBytes is how much one message of the transport may join: enough to save
// system calls, little enough that clients see progress.
const coalesceBytes = 64 << 10

// streamBytes is how much may wait before a stream's next item does. It is well below
// what closes a connection, which is for sends that do not wait.
const streamBytes = 64 << 10

// lingering is how long what has been queued may take to go out once the connection
// ends. The write that is then in progress has its own bound, the send time-out.
const lingering = 10 * time.Second

var (
	errOutboundClosed = errors.New("connection is closed for sending")
	errLingered       = errors.New("client did not take what was left to send in time")
)

// A link is what outbound needs of a [transport.Connection].
type link interface {
	Write(frames [][]byte, format protocol.TransferFormat) error
	Close()
	Abort()
}

// outbound stands between everyone who sends to a connection and its transport.
//
// No fan-out waits for the client: enqueue never blocks, and a full queue is
// errSlowConsumer, on which its caller ends the connection once it has left the
// members' lock. At most one goroutine, drain, writes to the link. It is started when
// there is something to write and ends when there is not, so an idle connection has
// no writer.
type outbound struct {
	link      link
	format    protocol.TransferFormat // set before release, then constant
	maxBytes  int
	maxFrames int
	spawn     func(func()) // starts a goroutine that the hub joins
	failed    func(error)  // told by drain, once, that a write failed; must not wait

	mu       sync.Mutex    // never held across a write
	frames   [][]byte      // waiting; each is shared with other connections: read-only
	bytes    int           // in frames, and in what drain is writing
	inFlight int           // in what drain is writing
	held     bool          // nothing goes out before the handshake's answer
	writing  bool          // drain is running
	room     chan struct{} // made by who waits for room, closed when there may be some
	closing  time.Time     // if set, nothing more is taken; the link is closed after the last frame
}

// enqueue adds a frame. The error is errSlowConsumer or errOutboundClosed.
func (o *outbound) enqueue(frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing.IsZero() {
		return errOutboundClosed
	}
	if o.bytes > 0 && (o.bytes+len(frame) > o.maxBytes || len(o.frames) >= o.maxFrames) {
		return errSlowConsumer
	}
	o.push(frame)
	return nil
}

// enqueueWhenRoom adds a frame once little waits before it. The error is
// errOutboundClosed or the context's.
func (o *outbound) enqueueWhenRoom(ctx context.Context, frame []byte) error {
	for ctx.Err() == nil {
		room, err := o.enqueueIfRoom(frame)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

// enqueueIfRoom returns what to wait for, or the outcome.
func (o *outbound) enqueueIfRoom(frame []byte) (room <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing.IsZero() {
		return nil, errOutboundClosed
	}
	if o.bytes > 0 && o.bytes+len(frame) > min(streamBytes, o.maxBytes) || len(o.frames) >= o.maxFrames {
		if o.room == nil {
			o.room = make(chan struct{})
		}
		return o.room, nil
	}
	o.push(frame)
	return nil, nil
}

// madeRoom is called with mu held.
func (o *outbound) madeRoom() {
	if o.room != nil {
		close(o.room)
		o.room = nil
	}
}

// busy reports whether something waits or is being written.
func (o *outbound) busy() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes > 0
}

// release sends the first frame, the answer to the handshake, ahead of all that has
// been enqueued since the connection could be reached.
func (o *outbound) release(first []byte, format protocol.TransferFormat) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.format = format
	if !o.closing.IsZero() {
		return
	}
	o.held = false
	o.frames = append([][]byte{first}, o.frames...)
	o.bytes += len(first)
	o.start()
}

// finish makes last, if it is not nil, the last frame and has the link closed after
// it. What waits is dropped if it is held for a handshake that has not been answered,
// or if drop says so.
func (o *outbound) finish(last []byte, drop bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closing.IsZero() {
		return
	}
	o.closing = time.Now()
	o.madeRoom() // who waits is to see that there is no use in it
	if o.held || drop {
		for _, f := range o.frames {
			o.bytes -= len(f)
		}
		o.frames, o.held = nil, false
	}
	if last != nil {
		o.push(last)
	}
	o.start()
}

// push and start are called with mu held.
func (o *outbound) push(frame []byte) {
	o.frames = append(o.frames, frame)
	o.bytes += len(frame)
	o.start()
}

func (o *outbound) start() {
	if !o.held && !o.writing {
		o.writing = true
		o.spawn(o.drain)
	}
}

// drain writes until nothing is left. Owner: the outbound; bound: the send time-out
// of each write.
func (o *outbound) drain() {
	for {
		frames, err := o.next()
		switch {
		case err == nil && frames != nil:
			err = o.link.Write(frames, o.format)
			clear(frames)
		case errors.Is(err, errOutboundClosed):
			o.link.Close()
			return
		case err == nil:
			return
		}
		if err != nil {
			o.stop()
			o.failed(err) // first, so that it is known why the reader comes to its end
			o.link.Abort()
			return
		}
	}
}

// next returns what is to be written next. Nothing means that drain must end, and
// errOutboundClosed that nothing will come any more either.
func (o *outbound) next() ([][]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes -= o.inFlight
	o.inFlight = 0
	o.madeRoom()
	closing := !o.closing.IsZero()
	if len(o.frames) == 0 {
		o.frames, o.writing = nil, false
		if closing {
			return nil, errOutboundClosed
		}
		return nil, nil
	}
	if closing && time.Since(o.closing) > lingering {
		return nil, errLingered
	}
	n, size := batch(o.frames)
	frames := o.frames[:n:n]
	o.frames, o.inFlight = o.frames[n:], size
	return frames, nil
}

// batch says how many frames to write together, and their size.
func batch(frames [][]byte) (n, size int) {
	for n < len(frames) && (n == 0 || size+len(frames[n]) <= coalesceBytes) {
		size += len(frames[n])
		n++
	}
	return n, size
}

// stop drops everything after a write failed. writing stays set: there is nothing
// left that another drain could do.
func (o *outbound) stop() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closing = time.Now()
	o.madeRoom()
	o.frames, o.bytes, o.inFlight = nil, 0, 0
}
