package transport

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// polls carry a connection by long polling: what is written waits for the client's next
// request, which waits for what is written. What the client sends comes by POST.
//
// It is the connection's carrier from the first poll to the end, between two polls too.
type polls struct {
	connection *Connection

	mu      sync.Mutex    // may be taken with the connection's held, not the other way round
	frames  [][]byte      // not yet taken by the client
	bytes   int           // in frames
	room    chan struct{} // made by who waits for room, closed when there may be some
	closing bool          // nothing will come after frames
	over    bool          // nothing is sent any more
	current *poll         // being answered
	sending bool          // by the current poll
	next    bool          // another one waits for the current to be done with
	last    time.Time     // when the latest poll was done with
}

// pollBytes is how much may wait for a poll before Write does.
const pollBytes = 64 << 10

// poll answers a GET that opens nothing but asks for what there is.
func (e *Endpoint) poll(w http.ResponseWriter, r *http.Request, identity *auth.Identity, c *Connection) {
	w.Header().Set("Content-Type", "text/plain")
	p, refused := c.polls()
	if refused == granted {
		refused = c.renew(r, identity)
	}
	switch {
	case refused != granted:
		refused.answer(w)
	case p != nil:
		p.serve(w, r, e.pollTimeout)
	default:
		e.firstPoll(w, r, identity, c)
	}
}

// polls returns what carries the connection, and nil if nothing does yet.
func (c *Connection) polls() (*polls, refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.ended:
		return nil, alreadyEnded
	case c.kind != "" && c.kind != LongPolling:
		return nil, otherKind
	case c.opening:
		return nil, hasCarrier
	case c.carrier == nil:
		return nil, granted
	}
	return c.carrier.(*polls), granted
}

func (c *Connection) isPolling() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, is := c.carrier.(*polls)
	return is
}

// firstPoll is answered at once, so that the client knows that it is connected.
func (e *Endpoint) firstPoll(w http.ResponseWriter, r *http.Request, identity *auth.Identity, c *Connection) {
	if refused := c.begin(LongPolling); refused != granted {
		refused.answer(w)
		return
	}
	p := &polls{connection: c, last: time.Now()}
	if session, _ := c.opened(p, e, identity, r, nil); session == nil {
		alreadyEnded.answer(w)
		return
	}
	c.letGo()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
}

// serve answers a request once there is something to say: the frames that wait, or that
// there is nothing (200 without a body: ask again), or nothing any more, for this
// request or for the connection (204).
func (p *polls) serve(w http.ResponseWriter, r *http.Request, timeout time.Duration) {
	current, refused := p.begin(w, r.Context())
	if refused != granted {
		refused.answer(w)
		return
	}
	defer p.done(current)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		frames, state := p.take(current)
		switch state {
		case pollHasData:
			if err := current.send(frames); err != nil {
				p.Abort() // who knows how much has arrived
				return
			}
			p.taken(len(frames))
			return
		case pollIsLast:
			p.connection.end()
			fallthrough
		case pollIsOver:
			answer(w, http.StatusNoContent, "")
			return
		}
		select {
		case <-current.wake:
		case <-timer.C:
			answer(w, http.StatusOK, "")
			return
		case <-r.Context().Done():
			return
		}
	}
}

// begin makes a request the current poll, once the one before has been answered. Of
// several that wait for that, all but the first are refused.
func (p *polls) begin(w http.ResponseWriter, ctx context.Context) (*poll, refusal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next {
		return nil, hasCarrier
	}
	if before := p.current; before != nil {
		p.next = true
		defer func() { p.next = false }()
		before.replaced = true
		before.notify()
		p.mu.Unlock()
		select {
		case <-before.done:
		case <-ctx.Done():
		}
		p.mu.Lock()
		switch {
		case ctx.Err() != nil:
			return nil, aborted
		case p.over:
			return nil, endedMeanwhile
		}
	}
	p.current = &poll{
		response: newResponse(w, p.connection.manager.SendTimeout),
		wake:     make(chan struct{}, 1),
		done:     make(chan struct{}),
	}
	return p.current, granted
}

// done is called when the current poll's handler returns.
func (p *polls) done(current *poll) {
	p.mu.Lock()
	defer p.mu.Unlock()
	current.response.finish()
	close(current.done)
	p.current, p.sending, p.last = nil, false, time.Now()
}

type pollState int

const (
	pollWaits   pollState = iota
	pollHasData           // frames are to be sent
	pollIsOver            // there will be nothing more for this request
	pollIsLast            // nor for any other: the connection has come to its end
)

func (p *polls) take(current *poll) ([][]byte, pollState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over || current.replaced:
		return nil, pollIsOver
	case len(p.frames) > 0:
		p.sending = true
		return p.frames[:len(p.frames):len(p.frames)], pollHasData
	case p.closing:
		return nil, pollIsLast
	default:
		return nil, pollWaits
	}
}

// taken says that the client has been sent the first n frames.
func (p *polls) taken(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	for i, f := range p.frames[:n] {
		p.bytes -= len(f)
		p.frames[i] = nil
	}
	p.frames = p.frames[n:]
	if len(p.frames) == 0 {
		p.frames = nil
	}
	p.madeRoom()
}

// Write leaves the frames to the next poll. While too much waits for that already it
// blocks: no longer than a poll may take to send it, or than the client may stay away.
func (p *polls) Write(frames [][]byte, _ protocol.TransferFormat) error {
	for {
		room, err := p.writeIfRoom(frames)
		if room == nil {
			return err
		}
		<-room
	}
}

// writeIfRoom returns what to wait for, or the outcome.
func (p *polls) writeIfRoom(frames [][]byte) (room <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return nil, errEnded
	}
	if p.bytes > pollBytes {
		if p.room == nil {
			p.room = make(chan struct{})
		}
		return p.room, nil
	}
	for _, f := range frames {
		p.frames = append(p.frames, f)
		p.bytes += len(f)
	}
	p.notify()
	return nil, nil
}

// Close ends the connection once the client has fetched what waits, and has been told
// that nothing follows.
func (p *polls) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = true
	p.notify()
}

// Abort ends the connection, and with it the poll that waits.
func (p *polls) Abort() { p.connection.end() }

// stop is called when the connection ends.
func (p *polls) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over, p.frames, p.bytes = true, nil, 0
	p.madeRoom()
	p.notify()
	if p.current != nil && p.sending {
		p.current.response.abort()
	}
}

// abandoned reports whether the client has been away for too long.
func (p *polls) abandoned(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	patience := p.connection.manager.DisconnectTimeout
	if p.closing {
		patience = min(patience, p.connection.manager.CloseTimeout)
	}
	return p.current == nil && now.Sub(p.last) >= patience
}

// notify and madeRoom are called with mu held.
func (p *polls) notify() {
	if p.current != nil {
		p.current.notify()
	}
}

func (p *polls) madeRoom() {
	if p.room != nil {
		close(p.room)
		p.room = nil
	}
}

// A poll is one request.
type poll struct {
	response *response
	wake     chan struct{} // has one place: there is something to see to
	done     chan struct{} // closed when the request has been answered

	// Guarded by the polls' mu.
	replaced bool // by a newer poll
}

func (l *poll) notify() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *poll) send(frames [][]byte) error {
	size := 0
	for _, f := range frames {
		size += len(f)
	}
	h := l.response.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(size))
	return l.response.send(func(w http.ResponseWriter) error {
		for _, f := range frames {
			if _, err := w.Write(f); err != nil {
				return err
			}
		}
		return nil
	})
}
