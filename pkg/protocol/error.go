package protocol

import (
	"errors"
	"fmt"
	"strings"
)

// ErrIncomplete reports that the input ends before the frame does.
var ErrIncomplete = errors.New("incomplete message")

// Error is input that the protocol does not allow. Kind and Detail are the reference
// implementation's name and text for it, which a server with detailed errors shows
// to the client.
type Error struct {
	Kind   string // such as "InvalidDataException"
	Detail string
	Err    error // the cause, for logs only; may be nil
}

// Error returns the kind and the detail as they are shown to a client.
func (e *Error) Error() string { return e.Kind + ": " + e.Detail }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// The reference implementation's names for kinds of errors.
const (
	kindInvalidData      = "InvalidDataException"
	kindInvalidOperation = "InvalidOperationException"
	kindArgument         = "ArgumentException"
	kindFormat           = "FormatException"
	kindReader           = "JsonReaderException"
	kindSerialization    = "MessagePackSerializationException"
)

const textBinding = "Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked."

// invalid makes the error of data that is not as it has to be.
func invalid(format string, args ...any) *Error {
	return &Error{Kind: kindInvalidData, Detail: fmt.Sprintf(format, args...)}
}

// tooLarge is the error of a frame that does not end within limit bytes.
func tooLarge(limit int) *Error {
	return invalid("The maximum message size of %dB was exceeded. The message size can be configured in AddHubOptions.", limit)
}

// wrongCount is the error of an invocation with too few or too many arguments.
func wrongCount(provided int64, expected int) *Error {
	return invalid("Invocation provides %d argument(s) but target expects %d.", provided, expected)
}

// unbound is the error of an argument that does not fit; i counts from 0.
func unbound(i int, cause error) *Error {
	return &Error{Kind: kindInvalidData, Detail: textBinding, Err: fmt.Errorf("argument %d: %w", i+1, cause)}
}

// unboundValue is the error of a value that does not fit where dst points.
func unboundValue(dst any, cause error) *Error {
	name := strings.TrimPrefix(fmt.Sprintf("%T", dst), "*")
	return &Error{Kind: kindInvalidData, Detail: "Deserializing object of the `" + name + "` type failed.", Err: cause}
}
