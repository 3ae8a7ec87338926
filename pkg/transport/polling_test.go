package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// A polled is what a poll was answered with.
type polled struct {
	status int
	kind   string
	body   string
	length int64
	err    error
}

func (p polled) String() string {
	if p.err != nil {
		return p.err.Error()
	}
	return fmt.Sprintf("%d %s %q", p.status, p.kind, p.body)
}

func pollOnce(ctx context.Context, s *httptest.Server, query string) polled {
	r, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/hub?"+query, nil)
	if err != nil {
		return polled{err: err}
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		return polled{err: err}
	}
	defer answer.Body.Close()
	for name, want := range map[string]string{
		"Cache-Control": "no-cache, no-store", "Pragma": "no-cache", "Expires": "Thu, 01 Jan 1970 00:00:00 GMT",
	} {
		if got := answer.Header.Get(name); got != want {
			return polled{err: fmt.Errorf("header %s is %q, want %q", name, got, want)}
		}
	}
	body, err := io.ReadAll(answer.Body)
	return polled{answer.StatusCode, answer.Header.Get("Content-Type"), string(body), answer.ContentLength, err}
}

// polling opens a connection by its first poll.
func polling(t *testing.T, s *httptest.Server, opened chan *diary) (query string, d *diary) {
	t.Helper()
	query = "id=" + negotiate(t, s, "negotiateVersion=1").ConnectionToken
	expectPoll(t, s, query, `200 application/octet-stream ""`)
	return query, <-opened
}

func expectPoll(t *testing.T, s *httptest.Server, query, want string) {
	t.Helper()
	if got := pollOnce(t.Context(), s, query); got.String() != want || got.status == 200 && got.length != int64(len(got.body)) {
		t.Fatalf("poll: got %v with a length of %d, want %s", got, got.length, want)
	}
}

func startPoll(ctx context.Context, s *httptest.Server, query string) chan polled {
	answer := make(chan polled, 1)
	go func() { answer <- pollOnce(ctx, s, query) }()
	return answer
}

func expectAnswer(t *testing.T, answer chan polled, want string) {
	t.Helper()
	select {
	case got := <-answer:
		if got.String() != want {
			t.Fatalf("got %v, want %s", got, want)
		}
	case <-time.After(deadline):
		t.Fatal("the poll was not answered")
	}
}

// waiting waits until a poll is being served.
func (d *diary) waiting(t *testing.T) *poll {
	t.Helper()
	p := d.carrier.(*polls)
	var current *poll
	await.Until(t, "a poll waits", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if current = p.current; current == nil {
			return errors.New("none")
		}
		return nil
	})
	return current
}

func (d *diary) say(t *testing.T, frames ...string) {
	t.Helper()
	var all [][]byte
	for _, f := range frames {
		all = append(all, []byte(f))
	}
	if err := d.carrier.Write(all, protocol.Binary); err != nil {
		t.Fatal(err)
	}
}

func TestLongPolling(t *testing.T) {
	for _, hub := range []string{"test", secureHub} {
		t.Run(hub, func(t *testing.T) {
			accept, opened := diaries()
			m, s := serve(t, Config{Hub: hub, Accept: accept})
			query, d := polling(t, s, opened)
			if !d.c.InherentKeepAlive() || d.c.Stateful() || !d.c.Carries(protocol.Binary) {
				t.Error("the connection does not say what it is")
			}

			d.say(t, "one", "two") // between two polls
			d.say(t, "\x00\xff")
			expectPoll(t, s, query, `200 application/octet-stream "onetwo\x00\xff"`)

			answer := startPoll(t.Context(), s, query)
			d.waiting(t)
			mustRequest(t, s, "POST", query, "hello", 200) // during a poll
			d.expect(t, "received:hello")
			d.say(t, "three")
			expectAnswer(t, answer, `200 application/octet-stream "three"`)

			d.say(t, "last")
			d.carrier.Close()
			expectPoll(t, s, query, `200 application/octet-stream "last"`)
			expectPoll(t, s, query, `204 text/plain ""`)
			d.expect(t, "received:hello disconnected")
			await.Until(t, "the connection is forgotten", func() error { return m.forgotten(d.c.ID()) })
			expectPoll(t, s, query, `404 text/plain "No Connection with that ID"`)
		})
	}
}

