package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// misused is a hub for clients that do everything wrong.
type misused struct {
	streamer
	refusal error      // of OnConnected
	told    chan error // what OnDisconnected was told
}

func (m *misused) OnConnected(context.Context, *Caller) error { return m.refusal }

func (m *misused) OnDisconnected(_ context.Context, _ *Caller, err error) error {
	m.told <- err
	return nil
}

func (m *misused) Join(context.Context, *Caller, string) {}
func (m *misused) Admin(context.Context, *Caller)        {}
func (m *misused) Elsewhere(context.Context, *Caller)    {}
func (m *misused) Abort(_ context.Context, c *Caller)    { c.Abort() }
func (m *misused) Panic(context.Context, *Caller)        { panic("secret") }

func (m *misused) Fail(_ context.Context, _ *Caller, shown bool) error {
	if shown {
		return fmt.Errorf("wrapped: %w", &Error{Message: "told", Err: errors.New("secret")})
	}
	return errors.New("secret")
}

func (m *misused) Unencodable(context.Context, *Caller) any { return func() {} }

func serveMisused(t *testing.T, options ...Option) (*misused, string) {
	m := &misused{told: make(chan error, 100)}
	options = append([]Option{
		WithMethod("Admin", Requires(auth.Role("admin"))),
		WithMethod("Elsewhere", FilteredBy(Filter{Invoke: func(ctx context.Context, i *Invocation, next InvokeFunc) (any, error) {
			i.Method = "Nowhere"
			return next(ctx, i)
		}})),
		WithMaximumReceiveMessageSize(500),
	}, options...)
	_, address := serve(t, m, options...)
	return m, address
}

// A speaker is a client in either protocol that sends what it is told to, byte by byte.
type speaker struct {
	t        *testing.T
	conn     *websocket.Conn
	protocol protocol.Protocol
	input    []byte
}

func speak(t *testing.T, address string, p protocol.Protocol) *speaker {
	t.Helper()
	s := &speaker{t: t, conn: dial(t, address, "").conn, protocol: p}
	s.write(protocol.AppendHandshakeRequest(nil, protocol.HandshakeRequest{Protocol: p.Name(), Version: 1}))
	_, answer, err := s.conn.ReadMessage()
	rest, ok := bytes.CutPrefix(answer, []byte("{}\x1e"))
	if err != nil || !ok {
		t.Fatalf("handshake: %q, %v", answer, err)
	}
	s.input = rest
	return s
}

func (s *speaker) write(frames ...[]byte) {
	s.t.Helper()
	for _, frame := range frames {
		if err := s.conn.WriteMessage(websocket.BinaryMessage, frame); err != nil {
			s.t.Fatal(err)
		}
	}
}

// read returns the next message that is not a ping.
func (s *speaker) read() protocol.Message {
	s.t.Helper()
	for {
		if len(s.input) == 0 {
			s.conn.SetReadDeadline(time.Now().Add(deadline))
			_, data, err := s.conn.ReadMessage()
			if err != nil {
				s.t.Fatalf("read: %v", err)
			}
			s.input = data
		}
		m, n, err := s.protocol.Parse(s.input, 0)
		if err != nil {
			s.t.Fatalf("the hub sent %q: %v", s.input, err)
		}
		s.input = s.input[n:]
		if _, ping := m.(*protocol.Ping); !ping {
			return m
		}
	}
}

func (s *speaker) expectError(want string) {
	s.t.Helper()
	for {
		switch m := s.read().(type) {
		case *protocol.StreamItem:
		case *protocol.Completion:
			if !m.HasError || m.Error != want {
				s.t.Errorf("the invocation failed with\n     %q\nwant %q", m.Error, want)
			}
			return
		default:
			s.t.Fatalf("got %#v, want a completion", m)
		}
	}
}

func (s *speaker) expectClose(want string, allowReconnect bool) {
	s.t.Helper()
	m, ok := s.read().(*protocol.Close)
	if !ok || m.Error != want || m.AllowReconnect != allowReconnect {
		s.t.Errorf("got  %#v\nwant a Close message, %v, with\n     %q", m, allowReconnect, want)
	}
}

// settings are those that the texts depend on.
var settings = []struct {
	name     string
	protocol protocol.Protocol
	detailed bool
}{
	{"json", protocol.JSON, false}, {"json, detailed", protocol.JSON, true},
	{"messagepack", protocol.MessagePack, false}, {"messagepack, detailed", protocol.MessagePack, true},
}

