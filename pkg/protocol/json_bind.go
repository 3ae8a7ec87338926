package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"
)

func (jsonProtocol) BindArguments(raw []byte, dst ...any) error {
	count := 0
	err := eachJSONElement(raw, func(element []byte) error {
		if count < len(dst) {
			if err := bindJSON(element, dst[count]); err != nil {
				return unbound(count, err)
			}
		}
		count++
		return nil
	})
	switch {
	case err != nil:
		return asReadingError(err)
	case count != len(dst):
		return wrongCount(int64(count), len(dst))
	}
	return nil
}

func (jsonProtocol) BindValue(raw []byte, dst any) error {
	if err := checkJSON(raw); err != nil {
		return asReadingError(err)
	}
	if err := bindJSON(bytes.TrimSpace(raw), dst); err != nil {
		return unboundValue(dst, err)
	}
	return nil
}

// jsonElements returns the elements of an array.
func jsonElements(raw []byte) (elements []any, err error) {
	err = eachJSONElement(raw, func(element []byte) error {
		elements = append(elements, Raw{Protocol: jsonProtocol{}, Bytes: element})
		return nil
	})
	return elements, err
}

// eachJSONElement calls do for the elements of the array that raw must be.
func eachJSONElement(raw []byte, do func(element []byte) error) error {
	if !utf8.Valid(raw) {
		return errJSONUTF8
	}
	s := jsonScanner{data: raw}
	if err := s.expect('[', "arguments", "Array"); err != nil {
		return err
	}
	if err := s.open(); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.next(']', first)
		if err != nil {
			return err
		}
		if !more {
			break
		}
		element, err := s.value()
		if err != nil {
			return err
		}
		if err := do(element); err != nil {
			return err
		}
	}
	if !s.ended() {
		return errJSONSyntax
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

// bindJSON decodes a value that has been checked: what is common directly, the rest
// by encoding/json.
func bindJSON(raw []byte, dst any) error {
	switch dst := dst.(type) {
	case *string:
		return bindJSONString(raw, dst)
	case *int:
		n, err := bindJSONInt(raw, strconv.IntSize)
		*dst = int(n)
		return err
	case *int32:
		n, err := bindJSONInt(raw, 32)
		*dst = int32(n)
		return err
	case *int64:
		n, err := bindJSONInt(raw, 64)
		*dst = n
		return err
	case *Raw:
		return dst.UnmarshalJSON(raw)
	}
	if err := json.Unmarshal(raw, dst); err != nil {
		return err
	}
	if bytes.IndexByte(raw, '[') < 0 && !bytes.Contains(raw, []byte("null")) {
		return nil
	}
	s := jsonScanner{data: raw}
	return s.checkStrictly(reflect.TypeOf(dst).Elem())
}

func bindJSONString(raw []byte, dst *string) error {
	switch raw[0] {
	case '"':
		*dst = jsonString{quoted: raw, escaped: bytes.IndexByte(raw, '\\') >= 0}.String()
	case 'n':
		*dst = ""
	default:
		return fmt.Errorf("cannot decode a JSON %s into a string", jsonKind(raw[0]))
	}
	return nil
}

func bindJSONInt(raw []byte, bits int) (int64, error) {
	n, err := strconv.ParseInt(string(raw), 10, bits)
	if err != nil {
		// Not err, which has the value in it: this goes into logs.
		return 0, fmt.Errorf("cannot decode a JSON %s into an integer of %d bits", jsonKind(raw[0]), bits)
	}
	return n, nil
}
