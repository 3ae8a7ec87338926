package peer

import (
	"bufio"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// writeTimeout bounds each write to a client of what another node answers.
const writeTimeout = 10 * time.Second

// Forward has another node serve a request, which may not have been read from, and
// returns when that is done: for a WebSocket or an event stream, when it ends.
//
// When it returns nil the client has its answer, whatever that is. Otherwise nothing has
// been written to w, and the error wraps [ErrUnreachable], [ErrReplaced],
// [ErrElsewhere], [ErrBusy], [ErrLoop], [ErrClosed], or the error of the request's
// context. The body may have been read all the same, so that there is no second try. An
// answer that breaks off ends the handler by a panic, [http.ErrAbortHandler], so that the
// client does not take it for whole.
func (p *Peers) Forward(w http.ResponseWriter, r *http.Request, to Node) error {
	if _, before := Forwarded(r); before || p.Astray(r) || to.ID == p.self {
		return fmt.Errorf("forward to node %s: %w", to.ID, ErrLoop)
	}
	target, err := p.target(r, to)
	if err != nil {
		return fmt.Errorf("forward to node %s: %w", to.ID, err)
	}
	ctx, done, err := p.begin(r.Context())
	if err != nil {
		return fmt.Errorf("forward to node %s: %w", to.ID, err)
	}
	defer done()

	f := &forwarding{peers: p, seal: p.newSeal(kindForward, to.ID), target: target, w: newBoundedWriter(ctx, w)}
	f.seal.client = r.RemoteAddr
	proxy := httputil.ReverseProxy{
		Transport:      p.transport,
		Rewrite:        f.rewrite,
		ModifyResponse: f.check,
		ErrorHandler:   func(_ http.ResponseWriter, _ *http.Request, err error) { f.failed = err },
		ErrorLog:       slog.NewLogLogger(p.logger.Handler(), slog.LevelDebug),
		BufferPool:     &buffers,
	}
	proxy.ServeHTTP(f.w, r.WithContext(ctx))
	switch {
	case f.failed == nil:
		return nil
	case f.w.begun:
		p.logger.Debug("forwarded request broke off", "node", to.ID, "error", f.failed)
		return nil
	default:
		return fmt.Errorf("forward to node %s: %w", to.ID, p.failure(r.Context(), f.failed))
	}
}

// Astray reports whether another node has forwarded a request to a listener for the
// public, because nodes advertise the wrong addresses. Nothing good comes of serving it,
// since its answer has no proof. Status 508 tells the other node that.
func (p *Peers) Astray(r *http.Request) bool {
	if _, ok := Forwarded(r); ok {
		return false
	}
	s, err := sealOf(r)
	return err == nil && p.opened(&s, r) != nil
}

// target returns where the request goes: the path is that of the request line, since
// middleware may have changed the URL, and does so again on the other node.
func (p *Peers) target(r *http.Request, to Node) (*url.URL, error) {
	base, err := p.base(to)
	if err != nil {
		return nil, err
	}
	uri := r.RequestURI
	if uri == "" {
		uri = r.URL.RequestURI()
	}
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	u.Scheme, u.Host, u.User = base.Scheme, base.Host, nil
	return u, nil
}

// A forwarding is one request on its way. It belongs to the handler's goroutine.
type forwarding struct {
	peers  *Peers
	seal   seal
	target *url.URL
	w      *boundedWriter
	failed error
}

// rewrite makes the request to the other node. The client's headers go as they came,
// those of proxies too: whether they are believed has been decided.
func (f *forwarding) rewrite(r *httputil.ProxyRequest) {
	r.Out.URL = f.target
	if r.Out.Host == "" {
		r.Out.Host = f.target.Host
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values := r.In.Header[name]; values != nil {
			r.Out.Header[name] = values
		}
	}
	r.Out.Header.Del(proofHeader)
	r.Out.Header.Del(elsewhereHeader)
	f.peers.put(&f.seal, r.Out)
}

// check looks at what came back, before any of it goes to the client.
func (f *forwarding) check(r *http.Response) error {
	switch {
	case f.peers.proves(&f.seal, r, nil):
	case r.StatusCode == http.StatusLoopDetected:
		return ErrLoop
	default:
		return fmt.Errorf("%w: no node of the cluster is there, which answered %d", ErrUnreachable, r.StatusCode)
	}
	elsewhere := r.Header.Get(elsewhereHeader) != ""
	r.Header.Del(proofHeader)
	r.Header.Del(elsewhereHeader)
	switch {
	case elsewhere:
		return ErrElsewhere
	case r.StatusCode == http.StatusMisdirectedRequest:
		return ErrReplaced
	}
	// This node may have answered a part of the request, such as what a browser asks
	// about origins, before it knew that the other would.
	for name := range r.Header {
		f.w.Header().Del(name)
	}
	if socket, ok := r.Body.(io.ReadWriteCloser); ok && r.StatusCode == http.StatusSwitchingProtocols {
		r.Body = &upgraded{socket}
	}
	return nil
}

// proves reports whether a response shows that it comes from somebody who has the key.
func (p *Peers) proves(s *seal, r *http.Response, body []byte) bool {
	got := []byte(r.Header.Get(proofHeader))
	for _, k := range p.keys {
		if hmac.Equal(got, []byte(s.proof(k, r.StatusCode, body))) {
			return true
		}
	}
	return false
}

// upgraded is the connection to the other node once it is a WebSocket. It has small
// buffers, since it may last and be idle; and when one side has ended both do, since
// half a WebSocket is of no use, and a client could keep it for as long as it likes.
type upgraded struct{ io.ReadWriteCloser }

var errSocketEnded = errors.New("socket ended")

// WriteTo implements [io.WriterTo] for what goes to the client.
func (u *upgraded) WriteTo(w io.Writer) (int64, error) {
	n, err := copySmall(w, u.ReadWriteCloser)
	if err == nil {
		err = errSocketEnded
	}
	return n, err
}

// ReadFrom implements [io.ReaderFrom] for what comes from the client.
func (u *upgraded) ReadFrom(r io.Reader) (int64, error) { return copySmall(u.ReadWriteCloser, r) }

func copySmall(w io.Writer, r io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 4096))
}

