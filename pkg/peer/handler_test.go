package peer

import (
	"cmp"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// What comes to the node-to-node listener is served only with a seal that is genuine,
// fresh, unused, and for this node.
func TestListenerRefuses(t *testing.T) {
	home := newPeers(t, "home", key('k'), key('o'))
	served := 0
	at := listen(t, home, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		served++
		if from, ok := Forwarded(r); !ok || from != "edge" || r.RemoteAddr != "192.0.2.1:5000" || r.Header.Get(sealHeader) != "" {
			t.Errorf("served as from %q (%v), client %s, seal %q", from, ok, r.RemoteAddr, r.Header.Get(sealHeader))
		}
	}))
	genuine := newPeers(t, "edge")
	for _, tt := range []struct {
		name   string
		by     *Peers
		before func(s *seal)         // it is put on the request
		after  func(r *http.Request) // it was
		status int
		again  int // status when it is repeated; 403 if it is 0
	}{
		{name: "genuine", status: 200},
		{name: "by the old key", by: newPeers(t, "edge", key('o')), status: 200},
		{name: "by another key", by: newPeers(t, "edge", key('x')), status: 403},
		{name: "none", after: func(r *http.Request) { r.Header.Del(sealHeader) }, status: 403},
		{name: "empty", after: func(r *http.Request) { r.Header.Set(sealHeader, "") }, status: 403},
		{name: "two", after: func(r *http.Request) { r.Header.Add(sealHeader, r.Header.Get(sealHeader)) }, status: 403},
		{name: "garbage", after: func(r *http.Request) { r.Header.Set(sealHeader, "1 forward now") }, status: 403},
		{name: "altered client", after: func(r *http.Request) {
			r.Header.Set(sealHeader, strings.Replace(r.Header.Get(sealHeader), "192.0.2.1", "192.0.2.9", 1))
		}, status: 403},
		{name: "altered path", after: func(r *http.Request) { r.URL.Path = "/admin" }, status: 403},
		{name: "altered query", after: func(r *http.Request) { r.URL.RawQuery = "id=2" }, status: 403},
		{name: "altered method", after: func(r *http.Request) { r.Method = http.MethodPut }, status: 403},
		{name: "altered host", after: func(r *http.Request) { r.Host = "elsewhere.example" }, status: 403},
		{name: "old", before: func(s *seal) { s.time -= int64(Tolerance/time.Second) + 5 }, status: 403},
		{name: "from the future", before: func(s *seal) { s.time += int64(Tolerance/time.Second) + 5 }, status: 403},
		{name: "a little old", before: func(s *seal) { s.time -= int64(Tolerance/time.Second) - 5 }, status: 200},
		{name: "for another node", before: func(s *seal) { s.to = "home of before" }, status: 421, again: 421},
		{name: "from itself", before: func(s *seal) { s.from = "home" }, status: 508, again: 508},
		{name: "a call's on something else", before: func(s *seal) { s.kind, s.body = kindCall, sha256.Sum256([]byte("x")) }, status: 403},
		{name: "a call that nobody answers", before: func(s *seal) { s.kind, s.body = kindCall, sha256.Sum256(nil) }, status: 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			served = 0
			by := tt.by
			if by == nil {
				by = genuine
			}
			r, err := http.NewRequest(http.MethodPost, at.Address+"/hub?id=1", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "public.example"
			s := by.newSeal(kindForward, "home")
			s.client = "192.0.2.1:5000"
			if tt.before != nil {
				tt.before(&s)
			}
			by.put(&s, r)
			if tt.after != nil {
				tt.after(r)
			}
			for _, status := range []int{tt.status, cmp.Or(tt.again, 403)} {
				response, err := http.DefaultClient.Do(r.Clone(t.Context()))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != status || len(body) > 0 && status != 500 {
					t.Errorf("answered %d %q, want %d and nothing", response.StatusCode, body, status)
				}
			}
			if (served == 1) != (tt.status == 200) {
				t.Errorf("served %d times", served)
			}
		})
	}
}

func TestListenerHasNoRoom(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	home.nonces.max = 1
	at := listen(t, home, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	public := edge(t, away, at)
	for _, status := range []int{200, 503} {
		response, err := http.Get(public.URL)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != status {
			t.Errorf("answered %d, want %d", response.StatusCode, status)
		}
	}
}

// On any other listener a seal is a header like any other.
func TestPublicRequestIsNotForwarded(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	newPeers(t, "edge").put(&seal{kind: kindForward}, r)
	if from, ok := Forwarded(r); ok || Proof(r) != nil {
		t.Errorf("forwarded by %q", from)
	}
	w := httptest.NewRecorder()
	Elsewhere(w, r)
	if len(w.Header()) > 0 {
		t.Errorf("answers %v", w.Header())
	}
}
