package hub

import (
	"context"
	"errors"
	"slices"
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
	errHandedOver     = errors.New("connection has been handed over to another node")
	errLingered       = errors.New("client did not take what was left to send in time")
)

// A link is what outbound needs of a [transport.Carrier].
type link interface {
	Write(frames [][]byte, format protocol.TransferFormat) error
	Close()
	Abort()
}

// outbound stands between everyone who sends to a connection and what carries it.
//
// No fan-out waits for the client: enqueue never blocks, and a full queue is
// errSlowConsumer, on which its caller ends the connection once it has left the
// members' lock. At most one goroutine, drain, writes to a link. It is started when
// there is something to write and ends when there is not, so an idle connection has
// no writer.
//
// With stateful reconnect the link breaks and is replaced, and what waits, and what the
// client has not acknowledged, outlives it. A drain belongs to one link: that of a link
// which has been replaced may still be in its last write while the next one's writes
// already, but touches nothing any more.
type outbound struct {
	maxBytes  int
	maxFrames int
	spawn     func(func()) // starts a goroutine that the hub joins
	failed    func(error)  // told by drain, once, that a write failed for good; must not wait

	mu       sync.Mutex // never held across a write
	link     link       // nil between two of a connection with stateful reconnect
	format   protocol.TransferFormat
	control  [][]byte      // go ahead of frames, unnumbered: pings and the like, one or two
	frames   [][]byte      // waiting; each is shared with other connections: read-only
	bytes    int           // in frames, and in what drain is writing
	inFlight int           // in what drain is writing; zero with stateful reconnect: unacked has it
	held     bool          // nothing goes out before the handshake's answer
	refusing error         // if set, nothing is taken, and nothing written: the connection is handed over
	writing  bool          // the link's drain is running
	room     chan struct{} // made by who waits for room, closed when there may be some
	ending   *ending       // if set, nothing more is taken; the link is closed after the last frame
	unacked  *unacked      // with stateful reconnect, else nil; set by release
}

type ending struct {
	since time.Time
	last  []byte // the Close message, unnumbered, behind everything else; nil: none, or taken
}

// enqueue adds a frame. The error is errSlowConsumer or errOutboundClosed.
func (o *outbound) enqueue(frame []byte) error { return o.enqueueBy(o.spawn, frame) }

// enqueueBy is enqueue for a caller with a spawn of its own, which has what it is called
// with run at once, or soon.
func (o *outbound) enqueueBy(spawn func(func()), frame []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refusing != nil { // first: after the end too, the other node has it
		return o.refusing
	}
	if o.ending != nil {
		return errOutboundClosed
	}
	if o.bytes > 0 && (o.bytes+len(frame) > o.maxBytes || len(o.frames) >= o.maxFrames) {
		return errSlowConsumer
	}
	o.pushBy(spawn, frame)
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
	if o.ending != nil {
		return nil, errOutboundClosed
	}
	if o.refusing != nil {
		return nil, o.refusing
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

// ping sends a frame that tells nothing but that the server is there, unless something
// is on its way to the client anyhow, or nothing can be.
func (o *outbound) ping(frame []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.writing {
		o.urge(frame)
	}
}

// urgent sends a frame ahead of what waits. It reports whether it did: not without a
// link, nor while others such wait, nor when the connection ends.
func (o *outbound) urgent(frame []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.urge(frame)
}

// urge is called with mu held.
func (o *outbound) urge(frame []byte) bool {
	if o.held || o.refusing != nil || o.link == nil || len(o.control) > 0 || o.ending != nil {
		return false
	}
	o.control = append(o.control, frame)
	o.start()
	return true
}

// release sends the first frame, the answer to the handshake, ahead of all that has
// been enqueued since the connection could be reached. With an u the connection has
// stateful reconnect from now on.
func (o *outbound) release(first []byte, format protocol.TransferFormat, u *unacked) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending != nil {
		return
	}
	o.format, o.unacked, o.held = format, u, false
	o.control = append(o.control, first)
	o.start()
}

// interrupted says that the link is broken, unless another one has replaced it already.
// It is for connections with stateful reconnect.
func (o *outbound) interrupted(l link) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link == l {
		o.unlink()
	}
}