func detailedIf(on bool) []Option {
	if on {
		return []Option{WithDetailedErrors()}
	}
	return nil
}

// Invocations that fail, with the reference implementation's texts.
func TestTextsOfInvocations(t *testing.T) {
	invocation := func(target string, arguments ...any) *protocol.Invocation {
		return &protocol.Invocation{InvocationID: "1", Target: target, Arguments: arguments}
	}
	streamed := func(target string, arguments ...any) protocol.Message {
		return &protocol.StreamInvocation{Invocation: *invocation(target, arguments...)}
	}
	uploading := func(streams ...string) protocol.Message {
		m := invocation("Sum", 0)
		m.StreamIDs = streams
		return m
	}
	const (
		failed     = "Failed to invoke '%s' due to an error on the server."
		unexpected = "An unexpected error occurred invoking '%s' on the server."
		streaming  = "An error occurred on the server while streaming results."
		binding    = " InvalidDataException: Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked."
	)
	for _, tt := range []struct {
		name   string
		send   []protocol.Message
		target string // in place of %s in text
		text   string
		detail string // follows text with detailed errors
	}{
		{"unknown method", []protocol.Message{invocation("Nope")}, "Nope", failed + " HubException: Method does not exist.", ""},
		{"unknown method streamed", []protocol.Message{streamed("Nope")}, "Nope", failed + " HubException: Method does not exist.", ""},
		{"life-cycle method", []protocol.Message{invocation("OnDisconnected")}, "OnDisconnected", failed + " HubException: Method does not exist.", ""},
		{"too few arguments", []protocol.Message{invocation("join")}, "Join", failed, " InvalidDataException: Invocation provides 0 argument(s) but target expects 1."},
		{"too many arguments", []protocol.Message{invocation("Join", "a", "b")}, "Join", failed, " InvalidDataException: Invocation provides 2 argument(s) but target expects 1."},
		{"argument of another type", []protocol.Message{invocation("Join", 7)}, "Join", failed, binding},
		{"argument of another type, streamed", []protocol.Message{streamed("Count", "x")}, "Count", failed, binding},
		{"argument out of range", []protocol.Message{invocation("Sum", 7.5)}, "Sum", failed, binding},
		{"not authorised", []protocol.Message{invocation("Admin")}, "Admin", "Failed to invoke '%s' because user is unauthorized", ""},
		{"not authorised, and streamed", []protocol.Message{streamed("Admin")}, "Admin", "Failed to invoke '%s' because user is unauthorized", ""},
		{"arguments before authorisation", []protocol.Message{invocation("Admin", 1)}, "Admin", failed, " InvalidDataException: Invocation provides 1 argument(s) but target expects 0."},
		{"streaming method not streamed", []protocol.Message{invocation("Count", 1)}, "Count", "The client attempted to invoke the streaming '%s' method with a non-streaming invocation.", ""},
		{"other method streamed", []protocol.Message{streamed("Plain")}, "Plain", "The client attempted to invoke the non-streaming '%s' method with a streaming invocation.", ""},
		{"too few streams", []protocol.Message{uploading()}, "Sum", unexpected + " HubException: Client sent 0 stream(s), Hub method expects 1.", ""},
		{"too many streams", []protocol.Message{uploading("a", "b")}, "Sum", unexpected + " HubException: Client sent 2 stream(s), Hub method expects 1.", ""},
		{"method fails", []protocol.Message{invocation("Fail", false)}, "Fail", unexpected, " secret"},
		{"method fails for the client to see", []protocol.Message{invocation("Fail", true)}, "Fail", unexpected + " HubException: told", ""},
		{"method panics", []protocol.Message{invocation("Panic")}, "Panic", unexpected, " panic: secret"},
		{"no stream", []protocol.Message{streamed("Nil")}, "Nil", "The value returned by the streaming method '%s' is not a ChannelReader<> or IAsyncEnumerable<>.", ""},
		{"error in place of a stream", []protocol.Message{streamed("Refuse")}, "Refuse", unexpected + " HubException: no", ""},
		{"stream fails", []protocol.Message{streamed("CountThenFail", 1, false)}, "", streaming, " secret"},
		{"stream fails for the client to see", []protocol.Message{streamed("CountThenFail", 1, true)}, "", streaming + " HubException: told", ""},
		{"stream panics", []protocol.Message{streamed("CountThenPanic", 1)}, "", streaming, " panic: secret"},
		{"id in use", []protocol.Message{streamed("Wait"), streamed("Count", 1)}, "", "Invocation ID '1' is already in use.", ""},
		{"filter redirects to an unknown method", []protocol.Message{invocation("Elsewhere")}, "Elsewhere", unexpected + " HubException: Unknown hub method 'Nowhere'", ""},
		{"upload ends with an error", []protocol.Message{uploading("s"), &protocol.Completion{InvocationID: "s", HasError: true, Error: "e"}}, "Sum", unexpected + " HubException: e", ""},
		{"item of another type", []protocol.Message{uploading("s"), &protocol.StreamItem{InvocationID: "s", Item: "x"}}, "Sum", unexpected + " HubException: Failed to bind Stream message.", " InvalidDataException: Deserializing object of the `int` type failed."},
	} {
		for _, setting := range settings {
			t.Run(tt.name+"/"+setting.name, func(t *testing.T) {
				_, address := serveMisused(t, detailedIf(setting.detailed)...)
				s := speak(t, address, setting.protocol)
				for _, m := range tt.send {
					s.write(encoded(setting.protocol, m))
				}
				want := strings.ReplaceAll(tt.text, "%s", tt.target)
				if setting.detailed {
					want += tt.detail
				}
				s.expectError(want)
				s.write(encoded(setting.protocol, &protocol.Invocation{InvocationID: "2", Target: "Plain"}))
				if m, ok := s.read().(*protocol.Completion); !ok || m.InvocationID != "2" || m.HasError {
					t.Errorf("the connection is not what it was: %#v", m)
				}
			})
		}
	}
}

