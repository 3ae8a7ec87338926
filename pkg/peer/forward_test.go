package peer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"
)

// A forwarded request is served as if the client had come to the other node.
func TestForwardKeepsTheRequest(t *testing.T) {
	type request struct {
		Method, URI, Path, Host, Remote, Body string
		Header                                http.Header
	}
	record := func(r *http.Request) (got request, err error) {
		body, err := io.ReadAll(r.Body)
		return request{r.Method, r.RequestURI, r.URL.Path, r.Host, r.RemoteAddr, string(body), r.Header.Clone()}, err
	}
	for _, tt := range []struct {
		name, method, uri, body string
		header                  http.Header
	}{
		{"get", "GET", "/chat?id=abc", "", nil},
		{"post", "POST", "/chat?id=abc", "hello\x1e", http.Header{"Content-Type": {"text/plain;charset=UTF-8"}}},
		{"delete", "DELETE", "/chat?id=abc", "", nil},
		{"escaped path", "GET", "/a%2Fb/chat%20room/%C3%A4?id=abc", "", nil},
		{"path with slashes", "GET", "//chat//room/../x", "", nil},
		{"query as it is", "GET", "/chat?id=a+b%20c&empty=&&x;y=%zz&id=2", "", nil},
		{"no query", "GET", "/chat?", "", nil},
		{"headers", "GET", "/chat", "", http.Header{
			"Authorization": {"Bearer t"}, "Cookie": {"a=1; b=2"}, "X-Own": {"1", "2"}, "User-Agent": {"client"},
			"Accept-Encoding": {"br"}, "Origin": {"https://app.example.com"},
			"X-Forwarded-For": {"192.0.2.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"h"}, "Forwarded": {"for=x"},
		}},
		{"no user agent", "GET", "/chat", "", http.Header{"User-Agent": {""}, "Accept-Encoding": {""}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var want, got request
			var wrong [2]error
			home, away := newPeers(t, "home"), newPeers(t, "edge")
			at := listen(t, home, http.StripPrefix("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got, wrong[0] = record(r)
				w.Header().Add("X-Answer", "1")
				w.Header().Add("X-Answer", "2")
				w.Header().Set("Access-Control-Allow-Origin", "x")
				w.WriteHeader(http.StatusTeapot)
				io.WriteString(w, "answer")
			})))
			public := httptest.NewServer(http.StripPrefix("/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				wrong[1] = err
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				want, _ = record(r)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				w.Header().Set("Access-Control-Allow-Origin", "x")
				if err := away.Forward(w, r, at); err != nil {
					t.Error(err)
				}
			})))
			defer public.Close()
			r, err := http.NewRequest(tt.method, public.URL, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			r.URL.Opaque = "//" + r.URL.Host + tt.uri
			if strings.HasPrefix(tt.uri, "//") {
				r.URL.Opaque = "" // an absolute form of it would name another host
				r.URL.Path = tt.uri
			}
			for name, values := range tt.header {
				r.Header[name] = values
			}
			r.Host = "chat.example"
			response, err := http.DefaultTransport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if err := errors.Join(wrong[:]...); err != nil {
				t.Fatal(err)
			}
			if want.Method != tt.method || want.Body != tt.body || !strings.HasSuffix(want.URI, tt.uri) {
				t.Fatalf("the edge got %+v", want)
			}
			want.URI = tt.uri // an absolute form becomes a path
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("got other than the edge:\n%s", diff)
			}
			answer, err := io.ReadAll(response.Body)
			response.Header.Del("Date")
			wantHeader := http.Header{"X-Answer": {"1", "2"}, "Access-Control-Allow-Origin": {"x"}, "Content-Length": {"6"}, "Content-Type": {"text/plain; charset=utf-8"}}
			if diff := cmp.Diff(wantHeader, response.Header); diff != "" || err != nil || response.StatusCode != 418 || string(answer) != "answer" {
				t.Errorf("client got %d %q, %v, header:\n%s", response.StatusCode, answer, err, diff)
			}
		})
	}
}

