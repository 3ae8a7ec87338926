package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

var (
	errJSONUTF8  = errors.New("JSON is not valid UTF-8")
	errNotFinite = errors.New("JSON has no number that is not finite")
)

func (jsonProtocol) Append(dst []byte, m Message) ([]byte, error) {
	frame, err := appendJSONMessage(slices.Grow(dst, sizeHint(m)), m)
	if err != nil {
		return dst, err
	}
	return append(frame, '}', recordSeparator), nil
}

// appendJSONMessage appends the message without its closing brace. Members stand in
// the order in which the reference implementation writes them.
func appendJSONMessage(dst []byte, m Message) (_ []byte, err error) {
	dst = append(dst, `{"type":`...)
	dst = strconv.AppendInt(dst, int64(m.Type()), 10)
	switch m := m.(type) {
	case *Invocation:
		return appendJSONInvocation(dst, m)
	case *StreamInvocation:
		return appendJSONInvocation(dst, &m.Invocation)
	case *StreamItem:
		dst = appendJSONHead(dst, m.Headers, m.InvocationID)
		dst = append(dst, `,"item":`...)
		if dst, err = appendJSON(dst, m.Item); err != nil {
			return nil, fmt.Errorf("item: %w", err)
		}
	case *Completion:
		dst = appendJSONHead(dst, m.Headers, m.InvocationID)
		switch {
		case m.Error != "":
			dst = appendJSONMember(dst, "error", m.Error)
		case m.HasResult && !m.HasError:
			dst = append(dst, `,"result":`...)
			if dst, err = appendJSON(dst, m.Result); err != nil {
				return nil, fmt.Errorf("result: %w", err)
			}
		}
	case *CancelInvocation:
		dst = appendJSONHead(dst, m.Headers, m.InvocationID)
	case *Ping:
	case *Close:
		if m.Error != "" {
			dst = appendJSONMember(dst, "error", m.Error)
		}
		if m.AllowReconnect {
			dst = append(dst, `,"allowReconnect":true`...)
		}
	case *Ack:
		dst = appendJSONSequenceID(dst, m.SequenceID)
	case *Sequence:
		dst = appendJSONSequenceID(dst, m.SequenceID)
	default:
		return nil, errUnwritable(m)
	}
	return dst, nil
}

func errUnwritable(m Message) error { return fmt.Errorf("message of type %T cannot be written", m) }

func appendJSONInvocation(dst []byte, m *Invocation) (_ []byte, err error) {
	dst = appendJSONHead(dst, m.Headers, m.InvocationID)
	dst = appendJSONMember(dst, "target", m.Target)
	dst = append(dst, `,"arguments":[`...)
	for i, argument := range m.Arguments {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = appendJSON(dst, argument); err != nil {
			return nil, errArgument(i, err)
		}
	}
	dst = append(dst, ']')
	if len(m.StreamIDs) > 0 {
		dst = append(dst, `,"streamIds":[`...)
		for i, id := range m.StreamIDs {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSONString(dst, id)
		}
		dst = append(dst, ']')
	}
	return dst, nil
}

// errArgument says which argument could not be encoded; i counts from 0.
func errArgument(i int, err error) error { return fmt.Errorf("argument %d: %w", i+1, err) }

// appendJSONHead appends what the messages of an invocation begin with.
func appendJSONHead(dst []byte, headers Headers, invocationID string) []byte {
	if len(headers) > 0 {
		separator := `,"headers":{`
		for _, key := range slices.Sorted(maps.Keys(headers)) {
			dst = append(dst, separator...)
			dst = appendJSONString(dst, key)
			dst = append(dst, ':')
			dst = appendJSONString(dst, headers[key])
			separator = ","
		}
		dst = append(dst, '}')
	}
	if invocationID != "" {
		dst = appendJSONMember(dst, "invocationId", invocationID)
	}
	return dst
}

func appendJSONMember(dst []byte, name, value string) []byte {
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return appendJSONString(dst, value)
}

func appendJSONSequenceID(dst []byte, id int64) []byte {
	return strconv.AppendInt(append(dst, `,"sequenceId":`...), id, 10)
}

// appendJSON appends the value v: what is common directly, the rest by encoding/json.
func appendJSON(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...), nil
	case string:
		return appendJSONString(dst, v), nil
	case bool:
		return strconv.AppendBool(dst, v), nil
	case int:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int32:
		return strconv.AppendInt(dst, int64(v), 10), nil
	case int64:
		return strconv.AppendInt(dst, v, 10), nil
	case float64:
		return appendJSONFloat(dst, v, 64)
	case Raw:
		return appendRawJSON(dst, v)
	}
	sink := jsonSink(dst)
	encoder := json.NewEncoder(&sink)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	encoded := sink[:len(sink)-1] // without the encoder's line break
	if !utf8.Valid(encoded[len(dst):]) {
		return nil, errJSONUTF8 // of a Marshaler, whose text the encoder does not check
	}
	return encoded, nil
}

// A jsonSink is a slice that an encoder appends to.
type jsonSink []byte

func (s *jsonSink) Write(p []byte) (int, error) {
	*s = append(*s, p...)
	return len(p), nil
}

// appendJSONString appends s as a string that escapes no more than it must. What is
// not UTF-8 becomes U+FFFD.
func appendJSONString[S string | []byte](dst []byte, s S) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		i++
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i-1]...)
		start = i
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[c>>4], hex[c&0xf])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendJSONFloat appends f, of so many bits, as ECMAScript does: whole numbers have
// no fraction, only very large and small ones an exponent, and zero has no sign.
func appendJSONFloat(dst []byte, f float64, bits int) ([]byte, error) {
	abs := math.Abs(f)
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return nil, errNotFinite
	case f == 0:
		return append(dst, '0'), nil
	case 1e-6 <= abs && abs < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, bits), nil
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, bits)
	if n := len(dst) - 2; dst[n-1] == '-' && dst[n] == '0' {
		dst = append(dst[:n], dst[n+1]) // e-07 to e-7
	}
	return dst, nil
}
