package protocol

import (
	"bytes"
	"strconv"
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
		return nil, 0, err
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
		return errReadingJSON(errJSONUTF8)
	}
	s := jsonScanner{data: frame}
	if err := s.openRoot(); err != nil {
		return err
	}
	for first := true; ; first = false {
		name, more, err := s.member(first)
		if err != nil {
			return errReadingJSON(err)
		}
		if !more {
			return nil
		}
		if err := e.readMember(&s, name); err != nil {
			return err
		}
	}
}

// openRoot goes into the object that must be the whole text.
func (s *jsonScanner) openRoot() error {
	token, err := s.token()
	if err != nil {
		return err
	}
	if token != "Object" {
		return invalid("Unexpected JSON Token Type '%s'. Expected a JSON Object.", token)
	}
	return s.open()
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
			e.arguments, err = s.readValue()
		}
	case "streamIds":
		e.streamIDs, err = s.readStreamIDs()
	case "item":
		e.item, err = s.readValue()
	case "result":
		e.result, err = s.readValue()
	case "error":
		e.hasError = true
		e.errorText, err = s.readString("error")
	case "allowReconnect":
		e.allowReconnect, err = s.readBool("allowReconnect")
	case "sequenceId":
		e.sequenceID, e.hasSequenceID, err = s.readInteger("sequenceId", 64)
	default:
		_, err = s.readValue()
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

func errReadingJSON(cause error) *Error {
	return &Error{Kind: kindInvalidData, Detail: "Error reading JSON.", Err: cause}
}

// The read methods read the value of an envelope's property. Their errors are *Error.

func (s *jsonScanner) readValue() ([]byte, error) {
	raw, err := s.value()
	if err != nil {
		return nil, errReadingJSON(err)
	}
	return raw, nil
}

// expect reports a value that does not begin as it has to.
func (s *jsonScanner) expect(begin byte, property, kind string) error {
	if s.peek() == begin {
		return nil
	}
	if _, err := s.token(); err != nil {
		return err
	}
	return invalid("Expected '%s' to be of type %s.", property, kind)
}

func (s *jsonScanner) readString(property string) (string, error) {
	if err := s.expect('"', property, "String"); err != nil {
		return "", err
	}
	text, err := s.str()
	if err != nil {
		return "", errReadingJSON(err)
	}
	return text.String(), nil
}

func (s *jsonScanner) readBool(property string) (bool, error) {
	token, err := s.token()
	if err != nil {
		return false, err
	}
	if token == "True" || token == "False" {
		return token == "True", s.skip()
	}
	return false, invalid("Expected '%s' to be true or false.", property)
}

// readInteger reads an integer of so many bits. A null is none.
func (s *jsonScanner) readInteger(property string, bits int) (n int64, ok bool, err error) {
	token, err := s.token()
	switch {
	case err != nil:
		return 0, false, err
	case token == "Null":
		return 0, false, s.skip()
	case token != "Number":
		return 0, false, invalid("Expected '%s' to be of type Number.", property)
	}
	raw, err := s.number()
	if err != nil {
		return 0, false, errReadingJSON(err)
	}
	n, err = strconv.ParseInt(string(raw), 10, bits)
	if err != nil {
		return 0, false, &Error{
			Kind:   kindFormat,
			Detail: "Either the JSON value is not in a supported format, or is out of bounds for an Int" + strconv.Itoa(bits) + ".",
			Err:    err,
		}
	}
	return n, true, nil
}

func (s *jsonScanner) readHeaders() (Headers, error) {
	if err := s.expect('{', "headers", "StartObject"); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errReadingJSON(err)
	}
	var headers Headers
	for first := true; ; first = false {
		name, more, err := s.member(first)
		if err != nil {
			return nil, errReadingJSON(err)
		}
		if !more {
			return headers, nil
		}
		key := name.String()
		if token, err := s.token(); err != nil {
			return nil, err
		} else if token != "String" {
			return nil, invalid("Expected header '%s' to be of type String.", key)
		}
		value, err := s.str()
		if err != nil {
			return nil, errReadingJSON(err)
		}
		if headers == nil {
			headers = make(Headers)
		}
		headers[key] = value.String()
	}
}

func (s *jsonScanner) readStreamIDs() ([]string, error) {
	if err := s.expect('[', "streamIds", "Array"); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errReadingJSON(err)
	}
	var ids []string
	for first := true; ; first = false {
		more, err := s.next(']', first)
		if err != nil {
			return nil, errReadingJSON(err)
		}
		if !more {
			return ids, nil
		}
		switch token, err := s.token(); {
		case err != nil:
			return nil, err
		case token == "Null":
			return nil, invalid("Null value for 'streamIds' is not valid.")
		case token != "String":
			return nil, &Error{Kind: kindInvalidOperation, Detail: "Cannot get the value of a token type '" + token + "' as a string."}
		}
		id, err := s.str()
		if err != nil {
			return nil, errReadingJSON(err)
		}
		ids = append(ids, id.String())
	}
}

// token names the kind of the next value as the reference implementation does. It
// does not go past it, but checks it unless it is an array or an object.
func (s *jsonScanner) token() (string, error) {
	kind := "Number"
	switch s.peek() {
	case '{':
		return "Object", nil
	case '[':
		return "Array", nil
	case '"':
		kind = "String"
	case 't':
		kind = "True"
	case 'f':
		kind = "False"
	case 'n':
		kind = "Null"
	}
	ahead := *s
	if err := ahead.skip(); err != nil {
		s.pos = ahead.pos // where the trouble is
		return "", errReadingJSON(err)
	}
	return kind, nil
}
