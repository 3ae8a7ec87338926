package server

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// How slow a client may be. A request may last for as long as it likes; what is bounded
// is how long its client keeps it waiting in between.
const (
	// patience is for one write to the client, and for the beginning of a body.
	patience = 30 * time.Second
	// leastRate is how fast a body has to come on average after that.
	leastRate = 240 // bytes per second
)

// paced bounds the waits for the client in what a handler reads and writes. A handler
// that sets deadlines by itself, as [http.ResponseController] does, keeps those.
func paced(h http.Handler, patience time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := &pacedWriter{ResponseWriter: w, control: http.NewResponseController(w), patience: patience}
		if r.Body != nil && r.Body != http.NoBody {
			p.body = &pacedBody{ReadCloser: r.Body, control: p.control, patience: patience}
			r.Body = p.body
		}
		h.ServeHTTP(p, r)
		p.finish()
	})
}

// A pacedWriter is what a handler writes to.
type pacedWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	body     *pacedBody // nil: the request has none
	own      atomic.Bool
	hijacked atomic.Bool
}

// Unwrap is for [http.ResponseController].
func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *pacedWriter) Write(b []byte) (int, error) {
	p.deadline(time.Now().Add(p.patience))
	// Over HTTP/2 a deadline ends the response even while nothing is being written.
	defer p.deadline(time.Time{})
	return p.ResponseWriter.Write(b)
}

func (p *pacedWriter) FlushError() error {
	p.deadline(time.Now().Add(p.patience))
	defer p.deadline(time.Time{})
	return p.control.Flush()
}

// Flush is for handlers that ask for an [http.Flusher].
func (p *pacedWriter) Flush() { _ = p.FlushError() }

func (p *pacedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := p.control.Hijack()
	p.hijacked.Store(err == nil)
	return conn, rw, err
}

func (p *pacedWriter) SetReadDeadline(t time.Time) error {
	if p.body != nil {
		p.body.leave()
	}
	return p.control.SetReadDeadline(t)
}

func (p *pacedWriter) SetWriteDeadline(t time.Time) error {
	p.own.Store(true)
	return p.control.SetWriteDeadline(t)
}

// deadline sets that of writes, where there is one to set.
func (p *pacedWriter) deadline(t time.Time) {
	if !p.own.Load() {
		_ = p.control.SetWriteDeadline(t)
	}
}

// finish bounds what net/http does when the handler is done: it reads the rest of the
// body, so that another request can follow, and then sends what is left.
func (p *pacedWriter) finish() {
	if p.hijacked.Load() {
		return
	}
	end := time.Now().Add(p.patience)
	if p.body != nil && !p.body.leave() {
		_ = p.control.SetReadDeadline(end)
		end = end.Add(p.patience)
	}
	_ = p.control.SetWriteDeadline(end)
}

// A pacedBody is the body of a request. It may still be read when the handler is done,
// by a proxy's other half, and then bounds nothing.
type pacedBody struct {
	io.ReadCloser
	control  *http.ResponseController
	patience time.Duration

	// Of whoever reads.
	read   int64 // bytes
	waited time.Duration

	mu    sync.Mutex // held while a deadline is set
	left  bool       // deadlines are somebody else's
	ended bool
}

// Read reads within what the client's pace so far leaves it. The time in which the
// handler reads nothing does not count.
func (b *pacedBody) Read(buffer []byte) (int, error) {
	begin := time.Now()
	earned := time.Duration(b.read) * time.Second / leastRate
	b.deadline(begin.Add(b.patience+earned-b.waited), false)
	n, err := b.ReadCloser.Read(buffer)
	b.read += int64(n)
	b.waited += time.Since(begin)
	b.deadline(time.Time{}, err != nil)
	return n, err
}

func (b *pacedBody) deadline(t time.Time, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = b.ended || ended
	if !b.left {
		_ = b.control.SetReadDeadline(t)
	}
}

// leave leaves deadlines alone from now on, and reports whether there is nothing to read
// any more.
func (b *pacedBody) leave() (ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = true
	return b.ended
}