// What clients say in the nodes' headers is neither believed nor passed on.
func TestForgedHeaders(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	var got *http.Request
	public := edge(t, away, listen(t, home, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r })))
	forged := newPeers(t, "edge", key('x')).newSeal(kindForward, "home")
	for _, text := range []string{"", "1", forged.String(), strings.Repeat("x", 5000)} {
		r, err := http.NewRequest(http.MethodGet, public.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{sealHeader, proofHeader, elsewhereHeader} {
			r.Header.Set(name, text)
		}
		got = nil
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 200 || got == nil {
			t.Fatalf("%q: answered %d", text, response.StatusCode)
		}
		for _, name := range []string{sealHeader, proofHeader, elsewhereHeader} {
			if got.Header[name] != nil || response.Header[name] != nil {
				t.Errorf("%q: %s has come through: %q, %q", text, name, got.Header[name], response.Header[name])
			}
		}
	}
}

// Bodies and answers pass as they come.
func TestForwardStreams(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	began, ended := make(chan struct{}), make(chan error, 1)
	public := edge(t, away, listen(t, home, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := bufio.NewReader(r.Body)
		if line, err := body.ReadString('\n'); err != nil || line != "one\n" {
			t.Errorf("got %q, %v", line, err)
		}
		close(began)
		if rest, err := io.ReadAll(body); err != nil || string(rest) != "two" {
			t.Errorf("got %q, %v", rest, err)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: x\r\n\r\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done() // the client has gone
		ended <- r.Context().Err()
	})))
	ctx, leave := context.WithCancel(t.Context())
	body, upload := io.Pipe()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, public.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the request, which closes the pipe
		io.WriteString(upload, "one\n")
		select {
		case <-began:
			io.WriteString(upload, "two")
			upload.Close()
		case <-time.After(deadline):
			upload.CloseWithError(errors.New("the body does not arrive as it comes"))
		}
	}()
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || got != "data: x\r\n" {
		t.Fatalf("got %q, %v", got, err)
	}
	leave()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(deadline):
		t.Error("the other node does not learn that the client has gone")
	}
}

// echoSocket serves WebSockets that send back what comes, and closes those that say so.
func echoSocket(ended chan<- error) http.Handler {
	var upgrader websocket.Upgrader
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, Proof(r))
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, p, err := conn.ReadMessage()
			if err == nil && string(p) == "cut" {
				err = errors.New("cut")
			}
			if err != nil {
				ended <- err
				return
			}
			if conn.WriteMessage(kind, p) != nil {
				return
			}
		}
	})
}

func dial(t *testing.T, s *httptest.Server) *websocket.Conn {
	t.Helper()
	conn, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(s.URL, "http"), nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.Header.Get(proofHeader) != "" {
		t.Error("the client gets the proof")
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetReadDeadline(time.Now().Add(deadline))
	return conn
}

func TestForwardWebSocket(t *testing.T) {
	for _, tt := range []struct {
		name           string
		end            func(c *websocket.Conn) error
		client, server string // what each side is left with
	}{
		{"client closes", func(c *websocket.Conn) error {
			return c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
		}, "close 1000", "close 1000"},
		{"client cuts", func(c *websocket.Conn) error { return c.NetConn().Close() }, "use of closed", "close 1006"},
		{"client ends its half", func(c *websocket.Conn) error { return c.NetConn().(*net.TCPConn).CloseWrite() }, "close 1006", "close 1006"},
		{"server cuts", func(c *websocket.Conn) error { return c.WriteMessage(websocket.TextMessage, []byte("cut")) }, "close 1006", "cut"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ended := make(chan error, 1)
			home, away := newPeers(t, "home"), newPeers(t, "edge")
			conn := dial(t, edge(t, away, listen(t, home, echoSocket(ended))))
			for _, size := range []int{0, 1, 5000, 300_000} {
				sent := strings.Repeat("x", size)
				if err := conn.WriteMessage(websocket.BinaryMessage, []byte(sent)); err != nil {
					t.Fatal(err)
				}
				if kind, got, err := conn.ReadMessage(); err != nil || kind != websocket.BinaryMessage || string(got) != sent {
					t.Fatalf("got %d bytes, type %d, %v", len(got), kind, err)
				}
			}
			if err := tt.end(conn); err != nil {
				t.Fatal(err)
			}
			if _, _, err := conn.ReadMessage(); err == nil || !strings.Contains(err.Error(), tt.client) {
				t.Errorf("client is left with %v", err)
			}
			select {
			case err := <-ended:
				if !strings.Contains(err.Error(), tt.server) {
					t.Errorf("server is left with %v", err)
				}
			case <-time.After(deadline):
				t.Error("the server is not told")
			}
		})
	}
}

