package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A carrier is the transport of one connection: it moves bytes both ways.
type carrier interface {
	// receive waits for the next message of the transport and hands it to take, which
	// must not keep it. Its error, or take's, ends the connection. One goroutine at a
	// time calls it.
	receive(take func(data []byte) error) error
	// send sends the data as one message. One goroutine at a time calls it.
	send(data []byte) error
	// close tells the server that it is over, for which it waits until the deadline at
	// most, and ends pending calls with an error. It may be called concurrently with
	// everything, and again.
	close(deadline time.Time)
}

// A dialer opens carriers. It may be used concurrently.
type dialer struct {
	protocol  protocol.Protocol
	negotiate bool
	token     string // empty: none
	http      *http.Client
	websocket websocket.Dialer
}

// readBuffer is the size of the buffer that a connection keeps. What is larger passes
// it by.
const readBuffer = 1024

// newDialer makes a dialer that is closed with close. Neither kind of request heeds
// the proxies of the environment, which are not what is to be measured.
func newDialer(c config) *dialer {
	return &dialer{
		protocol:  c.protocol,
		negotiate: c.negotiate,
		token:     c.token,
		http:      &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.concurrency}},
		websocket: websocket.Dialer{
			ReadBufferSize:  readBuffer,
			WriteBufferPool: new(sync.Pool),
		},
	}
}

func (d *dialer) close() { d.http.CloseIdleConnections() }

// dial opens a WebSocket to the hub at the address, whose scheme is http or https.
func (d *dialer) dial(ctx context.Context, hub *url.URL) (carrier, error) {
	address := *hub
	if d.negotiate {
		connectionToken, err := d.negotiated(ctx, hub)
		if err != nil {
			return nil, fmt.Errorf("negotiate: %w", err)
		}
		query := address.Query()
		query.Set("id", connectionToken)
		address.RawQuery = query.Encode()
	}
	address.Scheme = strings.Replace(address.Scheme, "http", "ws", 1)
	conn, response, err := d.websocket.DialContext(ctx, address.String(), d.header())
	switch {
	case errors.Is(err, websocket.ErrBadHandshake):
		return nil, fmt.Errorf("open WebSocket: %w", answered(response))
	case err != nil:
		return nil, fmt.Errorf("open WebSocket: %w", err)
	}
	w := &webSocket{conn: conn, kind: websocket.TextMessage}
	if d.protocol.TransferFormat() == protocol.Binary {
		w.kind = websocket.BinaryMessage
	}
	return w, nil
}

func (d *dialer) header() http.Header {
	h := make(http.Header)
	if d.token != "" {
		h.Set("Authorization", "Bearer "+d.token)
	}
	return h
}

// answered is the error of a response that is not the one hoped for.
func answered(r *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(r.Body, 200))
	if text = bytes.TrimSpace(text); err != nil || len(text) == 0 {
		return fmt.Errorf("the server answered %s", r.Status)
	}
	return fmt.Errorf("the server answered %s: %s", r.Status, text)
}

const (
	// sendTimeout bounds the sending of one message: a server that has not taken it by
	// then is given up.
	sendTimeout = 10 * time.Second
	// maxBuffer is the largest buffer that is kept for further messages.
	maxBuffer = 64 << 10
	// maxReceived bounds a message from the server. It may hold many hub messages.
	maxReceived = 16 << 20
)

// buffers hold received messages while they are read, so that an idle connection
// keeps none.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// webSocket carries a connection over a WebSocket. The library answers the server's
// WebSocket pings.
type webSocket struct {
	conn *websocket.Conn
	kind int // of the messages sent
}

func (w *webSocket) receive(take func(data []byte) error) error {
	_, r, err := w.conn.NextReader()
	if err != nil {
		return err
	}
	b := buffers.Get().(*bytes.Buffer)
	defer func() {
		if b.Cap() <= maxBuffer {
			b.Reset()
			buffers.Put(b)
		}
	}()
	n, err := b.ReadFrom(io.LimitReader(r, maxReceived+1))
	switch {
	case err != nil:
		return err
	case n > maxReceived:
		return fmt.Errorf("message of more than %d bytes", maxReceived)
	}
	return take(b.Bytes())
}

func (w *webSocket) send(data []byte) error {
	if err := w.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	return w.conn.WriteMessage(w.kind, data)
}

func (w *webSocket) close(deadline time.Time) {
	text := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	// If it cannot be said, the end of the stream says it too.
	_ = w.conn.WriteControl(websocket.CloseMessage, text, deadline)
	w.conn.Close()
}

// reason is the text of an error without the port at this end, which differs from
// connection to connection, so that equal errors can be counted.
func reason(err error) string {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err.Error()
	}
	same := *op
	same.Source = nil
	return strings.Replace(err.Error(), op.Error(), same.Error(), 1)
}
