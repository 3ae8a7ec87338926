package protocol

import (
	"errors"
	"strings"
	"testing"
)

func TestParseHandshakeRequest(t *testing.T) {
	tests := []struct {
		frame string
		want  HandshakeRequest
	}{
		{`{"protocol":"json","version":1}`, HandshakeRequest{"json", 1}},
		{`{"version":2,"protocol":"MessagePack"}`, HandshakeRequest{"MessagePack", 2}},
		{`{"protocol":"","version":-3}`, HandshakeRequest{"", -3}},
		{` { "protocol" : "json" , "x":[{}], "version" : 0 } `, HandshakeRequest{"json", 0}},
		{`{"\u0070rotocol":"j\u0073on","version":1}`, HandshakeRequest{"json", 1}},
		{`{"protocol":"a","version":5,"protocol":"b","version":6}`, HandshakeRequest{"b", 6}},
		{`{"protocol":"json","version":1}trailing`, HandshakeRequest{"json", 1}},
	}
	for _, tt := range tests {
		frame := tt.frame + "\x1e"
		got, n, err := ParseHandshakeRequest([]byte(frame+`{"type":6}`), len(frame))
		if err != nil || got != tt.want || n != len(frame) {
			t.Errorf("%s: %v, %d, %v", tt.frame, got, n, err)
		}
		for cut := range frame {
			if _, n, err := ParseHandshakeRequest([]byte(frame[:cut]), len(frame)); !errors.Is(err, ErrIncomplete) || n != 0 {
				t.Fatalf("%q: %d, %v, want ErrIncomplete", frame[:cut], n, err)
			}
		}
		back := AppendHandshakeRequest([]byte("before"), got)
		again, n, err := ParseHandshakeRequest(back[len("before"):], 0)
		if err != nil || again != got || n != len(back)-len("before") {
			t.Errorf("%q: %v, %d, %v", back, again, n, err)
		}
	}
}

func TestParseHandshakeRequestErrors(t *testing.T) {
	data := func(detail string) string { return "InvalidDataException: " + detail }
	tests := []struct{ frame, want string }{
		{`null`, data("Unexpected JSON Token Type 'Null'. Expected a JSON Object.")},
		{`5`, data("Unexpected JSON Token Type 'Number'. Expected a JSON Object.")},
		{`"x"`, data("Unexpected JSON Token Type 'String'. Expected a JSON Object.")},
		{`[]`, data("Unexpected JSON Token Type 'Array'. Expected a JSON Object.")},
		{`{}`, data("Missing required property 'protocol'. Message content: {}")},
		{`{"version":1}`, data(`Missing required property 'protocol'. Message content: {"version":1}`)},
		{`{"Protocol":"json","version":1}`, data(`Missing required property 'protocol'. Message content: {"Protocol":"json","version":1}`)},
		{`{"protocol":"json"}`, data(`Missing required property 'version'. Message content: {"protocol":"json"}`)},
		{`{"protocol":"json","version":null}`, data(`Missing required property 'version'. Message content: {"protocol":"json","version":null}`)},
		{`{"protocol":"json","version":"1"}`, data("Expected 'version' to be of type Number.")},
		{`{"protocol":null,"version":1}`, data("Expected 'protocol' to be of type String.")},
		{`{"protocol":{},"version":1}`, data("Expected 'protocol' to be of type String.")},
		{`{"protocol":"json","version":1.5}`, badNumber + "32."},
		{``, data("Unexpected end when reading JSON.")},
		{` `, data("Unexpected end when reading JSON.")},
		{`{`, data("Unexpected end when reading JSON.")},
		{`{"protocol":"json"`, data("Unexpected end when reading JSON.")},
		{`{"protocol":"js`, data("Unexpected end when reading JSON.")},
		{`{"protocol":"json","version":`, data("Unexpected end when reading JSON.")},
		{`{"protocol":"json",}`, "JsonReaderException: The handshake is not JSON: invalid at byte 19."},
		{`GET / HTTP/1.1`, "JsonReaderException: The handshake is not JSON: invalid at byte 0."},
		{`{"protocol":"` + "\xff" + `","version":1}`, "JsonReaderException: The handshake is not JSON: not UTF-8."},
		{strings.Repeat(`[`, 100), data("Unexpected JSON Token Type 'Array'. Expected a JSON Object.")},
	}
	for _, tt := range tests {
		request, n, err := ParseHandshakeRequest([]byte(tt.frame+"\x1e"), 0)
		if (request != HandshakeRequest{}) {
			t.Errorf("%q: %v beside the error", tt.frame, request)
		}
		checkProtocolError(t, tt.frame, nil, n, err, tt.want)
	}
	_, n, err := ParseHandshakeRequest([]byte("12345"), 4)
	checkProtocolError(t, "12345", nil, n, err, data("The maximum message size of 4B was exceeded. The message size can be configured in AddHubOptions."))
}

func TestHandshakeResponse(t *testing.T) {
	tests := []struct{ errorText, frame string }{
		{"", "{}\x1e"},
		{"The protocol 'X\"' is not supported.", `{"error":"The protocol 'X\"' is not supported."}` + "\x1e"},
		{"a\x1eb", `{"error":"a\u001eb"}` + "\x1e"},
	}
	for _, tt := range tests {
		frame := AppendHandshakeResponse(nil, tt.errorText)
		if string(frame) != tt.frame {
			t.Errorf("%q: %q, want %q", tt.errorText, frame, tt.frame)
		}
		got, n, err := ParseHandshakeResponse(append(frame, "more"...), 0)
		if err != nil || got != tt.errorText || n != len(tt.frame) {
			t.Errorf("%q: %q, %d, %v", frame, got, n, err)
		}
		if _, _, err := ParseHandshakeResponse(frame[:len(tt.frame)-1], 0); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%q, cut: %v", frame, err)
		}
	}
	errorTests := []struct{ frame, want string }{
		{`{"type":6}`, "InvalidDataException: Expected a handshake response from the server."},
		{`{"error":5}`, "InvalidDataException: Expected 'error' to be of type String."},
		{`[]`, "InvalidDataException: Unexpected JSON Token Type 'Array'. Expected a JSON Object."},
		{`{"error"`, "InvalidDataException: Unexpected end when reading JSON."},
	}
	for _, tt := range errorTests {
		text, n, err := ParseHandshakeResponse([]byte(tt.frame+"\x1e"), 0)
		if text != "" {
			t.Errorf("%q: %q beside the error", tt.frame, text)
		}
		checkProtocolError(t, tt.frame, nil, n, err, tt.want)
	}
	if got, _, err := ParseHandshakeResponse([]byte(`{"minorVersion":1,"error":"x"}`+"\x1e"), 0); got != "x" || err != nil {
		t.Errorf("with an unknown member: %q, %v", got, err)
	}
}
