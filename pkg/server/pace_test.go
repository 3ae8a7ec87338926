package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// short is a patience that is soon over, and long is surely longer.
const (
	short = 400 * time.Millisecond
	long  = 3 * short
)

// servePaced serves a handler over HTTP/1.1, or over HTTP/2 with TLS.
func servePaced(t *testing.T, http2 bool, patience time.Duration, h http.HandlerFunc) (*httptest.Server, *http.Client) {
	t.Helper()
	s := httptest.NewUnstartedServer(paced(h, patience))
	if http2 {
		s.EnableHTTP2 = true
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s, s.Client()
}

// drip is a body that comes one piece at a time, with a pause before each but the first.
type drip struct {
	pieces []string
	pause  time.Duration
	begun  bool
}

func (d *drip) Read(b []byte) (int, error) {
	if len(d.pieces) == 0 {
		return 0, io.EOF
	}
	if d.begun {
		time.Sleep(d.pause)
	}
	d.begun = true
	n := copy(b, d.pieces[0])
	d.pieces = d.pieces[1:]
	return n, nil
}

// A request may last, as long as its client keeps up.
func TestLongRequestsLast(t *testing.T) {
	kilobyte := strings.Repeat("x", 1024)
	for _, http2 := range []bool{false, true} {
		for name, h := range map[string]http.HandlerFunc{
			"a handler that takes its time": func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadAll(r.Body); err != nil {
					t.Error(err)
				}
				time.Sleep(long)
				if err := r.Context().Err(); err != nil {
					t.Error(err)
				}
				fmt.Fprint(w, "done")
			},
			"a handler that takes its time before it reads": func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				time.Sleep(long)
				if _, err := io.ReadAll(r.Body); err != nil {
					t.Error(err)
				}
				fmt.Fprint(w, "done")
			},
			"a handler that writes now and then": func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				for _, word := range []string{"d", "o", "ne"} {
					time.Sleep(2 * short)
					fmt.Fprint(w, word)
					w.(http.Flusher).Flush()
				}
			},
		} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", name, http2), func(t *testing.T) {
				t.Parallel()
				s, client := servePaced(t, http2, short, h)
				// Slower than patience alone allows, but a kilobyte earns seconds.
				body := &drip{pieces: []string{kilobyte, kilobyte, kilobyte}, pause: short / 2}
				answer, err := client.Post(s.URL, "", body)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				text, err := io.ReadAll(answer.Body)
				if err != nil || string(text) != "done" || answer.StatusCode != 200 {
					t.Errorf("got %d %q, %v", answer.StatusCode, text, err)
				}
				if answer.ProtoMajor == 2 != http2 {
					t.Errorf("over %s", answer.Proto)
				}
			})
		}
	}
}

func TestSlowBody(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", http2), func(t *testing.T) {
			read := make(chan error, 1)
			s, client := servePaced(t, http2, short, func(w http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				read <- err
				w.WriteHeader(http.StatusRequestTimeout)
			})
			pieces := strings.Split(strings.Repeat("x", 60), "")
			answer, err := client.Post(s.URL, "", &drip{pieces: pieces, pause: short / 4})
			if err == nil {
				answer.Body.Close()
			}
			if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the handler got %v", err)
			}
		})
	}
}

func TestSlowReader(t *testing.T) {
	for name, flush := range map[string]bool{"written": false, "flushed": true} {
		t.Run(name, func(t *testing.T) {
			wrote := make(chan error, 1)
			s, _ := servePaced(t, false, short, func(w http.ResponseWriter, _ *http.Request) {
				piece := make([]byte, 32<<10)
				for {
					_, err := w.Write(piece)
					if err == nil && flush {
						err = http.NewResponseController(w).Flush()
					}
					if err != nil {
						wrote <- err
						return
					}
				}
			})
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: test\r\n\r\n") // and no more
			if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the handler got %v", err)
			}
		})
	}
}

// A client that never sends the body which the handler does not want, or never takes the
// answer, keeps nothing busy.
func TestHandlerIsDoneBeforeItsClient(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"the body is unread": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"the body is read in part": func(w http.ResponseWriter, r *http.Request) {
			r.Body.Read(make([]byte, 1))
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := servePaced(t, false, short, h)
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf")
			conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			if answer.StatusCode != http.StatusUnauthorized || !answer.Close {
				t.Errorf("got %s, the connection stays: %v", answer.Status, !answer.Close)
			}
			if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the connection is not closed: %v", err)
			}
		})
	}
}

// A handler that sets deadlines keeps them, and what it has hijacked is left alone.
func TestHandlersOwnDeadlines(t *testing.T) {
	t.Run("of writes", func(t *testing.T) {
		wrote := make(chan error, 1)
		s, client := servePaced(t, false, time.Hour, func(w http.ResponseWriter, _ *http.Request) {
			control := http.NewResponseController(w)
			control.SetWriteDeadline(time.Now().Add(-time.Second))
			w.Write(make([]byte, 1<<20))
			wrote <- control.Flush()
		})
		if answer, err := client.Get(s.URL); err == nil {
			answer.Body.Close()
		}
		if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of reads", func(t *testing.T) {
		read := make(chan error, 1)
		s, client := servePaced(t, false, time.Hour, func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(-time.Second))
			_, err := io.ReadAll(r.Body)
			read <- err
		})
		body, end := io.Pipe()
		go func() { // ends when the handler has, which closes the body
			answer, err := client.Post(s.URL, "", body)
			if err == nil {
				answer.Body.Close()
			}
			body.Close()
		}()
		if err := <-read; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		end.Close()
	})
	t.Run("of a hijacked connection", func(t *testing.T) {
		hijacked := make(chan net.Conn, 1)
		s, _ := servePaced(t, false, short, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
			}
			hijacked <- conn
		})
		near, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer near.Close()
		fmt.Fprint(near, "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
		far := <-hijacked
		defer far.Close()
		time.Sleep(long)
		fmt.Fprint(near, "late")
		if _, err := io.ReadFull(far, make([]byte, 4)); err != nil {
			t.Error(err)
		}
	})
}
