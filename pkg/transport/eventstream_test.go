package transport

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// stream is a client of server-sent events.
type stream struct {
	*http.Response
	lines *bufio.Reader
	leave func()
}

func openStream(t *testing.T, s *httptest.Server, query string) *stream {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/hub?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	leave := func() { answer.Body.Close() }
	t.Cleanup(leave)
	return &stream{Response: answer, lines: bufio.NewReader(answer.Body), leave: leave}
}

// line returns the next line without its end, which must be CR LF.
func (s *stream) line(t *testing.T) string {
	t.Helper()
	line, err := s.lines.ReadString('\n')
	if err != nil {
		t.Fatalf("read line: %v (%q)", err, line)
	}
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		t.Fatalf("line %q has another end", line)
	}
	return text
}

func (s *stream) expect(t *testing.T, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if got := s.line(t); got != want {
			t.Fatalf("got line %q, want %q", got, want)
		}
	}
}

// request makes a request whose answer has to be read to its end.
func request(t *testing.T, s *httptest.Server, method, query, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/hub?"+query, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

func mustRequest(t *testing.T, s *httptest.Server, method, query, body string, want int) string {
	t.Helper()
	status, text := request(t, s, method, query, body)
	if status != want {
		t.Fatalf("%s %s: got %d %q, want %d", method, query, status, text, want)
	}
	return text
}

// diaries is an Accept that keeps a diary of each connection.
func diaries() (Accept, chan *diary) {
	opened := make(chan *diary, 16)
	return func(c *Connection, _ *http.Request) Session {
		d := &diary{c: c, carrier: c.Carrier()}
		opened <- d
		return d
	}, opened
}

func TestEventStream(t *testing.T) {
	for _, hub := range []string{"test", secureHub} { // over HTTP/1.1 and HTTP/2
		t.Run(hub, func(t *testing.T) {
			accept, opened := diaries()
			m, s := serve(t, Config{Hub: hub, Accept: accept})
			n := negotiate(t, s, "negotiateVersion=1")
			query := "id=" + n.ConnectionToken
			e := openStream(t, s, query)
			for name, want := range map[string]string{
				"Content-Type": "text/event-stream", "Cache-Control": "no-cache,no-store", "Pragma": "no-cache", "Content-Encoding": "identity",
			} {
				if got := e.Header.Get(name); got != want {
					t.Errorf("header %s is %q, want %q", name, got, want)
				}
			}
			if want := map[string]int{"test": 1, secureHub: 2}[hub]; e.ProtoMajor != want {
				t.Errorf("served over %s", e.Proto)
			}
			e.expect(t, ":")
			d := <-opened
			if d.c.ID() != n.ConnectionID || d.c.InherentKeepAlive() || d.c.Stateful() || d.c.Carries(protocol.Binary) || !d.c.Carries(protocol.Text) {
				t.Error("the connection does not say what it is")
			}
			mustRequest(t, s, "POST", query, "hello", 200)
			d.expect(t, "received:hello")
			for _, frames := range []string{"one", "one,two", "three\nlines\r\n,here"} {
				var all [][]byte
				for f := range strings.SplitSeq(frames, ",") {
					all = append(all, []byte(f))
				}
				if err := d.carrier.Write(all, protocol.Text); err != nil {
					t.Fatal(err)
				}
			}
			e.expect(t, "data: one", "", "data: onetwo", "", "data: three", "data: lines", "data: here", "")

			d.carrier.Close()
			if rest, err := io.ReadAll(e.lines); len(rest) > 0 || err != nil {
				t.Errorf("the stream ends with %q, %v", rest, err)
			}
			d.expect(t, "received:hello disconnected")
			if err := d.carrier.Write([][]byte{[]byte("late")}, protocol.Text); err == nil {
				t.Error("written after the end")
			}
			await.Until(t, "the connection is forgotten", func() error { return m.forgotten(n.ConnectionID) })
			for _, method := range []string{"GET", "POST", "DELETE"} {
				if text := mustRequest(t, s, method, query, "", 404); text != "No Connection with that ID" {
					t.Errorf("%s: %q", method, text)
				}
			}
		})
	}
}

// forgotten reports whether nothing is left of a connection.
func (m *Manager) forgotten(id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.live[id]; c != nil {
		return errors.New("it is there")
	}
	if len(m.watched) > len(m.live) {
		return errors.New("it is watched")
	}
	return nil
}

func TestEventStreamEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*diary, *stream)
	}{
		{"client leaves", func(_ *diary, e *stream) { e.leave() }},
		{"session aborts", func(d *diary, _ *stream) { d.carrier.Abort() }},
		{"connection is cut", func(d *diary, _ *stream) { d.c.cut() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			accept, opened := diaries()
			m, s := serve(t, Config{Accept: accept})
			n := negotiate(t, s, "negotiateVersion=1")
			e := openStream(t, s, "id="+n.ConnectionToken)
			e.expect(t, ":")
			d := <-opened
			tt.end(d, e)
			d.expect(t, "disconnected")
			await.Until(t, "the connection is forgotten", func() error { return m.forgotten(n.ConnectionID) })
		})
	}
}

