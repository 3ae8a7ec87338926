package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
)

// A body must arrive at bodyRate, in bytes per second, once bodyGrace has passed. The
// time for which the session makes it wait does not count.
const (
	bodyGrace = 10 * time.Second
	bodyRate  = 240
)

// post answers a POST, which brings what a client sends that has no WebSocket. It is
// answered once all of it has been taken, which need not be when it has been received.
// A body of up to inputBytes that does not arrive as a whole leaves nothing behind.
func (e *Endpoint) post(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	body := newBody(w, r, e.maximumBody)
	defer body.finish()
	c, refused := e.connection(r, identity, "")
	if refused != granted {
		refused.answer(w)
		return
	}
	var done func()
	body.pause(func() { done, refused = c.takeTurn(r.Context()) })
	if refused != granted {
		refused.answer(w)
		return
	}
	defer done()
	err := c.takeBody(r.Context(), body)
	switch tooLarge, ok := errors.AsType[*http.MaxBytesError](err); {
	case err == nil:
		answer(w, http.StatusOK, "")
	case ok:
		e.m.Logger.Debug("request refused", "path", r.URL.Path, "bytes over", tooLarge.Limit)
		answer(w, http.StatusRequestEntityTooLarge, "")
	case errors.Is(err, errEnded):
		alreadyEnded.answer(w)
	case isTimeout(err):
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusRequestTimeout)
	default:
		aborted.answer(w)
	}
}

func (c *Connection) takeBody(ctx context.Context, b *body) error {
	for {
		var chunk bytes.Buffer
		_, err := io.CopyN(&chunk, b, inputBytes)
		if err != nil && err != io.EOF {
			return err
		}
		if chunk.Len() > 0 {
			var ended error
			b.pause(func() { ended = c.put(ctx, chunk.Bytes()) })
			if ended != nil {
				return ended
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// A body is a request's, which must arrive in time.
type body struct {
	source     io.Reader
	controller *http.ResponseController
	due        time.Time // when the next byte must have arrived
	read       bool      // to its end
}

func newBody(w http.ResponseWriter, r *http.Request, limit int64) *body {
	return &body{
		source:     http.MaxBytesReader(w, r.Body, limit),
		controller: http.NewResponseController(w),
		due:        time.Now().Add(bodyGrace),
		read:       r.Body == http.NoBody,
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.until(b.due)
	n, err := b.source.Read(p)
	b.due = b.due.Add(time.Duration(n) * time.Second / bodyRate)
	b.read = b.read || err == io.EOF
	return n, err
}

// pause calls f, whose time does not count. Meanwhile there is no deadline, which over
// HTTP/2 ends the body also when nobody reads it.
func (b *body) pause(f func()) {
	b.until(time.Time{})
	begin := time.Now()
	f()
	b.due = b.due.Add(time.Since(begin))
}

// finish bounds for how long the server reads what has not been read, to find the next
// request.
func (b *body) finish() { b.until(b.due) }

// until sets the deadline. Behind the end of the body it is the server that reads, to
// learn that the client leaves, and that has no end.
func (b *body) until(t time.Time) {
	if !b.read {
		b.controller.SetReadDeadline(t) // where that cannot be done the server's bounds apply
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// delete answers a DELETE, by which a client that polls ends its connection.
func (e *Endpoint) delete(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	c, refused := e.connection(r, identity, "")
	switch {
	case refused != granted:
		refused.answer(w)
	case !c.isPolling():
		answer(w, http.StatusBadRequest, "Cannot terminate this connection using the DELETE endpoint.")
	default:
		c.end()
		answer(w, http.StatusAccepted, "")
	}
}