// unlink is called with mu held.
func (o *outbound) unlink() {
	o.link, o.writing, o.control = nil, false, nil
	if o.ending != nil {
		o.drop()
	}
}

// resume goes on over another link: sequence makes a frame of the number of the first
// message that it carries. It reports false if the connection is ending, and has no use
// for it. It is for connections with stateful reconnect.
func (o *outbound) resume(l link, sequence func(number int64) []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unlink()
	if o.ending != nil {
		return false
	}
	o.link = l
	if o.refusing != nil {
		return true // it will be cut, and the client come to the other node
	}
	o.control = append(o.control, sequence(o.unacked.resume()))
	o.start()
	return true
}

// ack takes the client's word that it has processed all messages up to number n.
func (o *outbound) ack(n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.unacked.ack(n, time.Now()) && len(o.frames) > 0 {
		o.start()
	}
}

// starved reports whether the client has had messages to acknowledge for so long that
// no more can be sent to it.
func (o *outbound) starved(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.unacked
	return u != nil && !u.paused.IsZero() && now.Sub(u.paused) >= ackWait && o.link != nil && o.ending == nil
}

// excuse begins anew to wait for an acknowledgement.
func (o *outbound) excuse(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if u := o.unacked; u != nil && !u.paused.IsZero() {
		u.paused = now
	}
}

// away reports whether there is no link.
func (o *outbound) away() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.link == nil
}

// finish makes last, if it is not nil, the last frame and has the link closed after
// it. What waits is dropped if it is held for a handshake that has not been answered,
// or if drop says so, or without a link.
func (o *outbound) finish(last []byte, drop bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending != nil {
		return
	}
	o.ending = &ending{since: time.Now(), last: last}
	o.madeRoom() // who waits is to see that there is no use in it
	if o.link == nil {
		o.drop()
		return
	}
	if o.held || drop {
		for _, f := range o.frames {
			o.bytes -= len(f)
		}
		o.frames, o.held = nil, false
	}
	o.start()
}

// push, start, and what they are with another spawn, are called with mu held.
func (o *outbound) push(frame []byte) { o.pushBy(o.spawn, frame) }

func (o *outbound) pushBy(spawn func(func()), frame []byte) {
	o.frames = append(o.frames, frame)
	o.bytes += len(frame)
	if o.unacked == nil || o.unacked.paused.IsZero() {
		o.startBy(spawn)
	}
}

func (o *outbound) start() { o.startBy(o.spawn) }

func (o *outbound) startBy(spawn func(func())) {
	if o.held || o.refusing != nil || o.writing || o.link == nil {
		return
	}
	o.writing = true
	to := o.link
	spawn(func() { o.drain(to) })
}

// drain writes until nothing is left, or until the link has been replaced. Owner: the
// outbound; bound: the send time-out of each write.
func (o *outbound) drain(to link) {
	for {
		frames, err := o.next(to)
		switch {
		case err == nil && frames != nil:
			err = to.Write(frames, o.format)
			clear(frames)
		case errors.Is(err, errOutboundClosed):
			to.Close()
			return
		case err == nil:
			return
		}
		if err != nil {
			o.broken(to, err)
			return
		}
	}
}

// next returns what is to be written next. Nothing means that drain must end, and
// errOutboundClosed that nothing will come any more either.
func (o *outbound) next(to link) ([][]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.link != to {
		return nil, nil
	}
	o.bytes -= o.inFlight
	o.inFlight = 0
	o.madeRoom()
	if o.refusing != nil {
		o.writing = false
		return nil, nil
	}
	frames := o.control
	o.control = nil
	if more := o.take(); frames == nil {
		frames = more
	} else {
		frames = append(frames, more...)
	}
	if o.ending != nil && o.ending.last != nil && !o.waiting() {
		frames, o.ending.last = append(frames, o.ending.last), nil
	}
	switch {
	case frames == nil:
		o.writing = false
		if o.ending != nil {
			return nil, errOutboundClosed
		}
	case o.ending != nil && time.Since(o.ending.since) > lingering:
		return nil, errLingered
	}
	return frames, nil
}

