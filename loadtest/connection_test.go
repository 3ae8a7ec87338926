package main

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// scriptedCarrier receives what the test puts into it and keeps what is sent.
type scriptedCarrier struct {
	incoming chan string
	sent     chan string
	closed   chan struct{}
}

func newScriptedCarrier(incoming ...string) *scriptedCarrier {
	c := &scriptedCarrier{make(chan string, 100), make(chan string, 100), make(chan struct{})}
	for _, data := range incoming {
		c.incoming <- data
	}
	return c
}

func (c *scriptedCarrier) receive(take func([]byte) error) error {
	select {
	case data := <-c.incoming:
		copied := []byte(data)
		defer clear(copied) // whoever kept it would notice
		return take(copied)
	default:
	}
	select {
	case data := <-c.incoming:
		return take([]byte(data))
	case <-c.closed:
		return io.ErrClosedPipe
	}
}

func (c *scriptedCarrier) send(data []byte) error {
	select {
	case <-c.closed:
		return io.ErrClosedPipe
	default:
		c.sent <- string(data)
		return nil
	}
}

func (c *scriptedCarrier) close(time.Time) { close(c.closed) } // once, or it panics

// sentSoFar empties what was sent.
func (c *scriptedCarrier) sentSoFar() []string {
	var all []string
	for {
		select {
		case data := <-c.sent:
			all = append(all, data)
		default:
			return all
		}
	}
}

// targets collects the targets of invocations.
type targets []string

func (t *targets) handle(m protocol.Message) {
	if i, ok := m.(*protocol.Invocation); ok {
		*t = append(*t, i.Target)
	}
}

const joined = `{"type":3,"invocationId":"join"}` + "\x1e"

func call(target string) string {
	return `{"type":1,"target":"` + target + `","arguments":[]}` + "\x1e"
}

func TestConnectionOpen(t *testing.T) {
	for _, tt := range []struct {
		name     string
		incoming []string
		handled  []string
		err      string // its beginning; empty: none
	}{
		{name: "one by one", incoming: []string{"{}\x1e", call("a"), joined}, handled: []string{"a"}},
		{name: "several at once", incoming: []string{"{}\x1e" + call("a"), call("b") + joined + call("c")}, handled: []string{"a", "b", "c"}},
		{name: "cut anywhere", incoming: strings.SplitAfter("{}\x1e"+call("a")+joined, ""), handled: []string{"a"}},
		{name: "pings are no business of handle", incoming: []string{"{}\x1e{\"type\":6}\x1e", joined}},
		{name: "handshake refused", incoming: []string{"{\"error\":\"no\"}\x1e"}, err: "shake hands: no"},
		{name: "no handshake", incoming: []string{"oops\x1e"}, err: "shake hands: "},
		{name: "join refused", incoming: []string{"{}\x1e", `{"type":3,"invocationId":"join","error":"full"}` + "\x1e"}, err: "Join: full"},
		{name: "closed", incoming: []string{"{}\x1e", "{\"type\":7}\x1e"}, err: "Join: closed by the server"},
		{name: "closed with an error", incoming: []string{"{}\x1e", "{\"type\":7,\"error\":\"bad\"}\x1e"}, err: "Join: closed by the server: bad"},
		{name: "no message", incoming: []string{"{}\x1e", "[]\x1e"}, err: "Join: InvalidDataException: "},
		{name: "silence", incoming: []string{"{}\x1e", joined[:5]}, err: "too slow"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			carrier, got := newScriptedCarrier(tt.incoming...), targets{}
			c := &connection{protocol: protocol.JSON, carrier: carrier, handle: got.handle}
			ctx := t.Context()
			if tt.name == "silence" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, time.Millisecond, errors.New("too slow"))
				defer cancel()
			}
			err := c.open(ctx, &protocol.Invocation{Target: "Join", Arguments: []any{"room"}})
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
				t.Fatalf("got %v, want an error that begins with %q", err, tt.err)
			}
			if !slices.Equal(got, tt.handled) {
				t.Errorf("handled %q, want %q", got, tt.handled)
			}
			if closed := c.ended.Load(); closed != (tt.err != "") {
				t.Errorf("closed is %v", closed)
			}
			if tt.err == "" {
				want := []string{
					"{\"protocol\":\"json\",\"version\":1}\x1e",
					"{\"type\":1,\"invocationId\":\"join\",\"target\":\"Join\",\"arguments\":[\"room\"]}\x1e",
				}
				if sent := carrier.sentSoFar(); !slices.Equal(sent, want) {
					t.Errorf("sent %q, want %q", sent, want)
				}
			}
		})
	}
}

// A reader says why the connection ended, not what it noticed of that.
func TestConnectionEnds(t *testing.T) {
	var got targets
	c := &connection{protocol: protocol.JSON, carrier: newScriptedCarrier("{}\x1e"), handle: got.handle}
	if err := c.open(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- c.read() }()
	cause := errors.New("enough")
	c.end(cause)
	c.end(errors.New("later"))
	if err := <-ended; err != cause {
		t.Errorf("read returned %v, want %v", err, cause)
	}
	if err := c.send(&protocol.Ping{}); err != cause {
		t.Errorf("send returned %v, want %v", err, cause)
	}
}