// A client that takes nothing is given up after the send time-out, and ends others'
// waiting at once when it is cut.
func TestEventStreamToAClientThatDoesNotRead(t *testing.T) {
	for _, tt := range []struct {
		hub     string // HTTP/1.1 or HTTP/2
		name    string
		timeout time.Duration
		want    error
	}{
		{"test", "times out", 100 * time.Millisecond, ErrSendTimeout},
		{"test", "is cut", time.Hour, nil},
		{secureHub, "times out", 100 * time.Millisecond, ErrSendTimeout},
		{secureHub, "is cut", time.Hour, nil},
	} {
		t.Run(tt.hub+"/"+tt.name, func(t *testing.T) {
			accept, opened := diaries()
			_, s := serve(t, Config{Hub: tt.hub, Accept: accept, SendTimeout: tt.timeout})
			openStream(t, s, "id="+negotiate(t, s, "negotiateVersion=1").ConnectionToken)
			d := <-opened
			frame := bytes.Repeat([]byte{'x'}, 1<<20)
			if tt.want == nil {
				time.AfterFunc(100*time.Millisecond, d.carrier.Abort) // whenever: writes fail from then on
			}
			for range 1000 {
				if err := d.carrier.Write([][]byte{frame}, protocol.Text); err != nil {
					if tt.want != nil && !errors.Is(err, tt.want) {
						t.Errorf("got %v", err)
					}
					d.expect(t, "disconnected")
					return
				}
			}
			t.Fatal("a gigabyte was taken by a client that does not read")
		})
	}
}

// A client that leaves ends the write that it does not take, too.
func TestEventStreamIsLeftDuringAWrite(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept, SendTimeout: time.Hour})
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	fmt.Fprintf(conn, "GET /hub?%s HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n", query)
	d := <-opened
	written := make(chan error, 1)
	go func() { written <- d.carrier.Write([][]byte{make([]byte, 64<<20)}, protocol.Text) }()
	stream := d.carrier.(*eventStream)
	await.Until(t, "the write is under way", func() error {
		if stream.writing.TryLock() {
			stream.writing.Unlock()
			return errors.New("not yet")
		}
		return nil
	})
	conn.(*net.TCPConn).CloseWrite() // and it does not read
	select {
	case err := <-written:
		if err == nil {
			t.Error("written to a client that does not read")
		}
	case <-time.After(deadline):
		t.Fatal("the write goes on")
	}
	d.expect(t, "disconnected")
}