// Nobody is told of the failure of an invocation that wants no answer.
func TestNoTextWithoutInvocationID(t *testing.T) {
	for _, setting := range settings {
		t.Run(setting.name, func(t *testing.T) {
			_, address := serveMisused(t, detailedIf(setting.detailed)...)
			s := speak(t, address, setting.protocol)
			for _, m := range []*protocol.Invocation{
				{Target: "Nope"}, {Target: "Join"}, {Target: "Admin"}, {Target: "Count", Arguments: []any{1}},
				{Target: "Sum", Arguments: []any{1}}, {Target: "Fail", Arguments: []any{true}}, {Target: "Panic"},
			} {
				s.write(encoded(setting.protocol, m))
			}
			s.write(encoded(setting.protocol, &protocol.Invocation{InvocationID: "last", Target: "Plain"}))
			if m, ok := s.read().(*protocol.Completion); !ok || m.InvocationID != "last" {
				t.Errorf("got %#v", m)
			}
		})
	}
}

// Frames that end the connection. The details are those of package protocol, whose
// tests have all of them.
func TestTextsOfMalformedInput(t *testing.T) {
	for _, tt := range []struct {
		name   string
		json   string // without the end of the frame
		pack   string // without its length
		detail string
	}{
		{name: "empty frame", json: ``, detail: "InvalidDataException: Error reading JSON."},
		{name: "no JSON", json: `{"type":6`, detail: "InvalidDataException: Error reading JSON."},
		{name: "no object", json: `42`, detail: "InvalidDataException: Unexpected JSON Token Type 'Number'. Expected a JSON Object."},
		{name: "no type", json: `{}`, detail: "InvalidDataException: Missing required property 'type'."},
		{name: "null type", json: `{"type":null}`, detail: "InvalidDataException: Expected 'type' to be of type Number."},
		{name: "type of another type", pack: "\x91\xa1x", detail: "InvalidDataException: Reading 'messageType' as Int32 failed."},
		{name: "headers", json: `{"type":1,"headers":[],"target":"Plain","arguments":[]}`, detail: "InvalidDataException: Expected 'headers' to be of type StartObject."},
		{name: "headers, packed", pack: "\x95\x01\x90\xc0\xa5Plain\x90", detail: "InvalidDataException: Reading map length for 'headers' failed."},
		{name: "header", json: `{"type":1,"headers":{"Foo":1},"target":"Plain","arguments":[]}`, detail: "InvalidDataException: Expected header 'Foo' to be of type String."},
		{name: "header, packed", pack: "\x95\x01\x81\xa3Foo\x01\xc0\xa5Plain\x90", detail: "InvalidDataException: Reading 'headers[0].Value' as String failed."},
		{name: "id", json: `{"type":1,"invocationId":1,"target":"Plain","arguments":[]}`, detail: "InvalidDataException: Expected 'invocationId' to be of type String."},
		{name: "id, packed", pack: "\x95\x01\x80\x01\xa5Plain\x90", detail: "InvalidDataException: Reading 'invocationId' as String failed."},
		{name: "no id of an item", json: `{"type":2,"item":1}`, detail: "InvalidDataException: Missing required property 'invocationId'."},
		{name: "no id of an item, packed", pack: "\x94\x02\x80\xc0\x01", detail: "InvalidDataException: Null or empty invocation ID for StreamItem message."},
		{name: "no id of a completion", json: `{"type":3}`, detail: "InvalidDataException: Missing required property 'invocationId'."},
		{name: "no id of a completion, packed", pack: "\x94\x03\x80\xa0\x02", detail: "InvalidDataException: Null or empty invocation ID for Completion message."},
		{name: "no id of a stream", json: `{"type":4,"target":"Count","arguments":[1]}`, detail: "InvalidDataException: Missing required property 'invocationId'."},
		{name: "no id of a stream, packed", pack: "\x95\x04\x80\xc0\xa5Count\x91\x01", detail: "InvalidDataException: Null or empty invocation ID for StreamInvocation message."},
		{name: "no id of a cancellation", json: `{"type":5}`, detail: "InvalidDataException: Missing required property 'invocationId'."},
		{name: "no id of a cancellation, packed", pack: "\x93\x05\x80\xc0", detail: "InvalidDataException: Null or empty invocation ID for CancelInvocation message."},
		{name: "no target", json: `{"type":1,"arguments":[]}`, detail: "InvalidDataException: Missing required property 'target'."},
		{name: "empty target, packed", pack: "\x95\x01\x80\xc0\xa0\x90", detail: "InvalidDataException: Null or empty target for Invocation message."},
		{name: "neither target nor id of a stream", json: `{"type":4,"arguments":[]}`, detail: "InvalidDataException: Missing required property 'target'."},
		{name: "no arguments", json: `{"type":1,"target":"Plain"}`, detail: "InvalidDataException: Missing required property 'arguments'."},
		{name: "arguments", json: `{"type":1,"target":"Plain","arguments":{}}`, detail: "InvalidDataException: Expected 'arguments' to be of type Array."},
		{name: "streams", json: `{"type":1,"target":"Plain","arguments":[],"streamIds":"s"}`, detail: "InvalidDataException: Expected 'streamIds' to be of type Array."},
		{name: "streams, packed", pack: "\x96\x01\x80\xc0\xa5Plain\x90\xa1s", detail: "InvalidDataException: Reading array length for 'streamIds' failed."},
		{name: "null stream", json: `{"type":1,"target":"Plain","arguments":[],"streamIds":[null]}`, detail: "InvalidDataException: Null value for 'streamIds' is not valid."},
		{name: "null stream, packed", pack: "\x96\x01\x80\xc0\xa5Plain\x90\x91\xc0", detail: "InvalidDataException: Null or empty value in streamIds received."},
		{name: "no item", json: `{"type":2,"invocationId":"1"}`, detail: "InvalidDataException: Missing required property 'item'."},
		{name: "error and result", json: `{"type":3,"invocationId":"1","error":"e","result":null}`, detail: "InvalidDataException: The 'error' and 'result' properties are mutually exclusive."},
		{name: "kind of result, packed", pack: "\x94\x03\x80\xa11\x09", detail: "InvalidDataException: Invalid invocation result kind."},
		{name: "leave to reconnect", json: `{"type":7,"allowReconnect":1}`, detail: "InvalidDataException: Expected 'allowReconnect' to be true or false."},
		{name: "leave to reconnect, packed", pack: "\x93\x07\xc0\x01", detail: "InvalidDataException: Reading 'allowReconnect' as Boolean failed."},
		{name: "no sequence id", json: `{"type":8}`, detail: "InvalidDataException: Missing required property 'sequenceId'."},
		{name: "sequence id, packed", pack: "\x92\x09\xa1x", detail: "InvalidDataException: Reading 'sequenceId' as Int64 failed."},
		{name: "too large", json: strings.Repeat(" ", 500) + `{"type":6}`, detail: "InvalidDataException: The maximum message size of 500B was exceeded. The message size can be configured in AddHubOptions."},
		{name: "too large, packed", pack: "\x91\x06" + strings.Repeat("\xc0", 500), detail: "InvalidDataException: The maximum message size of 500B was exceeded. The message size can be configured in AddHubOptions."},
	} {
		for _, setting := range settings {
			frame := []byte(tt.json + "\x1e")
			if packed := setting.protocol == protocol.MessagePack; packed != (tt.pack != "") {
				continue
			} else if packed {
				frame = append(binary.AppendUvarint(nil, uint64(len(tt.pack))), tt.pack...)
			}
			t.Run(tt.name+"/"+setting.name, func(t *testing.T) {
				m, address := serveMisused(t, detailedIf(setting.detailed)...)
				s := speak(t, address, setting.protocol)
				s.write(encoded(setting.protocol, &protocol.Invocation{InvocationID: "before", Target: "Plain"}), frame)
				if m, ok := s.read().(*protocol.Completion); !ok || m.InvocationID != "before" {
					t.Errorf("what came before: %#v", m)
				}
				want := textClosedWithError
				if setting.detailed {
					want += " " + tt.detail
				}
				s.expectClose(want, true)
				m.expectTold(t, tt.detail)
			})
		}
	}
}

