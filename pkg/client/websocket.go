package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/protocol"
)

const (
	readBytes  = 4 << 10  // of the socket's buffer, which lives as long as it
	writeBytes = 16 << 10 // of a buffer that is held only while something is written
)

var writeBuffers sync.Pool

// dialer makes WebSockets be opened as h makes requests.
func dialer(h *http.Client) (*websocket.Dialer, error) {
	d := &websocket.Dialer{
		Jar:             h.Jar,
		ReadBufferSize:  readBytes,
		WriteBufferSize: writeBytes,
		WriteBufferPool: &writeBuffers,
	}
	if h.Transport == nil {
		h = &http.Client{Transport: http.DefaultTransport}
	}
	t, ok := h.Transport.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("HTTP client has a transport of type %T, want *http.Transport", h.Transport)
	}
	t = t.Clone() // its fields must not be read while requests use it
	d.Proxy, d.NetDialContext, d.NetDialTLSContext = t.Proxy, t.DialContext, t.DialTLSContext
	d.TLSClientConfig = t.TLSClientConfig
	if d.TLSClientConfig == nil {
		d.TLSClientConfig = new(tls.Config)
	}
	d.TLSClientConfig.NextProtos = []string{"http/1.1"} // a WebSocket cannot be opened over h2
	if d.NetDialContext == nil {
		d.NetDialContext = new(net.Dialer).DialContext
	}
	return d, nil
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// A webSocket carries the bytes of one connection. One goroutine may read, one write,
// and any close and abort.
type webSocket struct {
	conn    *websocket.Conn
	timeout time.Duration // how long the server may be silent
	message io.Reader     // the message being read; nil between messages; of the reading goroutine
}

// openWebSocket opens one at the address, unless the context ends first. The context has
// no meaning for what was opened.
func openWebSocket(ctx context.Context, d *websocket.Dialer, address *url.URL, header http.Header, timeout time.Duration) (*webSocket, error) {
	// The dialer heeds a context's end only until it has a network connection, and a
	// deadline in a way that shows as another error: it gets neither.
	dialing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	ended := func() bool { return false }
	watch := func(dial dialFunc) dialFunc {
		if dial == nil {
			return nil
		}
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err == nil {
				stop := context.AfterFunc(dialing, func() { conn.Close() })
				ended = func() bool { return !stop() }
			}
			return conn, err
		}
	}
	watching := *d
	watching.NetDialContext, watching.NetDialTLSContext = watch(d.NetDialContext), watch(d.NetDialTLSContext)

	conn, response, err := watching.DialContext(dialing, address.String(), header)
	if ended() && err == nil {
		conn.Close()
		err = context.Cause(ctx)
	}
	switch {
	case err == nil:
		return &webSocket{conn: conn, timeout: timeout}, nil
	case errors.Is(err, websocket.ErrBadHandshake) && response.StatusCode != http.StatusSwitchingProtocols:
		return nil, statusError(response)
	}
	return nil, err
}

// statusError makes an error of a response, whose body it does not close.
func statusError(r *http.Response) error {
	const shown = 200
	body := make([]byte, shown)
	n, _ := io.ReadFull(r.Body, body)
	return &StatusError{StatusCode: r.StatusCode, Body: strings.ToValidUTF8(string(body[:n]), "\ufffd")}
}

// read appends some of what comes next to buffer, and says whether a message of the
// WebSocket ends there.
func (w *webSocket) read(buffer []byte) (_ []byte, end bool, err error) {
	if err := w.conn.SetReadDeadline(time.Now().Add(w.timeout)); err != nil {
		return buffer, false, err
	}
	if w.message == nil {
		if _, w.message, err = w.conn.NextReader(); err != nil {
			return buffer, false, w.readError(err)
		}
	}
	buffer = slices.Grow(buffer, readBytes)
	n, err := w.message.Read(buffer[len(buffer):cap(buffer)])
	buffer = buffer[:len(buffer)+n]
	if errors.Is(err, io.EOF) {
		w.message = nil
		return buffer, true, nil
	}
	return buffer, false, w.readError(err)
}

func (w *webSocket) readError(err error) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Errorf("server sent nothing for %v", w.timeout)
	}
	return err
}

// write sends frames as one message. It waits as long as the server does not read; abort
// ends that.
func (w *webSocket) write(format protocol.TransferFormat, frames ...[]byte) error {
	kind := websocket.TextMessage
	if format == protocol.Binary {
		kind = websocket.BinaryMessage
	}
	message, err := w.conn.NextWriter(kind)
	if err != nil {
		return err
	}
	for _, f := range frames {
		if _, err := message.Write(f); err != nil {
			return err
		}
	}
	return message.Close()
}

// close sends a close frame, if that can be done within the time. The server answers
// with its own, which ends read.
func (w *webSocket) close(within time.Duration) {
	normal := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if w.conn.WriteControl(websocket.CloseMessage, normal, time.Now().Add(within)) != nil {
		w.abort()
	}
}

// abort cuts the socket; read and write return.
func (w *webSocket) abort() { w.conn.Close() }
