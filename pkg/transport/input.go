package transport

import (
	"context"
	"errors"
)

// input is what requests have brought for a connection that has no WebSocket, on its
// way to the session.
//
// The session gets it from a goroutine of its own, since a request is answered as soon
// as all of it has been taken, which is not when the session has done with it: the
// client sends nothing more until then.
type input struct {
	turn  chan struct{} // has one place, for the request whose body is being read
	ended chan struct{} // closed when the connection ends

	// Guarded by the connection's mu.
	requests   int      // that wait for their turn, or have it
	chunks     [][]byte // not yet taken by the session
	cost       int      // of chunks, and of what the session is receiving
	room       chan struct{}
	delivering bool // deliver is running
}

const (
	// inputBytes is how much may wait for the session. What is larger by itself waits
	// alone.
	inputBytes = 64 << 10
	// chunkCost is what a chunk costs beside its bytes.
	chunkCost = 512
	// maximumRequests bounds the requests of one connection that wait for their turn.
	// Clients make one at a time.
	maximumRequests = 64
)

var errEnded = errors.New("connection has ended")

// inputLocked returns the connection's input.
func (c *Connection) inputLocked() *input {
	if c.in == nil {
		c.in = &input{turn: make(chan struct{}, 1), ended: make(chan struct{})}
		if c.ended {
			close(c.in.ended)
		}
	}
	return c.in
}

// takeTurn waits until the requests that came before are done with: waiting channel
// operations are served in order. done gives the turn to the next one.
func (c *Connection) takeTurn(ctx context.Context) (done func(), refused refusal) {
	c.mu.Lock()
	in := c.inputLocked()
	switch {
	case c.kind == WebSockets || c.public:
		refused = onlyWebSockets
	case c.ended:
		refused = alreadyEnded
	case in.requests == maximumRequests:
		refused = tooMany
	default:
		in.requests++
	}
	c.mu.Unlock()
	if refused != granted {
		return nil, refused
	}
	leave := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		in.requests--
	}
	select {
	case in.turn <- struct{}{}:
		return func() { <-in.turn; leave() }, granted
	case <-in.ended:
		refused = alreadyEnded
	case <-ctx.Done():
		refused = aborted
	}
	leave()
	return nil, refused
}

// put gives a chunk to the session, which owns it from then on, once there is room. It
// is for whoever's turn it is. The error is errEnded or the context's.
func (c *Connection) put(ctx context.Context, chunk []byte) error {
	for {
		room, err := c.putIfRoom(chunk)
		if room == nil {
			return err
		}
		select {
		case <-room:
		case <-c.in.ended:
			return errEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// putIfRoom returns what to wait for, or the outcome.
func (c *Connection) putIfRoom(chunk []byte) (room <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	in, cost := c.in, cap(chunk)+chunkCost
	switch {
	case c.ended:
		return nil, errEnded
	case in.cost > 0 && in.cost+cost > inputBytes:
		if in.room == nil {
			in.room = make(chan struct{})
		}
		return in.room, nil
	}
	in.chunks = append(in.chunks, chunk)
	in.cost += cost
	c.startDeliveringLocked()
	return nil, nil
}

// startDeliveringLocked is for when there is input, or a session to take it.
func (c *Connection) startDeliveringLocked() {
	if c.session == nil || c.in == nil || len(c.in.chunks) == 0 || c.in.delivering {
		return
	}
	c.in.delivering = true
	c.holds++
	go c.deliver()
}

// deliver hands the session what there is, and ends. Owner: the manager, which joins
// it, as it holds the connection. What has been taken before the connection ended is
// still received.
func (c *Connection) deliver() {
	defer c.letGo()
	for {
		chunk := c.nextChunk()
		if chunk == nil {
			return
		}
		c.session.Receive(chunk)
		c.received(chunk)
	}
}

// nextChunk returns nil when there is nothing more, after which another deliver may
// start.
func (c *Connection) nextChunk() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.in.chunks) == 0 {
		c.in.chunks, c.in.delivering = nil, false
		return nil
	}
	chunk := c.in.chunks[0]
	c.in.chunks[0] = nil
	c.in.chunks = c.in.chunks[1:]
	return chunk
}

func (c *Connection) received(chunk []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.cost -= cap(chunk) + chunkCost
	if c.in.room != nil {
		close(c.in.room)
		c.in.room = nil
	}
}
