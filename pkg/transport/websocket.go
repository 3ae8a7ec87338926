package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// handshakeBytes is the size of gorilla's per-connection read buffer. Payload is read
// past it, into a buffer that a connection holds only while something comes.
const handshakeBytes = 512

var (
	writeBuffers sync.Pool // gorilla's, held only during a write
	readBuffers  = sync.Pool{New: func() any { return new([4096]byte) }}
)

func newUpgrader(timeout time.Duration) websocket.Upgrader {
	return websocket.Upgrader{
		HandshakeTimeout: timeout,
		ReadBufferSize:   handshakeBytes,
		WriteBufferSize:  4096,
		WriteBufferPool:  &writeBuffers,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			answer(w, status, reason.Error())
		},
	}
}

// webSocket carries a connection over a WebSocket.
type webSocket struct {
	conn         *websocket.Conn
	sendTimeout  time.Duration
	closeTimeout time.Duration
	closing      atomic.Bool
}

// openWebSocket upgrades the request and starts the WebSocket's reader, the one
// goroutine that a connection has while it is idle: owned by the manager (Wait joins
// it), it ends when the socket does. It outlives the handler, since what net/http
// keeps for a request in progress is larger than all that a connection needs.
func (e *Endpoint) openWebSocket(w http.ResponseWriter, r *http.Request, identity *auth.Identity, c *Connection) {
	if refused := c.begin(WebSockets); refused != granted {
		refused.answer(w)
		return
	}
	refused := c.renew(r, identity)
	if refused == granted {
		refused = c.mayStillOpen()
	}
	if refused != granted {
		c.notOpened()
		refused.answer(w)
		return
	}
	conn, err := e.upgrader.Upgrade(w, r, peer.Proof(r))
	if err != nil { // the client has been answered
		e.m.Logger.Debug("websocket not opened", "error", err)
		c.notOpened()
		return
	}
	ws := &webSocket{conn: conn, sendTimeout: e.m.SendTimeout, closeTimeout: e.m.CloseTimeout}
	conn.SetCloseHandler(ws.answerClose)
	var done chan struct{}
	if c.stateful {
		done = make(chan struct{})
	}
	session, before := c.opened(ws, e, identity, r, done)
	if session == nil {
		conn.Close()
		return
	}
	go func() {
		defer c.letGo()
		defer conn.Close()
		if before != nil {
			<-before // it has been cut, and its session has to return from Receive
		}
		c.carrierEnded(ws, ws.read(session))
		if done != nil {
			close(done)
		}
	}()
}

// read hands everything that arrives to the session until the socket ends. It reports
// whether there was a closing handshake.
func (w *webSocket) read(session Session) (inOrder bool) {
	for {
		// Hub frames need not match WebSocket messages, and both kinds are taken alike
		// (HubProtocol, "Overview"): the payload is a stream of bytes.
		_, r, err := w.conn.NextReader()
		if err == nil {
			err = drain(r, session)
		}
		if err != nil {
			return w.closing.Load()
		}
	}
}

func drain(r io.Reader, session Session) error {
	buffer := readBuffers.Get().(*[4096]byte)
	defer readBuffers.Put(buffer)
	for {
		n, err := r.Read(buffer[:])
		if n > 0 {
			session.Receive(buffer[:n])
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (w *webSocket) Write(frames [][]byte, format protocol.TransferFormat) error {
	kind := websocket.TextMessage
	if format == protocol.Binary {
		kind = websocket.BinaryMessage
	}
	if err := w.conn.SetWriteDeadline(time.Now().Add(w.sendTimeout)); err != nil {
		return err
	}
	if len(frames) == 1 {
		return sendError(w.conn.WriteMessage(kind, frames[0]), w.sendTimeout)
	}
	message, err := w.conn.NextWriter(kind)
	if err != nil {
		return sendError(err, w.sendTimeout)
	}
	for _, f := range frames {
		if _, err := message.Write(f); err != nil {
			return sendError(err, w.sendTimeout)
		}
	}
	return sendError(message.Close(), w.sendTimeout)
}

// ErrSendTimeout reports a client that did not take what was sent in time.
var ErrSendTimeout = errors.New("send timed out")

func sendError(err error, after time.Duration) error {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Errorf("%w after %v", ErrSendTimeout, after)
	}
	return err
}

// Close sends a close frame and gives the client some time to answer it. The reader
// goroutine then ends, and closes the socket.
func (w *webSocket) Close() {
	if w.closing.Swap(true) {
		return
	}
	w.writeClose()
	w.conn.SetReadDeadline(time.Now().Add(w.closeTimeout))
}

// answerClose answers the client's close frame with 1000, whatever it says, unless
// this side closed first.
func (w *webSocket) answerClose(int, string) error {
	if !w.closing.Swap(true) {
		w.writeClose()
	}
	return nil
}

func (w *webSocket) writeClose() {
	normal := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	if w.conn.WriteControl(websocket.CloseMessage, normal, time.Now().Add(w.closeTimeout)) != nil {
		w.conn.Close()
	}
}

// Abort makes the reader end.
func (w *webSocket) Abort() { w.conn.Close() }
