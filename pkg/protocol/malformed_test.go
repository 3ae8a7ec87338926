package protocol

import (
	"errors"
	"strconv"
	"strings"
	"testing"
)

const (
	readingJSON = "InvalidDataException: Error reading JSON."
	badNumber   = "FormatException: Either the JSON value is not in a supported format, or is out of bounds for an Int"
)

// Frames that end the connection, with the reference implementation's texts.
func TestMalformedJSON(t *testing.T) {
	data := func(detail string) string { return "InvalidDataException: " + detail }
	tests := []struct{ frame, want string }{
		{``, readingJSON},
		{` `, readingJSON},
		{`foo`, readingJSON},
		{`nul`, readingJSON},
		{`{`, readingJSON},
		{`{"type":6`, readingJSON},
		{`{"type":6,}`, readingJSON},
		{`{,"type":6}`, readingJSON},
		{`{"type":6 "x":1}`, readingJSON},
		{`{"type" 6}`, readingJSON},
		{`{type:6}`, readingJSON},
		{`{'type':6}`, readingJSON},
		{`{"type":06}`, readingJSON},
		{`{"type":6./**/}`, readingJSON},
		{`{"type":6,"x":"` + "\x01" + `"}`, readingJSON},
		{`{"type":6,"x":"\x"}`, readingJSON},
		{`{"type":6,"x":"\u12g4"}`, readingJSON},
		{`{"type":6,"x":"` + "\xff" + `"}`, readingJSON},
		{`{"type":6,"x":[1,]}`, readingJSON},
		{`{"type":6,"x":[1}}`, readingJSON},
		{`{"type":6,"x":-}`, readingJSON},
		{`{"type":6,"x":1.}`, readingJSON},
		{`{"type":6,"x":1e}`, readingJSON},
		{`{"type":6,"x":+1}`, readingJSON},
		{`{"type":6,"x":.5}`, readingJSON},
		{`{"type":6,"x":NaN}`, readingJSON},
		{`{"type":6,"x":tru}`, readingJSON},
		{`{"type":6,"x":}`, readingJSON},
		{`{"type":6,"x":"` + "\x00" + `"}`, readingJSON},
		{`{"type":1,"target":"M","arguments":[}`, readingJSON},
		{`{"type":1,"target":"M","arguments":["` + "\\" + `"]}`, readingJSON},
		{`{"type":6,"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, readingJSON},

		{`null`, data("Unexpected JSON Token Type 'Null'. Expected a JSON Object.")},
		{`42`, data("Unexpected JSON Token Type 'Number'. Expected a JSON Object.")},
		{`"x"`, data("Unexpected JSON Token Type 'String'. Expected a JSON Object.")},
		{`[{}]`, data("Unexpected JSON Token Type 'Array'. Expected a JSON Object.")},
		{`true`, data("Unexpected JSON Token Type 'True'. Expected a JSON Object.")},
		{`false`, data("Unexpected JSON Token Type 'False'. Expected a JSON Object.")},

		{`{}`, data("Missing required property 'type'.")},
		{`{"Type":6}`, data("Missing required property 'type'.")},
		{`{"type":null}`, data("Expected 'type' to be of type Number.")},
		{`{"type":"6"}`, data("Expected 'type' to be of type Number.")},
		{`{"type":[6]}`, data("Expected 'type' to be of type Number.")},
		{`{"type":1.5}`, badNumber + "32."},
		{`{"type":6e0}`, badNumber + "32."},
		{`{"type":2147483648}`, badNumber + "32."},

		{`{"type":1,"headers":null}`, data("Expected 'headers' to be of type StartObject.")},
		{`{"type":1,"headers":[]}`, data("Expected 'headers' to be of type StartObject.")},
		{`{"type":1,"headers":{"Foo":5}}`, data("Expected header 'Foo' to be of type String.")},
		{`{"type":1,"headers":{"Foo":null}}`, data("Expected header 'Foo' to be of type String.")},
		{`{"type":1,"headers":{"F\"oo":{}}}`, data("Expected header 'F\"oo' to be of type String.")},
		{`{"type":1,"headers":{"Foo":"x"`, readingJSON},
		{`{"type":1,"headers":{"Foo":tru`, readingJSON},
		{`{"type":1,"invocationId":null}`, data("Expected 'invocationId' to be of type String.")},
		{`{"type":1,"invocationId":5}`, data("Expected 'invocationId' to be of type String.")},
		{`{"type":1,"target":null}`, data("Expected 'target' to be of type String.")},
		{`{"type":1,"target":{}}`, data("Expected 'target' to be of type String.")},
		{`{"type":1,"arguments":null}`, data("Expected 'arguments' to be of type Array.")},
		{`{"type":1,"arguments":{}}`, data("Expected 'arguments' to be of type Array.")},
		{`{"type":1,"streamIds":null}`, data("Expected 'streamIds' to be of type Array.")},
		{`{"type":1,"streamIds":"1"}`, data("Expected 'streamIds' to be of type Array.")},
		{`{"type":1,"streamIds":["1",null]}`, data("Null value for 'streamIds' is not valid.")},
		{`{"type":1,"streamIds":[1]}`, "InvalidOperationException: Cannot get the value of a token type 'Number' as a string."},
		{`{"type":3,"error":null}`, data("Expected 'error' to be of type String.")},
		{`{"type":3,"error":[]}`, data("Expected 'error' to be of type String.")},
		{`{"type":7,"allowReconnect":null}`, data("Expected 'allowReconnect' to be true or false.")},
		{`{"type":7,"allowReconnect":"true"}`, data("Expected 'allowReconnect' to be true or false.")},
		{`{"type":8,"sequenceId":"1"}`, data("Expected 'sequenceId' to be of type Number.")},
		{`{"type":8,"sequenceId":9223372036854775808}`, badNumber + "64."},
		// Whatever the type, and in the order in which they come.
		{`{"type":6,"target":5,"type":"x"}`, data("Expected 'target' to be of type String.")},
		{`{"type":"x","target":`, data("Expected 'type' to be of type Number.")},

		{`{"type":1,"arguments":[]}`, data("Missing required property 'target'.")},
		{`{"type":1,"target":"","arguments":[]}`, data("Missing required property 'target'.")},
		{`{"type":1}`, data("Missing required property 'target'.")},
		{`{"type":1,"target":"M"}`, data("Missing required property 'arguments'.")},
		{`{"type":2,"item":1}`, data("Missing required property 'invocationId'.")},
		{`{"type":2,"invocationId":"","item":1}`, data("Missing required property 'invocationId'.")},
		{`{"type":2,"invocationId":"1"}`, data("Missing required property 'item'.")},
		{`{"type":3}`, data("Missing required property 'invocationId'.")},
		{`{"type":3,"invocationId":""}`, data("Missing required property 'invocationId'.")},
		{`{"type":3,"invocationId":"1","error":"","result":null}`, data("The 'error' and 'result' properties are mutually exclusive.")},
		{`{"type":4,"arguments":[]}`, data("Missing required property 'target'.")},
		{`{"type":4,"target":"M","arguments":[]}`, data("Missing required property 'invocationId'.")},
		{`{"type":4,"target":"M","invocationId":"1"}`, data("Missing required property 'arguments'.")},
		{`{"type":4,"target":"","invocationId":"1","arguments":[]}`, data("Missing required property 'target'.")},
		{`{"type":5}`, data("Missing required property 'invocationId'.")},
		{`{"type":5,"invocationId":""}`, data("Missing required property 'invocationId'.")},
		{`{"type":8}`, data("Missing required property 'sequenceId'.")},
		{`{"type":8,"sequenceId":null}`, data("Missing required property 'sequenceId'.")},
		{`{"type":9}`, data("Missing required property 'sequenceId'.")},
	}
	for _, tt := range tests {
		m, n, err := JSON.Parse([]byte(tt.frame+"\x1e"), 0)
		checkProtocolError(t, tt.frame, m, n, err, tt.want)
	}
}

func TestMalformedMessagePack(t *testing.T) {
	data := func(detail string) string { return "InvalidDataException: " + detail }
	tests := []struct{ body, want string }{
		{"", "MessagePackSerializationException: Attempted to read past the end of the message."},
		{"\x81\x06\x06", "MessagePackSerializationException: Unexpected msgpack code 129 (map) encountered."},
		{"\xc1", "MessagePackSerializationException: Unexpected msgpack code 193 (nothing) encountered."},
		{"\xdc\x00", "MessagePackSerializationException: Unexpected msgpack code 220 (array) encountered."},
		{"\x90", data("Reading 'messageType' as Int32 failed.")},
		{"\x91\xa11", data("Reading 'messageType' as Int32 failed.")},
		{"\x91\xc0", data("Reading 'messageType' as Int32 failed.")},
		{"\x91\xcb\x40\x18\x00\x00\x00\x00\x00\x00", data("Reading 'messageType' as Int32 failed.")},
		{"\x91\xce\x80\x00\x00\x00", data("Reading 'messageType' as Int32 failed.")},
		{"\x91\xce\x80", data("Reading 'messageType' as Int32 failed.")},

		{"\x91\x01", data("Reading map length for 'headers' failed.")},
		{"\x96\x01\xc0", data("Reading map length for 'headers' failed.")},
		{"\x96\x01\x90", data("Reading map length for 'headers' failed.")},
		{"\x96\x01\x81\x2a\xa1x", data("Reading 'headers[0].Key' as String failed.")},
		{"\x96\x01\x82\xa1a\xa1b\xa1c\x2a", data("Reading 'headers[1].Value' as String failed.")},
		{"\x96\x01\x81\xa1a", data("Reading 'headers[0].Value' as String failed.")},
		{"\x96\x01\xdf\xff\xff\xff\xff", data("Reading 'headers[0].Key' as String failed.")},
		{"\x96\x01\x81\xa0\xa1x", data("Null or empty key in header.")},
		{"\x96\x01\x81\xc0\xa1x", data("Null or empty key in header.")},
		{"\x96\x01\x81\xa1x\xa0", data("Null or empty value in header.")},
		{"\x96\x01\x81\xa1x\xc0", data("Null or empty value in header.")},
		{"\x96\x01\x82\xa1x\xa1a\xa1x\xa1b", "ArgumentException: An item with the same key has already been added. Key: x"},

		{"\x96\x01\x80", data("Reading 'invocationId' as String failed.")},
		{"\x96\x01\x80\x2a", data("Reading 'invocationId' as String failed.")},
		{"\x96\x01\x80\xa5abc", data("Reading 'invocationId' as String failed.")},
		{"\x96\x01\x80\xc4\x01a", data("Reading 'invocationId' as String failed.")},
		{"\x96\x01\x80\xa1a", data("Reading 'target' as String failed.")},
		{"\x96\x01\x80\xa1a\x2a", data("Reading 'target' as String failed.")},
		{"\x96\x01\x80\xa1a\xa0\x90\x90", data("Null or empty target for Invocation message.")},
		{"\x96\x01\x80\xa1a\xc0\x90\x90", data("Null or empty target for Invocation message.")},
		{"\x96\x01\x80\xa1a\xa1M\x90", data("Reading array length for 'streamIds' failed.")},
		{"\x96\x01\x80\xa1a\xa1M\x90\xc0", data("Reading array length for 'streamIds' failed.")},
		{"\x96\x01\x80\xa1a\xa1M\x90\x91\xa0", data("Null or empty value in streamIds received.")},
		{"\x96\x01\x80\xa1a\xa1M\x90\x91\xc0", data("Null or empty value in streamIds received.")},
		{"\x96\x01\x80\xa1a\xa1M\x90\x91\x01", "MessagePackSerializationException: Unexpected msgpack code 1 (integer) encountered."},
		{"\x96\x01\x80\xa1a\xa1M\x90\xdd\xff\xff\xff\xff", "MessagePackSerializationException: Attempted to read past the end of the message."},

		{"\x94\x02\x80\xa0\x2a", data("Null or empty invocation ID for StreamItem message.")},
		{"\x94\x02\x80\xc0\x2a", data("Null or empty invocation ID for StreamItem message.")},
		{"\x94\x02\x80\x01\x2a", data("Reading 'invocationId' as String failed.")},

		{"\x94\x03\x80\xc0\x02", data("Null or empty invocation ID for Completion message.")},
		{"\x93\x03\x80\xa1x", data("Reading 'resultKind' as Int32 failed.")},
		{"\x94\x03\x80\xa1x\xa12", data("Reading 'resultKind' as Int32 failed.")},
		{"\x94\x03\x80\xa1x\x00", data("Invalid invocation result kind.")},
		{"\x94\x03\x80\xa1x\x04", data("Invalid invocation result kind.")},
		{"\x95\x03\x80\xa1x\x01\x2a", data("Reading 'error' as String failed.")},
		{"\x94\x03\x80\xa1x\x01", data("Reading 'error' as String failed.")},

		{"\x96\x04\x80\xc0\xa1M\x90\x90", data("Null or empty invocation ID for StreamInvocation message.")},
		{"\x96\x04\x80\xa0\xa1M\x90\x90", data("Null or empty invocation ID for StreamInvocation message.")},
		{"\x96\x04\x80\xa1x\xa0\x90\x90", data("Null or empty target for StreamInvocation message.")},

		{"\x93\x05\x80\xc0", data("Null or empty invocation ID for CancelInvocation message.")},
		{"\x92\x05\x80", data("Reading 'invocationId' as String failed.")},

		{"\x91\x07", data("Reading 'error' as String failed.")},
		{"\x93\x07\x2a\xc3", data("Reading 'error' as String failed.")},
		{"\x93\x07\xc0", data("Reading 'allowReconnect' as Boolean failed.")},
		{"\x93\x07\xc0\xc0", data("Reading 'allowReconnect' as Boolean failed.")},

		{"\x91\x08", data("Reading 'sequenceId' as Int64 failed.")},
		{"\x92\x08\xc0", data("Reading 'sequenceId' as Int64 failed.")},
		{"\x92\x09\xa11", data("Reading 'sequenceId' as Int64 failed.")},
		{"\x92\x09\xcf\x80\x00\x00\x00\x00\x00\x00\x00", data("Reading 'sequenceId' as Int64 failed.")},
	}
	for _, tt := range tests {
		m, n, err := MessagePack.Parse([]byte(packed(tt.body)), 0)
		checkProtocolError(t, tt.body, m, n, err, tt.want)
	}
}

func TestMalformedLengthPrefix(t *testing.T) {
	const tooBig = "FormatException: Messages over 2GB in size are not supported."
	tests := []struct {
		frame string
		want  string // empty: the length is legal
	}{
		{"\xff\xff\xff\xff\x08", tooBig},
		{"\x80\x80\x80\x80\x80", tooBig},
		{"\xff\xff\xff\xff\xff\xff", tooBig},
		{"\xff\xff\xff\xff\x07", ""},
		{"\xff\xff\xff\xff", ""},
		{"\x82\x80\x80\x80\x00\x91\x06", ""}, // not the shortest
	}
	for _, tt := range tests {
		m, n, err := MessagePack.Parse([]byte(tt.frame), 0)
		if tt.want != "" {
			checkProtocolError(t, tt.frame, m, n, err, tt.want)
		} else if err != nil && !errors.Is(err, ErrIncomplete) {
			t.Errorf("%q: %v", tt.frame, err)
		}
	}
}

func checkProtocolError(t *testing.T, input string, m Message, n int, err error, want string) {
	t.Helper()
	if len(input) > 200 {
		input = input[:200]
	}
	if m != nil || n != 0 {
		t.Errorf("%q: got %#v and %d bytes beside the error", input, m, n)
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		t.Errorf("%q: error is %T (%v), want *Error", input, err, err)
	} else if err.Error() != want {
		t.Errorf("%q:\n got %q\nwant %q", input, err, want)
	}
}

// A frame may be as long as the limit. One byte more than that, without its end among
// them, is an error; a declared length alone is not.
func TestLimit(t *testing.T) {
	for _, row := range wire {
		for p, frame := range frames(row.json, row.pack) {
			limit := len(frame)
			if _, n, err := p.Parse([]byte(frame+"more"), limit); err != nil || n != limit {
				t.Errorf("%s, %s, limit %d: took %d bytes, error %v", row.name, p.Name(), limit, n, err)
			}
			if _, _, err := p.Parse([]byte(frame[:limit-1]), limit-1); !errors.Is(err, ErrIncomplete) {
				t.Errorf("%s, %s, limit %d reached: %v, want ErrIncomplete", row.name, p.Name(), limit-1, err)
			}
			m, n, err := p.Parse([]byte(frame), limit-1)
			checkProtocolError(t, frame, m, n, err, "InvalidDataException: The maximum message size of "+
				strconv.Itoa(limit-1)+"B was exceeded. The message size can be configured in AddHubOptions.")
		}
	}
	if _, _, err := MessagePack.Parse([]byte("\xff\xff\xff\xff\x07\x96"), 100); !errors.Is(err, ErrIncomplete) {
		t.Errorf("length of 2 GB under a limit of 100: %v, want ErrIncomplete", err)
	}
}
