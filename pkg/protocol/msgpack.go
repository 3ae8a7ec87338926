package protocol

import (
	"fmt"

	"github.com/tinylib/msgp/msgp"
)

// packProtocol is the encoding of HubProtocol, "MessagePack (MsgPack) encoding".
type packProtocol struct{}

func (packProtocol) Name() string { return "messagepack" }

func (packProtocol) TransferFormat() TransferFormat { return Binary }

// The kinds of completions (HubProtocol, "Completion Message Encoding").
const (
	completionError  = 1
	completionVoid   = 2
	completionResult = 3
)

func (packProtocol) Parse(data []byte, limit int) (Message, int, error) {
	body, n, err := binaryFrame(data, limit)
	if err != nil {
		return nil, 0, err
	}
	r := packReader{body}
	m, err := r.message()
	if err != nil {
		return nil, 0, err
	}
	return m, n, nil
}

// binaryFrame returns the body of the first frame of data, and the frame's length.
func binaryFrame(data []byte, limit int) (body []byte, n int, err error) {
	visible := data
	if limit > 0 && len(data) > limit {
		visible = data[:limit]
	}
	var size uint64
	for i := range min(len(visible), maxPrefix) {
		c := visible[i]
		size |= uint64(c&0x7f) << (7 * i)
		if i == maxPrefix-1 && c > 7 {
			return nil, 0, &Error{Kind: kindFormat, Detail: "Messages over 2GB in size are not supported."}
		}
		if c >= 0x80 {
			continue
		}
		if body = visible[i+1:]; size > uint64(len(body)) {
			break
		}
		n = i + 1 + int(size)
		return data[i+1 : n : n], n, nil
	}
	if len(visible) < len(data) {
		return nil, 0, tooLarge(limit)
	}
	return nil, 0, ErrIncomplete
}

// maxPrefix is how many bytes the length of a frame takes at most.
const maxPrefix = 5

// A packReader reads the body of a frame from its beginning.
type packReader struct{ rest []byte }

// message reads the array that a message is. Elements beyond those that the type has
// are ignored, and so are bytes after the array.
func (r *packReader) message() (Message, error) {
	count, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
	if err != nil {
		return nil, r.unexpected()
	}
	r.rest = rest
	kind, err := r.int32("messageType")
	if err != nil {
		return nil, err
	}
	switch kind := Type(kind); kind {
	case TypeInvocation:
		m := new(Invocation)
		return m, r.invocation(m, count, kind)
	case TypeStreamInvocation:
		m := new(StreamInvocation)
		return m, r.invocation(&m.Invocation, count, kind)
	case TypeStreamItem:
		m := new(StreamItem)
		m.Headers, m.InvocationID, err = r.head("StreamItem")
		m.RawItem, _ = r.value()
		return m, err
	case TypeCompletion:
		m := new(Completion)
		return m, r.completion(m)
	case TypeCancelInvocation:
		m := new(CancelInvocation)
		m.Headers, m.InvocationID, err = r.head("CancelInvocation")
		return m, err
	case TypePing:
		return new(Ping), nil
	case TypeClose:
		m := new(Close)
		if m.Error, err = r.str("error"); err == nil && count > 2 {
			m.AllowReconnect, err = r.bool("allowReconnect")
		}
		return m, err
	case TypeAck:
		m := new(Ack)
		m.SequenceID, err = r.int64("sequenceId")
		return m, err
	case TypeSequence:
		m := new(Sequence)
		m.SequenceID, err = r.int64("sequenceId")
		return m, err
	default:
		return &Unknown{MessageType: kind}, nil
	}
}

// invocation reads what follows the type. Arguments that are not an array, or no
// value at all, are for BindArguments to report; what comes after them is lost.
func (r *packReader) invocation(m *Invocation, count uint32, kind Type) (err error) {
	if m.Headers, err = r.headers(); err != nil {
		return err
	}
	if m.InvocationID, err = r.str("invocationId"); err != nil {
		return err
	}
	name := "Invocation"
	if kind == TypeStreamInvocation {
		name = "StreamInvocation"
		if m.InvocationID == "" {
			return nullOrEmpty("invocation ID for StreamInvocation message")
		}
	}
	if m.Target, err = r.str("target"); err != nil {
		return err
	}
	if m.Target == "" {
		return nullOrEmpty("target for " + name + " message")
	}
	raw, whole := r.value()
	m.RawArguments = raw
	if count > 5 && whole && kindOf(raw) == packArray {
		m.StreamIDs, err = r.streamIDs()
	}
	return err
}

