package transport

import (
	"bytes"
	"context"
	"net/http"
	"sync"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// eventStream carries a connection over server-sent events. What the client sends comes
// by POST.
type eventStream struct {
	response *response

	writing sync.Mutex    // held across a write, which the request outlives
	over    chan struct{} // closed when the stream is to end
	end     func()        // closes it
}

// openEventStream answers with a stream that ends with the connection. The request's
// goroutine holds the connection meanwhile, and only waits.
func (e *Endpoint) openEventStream(w http.ResponseWriter, r *http.Request, identity *auth.Identity, c *Connection) {
	if refused := c.begin(ServerSentEvents); refused != granted {
		refused.answer(w)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache,no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Content-Encoding", "identity")
	over := make(chan struct{})
	s := &eventStream{
		response: newResponse(w, e.m.SendTimeout),
		over:     over,
		end:      sync.OnceFunc(func() { close(over) }),
	}
	defer s.finish()
	// The comment makes browsers say that the stream is open.
	if err := s.send([]byte(":\r\n")); err != nil {
		c.notOpened()
		return
	}
	if session, _ := c.opened(s, e, identity, r, nil); session == nil {
		return
	}
	s.wait(r.Context())
	c.carrierEnded(s, true)
	c.leave()
}

// wait returns when the stream is over. There is nothing to be read from it.
func (s *eventStream) wait(ctx context.Context) {
	select {
	case <-s.over:
	case <-ctx.Done():
		s.response.abort()
	}
}

// finish joins the write in progress.
func (s *eventStream) finish() {
	s.end()
	s.writing.Lock()
	defer s.writing.Unlock()
	s.response.finish()
}

// Write sends the frames as one event.
func (s *eventStream) Write(frames [][]byte, _ protocol.TransferFormat) error {
	buffer := eventBuffers.Get().(*[]byte)
	defer putEventBuffer(buffer)
	*buffer = appendEvent((*buffer)[:0], frames)
	return s.send(*buffer)
}

func (s *eventStream) send(text []byte) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.response.send(func(w http.ResponseWriter) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		s.Abort()
	}
	return err
}

// Close ends the stream: what has been written has been sent.
func (s *eventStream) Close() { s.end() }

// Abort ends the stream, and the write in progress.
func (s *eventStream) Abort() {
	s.response.abort()
	s.end()
}

// maximumEventBuffer bounds what is kept for later events.
const maximumEventBuffer = 128 << 10

var eventBuffers = sync.Pool{New: func() any { return new([]byte) }}

func putEventBuffer(b *[]byte) {
	if cap(*b) <= maximumEventBuffer {
		eventBuffers.Put(b)
	}
}

// appendEvent appends the frames, one after the other, as the data of one event: in
// lines, none of which has an end of line in it.
func appendEvent(dst []byte, frames [][]byte) []byte {
	const field, end = "data: ", "\r\n"
	start := len(dst)
	dst = append(dst, field...)
	for _, rest := range frames {
		for found := true; found; {
			var line []byte
			line, rest, found = bytes.Cut(rest, []byte("\n"))
			dst = append(dst, line...)
			if found {
				dst = bytes.TrimSuffix(dst, []byte("\r"))
				dst = append(dst, end+field...)
			}
		}
	}
	if len(dst) == start+len(field) {
		return append(dst[:start], end...)
	}
	return append(dst, end+end...)
}
