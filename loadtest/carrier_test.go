package main

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/protocol"
)

func parseURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := parseNode(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// Both requests go where they should and bear the token; bytes pass in both directions.
func TestDial(t *testing.T) {
	for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
		var requests []string
		note := func(r *http.Request) {
			requests = append(requests, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/hub/negotiate", func(w http.ResponseWriter, r *http.Request) {
			note(r)
			json.NewEncoder(w).Encode(map[string]any{"connectionId": "public", "connectionToken": "secret/+"})
		})
		mux.HandleFunc("/hub", func(w http.ResponseWriter, r *http.Request) {
			note(r)
			u := websocket.Upgrader{}
			c, err := u.Upgrade(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			kind, data, err := c.ReadMessage()
			if want := map[string]int{"json": websocket.TextMessage, "messagepack": websocket.BinaryMessage}[p.Name()]; err != nil || kind != want {
				t.Errorf("%s comes as %d, want %d, %v", p.Name(), kind, want, err)
			}
			c.WriteMessage(kind, data)
			c.ReadMessage() // until it is closed
		})
		s := httptest.NewServer(mux)
		d := newDialer(config{protocol: p, negotiate: true, token: "t0ken", concurrency: 1})
		c, err := d.dial(t.Context(), parseURL(t, s.URL+"/hub?a=b"))
		if err != nil {
			t.Fatal(err)
		}
		large := strings.Repeat("x", maxBuffer+1)
		if err := c.send([]byte(large)); err != nil {
			t.Error(err)
		}
		if err := c.receive(func(data []byte) error {
			if string(data) != large {
				t.Errorf("%d bytes came back", len(data))
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		refused := errors.New("refused")
		c.close(time.Now().Add(closeTimeout))
		if err := c.receive(func([]byte) error { return refused }); err == nil || err == refused {
			t.Errorf("after close: %v", err)
		}
		d.close()
		s.Close()
		want := "POST /hub/negotiate?a=b&negotiateVersion=1 Bearer t0ken\nGET /hub?a=b&id=secret%2F%2B Bearer t0ken"
		if got := strings.Join(requests, "\n"); got != want {
			t.Errorf("requests are\n%s\nwant\n%s", got, want)
		}
	}
}

func TestDialErrors(t *testing.T) {
	for _, tt := range []struct {
		name      string
		negotiate bool
		status    int
		answer    string
		want      string
	}{
		{"not let in", false, 401, "", "open WebSocket: the server answered 401 Unauthorized"},
		{"no WebSocket", false, 200, "hello", "open WebSocket: the server answered 200 OK: hello"},
		{"not let negotiate", true, 403, "go away\n", "negotiate: the server answered 403 Forbidden: go away"},
		{"error", true, 200, `{"error":"busy"}`, "negotiate: busy"},
		{"redirect", true, 200, `{"url":"https://elsewhere.example/hub"}`, "negotiate: the server redirects"},
		{"no token", true, 200, `{"connectionId":"a"}`, "negotiate: the answer has no connectionToken"},
		{"no JSON", true, 200, `<html>`, "negotiate: read the answer: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.answer))
			}))
			defer s.Close()
			d := newDialer(config{protocol: protocol.JSON, negotiate: tt.negotiate, concurrency: 1})
			defer d.close()
			_, err := d.dial(t.Context(), parseURL(t, s.URL))
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

// Errors that differ in the local port only are the same error.
func TestReason(t *testing.T) {
	address := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: port} }
	err := &net.OpError{Op: "read", Net: "tcp", Source: address(54321), Addr: address(80), Err: errors.New("reset")}
	wrapped := errors.Join(errors.New("first"), err)
	if got, want := reason(wrapped), "first\nread tcp 10.0.0.1:80: reset"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := reason(errors.New("plain")); got != "plain" {
		t.Errorf("got %q", got)
	}
}
