package protocol

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A HandshakeRequest is the first thing that a client sends (HubProtocol,
// "Overview"). It and its response are JSON whatever the protocol that it names.
type HandshakeRequest struct {
	Protocol string // as the client wrote it; compare it as [ByName] does
	Version  int
}

// ParseHandshakeRequest reads the request at the beginning of data and says how many
// bytes it takes. Its errors and limit are those of [Protocol.Parse].
func ParseHandshakeRequest(data []byte, limit int) (request HandshakeRequest, n int, err error) {
	frame, err := textFrame(data, limit)
	if err != nil {
		return HandshakeRequest{}, 0, err
	}
	var hasProtocol, hasVersion bool
	err = readHandshake(frame, func(s *jsonScanner, name string) (err error) {
		switch name {
		case "protocol":
			hasProtocol = true
			request.Protocol, err = s.readString(name)
		case "version":
			var version int64
			version, hasVersion, err = s.readInteger(name, 32)
			request.Version = int(version)
		default:
			err = s.skip()
		}
		return err
	})
	switch {
	case err != nil:
	case !hasProtocol:
		err = missingIn(frame, "protocol")
	case !hasVersion:
		err = missingIn(frame, "version")
	}
	if err != nil {
		return HandshakeRequest{}, 0, err
	}
	return request, len(frame) + 1, nil
}

// AppendHandshakeRequest appends the request to dst.
func AppendHandshakeRequest(dst []byte, request HandshakeRequest) []byte {
	dst = append(dst, `{"protocol":`...)
	dst = appendJSONString(dst, request.Protocol)
	dst = append(dst, `,"version":`...)
	dst = strconv.AppendInt(dst, int64(request.Version), 10)
	return append(dst, '}', recordSeparator)
}

// ParseHandshakeResponse reads the response at the beginning of data and says how
// many bytes it takes. errorText is empty if the server accepted the request. The
// errors and the limit are those of [Protocol.Parse].
func ParseHandshakeResponse(data []byte, limit int) (errorText string, n int, err error) {
	frame, err := textFrame(data, limit)
	if err != nil {
		return "", 0, err
	}
	err = readHandshake(frame, func(s *jsonScanner, name string) (err error) {
		switch name {
		case "error":
			errorText, err = s.readString(name)
		case "type": // some other message
			err = invalid("Expected a handshake response from the server.")
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return "", 0, err
	}
	return errorText, len(frame) + 1, nil
}

// AppendHandshakeResponse appends the response to dst: success if errorText is empty.
func AppendHandshakeResponse(dst []byte, errorText string) []byte {
	dst = append(dst, '{')
	if errorText != "" {
		dst = append(dst, `"error":`...)
		dst = appendJSONString(dst, errorText)
	}
	return append(dst, '}', recordSeparator)
}

// readHandshake calls read for every member of the object in frame.
func readHandshake(frame []byte, read func(s *jsonScanner, name string) error) error {
	if !utf8.Valid(frame) {
		return errHandshakeJSON("not UTF-8", errJSONUTF8)
	}
	s := jsonScanner{data: frame}
	err := s.openRoot()
	for first := true; err == nil; first = false {
		var name jsonString
		var more bool
		if name, more, err = s.member(first); !more {
			break
		}
		err = read(&s, name.String())
	}
	switch _, ok := errors.AsType[*Error](err); {
	case err == nil || ok:
		return err
	case s.ended():
		return &Error{Kind: kindInvalidData, Detail: "Unexpected end when reading JSON.", Err: err}
	}
	return errHandshakeJSON("invalid at byte "+strconv.Itoa(s.pos), err)
}

func errHandshakeJSON(what string, cause error) *Error {
	return &Error{Kind: kindReader, Detail: "The handshake is not JSON: " + what + ".", Err: cause}
}

// missingIn is missing with the text that the property is missing in.
func missingIn(frame []byte, property string) *Error {
	return invalid("Missing required property '%s'. Message content: %s", property, strings.ToValidUTF8(string(frame), "\ufffd"))
}