// A client that keeps its half of a WebSocket open after the other has ended keeps
// nothing of the node.
func TestHalfAWebSocketEnds(t *testing.T) {
	ended := make(chan error, 1)
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	conn := dial(t, edge(t, away, listen(t, home, echoSocket(ended))))
	if err := conn.WriteMessage(websocket.TextMessage, []byte("cut")); err != nil {
		t.Fatal(err)
	}
	<-ended
	joined := make(chan struct{})
	go func() {
		away.active.Wait()
		close(joined)
	}()
	select {
	case <-joined:
	case <-time.After(deadline):
		t.Error("it is still being forwarded")
	}
}

// A WebSocket that is refused is an answer like any other.
func TestForwardRefusedWebSocket(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	public := edge(t, away, listen(t, home, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
	})))
	_, response, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(public.URL, "http"), nil)
	if err == nil || response == nil || response.StatusCode != http.StatusConflict {
		t.Errorf("got %v, %v", response, err)
	}
}

func TestForwardFails(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	away, home := newPeers(t, "edge"), newPeers(t, "home")
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(proofHeader, "AAAA")
		io.WriteString(w, "secret of a stranger")
	}))
	defer other.Close()
	strangerSocket := httptest.NewServer(echoSocket(make(chan error, 1)))
	defer strangerSocket.Close()
	fine := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	misadvertised := edge(t, home, Node{ID: "third", Address: "http://127.0.0.1:1"})
	closed := newPeers(t, "edge")
	closed.Close()
	elsewhere := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		Elsewhere(w, r)
		http.Error(w, "not here", http.StatusNotFound)
	})

	for _, tt := range []struct {
		name    string
		by      *Peers
		to      Node
		upgrade bool
		want    error
	}{
		{name: "nobody listens", to: Node{"home", "http://" + nobody.Addr().String()}, want: ErrUnreachable},
		{name: "no address", to: Node{ID: "home"}, want: ErrUnreachable},
		{name: "something else listens", to: Node{"home", other.URL}, want: ErrUnreachable},
		{name: "something else opens a WebSocket", to: Node{"home", strangerSocket.URL}, upgrade: true, want: ErrUnreachable},
		{name: "a node of another cluster", to: listen(t, newPeers(t, "home", key('x')), fine), want: ErrUnreachable},
		{name: "another node", to: Node{"home", listen(t, newPeers(t, "home of today"), fine).Address}, want: ErrReplaced},
		{name: "not there", to: listen(t, home, elsewhere), want: ErrElsewhere},
		{name: "to itself", to: Node{"edge", "http://127.0.0.1:1"}, want: ErrLoop},
		{name: "to itself under another name", to: Node{"home", listen(t, away, fine).Address}, want: ErrReplaced},
		{name: "advertises its public address", to: Node{"home", misadvertised.URL}, want: ErrUnreachable},
		{name: "closed", by: closed, to: listen(t, home, fine), want: ErrClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			by := tt.by
			if by == nil {
				by = away
			}
			outcome := make(chan error, 1)
			public := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Own", "1")
				err := by.Forward(w, r, tt.to)
				if err != nil {
					w.WriteHeader(http.StatusTeapot)
				}
				outcome <- err
			}))
			defer public.Close()
			r, err := http.NewRequest(http.MethodGet, public.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			if tt.upgrade {
				r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}}
			}
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if got := <-outcome; !errors.Is(got, tt.want) || err != nil || len(body) > 0 || response.StatusCode != http.StatusTeapot || response.Header.Get("X-Own") != "1" {
				t.Errorf("error %v, client got %d %q %v, %v", got, response.StatusCode, body, response.Header, err)
			}
		})
	}
}