func (r *packReader) completion(m *Completion) (err error) {
	if m.Headers, m.InvocationID, err = r.head("Completion"); err != nil {
		return err
	}
	kind, err := r.int32("resultKind")
	if err != nil {
		return err
	}
	switch kind {
	case completionError:
		m.HasError = true
		m.Error, err = r.str("error")
		return err
	case completionResult:
		m.HasResult = true
		m.RawResult, _ = r.value()
		return nil
	case completionVoid:
		return nil
	}
	return invalid("Invalid invocation result kind.")
}

// head reads the headers and the invocation id, which must not be empty.
func (r *packReader) head(message string) (headers Headers, invocationID string, err error) {
	if headers, err = r.headers(); err != nil {
		return nil, "", err
	}
	if invocationID, err = r.str("invocationId"); err != nil {
		return nil, "", err
	}
	if invocationID == "" {
		return nil, "", nullOrEmpty("invocation ID for " + message + " message")
	}
	return headers, invocationID, nil
}

func (r *packReader) headers() (Headers, error) {
	count, rest, err := msgp.ReadMapHeaderBytes(r.rest)
	if err != nil {
		return nil, invalid("Reading map length for 'headers' failed.")
	}
	r.rest = rest
	var headers Headers
	for i := range count {
		key, err := r.header(i, "Key", "key")
		if err != nil {
			return nil, err
		}
		value, err := r.header(i, "Value", "value")
		if err != nil {
			return nil, err
		}
		if _, ok := headers[key]; ok {
			return nil, &Error{Kind: kindArgument, Detail: "An item with the same key has already been added. Key: " + key}
		}
		if headers == nil {
			headers = make(Headers)
		}
		headers[key] = value
	}
	return headers, nil
}

func (r *packReader) header(i uint32, field, name string) (string, error) {
	b, rest, ok := readPackStr(r.rest)
	if !ok {
		return "", invalid("Reading 'headers[%d].%s' as String failed.", i, field)
	}
	if len(b) == 0 {
		return "", nullOrEmpty(name + " in header")
	}
	r.rest = rest
	return packString(b), nil
}

func (r *packReader) streamIDs() ([]string, error) {
	count, rest, err := msgp.ReadArrayHeaderBytes(r.rest)
	if err != nil {
		return nil, invalid("Reading array length for 'streamIds' failed.")
	}
	r.rest = rest
	var ids []string
	for range count {
		b, rest, ok := readPackStr(r.rest)
		if !ok {
			return nil, r.unexpected()
		}
		if len(b) == 0 {
			return nil, nullOrEmpty("value in streamIds received")
		}
		r.rest = rest
		ids = append(ids, packString(b))
	}
	return ids, nil
}

func nullOrEmpty(what string) *Error { return invalid("Null or empty %s.", what) }

// unexpected is the error of a value that is not what comes next.
func (r *packReader) unexpected() *Error {
	detail := "Attempted to read past the end of the message."
	if len(r.rest) > 0 {
		detail = fmt.Sprintf("Unexpected msgpack code %d (%s) encountered.", r.rest[0], kindOf(r.rest))
	}
	return &Error{Kind: kindSerialization, Detail: detail}
}

// value goes past the next value and returns it. If there is none that is whole it
// returns all that is left, which no Bind method takes.
func (r *packReader) value() (raw []byte, whole bool) {
	start := r.rest
	rest, err := skipPack(start)
	r.rest = rest
	n := len(start) - len(rest)
	return start[:n:n], err == nil
}

func (r *packReader) int32(field string) (int32, error) {
	n, rest, err := msgp.ReadInt32Bytes(r.rest)
	if err != nil {
		return 0, unreadable(field, "Int32", err)
	}
	r.rest = rest
	return n, nil
}

func (r *packReader) int64(field string) (int64, error) {
	n, rest, err := msgp.ReadInt64Bytes(r.rest)
	if err != nil {
		return 0, unreadable(field, "Int64", err)
	}
	r.rest = rest
	return n, nil
}

func (r *packReader) bool(field string) (bool, error) {
	v, rest, err := msgp.ReadBoolBytes(r.rest)
	if err != nil {
		return false, unreadable(field, "Boolean", err)
	}
	r.rest = rest
	return v, nil
}

// str reads a string; nil is an empty one.
func (r *packReader) str(field string) (string, error) {
	b, rest, ok := readPackStr(r.rest)
	if !ok {
		return "", unreadable(field, "String", nil)
	}
	r.rest = rest
	return packString(b), nil
}

func unreadable(field, kind string, cause error) *Error {
	return &Error{Kind: kindInvalidData, Detail: "Reading '" + field + "' as " + kind + " failed.", Err: cause}
}
