package hub

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// Why a connection with stateful reconnect ends.
var (
	errNotAcknowledged = errors.New("client does not acknowledge what is sent to it")
	errNotResumed      = errors.New("client did not come back in time")
	errSequence        = &protocol.Error{Kind: "InvalidOperationException", Detail: "Sequence ID greater than amount of messages we've received."}
)

// WithStatefulReconnectBufferSize bounds what a connection with stateful reconnect keeps
// of what it has been sent and has not acknowledged, in bytes. Beyond that nothing more
// is written to the client and the outbound queue fills instead; after 5s without an
// acknowledgement the connection is closed. One message may exceed it. The default is
// 100000.
func WithStatefulReconnectBufferSize(bytes int) Option {
	return func(c *config) error {
		if bytes < 1 {
			return fmt.Errorf("stateful reconnect buffer of %d bytes", bytes)
		}
		c.maxUnacked = bytes
		return nil
	}
}

// stateful is what the client's half of stateful reconnect needs: which of its messages
// have come. The other half is unacked.
type stateful struct {
	next int64 // number of the client's next numbered message; owned by the reader

	received atomic.Int64 // highest number that has come
	ackDue   atomic.Bool  // the client is to hear of it

	arrival   atomic.Pointer[arrival]   // by which it comes to this node, until that has all
	departure atomic.Pointer[departure] // by which it leaves this node: the connection is not used after it
	detour    atomic.Pointer[detour]    // how this node sends to it, if not directly
	resuming  sync.Mutex                // one Resumed at a time
	turn      chan struct{}             // of capacity 1: held by Receive, or for good by who hands the connection over
}

// statefulVersion is the protocol version that has Ack and Sequence.
const statefulVersion = 2

// newStateful returns one whose turn is taken.
func newStateful() *stateful {
	s := &stateful{next: 1, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// take waits for the turn to act on what the client sends, and reports whether it has
// come before ctx ended.
func (s *stateful) take(ctx context.Context) bool {
	select {
	case s.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *stateful) giveBack() { <-s.turn }

// newUnacked returns nil for a connection without stateful reconnect.
func (c *connection) newUnacked() *unacked {
	if c.stateful == nil {
		return nil
	}
	return &unacked{max: c.hub.maxUnacked, pauses: c.hub.metrics.ackPauses}
}

// numbered reports whether a message counts.
func numbered(m protocol.Message) bool {
	t := m.Type()
	return protocol.TypeInvocation <= t && t <= protocol.TypeCancelInvocation
}

// count counts a message, and reports whether it is new.
func (s *stateful) count(m protocol.Message) bool {
	if !numbered(m) {
		return true
	}
	n := s.next
	s.next++
	if n <= s.received.Load() {
		return false
	}
	s.received.Store(n)
	s.ackDue.Store(true)
	return true
}

// rewind takes the client's word for the number of its next message. If that has come
// already, the acknowledgement has been lost. The client may have been told of messages
// that it has begun to repeat, and go on behind them when it is interrupted again.
func (s *stateful) rewind(n int64) error {
	received := s.received.Load()
	if n > received+1 {
		return errSequence
	}
	s.next = n
	if n <= received {
		s.ackDue.Store(true)
	}
	return nil
}

// acknowledge tells the client what has come, if it is to hear of that.
func (c *connection) acknowledge() {
	s := c.stateful
	if !s.ackDue.Swap(false) {
		return
	}
	if !c.out.urgent(c.mustAppend(&protocol.Ack{SequenceID: s.received.Load()})) {
		s.ackDue.Store(true)
	}
}

// Interrupted implements [transport.Session].
func (c *connection) Interrupted(of transport.Carrier) {
	c.input = nil
	c.out.interrupted(of)
}

// Resumed implements [transport.Session].
func (c *connection) Resumed(by transport.Carrier) {
	c.stateful.resuming.Lock()
	defer c.stateful.resuming.Unlock()
	if c.link.Carrier() != by {
		return // that of a later one has come first, or it broke at once
	}
	c.lastRead.Store(time.Now().UnixNano())
	if !c.out.resume(by, c.reintroduction) {
		by.Close()
		return
	}
	c.hub.metrics.reconnects.Inc()
}

// reintroduction is what the client is sent first over a new carrier: the number of the
// first message that it carries, and how much of the client's has come.
func (c *connection) reintroduction(number int64) []byte {
	frames := c.mustAppend(&protocol.Sequence{SequenceID: number})
	if n := c.stateful.received.Load(); n > 0 {
		frames = append(frames, c.mustAppend(&protocol.Ack{SequenceID: n})...)
	}
	return frames
}

// mustAppend encodes a message of which no value can fail to.
func (c *connection) mustAppend(m protocol.Message) []byte {
	frame, err := c.protocol().Append(nil, m)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return frame
}