// waiting reports whether messages wait to be sent, or to be sent again. It is called
// with mu held.
func (o *outbound) waiting() bool {
	return len(o.frames) > 0 || o.unacked != nil && o.unacked.sent < o.unacked.last()
}

// take takes messages out of the queue, or again, as many as fit into one message of
// the transport. It is called with mu held.
func (o *outbound) take() [][]byte {
	u := o.unacked
	switch {
	case u != nil && u.sent < u.last():
		return u.again()
	case len(o.frames) == 0:
		o.frames = nil
		return nil
	case u == nil:
		n, size := batch(o.frames, coalesceBytes)
		frames := o.frames[:n:n]
		o.frames, o.inFlight = o.frames[n:], size
		return frames
	case u.full() && o.ending == nil:
		u.pause(time.Now())
		return nil
	}
	u.paused = time.Time{}
	n, _ := batch(o.frames, coalesceBytes)
	var frames [][]byte
	for i, f := range o.frames[:n] {
		if u.full() && o.ending == nil {
			n = i
			break
		}
		u.keep(f)
		o.bytes -= len(f)
		frames = append(frames, f)
		o.frames[i] = nil
	}
	o.frames = o.frames[n:]
	return frames
}

// batch says how many frames to write together, and their size.
func batch(frames [][]byte, limit int) (n, size int) {
	for n < len(frames) && (n == 0 || size+len(frames[n]) <= limit) {
		size += len(frames[n])
		n++
	}
	return n, size
}

// broken is for a write that failed. With stateful reconnect the connection lives on
// without a link, unless it is ending; without, nothing more can be sent. writing stays
// set then: there is nothing left that another drain could do.
func (o *outbound) broken(to link, err error) {
	defer to.Abort()
	o.mu.Lock()
	if o.link != to {
		o.mu.Unlock()
		return
	}
	if o.unacked != nil && o.ending == nil {
		o.unlink()
		o.mu.Unlock()
		return
	}
	if o.ending == nil {
		o.ending = &ending{}
	}
	o.drop()
	o.mu.Unlock()
	o.failed(err) // before Abort, so that it is known why the reader comes to its end
}

// drop forgets all that was to be sent. It is called with mu held.
func (o *outbound) drop() {
	o.madeRoom()
	o.control, o.frames = nil, nil
	o.bytes, o.inFlight = 0, 0
	if o.ending != nil {
		o.ending.last = nil
	}
	if u := o.unacked; u != nil {
		u.drop()
	}
}

// The rest is for connections that are handed over to another node.

// freeze leaves what is to be sent to the other node: what comes later is errHandedOver.
func (o *outbound) freeze() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refusing = errHandedOver
	o.madeRoom()
}

// thaw undoes freeze.
func (o *outbound) thaw() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refusing = nil
	o.start()
}

// state returns what the client may have and has not acknowledged, which are the numbers
// acked+1 and on, and what it has not been sent. It is for use after freeze.
func (o *outbound) state() (acked int64, sent, waiting [][]byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	u := o.unacked
	return u.acked, slices.Clone(u.frames[u.acked-u.released:]), slices.Clone(o.frames)
}

// abandon drops everything and has nothing sent any more.
func (o *outbound) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending == nil {
		o.ending = &ending{since: time.Now()}
	}
	o.unlink()
	o.drop()
}

// goOnFrom begins with what the other node had left to send.
func (o *outbound) goOnFrom(u *unacked, waiting [][]byte, format protocol.TransferFormat) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.unacked, o.format, o.held = u, format, false
	for _, f := range waiting {
		o.bytes += len(f)
	}
	o.frames = append(waiting, o.frames...)
}