func TestPollTimesOut(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept}, LongPollingTimeout(20*time.Millisecond))
	query, d := polling(t, s, opened)
	expectPoll(t, s, query, `200 text/plain ""`)
	d.say(t, "one")
	expectPoll(t, s, query, `200 application/octet-stream "one"`)
}

// A newer poll takes the place of one that waits, and gets what comes.
func TestPollReplacesPoll(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept})
	query, d := polling(t, s, opened)
	one := startPoll(t.Context(), s, query)
	before := d.waiting(t)
	two := startPoll(t.Context(), s, query)
	expectAnswer(t, one, `204 text/plain ""`)
	await.Until(t, "the newer poll waits", func() error {
		if d.waiting(t) == before {
			return errors.New("the old one does")
		}
		return nil
	})
	d.say(t, "one")
	expectAnswer(t, two, `200 application/octet-stream "one"`)
}

// Of however many polls one is answered at a time and one waits: whatever else comes is
// refused, and nothing is lost or doubled.
func TestManyPolls(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept})
	query, d := polling(t, s, opened)
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var mu sync.Mutex
	var got []byte
	answers := make(map[int]int)
	var clients sync.WaitGroup
	for range 50 {
		clients.Go(func() {
			for range 20 {
				a := pollOnce(ctx, s, query)
				mu.Lock()
				answers[a.status]++
				got = append(got, a.body...)
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var sent []byte
	var sender sync.WaitGroup
	sender.Go(func() {
		for i := byte(0); ; i++ {
			select {
			case <-stop:
				return
			default:
				if d.carrier.Write([][]byte{{i}}, protocol.Binary) != nil {
					return
				}
				sent = append(sent, i)
			}
		}
	})
	clients.Wait()
	close(stop)
	for done := false; !done; { // the sender may wait for room
		a := pollOnce(ctx, s, query)
		got = append(got, a.body...)
		done = a.body == "" || len(a.body) <= pollBytes
		if a.err != nil {
			t.Fatal(a.err)
		}
	}
	sender.Wait()
	d.say(t, "end")
	for !bytes.HasSuffix(got, []byte("end")) {
		a := pollOnce(ctx, s, query)
		if a.err != nil {
			t.Fatal(a.err)
		}
		got = append(got, a.body...)
	}
	for status := range answers {
		if status != 200 && status != 204 && status != 409 {
			t.Errorf("%d polls were answered %d", answers[status], status)
		}
	}
	if len(got) != len(sent)+len("end") {
		t.Errorf("%d bytes of %d arrived", len(got)-3, len(sent))
	}
}

func TestLongPollingEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*testing.T, *httptest.Server, string, *diary)
	}{
		{"client deletes", func(t *testing.T, s *httptest.Server, query string, _ *diary) {
			if text := mustRequest(t, s, "DELETE", query, "", 202); text != "" {
				t.Errorf("answered %q", text)
			}
		}},
		{"session aborts", func(_ *testing.T, _ *httptest.Server, _ string, d *diary) { d.carrier.Abort() }},
		{"session closes", func(_ *testing.T, _ *httptest.Server, _ string, d *diary) { d.carrier.Close() }},
		{"connection is cut", func(_ *testing.T, _ *httptest.Server, _ string, d *diary) { d.c.cut() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			accept, opened := diaries()
			m, s := serve(t, Config{Accept: accept})
			query, d := polling(t, s, opened)
			answer := startPoll(t.Context(), s, query)
			d.waiting(t)
			tt.end(t, s, query, d)
			expectAnswer(t, answer, `204 text/plain ""`)
			d.expect(t, "disconnected")
			await.Until(t, "the connection is forgotten", func() error { return m.forgotten(d.c.ID()) })
		})
	}
}

func TestDeleteBetweenPolls(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept})
	query, d := polling(t, s, opened)
	mustRequest(t, s, "DELETE", query, "", 202)
	d.expect(t, "disconnected")
}

