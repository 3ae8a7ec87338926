package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var noPublic = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("not a call") })

func TestCall(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	at := listen(t, home, noPublic)
	home.Handle("echo/chat room", func(_ context.Context, from string, body []byte) ([]byte, error) {
		if from != "edge" {
			t.Errorf("called by %q", from)
		}
		return body, nil
	})
	home.Handle("fail", func(context.Context, string, []byte) ([]byte, error) {
		return []byte("x"), errors.New("no such connection" + strings.Repeat(".", 2*maxRefusal))
	})
	home.Handle("much", func(context.Context, string, []byte) ([]byte, error) { return make([]byte, MaxCall+1), nil })
	home.Handle("gone", noCall)
	home.Handle("gone", nil)
	stranger := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "yes") }))
	defer stranger.Close()
	big := bytes.Repeat([]byte("x"), MaxCall)

	for _, tt := range []struct {
		what string
		to   Node
		name string
		body []byte
		want error
		says string
	}{
		{"answered", at, "echo/chat room", []byte("hello"), nil, ""},
		{"empty", at, "echo/chat room", nil, nil, ""},
		{"as long as may be", at, "echo/chat room", big, nil, ""},
		{"too long", at, "echo/chat room", append(big, 'x'), ErrRefused, "too many"},
		{"fails", at, "fail", nil, ErrRefused, "no such connection..."},
		{"answers too much", at, "much", nil, ErrRefused, "too much"},
		{"nobody answers", at, "none", nil, ErrRefused, `nobody answers "none"`},
		{"nobody answers any more", at, "gone", nil, ErrRefused, `nobody answers "gone"`},
		{"another node", Node{"home of before", at.Address}, "echo/chat room", nil, ErrReplaced, ""},
		{"a node of another cluster", listen(t, newPeers(t, "home", key('x')), noPublic), "echo/chat room", nil, ErrUnreachable, ""},
		{"something else", Node{"home", stranger.URL}, "echo/chat room", nil, ErrUnreachable, ""},
		{"no address", Node{ID: "home"}, "echo/chat room", nil, ErrUnreachable, ""},
	} {
		got, err := away.Call(t.Context(), tt.to, tt.name, tt.body)
		if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) || err == nil && !bytes.Equal(got, tt.body) {
			t.Errorf("%s: got %d bytes, %v", tt.what, len(got), err)
		}
		if err != nil && len(err.Error()) > 2*maxRefusal {
			t.Errorf("%s: the error has %d bytes", tt.what, len(err.Error()))
		}
	}
}

func noCall(context.Context, string, []byte) ([]byte, error) { panic("called") }

// What a call says and what it is answered cannot be exchanged on the way.
func TestCallIsWhole(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	home.Handle("ask", func(_ context.Context, _ string, body []byte) ([]byte, error) { return body, nil })
	inside := home.Handler(noPublic)
	for _, tt := range []struct {
		name   string
		before func(r *http.Request)
		after  func(w *httptest.ResponseRecorder)
	}{
		{"body", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("forged")) }, nil},
		{"name", func(r *http.Request) { r.URL.Path, r.RequestURI = "/tell", "/tell" }, nil},
		{"answer", nil, func(w *httptest.ResponseRecorder) { w.Body.WriteString("forged") }},
		{"status", nil, func(w *httptest.ResponseRecorder) { w.Code = http.StatusInternalServerError }},
	} {
		between := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if tt.before != nil {
				tt.before(r)
			}
			answer := httptest.NewRecorder()
			inside.ServeHTTP(answer, r)
			if tt.after != nil {
				tt.after(answer)
			}
			w.Header().Set(proofHeader, answer.Header().Get(proofHeader))
			w.WriteHeader(answer.Code)
			w.Write(answer.Body.Bytes())
		}))
		if got, err := away.Call(t.Context(), Node{"home", between.URL}, "ask", []byte("hello")); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
		between.Close()
	}
}

func TestCallTooLongForTheListener(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	at := listen(t, home, noPublic)
	r, err := http.NewRequest(http.MethodPost, at.Address+"/echo", bytes.NewReader(make([]byte, MaxCall+1)))
	if err != nil {
		t.Fatal(err)
	}
	s := away.newSeal(kindCall, "home")
	away.put(&s, r)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("answered %d", response.StatusCode)
	}
}

func TestCallsAtOnce(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	at := listen(t, home, noPublic)
	waiting := make(chan struct{}, maxCalls)
	home.Handle("wait", func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
		waiting <- struct{}{}
		<-ctx.Done() // the caller, or Close
		return nil, ctx.Err()
	})
	results := make(chan error, maxCalls)
	ctx, cancel := context.WithCancel(t.Context())
	for i := range maxCalls {
		go func() { // ends with ctx, or with Close
			if i%2 == 0 {
				_, err := away.Call(ctx, at, "wait", nil)
				results <- err
			} else {
				_, err := away.Call(t.Context(), at, "wait", nil)
				results <- err
			}
		}()
	}
	for range maxCalls {
		<-waiting
	}
	if _, err := away.Call(t.Context(), at, "wait", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("got %v", err)
	}
	cancel()
	for range maxCalls / 2 {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	away.Close()
	for range maxCalls / 2 {
		if err := <-results; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := away.Call(t.Context(), at, "wait", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	home.Close()
	if _, err := newPeers(t, "third").Call(t.Context(), at, "wait", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a closed node answers: %v", err)
	}
}

// A node that does not answer is waited for until the deadline.
func TestCallDeadline(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := newPeers(t, "edge").Call(ctx, Node{"home", "http://" + silent.Addr().String()}, "x", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