// A request that has been forwarded is not forwarded again, whoever serves it.
func TestNoLoops(t *testing.T) {
	first, second := newPeers(t, "first"), newPeers(t, "second")
	outcome := make(chan error, 1)
	again := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := second.Forward(w, r, Node{"first", "http://127.0.0.1:1"})
		if err != nil {
			w.WriteHeader(http.StatusLoopDetected)
		}
		outcome <- err
	})
	onPublic := httptest.NewServer(again)
	defer onPublic.Close()
	for name, to := range map[string]Node{
		"from the node-to-node listener":   listen(t, second, again),
		"advertising the public one":       {"second", onPublic.URL},
		"advertising that of a third node": {"third", onPublic.URL},
	} {
		response, err := http.Get(edge(t, first, to).URL)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := <-outcome; !errors.Is(got, ErrLoop) {
			t.Errorf("%s: %v, client got %d", name, got, response.StatusCode)
		}
	}
}

// A client does not take for whole what has broken off.
func TestForwardedAnswerBreaksOff(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	public := edge(t, away, listen(t, home, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})))
	response, err := http.Get(public.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil || string(body) != "half" {
		t.Errorf("got %q, %v", body, err)
	}
}

// A client that leaves does not wait for a node that does not answer.
func TestForwardEndsWithTheClient(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes what comes, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	away := newPeers(t, "edge")
	ended := make(chan error, 1)
	public := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ended <- away.Forward(w, r, Node{"home", "http://" + silent.Addr().String()})
	}))
	defer public.Close()
	client, err := net.Dial("tcp", public.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	there, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	client.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(deadline):
		t.Error("it is still waiting")
	}
}

// Close cuts what lasts.
func TestCloseCuts(t *testing.T) {
	home, away := newPeers(t, "home"), newPeers(t, "edge")
	socketEnded, streamEnded := make(chan error, 1), make(chan error, 1)
	socket := dial(t, edge(t, away, listen(t, home, echoSocket(socketEnded))))
	stream, err := http.Get(edge(t, away, listen(t, home, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		streamEnded <- nil
	}))).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	away.Close()
	if _, _, err := socket.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseAbnormalClosure) {
		t.Errorf("the socket is left with %v", err)
	}
	if _, err := io.ReadAll(stream.Body); err == nil {
		t.Error("the stream seems to be whole")
	}
	<-socketEnded
	<-streamEnded

	// A closed node is not there for others either.
	gone := newPeers(t, "gone")
	at := listen(t, gone, http.NotFoundHandler())
	gone.Close()
	response, err := http.Get(edge(t, newPeers(t, "other"), at).URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a closed node answers %d", response.StatusCode)
	}
}

// A client that takes nothing of a forwarded WebSocket holds up nothing for long: neither
// what passes it on, nor Close.
func TestSocketOfAClientThatDoesNotRead(t *testing.T) {
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed %t", closes), func(t *testing.T) {
			t.Parallel()
			home, away := newPeers(t, "home"), newPeers(t, "edge")
			full := make(chan struct{})
			to := listen(t, home, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var upgrader websocket.Upgrader
				conn, err := upgrader.Upgrade(w, r, Proof(r))
				if err != nil {
					return
				}
				defer conn.Close()
				for err == nil {
					conn.SetWriteDeadline(time.Now().Add(time.Second))
					err = conn.WriteMessage(websocket.BinaryMessage, make([]byte, 1<<20))
				}
				close(full)
			}))
			ended := make(chan struct{})
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				if err := away.Forward(w, r, to); err != nil {
					t.Error(err)
				}
			}))
			defer front.Close()
			dial(t, front)
			<-full
			if closes {
				away.Close()
			}
			select {
			case <-ended:
			case <-time.After(3 * writeTimeout):
				t.Fatal("the request is still being forwarded")
			}
		})
	}
}