func (m *misused) expectTold(t *testing.T, want string) {
	t.Helper()
	select {
	case err := <-m.told:
		if got := fmt.Sprint(err); got != want {
			t.Errorf("OnDisconnected was told %q, want %q", got, want)
		}
	case <-time.After(deadline):
		t.Error("OnDisconnected was not called")
	}
}

// What has no place in MessagePack's envelope fails alone.
func TestTextOfPackedArguments(t *testing.T) {
	for _, detailed := range []bool{false, true} {
		_, address := serveMisused(t, detailedIf(detailed)...)
		s := speak(t, address, protocol.MessagePack)
		body := "\x95\x01\x80\xa11\xa4Join\x01"
		s.write(append([]byte{byte(len(body))}, body...))
		want := "Failed to invoke 'Join' due to an error on the server."
		if detailed {
			want += " InvalidDataException: Reading array length for 'arguments' failed."
		}
		s.expectError(want)
	}
}

// How the server closes connections, for all other reasons.
func TestTextsOfClose(t *testing.T) {
	const (
		silent = "OperationCanceledException: Client hasn't sent a message/ping within the configured ClientTimeoutInterval."
		half   = "InvalidDataException: Connection terminated while reading a message."
	)
	invoking := func(target string) func(*speaker) {
		return func(s *speaker) {
			s.write(encoded(s.protocol, &protocol.Invocation{InvocationID: "1", Target: target}))
		}
	}
	for _, tt := range []struct {
		name           string
		refusal        error
		options        []Option
		do             func(*speaker)
		text, detail   string
		allowReconnect bool
		told           string
		gone           bool // nobody is there to be told
	}{
		{name: "refused", refusal: errors.New("secret"), text: textClosedWithError, detail: " secret"},
		{name: "refused, for the client to see", refusal: &Error{Message: "full"}, text: textClosedWithError + " HubException: full"},
		{name: "client closes", do: func(s *speaker) { s.write(encoded(s.protocol, &protocol.Close{})) }, told: "<nil>"},
		{name: "client closes with an error", do: func(s *speaker) { s.write(encoded(s.protocol, &protocol.Close{Error: "oops"})) }, told: "oops"},
		{name: "aborted", do: invoking("Abort"), told: "<nil>"},
		{name: "silent", options: []Option{WithClientTimeoutInterval(shortestInterval)}, do: func(s *speaker) { s.write(encoded(s.protocol, &protocol.Ping{})) },
			text: textClosedWithError, detail: " " + silent, allowReconnect: true, told: silent},
		{name: "result without an encoding", do: invoking("Unencodable"), text: textClosedWithError, detail: " encode result: ", allowReconnect: true, told: "encode result: "},
		{name: "half a frame", do: func(s *speaker) { s.write([]byte("{")); s.conn.Close() }, gone: true, told: half},
	} {
		for _, setting := range settings {
			t.Run(tt.name+"/"+setting.name, func(t *testing.T) {
				m, address := serveMisused(t, append(detailedIf(setting.detailed), tt.options...)...)
				m.refusal = tt.refusal
				s := speak(t, address, setting.protocol)
				if tt.do != nil {
					tt.do(s)
				}
				if !tt.gone {
					got, ok := s.read().(*protocol.Close)
					want := tt.text
					if setting.detailed {
						want += tt.detail
					}
					exact := !strings.HasSuffix(want, ": ")
					if !ok || got.AllowReconnect != tt.allowReconnect || exact && got.Error != want || !strings.HasPrefix(got.Error, want) {
						t.Errorf("got  %#v\nwant a Close message, %v, with %q", got, tt.allowReconnect, want)
					}
				}
				if tt.told == "" {
					return
				}
				select {
				case err := <-m.told:
					if got := fmt.Sprint(err); !strings.HasPrefix(got, tt.told) {
						t.Errorf("OnDisconnected was told %q, want %q", got, tt.told)
					}
				case <-time.After(deadline):
					t.Error("OnDisconnected was not called")
				}
			})
		}
	}
}

