package protocol

import (
	"bytes"
	"unicode/utf8"
)

// recordSeparator ends a frame of text. JSON cannot contain it, not even in a string.
const recordSeparator = 0x1e

// jsonProtocol is the encoding of HubProtocol, "JSON Encoding".
type jsonProtocol struct{}

func (jsonProtocol) Name() string { return "json" }

func (jsonProtocol) TransferFormat() TransferFormat { return Text }

func (jsonProtocol) Parse(data []byte, limit int) (Message, int, error) {
	frame, err := textFrame(data, limit)
	if err != nil {
		return nil, 0, err
	}
	var e jsonEnvelope
	if err := e.read(frame); err != nil {
		return nil, 0, asReadingError(err)
	}
	m, err := e.message()
	if err != nil {
		return nil, 0, err
	}
	return m, len(frame) + 1, nil
}

// textFrame returns the first frame of data without the separator that ends it.
func textFrame(data []byte, limit int) ([]byte, error) {
	visible := data
	if limit > 0 && len(data) > limit {
		visible = data[:limit]
	}
	if end := bytes.IndexByte(visible, recordSeparator); end >= 0 {
		return data[:end], nil
	}
	if len(visible) < len(data) {
		return nil, tooLarge(limit)
	}
	return nil, ErrIncomplete
}

// A jsonEnvelope is a message whose type may not be known yet, since members come in
// any order.
type jsonEnvelope struct {
	kind           Type
	headers        Headers
	invocationID   string
	target         string
	arguments      []byte
	streamIDs      []string
	item           []byte
	result         []byte
	errorText      string
	allowReconnect bool
	sequenceID     int64

	// What is there; of raw values, nil says that.
	hasKind, hasTarget, hasError, hasSequenceID bool
}

// read fills the envelope. What follows the object within the frame is ignored, as
// are members without a meaning; of members with the same name the last one counts.
func (e *jsonEnvelope) read(frame []byte) error {
	if !utf8.Valid(frame) {
		return errJSONUTF8
	}
	s := jsonScanner{data: frame}
	if err := s.openRoot(); err != nil {
		return err
	}
	for first := true; ; first = false {
		name, more, err := s.member(first)
		if !more {
			return err
		}
		if err := e.readMember(&s, name); err != nil {
			return err
		}
	}
}

func (e *jsonEnvelope) readMember(s *jsonScanner, name jsonString) (err error) {
	switch string(name.bytes()) {
	case "type":
		var kind int64
		if kind, e.hasKind, err = s.readInteger("type", 32); err == nil && !e.hasKind {
			return invalid("Expected 'type' to be of type Number.")
		}
		e.kind = Type(kind)
	case "headers":
		e.headers, err = s.readHeaders()
	case "invocationId":
		e.invocationID, err = s.readString("invocationId")
	case "target":
		e.hasTarget = true
		e.target, err = s.readString("target")
	case "arguments":
		if err = s.expect('[', "arguments", "Array"); err == nil {
			e.arguments, err = s.value()
		}
	case "streamIds":
		e.streamIDs, err = s.readStreamIDs()
	case "item":
		e.item, err = s.value()
	case "result":
		e.result, err = s.value()
	case "error":
		e.hasError = true
		e.errorText, err = s.readString("error")
	case "allowReconnect":
		e.allowReconnect, err = s.readBool("allowReconnect")
	case "sequenceId":
		e.sequenceID, e.hasSequenceID, err = s.readInteger("sequenceId", 64)
	default:
		err = s.skip()
	}
	return err
}

// message makes the message, if everything that its type requires is there.
func (e *jsonEnvelope) message() (Message, error) {
	if !e.hasKind {
		return nil, missing("type")
	}
	switch e.kind {
	case TypeInvocation:
		switch {
		case e.target == "":
			return nil, missing("target")
		case e.arguments == nil:
			return nil, missing("arguments")
		}
		m := e.invocation()
		return &m, nil
	case TypeStreamInvocation:
		switch {
		case !e.hasTarget:
			return nil, missing("target")
		case e.invocationID == "":
			return nil, missing("invocationId")
		case e.arguments == nil:
			return nil, missing("arguments")
		case e.target == "":
			return nil, missing("target")
		}
		return &StreamInvocation{e.invocation()}, nil
	case TypeStreamItem:
		switch {
		case e.invocationID == "":
			return nil, missing("invocationId")
		case e.item == nil:
			return nil, missing("item")
		}
		return &StreamItem{Headers: e.headers, InvocationID: e.invocationID, RawItem: e.item}, nil
	case TypeCompletion:
		switch {
		case e.invocationID == "":
			return nil, missing("invocationId")
		case e.hasError && e.result != nil:
			return nil, invalid("The 'error' and 'result' properties are mutually exclusive.")
		}
		return &Completion{
			Headers:      e.headers,
			InvocationID: e.invocationID,
			Error:        e.errorText,
			HasError:     e.hasError,
			HasResult:    e.result != nil,
			RawResult:    e.result,
		}, nil
	case TypeCancelInvocation:
		if e.invocationID == "" {
			return nil, missing("invocationId")
		}
		return &CancelInvocation{Headers: e.headers, InvocationID: e.invocationID}, nil
	case TypePing:
		return &Ping{}, nil
	case TypeClose:
		return &Close{Error: e.errorText, AllowReconnect: e.allowReconnect}, nil
	case TypeAck, TypeSequence:
		if !e.hasSequenceID {
			return nil, missing("sequenceId")
		}
		if e.kind == TypeAck {
			return &Ack{SequenceID: e.sequenceID}, nil
		}
		return &Sequence{SequenceID: e.sequenceID}, nil
	}
	return &Unknown{MessageType: e.kind}, nil
}

func (e *jsonEnvelope) invocation() Invocation {
	return Invocation{
		Headers:      e.headers,
		InvocationID: e.invocationID,
		Target:       e.target,
		RawArguments: e.arguments,
		StreamIDs:    e.streamIDs,
	}
}

func missing(property string) *Error { return invalid("Missing required property '%s'.", property) }