// A boundedWriter bounds each write to the client, and remembers whether there was one.
type boundedWriter struct {
	http.ResponseWriter
	ctx     context.Context // of the forwarding
	control *http.ResponseController
	begun   bool // the client may have seen something
}

func newBoundedWriter(ctx context.Context, w http.ResponseWriter) *boundedWriter {
	return &boundedWriter{ResponseWriter: w, ctx: ctx, control: http.NewResponseController(w)}
}

func (b *boundedWriter) WriteHeader(status int) {
	b.begun = b.begun || status >= http.StatusOK
	b.ResponseWriter.WriteHeader(status)
}

func (b *boundedWriter) Write(p []byte) (int, error) {
	b.begun = true
	defer b.writing()()
	return b.ResponseWriter.Write(p)
}

// FlushError is for [http.ResponseController].
func (b *boundedWriter) FlushError() error {
	defer b.writing()()
	return b.control.Flush()
}

// Hijack is for [http.ResponseController]. The connection is cut when the forwarding ends,
// even if the client takes nothing of what is being written.
func (b *boundedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := b.control.Hijack()
	if err != nil {
		return nil, nil, err
	}
	b.begun = true
	context.AfterFunc(b.ctx, func() { conn.Close() })
	return boundedConn{conn}, rw, nil
}

// A boundedConn bounds each write to the client of a WebSocket.
type boundedConn struct{ net.Conn }

func (c boundedConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Unwrap is for [http.ResponseController].
func (b *boundedWriter) Unwrap() http.ResponseWriter { return b.ResponseWriter }

// writing sets the deadline of a write and returns what lifts it. Where there are no
// deadlines, as in tests, there is nothing to bound.
func (b *boundedWriter) writing() (written func()) {
	b.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	return func() { b.control.SetWriteDeadline(time.Time{}) }
}

// buffers are for what is copied of an answer.
var buffers bufferPool

type bufferPool struct{ pool sync.Pool }

const bufferBytes = 16 << 10

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[bufferBytes]byte); ok {
		return p[:]
	}
	return make([]byte, bufferBytes)
}

func (b *bufferPool) Put(p []byte) { b.pool.Put((*[bufferBytes]byte)(p)) }

var _ interface {
	io.ReadWriteCloser
	io.WriterTo
	io.ReaderFrom
} = (*upgraded)(nil)
