package client

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// Errors that callers may branch on. They are wrapped with what was being done.
var (
	// ErrNotConnected reports a call that was not made since there was no connection:
	// the client has not been started, or it is reconnecting.
	ErrNotConnected = errors.New("not connected")
	// ErrClosed reports a call that was not made since the client is closed, or being
	// closed, for good.
	ErrClosed = errors.New("client closed")
	// ErrConnectionLost reports a call whose connection ended before the answer came.
	// Whether the server acted on it is not known. The error also wraps the reason.
	ErrConnectionLost = errors.New("connection lost")
)

// Error is a text by which the server says that something failed: an invocation or a
// stream, the negotiation, the handshake, or the connection as a whole.
type Error struct {
	Message string // as the server sent it
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// StatusError is an HTTP answer that refuses a negotiation or a WebSocket.
type StatusError struct {
	StatusCode int
	Body       string // its first bytes
}

// Error returns the status and what the body says.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("server answered %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	if e.Body != "" {
		text += ": " + e.Body
	}
	return text
}

// serverClosed ends a connection for which the server sent a Close message.
type serverClosed struct{ protocol.Close }

func (e *serverClosed) Error() string {
	if e.Close.Error == "" {
		return "server closed the connection"
	}
	return "server closed the connection: " + e.Close.Error
}

func (e *serverClosed) Unwrap() error {
	if e.Close.Error == "" {
		return nil
	}
	return &Error{Message: e.Close.Error}
}

// mayReconnect reports whether a connection that ended for the reason may be replaced
// (HubProtocol, "Close Message Encoding").
func mayReconnect(reason error) bool {
	closed, ok := errors.AsType[*serverClosed](reason)
	return !ok || closed.AllowReconnect
}