// A handshake that cannot be read is answered in JSON, whatever was to follow it.
func TestTextsOfHandshake(t *testing.T) {
	const failed = "An unexpected error occurred during connection handshake."
	for _, tt := range []struct{ request, text, detail string }{
		{`42`, failed, " InvalidDataException: Unexpected JSON Token Type 'Number'. Expected a JSON Object."},
		{`null`, failed, " InvalidDataException: Unexpected JSON Token Type 'Null'. Expected a JSON Object."},
		{`{"version":1}`, failed, ` InvalidDataException: Missing required property 'protocol'. Message content: {\"version\":1}`},
		{`{"protocol":"json"}`, failed, ` InvalidDataException: Missing required property 'version'. Message content: {\"protocol\":\"json\"}`},
		{`{"protocol":"json","version":"1"}`, failed, " InvalidDataException: Expected 'version' to be of type Number."},
		{`{"protocol":1,"version":1}`, failed, " InvalidDataException: Expected 'protocol' to be of type String."},
		{`{"protocol":"XML","version":1}`, "The protocol 'XML' is not supported.", ""},
		{`{"protocol":"MessagePack","version":3}`, "The server does not support version 3 of the 'MessagePack' protocol.", ""},
	} {
		for _, detailed := range []bool{false, true} {
			_, address := serveMisused(t, detailedIf(detailed)...)
			want := tt.text
			if detailed {
				want += tt.detail
			}
			c := dial(t, address, "")
			c.write(tt.request)
			c.expect(`{"error":"`+want+`"}`, "closed 1000")
		}
	}
}

