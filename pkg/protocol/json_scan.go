package protocol

import (
	"encoding/json"
	"errors"
	"slices"
)

// maxJSONDepth is how many arrays and objects may be open at once in a message: the
// reference implementation's limit.
const maxJSONDepth = 64

var (
	errJSONSyntax = errors.New("invalid JSON")
	errJSONDepth  = errors.New("JSON is nested too deep")
)

// A jsonScanner walks through JSON in place. It checks syntax and nesting but not
// UTF-8, which its users check for the whole text at once. After an error it must not
// be used any more.
type jsonScanner struct {
	data  []byte
	pos   int
	depth int // arrays and objects that are open
}

// A jsonString is a string of the text with its quotes.
type jsonString struct {
	quoted  []byte
	escaped bool // there is a backslash in it
}

// String returns what the string stands for. Half a surrogate pair is U+FFFD.
func (t jsonString) String() string {
	if !t.escaped {
		return string(t.inner())
	}
	var s string
	if err := json.Unmarshal(t.quoted, &s); err != nil {
		panic("protocol: scanned string does not decode: " + err.Error())
	}
	return s
}

// bytes is String without a copy where there is nothing to decode.
func (t jsonString) bytes() []byte {
	if t.escaped {
		return []byte(t.String())
	}
	return t.inner()
}

func (t jsonString) inner() []byte { return t.quoted[1 : len(t.quoted)-1] }

// peek returns the next byte that is not white space, without going past it. It is 0
// at the end.
func (s *jsonScanner) peek() byte {
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// ended reports that only white space is left.
func (s *jsonScanner) ended() bool {
	s.peek()
	return s.pos == len(s.data)
}

// open goes past the bracket that begins an array or an object.
func (s *jsonScanner) open() error {
	if s.depth++; s.depth > maxJSONDepth {
		return errJSONDepth
	}
	s.pos++
	return nil
}

// next goes to the next element of the innermost array or object, or past the
// bracket that closes it.
func (s *jsonScanner) next(closing byte, first bool) (more bool, err error) {
	switch c := s.peek(); {
	case c == closing:
		s.pos++
		s.depth--
		return false, nil
	case first:
		return true, nil
	case c == ',':
		s.pos++
		return true, nil
	}
	return false, errJSONSyntax
}

// member goes to the value of the innermost object's next member, or past the brace
// that closes it.
func (s *jsonScanner) member(first bool) (name jsonString, more bool, err error) {
	if more, err = s.next('}', first); !more {
		return name, false, err
	}
	if name, err = s.str(); err != nil {
		return name, false, err
	}
	if s.peek() != ':' {
		return name, false, errJSONSyntax
	}
	s.pos++
	return name, true, nil
}

// value goes past the next value and returns it without white space around it.
func (s *jsonScanner) value() ([]byte, error) {
	s.peek()
	start := s.pos
	if err := s.skip(); err != nil {
		return nil, err
	}
	return slices.Clip(s.data[start:s.pos]), nil
}

func (s *jsonScanner) skip() error {
	var err error
	switch s.peek() {
	case '{':
		if err = s.open(); err != nil {
			return err
		}
		for first := true; ; first = false {
			_, more, err := s.member(first)
			if !more {
				return err
			}
			if err = s.skip(); err != nil {
				return err
			}
		}
	case '[':
		if err = s.open(); err != nil {
			return err
		}
		for first := true; ; first = false {
			more, err := s.next(']', first)
			if !more {
				return err
			}
			if err = s.skip(); err != nil {
				return err
			}
		}
	case '"':
		_, err = s.str()
	case 't':
		err = s.literal("true")
	case 'f':
		err = s.literal("false")
	case 'n':
		err = s.literal("null")
	default:
		_, err = s.number()
	}
	return err
}

func (s *jsonScanner) literal(want string) error {
	end := s.pos + len(want)
	if end > len(s.data) || string(s.data[s.pos:end]) != want {
		return errJSONSyntax
	}
	s.pos = end
	return nil
}

// str goes past the string that must come next.
func (s *jsonScanner) str() (jsonString, error) {
	if s.peek() != '"' {
		return jsonString{}, errJSONSyntax
	}
	start, escaped := s.pos, false
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return jsonString{quoted: s.data[start:s.pos:s.pos], escaped: escaped}, nil
		case c == '\\':
			escaped = true
			if !s.escape() {
				return jsonString{}, errJSONSyntax
			}
		case c < ' ':
			return jsonString{}, errJSONSyntax
		}
	}
	return jsonString{}, errJSONSyntax
}

// escape goes from a backslash to the last byte of its escape sequence.
func (s *jsonScanner) escape() bool {
	if s.pos++; s.pos == len(s.data) {
		return false
	}
	switch s.data[s.pos] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			if s.pos++; s.pos == len(s.data) || !isHex(s.data[s.pos]) {
				return false
			}
		}
		return true
	}
	return false
}

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// number goes past the number that must come next, and returns its text.
func (s *jsonScanner) number() ([]byte, error) {
	s.peek()
	start := s.pos
	if s.at('-') {
		s.pos++
	}
	if s.at('0') {
		s.pos++ // and nothing after it: no leading zeros
	} else if !s.digits() {
		return nil, errJSONSyntax
	}
	if s.at('.') {
		s.pos++
		if !s.digits() {
			return nil, errJSONSyntax
		}
	}
	if s.at('e') || s.at('E') {
		s.pos++
		if s.at('+') || s.at('-') {
			s.pos++
		}
		if !s.digits() {
			return nil, errJSONSyntax
		}
	}
	return s.data[start:s.pos], nil
}

func (s *jsonScanner) at(c byte) bool { return s.pos < len(s.data) && s.data[s.pos] == c }

// digits goes past decimal digits, of which there must be one at least.
func (s *jsonScanner) digits() bool {
	start := s.pos
	for s.pos < len(s.data) && isDigit(s.data[s.pos]) {
		s.pos++
	}
	return s.pos > start
}
