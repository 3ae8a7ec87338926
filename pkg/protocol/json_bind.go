package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

func (jsonProtocol) BindArguments(raw []byte, dst ...any) error {
	s := jsonScanner{data: raw}
	if err := s.openArray(); err != nil {
		return err
	}
	count := 0
	for {
		more, err := s.next(']', count == 0)
		if err != nil {
			return errReadingJSON(err)
		}
		if !more {
			break
		}
		element, err := s.readValue()
		if err != nil {
			return err
		}
		if count < len(dst) {
			if err := bindJSON(element, dst[count]); err != nil {
				return unbound(count, err)
			}
		}
		count++
	}
	if !s.ended() {
		return errReadingJSON(errJSONSyntax)
	}
	if count != len(dst) {
		return wrongCount(count, len(dst))
	}
	return nil
}

// openArray goes into the array that must be the whole text.
func (s *jsonScanner) openArray() error {
	if !utf8.Valid(s.data) {
		return errReadingJSON(errJSONUTF8)
	}
	if err := s.expect('[', "arguments", "Array"); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return errReadingJSON(err)
	}
	return nil
}

func (jsonProtocol) BindValue(raw []byte, dst any) error {
	if err := checkJSON(raw); err != nil {
		return errReadingJSON(err)
	}
	if err := bindJSON(bytes.TrimSpace(raw), dst); err != nil {
		return unboundValue(dst, err)
	}
	return nil
}

// checkJSON reports what keeps raw from being one value of JSON.
func checkJSON(raw []byte) error {
	if !utf8.Valid(raw) {
		return errJSONUTF8
	}
	s := jsonScanner{data: raw}
	if err := s.skip(); err != nil {
		return err
	}
	if !s.ended() {
		return errJSONSyntax
	}
	return nil
}

// jsonElements returns the elements of an array.
func jsonElements(raw []byte) ([]any, error) {
	s := jsonScanner{data: raw}
	if s.peek() != '[' {
		return nil, errNoArray
	}
	if err := s.openArray(); err != nil {
		return nil, err
	}
	var elements []any
	for {
		more, err := s.next(']', len(elements) == 0)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		element, err := s.value()
		if err != nil {
			return nil, err
		}
		elements = append(elements, Raw{Protocol: jsonProtocol{}, Bytes: element})
	}
	if !s.ended() {
		return nil, errJSONSyntax
	}
	return elements, nil
}

// bindJSON decodes a value that has been checked: what is common directly, the rest
// by encoding/json.
func bindJSON(raw []byte, dst any) error {
	switch dst := dst.(type) {
	case *string:
		return bindJSONString(raw, dst)
	case *int:
		n, err := strconv.ParseInt(string(raw), 10, strconv.IntSize)
		*dst = int(n)
		return err
	case *int32:
		n, err := strconv.ParseInt(string(raw), 10, 32)
		*dst = int32(n)
		return err
	case *int64:
		n, err := strconv.ParseInt(string(raw), 10, 64)
		*dst = n
		return err
	case *Raw:
		return dst.UnmarshalJSON(raw)
	}
	if bytes.Contains(raw, []byte("null")) {
		if err := checkNulls(raw, dst); err != nil {
			return err
		}
	}
	return json.Unmarshal(raw, dst)
}

func bindJSONString(raw []byte, dst *string) error {
	switch raw[0] {
	case '"':
		*dst = jsonString{quoted: raw, escaped: bytes.IndexByte(raw, '\\') >= 0}.String()
	case 'n':
		*dst = ""
	default:
		return fmt.Errorf("JSON %s is not a string", raw[:min(len(raw), 20)])
	}
	return nil
}