// A client whose credentials have expired may come back with others, where the endpoint
// closes its connection.
func TestTextOfExpiredCredentials(t *testing.T) {
	for _, setting := range settings {
		t.Run(setting.name, func(t *testing.T) {
			expires := time.Now().Add(100 * time.Millisecond)
			m := &misused{told: make(chan error, 1)}
			h, _ := serve(t, m, append(detailedIf(setting.detailed),
				WithKeepAliveInterval(shortestInterval), // so that the hub looks often
				WithAuthenticator(auth.AuthenticatorFunc(func(*http.Request) (*auth.Identity, error) {
					return &auth.Identity{Authenticated: true, Expires: expires}, nil
				})))...)
			server := httptest.NewServer(h.Endpoint(transport.CloseOnAuthenticationExpiration()))
			defer server.Close()
			s := speak(t, "ws"+strings.TrimPrefix(server.URL, "http"), setting.protocol)
			s.expectClose("", true)
			m.expectTold(t, "<nil>")
		})
	}
}

// Every example that the documentation names is there.
func TestDocumentationNamesExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/hubs.md")
	if err != nil {
		t.Fatal(err)
	}
	var code []byte
	files, err := filepath.Glob("example*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		code = append(code, text...)
	}
	named := regexp.MustCompile(`\bExample\w*\b`).FindAllString(string(page), -1)
	if len(named) < 30 {
		t.Errorf("only %d examples are named", len(named))
	}
	for _, name := range named {
		if !strings.Contains(string(code), "\nfunc "+name+"()") {
			t.Errorf("there is no %s", name)
		}
	}
}