// A client that stops polling has gone after the disconnect time-out, and one that has
// been told of the end after the close time-out: whoever waits for it waits no longer.
func TestAbandonedPolling(t *testing.T) {
	for _, closed := range []bool{false, true} {
		accept, opened := diaries()
		m, s := serve(t, Config{Accept: accept})
		query, d := polling(t, s, opened)
		patience := m.DisconnectTimeout
		if closed {
			d.carrier.Close()
			patience = m.CloseTimeout
		}
		m.Sweep(time.Now().Add(patience - time.Second))
		if !d.c.hasSession() {
			t.Fatal("given up too early")
		}
		d.say(t, strings.Repeat("x", pollBytes+1))
		written := make(chan error, 1)
		go func() { written <- d.carrier.Write([][]byte{[]byte("y")}, protocol.Text) }()
		p := d.carrier.(*polls)
		await.Until(t, "the writer waits", func() error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.room == nil {
				return errors.New("it does not")
			}
			return nil
		})
		m.Sweep(time.Now().Add(patience + time.Second))
		d.expect(t, "disconnected")
		select {
		case err := <-written:
			if err == nil {
				t.Error("written to a client that has gone")
			}
		case <-time.After(deadline):
			t.Fatal("the writer waits for a client that has gone")
		}
		await.Until(t, "the connection is forgotten", func() error { return m.forgotten(d.c.ID()) })
		expectPoll(t, s, query, `404 text/plain "No Connection with that ID"`)
	}
}

// A poll that the client breaks off leaves everything to the next.
func TestPollBrokenOff(t *testing.T) {
	accept, opened := diaries()
	m, s := serve(t, Config{Accept: accept})
	query, d := polling(t, s, opened)
	ctx, cancel := context.WithCancel(t.Context())
	answer := startPoll(ctx, s, query)
	current := d.waiting(t)
	m.Sweep(time.Now().Add(time.Hour)) // there is a poll: the client is there
	cancel()
	<-answer
	<-current.done
	d.say(t, "one")
	expectPoll(t, s, query, `200 application/octet-stream "one"`)
}

func TestPollsHoldUpTheWriter(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept})
	query, d := polling(t, s, opened)
	written := make(chan int, 100)
	go func() {
		for i := range cap(written) {
			if d.carrier.Write([][]byte{bytes.Repeat([]byte{byte(i)}, pollBytes/2)}, protocol.Binary) != nil {
				return
			}
			written <- i
		}
	}()
	p := d.carrier.(*polls)
	total := 0
	for total < cap(written)*pollBytes/2 {
		await.Until(t, "the writer waits", func() error {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.room == nil && len(written) < cap(written) {
				return errors.New("it does not")
			}
			return nil
		})
		a := pollOnce(t.Context(), s, query)
		if a.status != 200 || len(a.body) == 0 || len(a.body) > 2*pollBytes {
			t.Fatalf("polled %d bytes: %d %v", len(a.body), a.status, a.err)
		}
		total += len(a.body)
	}
}

// A client that asks and does not take the answer is given up after the send time-out.
func TestPollThatIsNotRead(t *testing.T) {
	accept, opened := diaries()
	m, s := serve(t, Config{Accept: accept, SendTimeout: 100 * time.Millisecond})
	query, d := polling(t, s, opened)
	d.say(t, strings.Repeat("x", 64<<20)) // more than the system buffers
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/hub?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	d.expect(t, "disconnected")
	await.Until(t, "the connection is forgotten", func() error { return m.forgotten(d.c.ID()) })
}

// A poll that waits for another to be answered is told when the connection ends.
func TestEndDuringTwoPolls(t *testing.T) {
	accept, opened := diaries()
	_, s := serve(t, Config{Accept: accept, SendTimeout: time.Hour})
	query, d := polling(t, s, opened)
	d.say(t, strings.Repeat("x", 64<<20)) // more than the system buffers
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/hub?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() // and it is not read
	second := startPoll(t.Context(), s, query)
	p := d.carrier.(*polls)
	await.Until(t, "the second poll waits", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.next {
			return errors.New("it does not")
		}
		return nil
	})
	expectPoll(t, s, query, `409 text/plain ""`)
	mustRequest(t, s, "DELETE", query, "", 202)
	expectAnswer(t, second, `204 text/plain ""`)
	d.expect(t, "disconnected")
}
