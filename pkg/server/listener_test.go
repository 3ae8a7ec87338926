package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
)

// tells answers what it was asked.
var tells = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s from %s", r.Proto, r.Method, r.URL.Path, r.RemoteAddr)
})

func (n *running) ends() {
	n.t.Helper()
	n.stop()
	if err := <-n.ended; err != nil {
		n.t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	plane := backplane.NewMemory()
	h := newHub(t, plane, prometheus.NewRegistry())
	mux := http.NewServeMux()
	mux.Handle("/chat", h)
	mux.Handle("/", tells)
	directory := t.TempDir()
	n := start(t, Config{Handler: mux, Hubs: []*hub.Hub{h}, Backplane: plane, TLS: a.load(directory, "127.0.0.1").ServerTLS()})
	trust := trusting(a, "")

	for _, http2 := range []bool{true, false} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.Clone(), ForceAttemptHTTP2: http2}}
		answer, err := client.Get("https://" + n.public + "/somewhere")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.ProtoMajor == 2 != http2 || !strings.Contains(string(body), " GET /somewhere from 127.0.0.1:") {
			t.Errorf("with HTTP/2 %v: got %q, %v", http2, body, err)
		}
		client.CloseIdleConnections()
	}

	dialer := websocket.Dialer{TLSClientConfig: trust.Clone()}
	socket, answer, err := dialer.Dial("wss://"+n.public+"/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	socket.Close()

	a.issue(directory, "127.0.0.1", time.Now().Add(time.Hour))
	conn, err := tls.Dial("tcp", n.public, trust)
	if err != nil {
		t.Fatal(err)
	}
	if serial := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); serial != 3 {
		t.Errorf("certificate %d is presented after another was written", serial)
	}
	conn.Close()

	old := trust.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", n.public, old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	n.ends()
}

func TestTrustedProxies(t *testing.T) {
	for name, tt := range map[string]struct {
		trusted []netip.Prefix
		from    string
	}{
		"by default nobody": {nil, "127.0.0.1:"},
		"trusted":           {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, "192.0.2.1:"},
	} {
		n := start(t, Config{Handler: tells, TrustedProxies: tt.trusted})
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.public, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", "192.0.2.1")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !strings.Contains(string(body), "from "+tt.from) {
			t.Errorf("%s: got %q, %v", name, body, err)
		}
		n.ends()
	}
}

// What a client may send by HTTP/1.1, written by hand.
func TestRawRequests(t *testing.T) {
	const rest = " HTTP/1.1\r\nHost: test\r\n"
	n := start(t, Config{Handler: tells})
	for _, tt := range []struct {
		name, request string
		statuses      []int // of the answers, before the connection is closed
	}{
		{"one after the other", "GET /a" + rest + "\r\nGET /b" + rest + "\r\nGET /c" + rest + "Connection: close\r\n\r\n", []int{200, 200, 200}},
		{"as large a header as is taken", "GET /" + rest + "Connection: close\r\nX: " + strings.Repeat("x", maxHeaderBytes-1024) + "\r\n\r\n", []int{200}},
		{"too large a header", "GET /" + rest + "X: " + strings.Repeat("x", 2*maxHeaderBytes) + "\r\n\r\n", []int{431}},
		{"too many headers", "GET /" + rest + strings.Repeat("X: x\r\n", 2*maxHeaderBytes/6) + "\r\n", []int{431}},
		{"too long a path", "GET /" + strings.Repeat("x", 2*maxHeaderBytes) + rest + "\r\n", []int{431}},
		{"no host", "GET / HTTP/1.1\r\n\r\n", []int{400}},
		{"two lengths", "POST /" + rest + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", []int{400}},
		{"a length and chunks", "POST /" + rest + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", []int{200}},
		{"chunks in an unknown coding", "POST /" + rest + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", []int{501}},
		{"no HTTP", "\x16\x03\x01\x02\x00\r\n\r\n", []int{400}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", n.public)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			sent := make(chan struct{})
			go func() { // ends when it is sent, or the connection is closed
				defer close(sent)
				io.WriteString(conn, tt.request)
			}()
			defer func() { <-sent }()
			answers := bufio.NewReader(conn)
			for i, want := range tt.statuses {
				answer, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatalf("answer %d: %v", i, err)
				}
				if _, err := io.Copy(io.Discard, answer.Body); err != nil {
					t.Fatalf("answer %d: %v", i, err)
				}
				answer.Body.Close()
				if answer.StatusCode != want {
					t.Errorf("answer %d: %s, want %d", i, answer.Status, want)
				}
			}
			if more, _ := io.ReadAll(answers); len(more) > 0 {
				t.Errorf("and then %q", more)
			}
		})
	}
	n.ends()
}
