package protocol

import (
	"errors"
	"strconv"
)

// What these methods return is an [*Error] if a value is not what a property has to
// be, and an error of the scanner if the text is not JSON.

// asReadingError makes an error of the scanner one that a client may see.
func asReadingError(err error) error {
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Kind: kindInvalidData, Detail: "Error reading JSON.", Err: err}
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
		return "", err
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
	text, err := s.number()
	if err != nil {
		return 0, false, err
	}
	n, err = strconv.ParseInt(string(text), 10, bits)
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
		return nil, err
	}
	var headers Headers
	for first := true; ; first = false {
		name, more, err := s.member(first)
		if !more {
			return headers, err
		}
		key := name.String()
		switch token, err := s.token(); {
		case err != nil:
			return nil, err
		case token != "String":
			return nil, invalid("Expected header '%s' to be of type String.", key)
		}
		value, err := s.str()
		if err != nil {
			return nil, err
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
		return nil, err
	}
	var ids []string
	for first := true; ; first = false {
		more, err := s.next(']', first)
		if !more {
			return ids, err
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
			return nil, err
		}
		ids = append(ids, id.String())
	}
}

// token names the kind of the next value as the reference implementation does. It
// does not go past it, but checks it unless it is an array or an object.
func (s *jsonScanner) token() (string, error) {
	begin := s.peek()
	if begin == '{' || begin == '[' {
		return jsonKind(begin), nil
	}
	ahead := *s
	if err := ahead.skip(); err != nil {
		s.pos = ahead.pos // where the trouble is
		return "", err
	}
	return jsonKind(begin), nil
}

// jsonKind names the kind of the value that begins with c.
func jsonKind(c byte) string {
	switch c {
	case '{':
		return "Object"
	case '[':
		return "Array"
	case '"':
		return "String"
	case 't':
		return "True"
	case 'f':
		return "False"
	case 'n':
		return "Null"
	}
	return "Number"
}
