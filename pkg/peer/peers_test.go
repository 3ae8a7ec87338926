package peer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

const deadline = 10 * time.Second

func key(c byte) []byte { return bytes.Repeat([]byte{c}, MinimumKeyBytes) }

// newPeers returns the peers of a node, with the key k unless told otherwise.
func newPeers(t *testing.T, self string, keys ...[]byte) *Peers {
	t.Helper()
	if keys == nil {
		keys = [][]byte{key('k')}
	}
	return peersOf(t, Config{Self: self, Keys: keys})
}

func peersOf(t *testing.T, c Config) *Peers {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// listen serves a node to other nodes and returns where it is.
func listen(t *testing.T, p *Peers, public http.Handler) Node {
	t.Helper()
	s := httptest.NewServer(p.Handler(public))
	t.Cleanup(s.Close)
	return Node{ID: p.self, Address: s.URL}
}

// edge serves the public: it forwards everything to a node. What Forward could not do it
// answers with status 500 and the error.
func edge(t *testing.T, p *Peers, to Node) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.Forward(w, r, to); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    Config
		says string // empty: it will do
	}{
		{"good", Config{Self: "a", Keys: [][]byte{key('k')}}, ""},
		{"several keys", Config{Self: "a", Keys: [][]byte{key('k'), key('l')}}, ""},
		{"no id", Config{Keys: [][]byte{key('k')}}, "no id"},
		{"no key", Config{Self: "a"}, "no cluster key"},
		{"short key", Config{Self: "a", Keys: [][]byte{key('k'), []byte("short")}}, "key 2 has 5 bytes, needs 32"},
	} {
		p, err := New(tt.c)
		switch {
		case err == nil && tt.says != "", err != nil && (tt.says == "" || !strings.Contains(err.Error(), tt.says)):
			t.Errorf("%s: got %v", tt.name, err)
		case p != nil:
			p.Close()
		}
	}
}

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		address      string
		plain, onTLS bool // whether it will do without and with a TLS configuration
	}{
		{"http://10.0.0.7:7070", true, false},
		{"https://10.0.0.7:7070", true, true},
		{"http://[::1]:7070", true, false},
		{"", false, false},
		{"10.0.0.7:7070", false, false},
		{"http://", false, false},
		{"ftp://10.0.0.7", false, false},
		{"unix:/var/run/x", false, false},
		{"http://10.0.0.7:7070/", false, false},
		{"http://10.0.0.7:7070/path", false, false},
		{"http://10.0.0.7:7070?x=1", false, false},
		{"http://user@10.0.0.7:7070", false, false},
		{"http://10.0.0.7:7070#x", false, false},
		{"http://10.0.0.7:port", false, false},
		{"http://a b", false, false},
	} {
		for _, c := range []struct {
			tls  *tls.Config
			want bool
		}{{nil, tt.plain}, {&tls.Config{}, tt.onTLS}} {
			p := peersOf(t, Config{Self: "a", Keys: [][]byte{key('k')}, TLS: c.tls})
			_, err := p.base(Node{ID: "b", Address: tt.address})
			if (err == nil) != c.want || err != nil && !errors.Is(err, ErrUnreachable) {
				t.Errorf("%q, TLS %v: %v", tt.address, c.tls != nil, err)
			}
		}
	}
}
