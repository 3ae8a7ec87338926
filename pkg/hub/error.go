package hub

import (
	"errors"
	"strings"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// Errors that callers may branch on. They are wrapped with what was being done.
var (
	// ErrNoConnection reports that no node of the cluster holds the connection.
	ErrNoConnection = errors.New("no such connection")
	// ErrDisconnected reports a connection that ended before it had answered.
	ErrDisconnected = errors.New("disconnected")
	// ErrRemoved reports a join that a removal from the group has overtaken.
	ErrRemoved = errors.New("removed from the group meanwhile")
	// ErrExpired reports a membership that would have ended before it began.
	ErrExpired = errors.New("expired already")
	// ErrNameTooLong reports a group name or user identifier over the limit of
	// [WithMaximumNameBytes].
	ErrNameTooLong = errors.New("name too long")
	// ErrClosed reports a hub that has been shut down.
	ErrClosed = errors.New("hub closed")
)

// Error is an error whose text the calling client may read: it becomes the error of
// the completion, as the reference implementation's HubException does. Of any other,
// the client learns only that the invocation failed (unless [WithDetailedErrors] is
// set) and the log has the rest.
type Error struct {
	Message string // shown to the client: no secrets
	Err     error  // the cause, kept here; may be nil
}

// Error returns the message and the cause, unless the message ends with that.
func (e *Error) Error() string {
	if e.Err == nil || strings.HasSuffix(e.Message, e.Err.Error()) {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// A referenceError has a text of the reference implementation, which are sentences.
type referenceError struct {
	text string
	is   error // what it is one of; may be nil
}

func (e *referenceError) Error() string { return e.text }
func (e *referenceError) Unwrap() error { return e.is }

// withDetails appends to text what the client may know of err.
func (h *Hub) withDetails(text string, err error) string {
	if shown, ok := errors.AsType[*Error](err); ok {
		return text + " HubException: " + shown.Message
	}
	if !h.detailedErrors || err == nil {
		return text
	}
	if bad, ok := errors.AsType[*protocol.Error](err); ok {
		return text + " " + bad.Error()
	}
	return text + " " + err.Error()
}

// The texts of the reference implementation.
const (
	textClosedWithError  = "Connection closed with an error."
	textHandshakeFailed  = "An unexpected error occurred during connection handshake."
	textHandshakeCancel  = "Handshake was canceled."
	textNoMethod         = "Method does not exist."
	textConnectionEnded  = "Connection terminated while reading a message."
	textClientTimeout    = "Client hasn't sent a message/ping within the configured ClientTimeoutInterval."
	kindInvalidData      = "InvalidDataException"
	kindOperationCancel  = "OperationCanceledException"
	unknownMethodDetails = " HubException: " + textNoMethod
)

// errClientTimeout is what OnDisconnected gets of a client that went silent.
var errClientTimeout = &protocol.Error{Kind: kindOperationCancel, Detail: textClientTimeout}

// errConnectionEnded is what OnDisconnected gets when the input ends within a frame.
var errConnectionEnded = &protocol.Error{Kind: kindInvalidData, Detail: textConnectionEnded}

// errSlowConsumer ends a connection whose client does not keep up.
var errSlowConsumer = errors.New("client does not take what is sent to it fast enough")