// Long requests outlast what a server allows for requests in general.
func TestLongRequestsOutlastTheServersTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		accept, opened := diaries()
		m := NewManager(Config{Accept: accept, Logger: slog.New(slog.DiscardHandler)})
		connect := serveInBubble(t, m, func(s *http.Server) {
			s.ReadTimeout, s.WriteTimeout, s.ReadHeaderTimeout = time.Second, time.Second, time.Second
		})
		get := func(accept, query string) *http.Response {
			conn := connect()
			fmt.Fprintf(conn, "GET /hub?%s HTTP/1.1\r\nHost: x\r\nAccept: %s\r\n\r\n", query, accept)
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close(); answer.Body.Close() })
			return answer
		}
		stream := get("text/event-stream", m.fresh())
		events := <-opened
		polling := m.fresh()
		get("*/*", polling)
		polled := <-opened
		time.AfterFunc(time.Minute, func() { events.carrier.Write([][]byte{[]byte("one")}, protocol.Text) })
		time.AfterFunc(time.Minute, func() { polled.say(t, "two") })
		var body, event strings.Builder
		var reading sync.WaitGroup
		reading.Go(func() {
			const want = ":\r\ndata: one\r\n\r\n"
			if _, err := io.CopyN(&event, stream.Body, int64(len(want))); err != nil || event.String() != want {
				t.Errorf("the stream has %q, %v", &event, err)
			}
		})
		if _, err := io.Copy(&body, get("*/*", polling).Body); err != nil || body.String() != "two" {
			t.Errorf("polled %q, %v", &body, err)
		}
		reading.Wait()
		if answer := get("*/*", polling); answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("a poll that timed out was answered %d", answer.StatusCode)
		}
		if got := events.String() + polled.String(); got != "" {
			t.Errorf("diaries: %s", got)
		}
	})
}

func TestAppendEvent(t *testing.T) {
	for _, tt := range []struct {
		frames []string
		want   string
	}{
		{[]string{"a"}, "data: a\r\n\r\n"},
		{[]string{"a", "b"}, "data: ab\r\n\r\n"},
		{[]string{"a\nb"}, "data: a\r\ndata: b\r\n\r\n"},
		{[]string{"a\r\nb"}, "data: a\r\ndata: b\r\n\r\n"},
		{[]string{"a\r", "\nb"}, "data: a\r\ndata: b\r\n\r\n"},
		{[]string{"a\n"}, "data: a\r\ndata: \r\n\r\n"},
		{[]string{"\n"}, "data: \r\ndata: \r\n\r\n"},
		{[]string{""}, "\r\n"},
		{nil, "\r\n"},
	} {
		var frames [][]byte
		for _, f := range tt.frames {
			frames = append(frames, []byte(f))
		}
		if got := string(appendEvent([]byte("x"), frames)); got != "x"+tt.want {
			t.Errorf("%q: got %q, want %q", tt.frames, got, "x"+tt.want)
		}
	}
}

// Whatever is sent, what a client reads as the event's data is that, with ends of lines
// made the same.
func FuzzAppendEvent(f *testing.F) {
	f.Add([]byte("a\nb"), []byte("c"))
	f.Add([]byte("a\r"), []byte("\n"))
	f.Add([]byte(""), []byte(""))
	f.Fuzz(func(t *testing.T, one, two []byte) {
		event := string(appendEvent(nil, [][]byte{one, two}))
		lines, ok := strings.CutSuffix(event, "\r\n")
		if !ok {
			t.Fatalf("%q has no end", event)
		}
		var data []string
		for line := range strings.SplitSeq(strings.TrimSuffix(lines, "\r\n"), "\r\n") {
			if text, ok := strings.CutPrefix(line, "data: "); ok {
				data = append(data, text)
			} else if lines != "" {
				t.Fatalf("%q has a line that is no data: %q", event, line)
			}
		}
		got, want := strings.Join(data, "\n"), strings.ReplaceAll(string(one)+string(two), "\r\n", "\n")
		if got != want {
			t.Errorf("%q: read as %q, want %q", event, got, want)
		}
	})
}

// The session learns what a request brought even if the connection ends meanwhile, and
// only then that it has ended.
func TestInputComesBeforeTheEnd(t *testing.T) {
	block := make(chan struct{})
	opened := make(chan *diary, 1)
	_, s := serve(t, Config{Accept: func(c *Connection, _ *http.Request) Session {
		d := &diary{c: c, carrier: c.Carrier(), block: block}
		opened <- d
		return d
	}})
	query := "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	e := openStream(t, s, query)
	d := <-opened
	for i := range 3 {
		mustRequest(t, s, "POST", query, fmt.Sprint(i), 200)
	}
	d.expect(t, "received:0")
	e.leave()
	await.Until(t, "the connection has ended", func() error {
		if d.c.hasSession() {
			return errors.New("it has not")
		}
		return nil
	})
	close(block)
	d.expect(t, "received:0 received:1 received:2 disconnected")
}
