package server

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
)

func TestAdvertisedURL(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	all, one := &net.TCPAddr{Port: 7070}, &net.TCPAddr{IP: net.IPv4(10, 0, 0, 7), Port: 7070}
	for _, tt := range []struct {
		listening net.Addr
		host      string
		secure    bool
		want      string // "": an error
	}{
		{one, "", false, "http://10.0.0.7:7070"},
		{one, "", true, "https://10.0.0.7:7070"},
		{&net.TCPAddr{IP: net.ParseIP("fd00::7"), Port: 7070}, "", false, "http://[fd00::7]:7070"},
		{all, "", false, "http://" + name + ":7070"},
		{&net.TCPAddr{IP: net.IPv6unspecified, Port: 7070}, "", false, "http://" + name + ":7070"},
		{all, "10.0.0.7", false, "http://10.0.0.7:7070"},
		{all, "10.0.0.7:80", false, "http://10.0.0.7:80"},
		{all, "fd00::7", false, "http://[fd00::7]:7070"},
		{all, "[fd00::7]", false, "http://[fd00::7]:7070"},
		{all, "[fd00::7]:80", true, "https://[fd00::7]:80"},
		{all, "node-7.nodes", true, "https://node-7.nodes:7070"},
		{all, "http://10.0.0.7:7070", false, ""},
		{all, "node-7/chat", false, ""},
		{all, "ada@node-7", false, ""},
		{all, ":80", false, ""},
		{all, "node-7:port", false, ""},
		{all, "node 7", false, ""},
	} {
		got, err := advertisedURL(tt.listening, tt.host, tt.secure)
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%v, %q: got %q, %v, want %q", tt.listening, tt.host, got, err, tt.want)
		}
	}
}

// announced is a backplane that tells what a node advertises.
type announced struct {
	backplane.Backplane
	address chan string
}

func (a announced) Advertise(address string) { a.address <- address }

func newPeers(t *testing.T, c peer.Config) *peer.Peers {
	t.Helper()
	c.Keys = [][]byte{bytes.Repeat([]byte("k"), peer.MinimumKeyBytes)}
	p, err := peer.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// One node forwards to the other what comes to its public listener.
func TestNodeToNode(t *testing.T) {
	a := newAuthority(t)
	server, client, err := a.load(t.TempDir(), "peer.example").MutualTLS(a.file, "peer.example")
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			home := Config{
				Backplane:  announced{backplane.NewMemory(), make(chan string, 1)},
				Peers:      newPeers(t, peer.Config{Self: "home"}),
				PeerListen: "127.0.0.1:0",
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					from, forwarded := peer.Forwarded(r)
					fmt.Fprintf(w, "%s from %s, %v by %s", r.Host, r.RemoteAddr, forwarded, from)
					w.(http.Flusher).Flush()
					if r.URL.Path == "/stream" {
						<-r.Context().Done()
					}
				}),
			}
			away := Config{Peers: newPeers(t, peer.Config{Self: "away"}), PeerListen: "127.0.0.1:0"}
			if secure {
				home.PeerTLS, away.PeerTLS = server, server
				away.Peers = newPeers(t, peer.Config{Self: "away", TLS: client})
			}
			where := make(chan peer.Node, 1)
			away.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				to := <-where
				where <- to
				if err := away.Peers.Forward(w, r, to); err != nil {
					w.WriteHeader(http.StatusBadGateway)
					fmt.Fprint(w, err)
				}
			})
			one, two := start(t, home), start(t, away)
			address := <-home.Backplane.(announced).address
			where <- peer.Node{ID: "home", Address: address}

			status, body := one.get(two.public, "/")
			if want := two.public + " from 127.0.0.1:"; status != 200 || !strings.HasPrefix(body, want) || !strings.HasSuffix(body, ", true by away") {
				t.Errorf("forwarded: got %d %q", status, body)
			}
			if _, body := one.get(one.public, "/"); !strings.HasSuffix(body, ", false by ") {
				t.Errorf("not forwarded: got %q", body)
			}
			if secure != strings.HasPrefix(address, "https://") {
				t.Errorf("advertised is %s", address)
			}
			if !secure {
				if status, _ := one.get(strings.TrimPrefix(address, "http://"), "/"); status != http.StatusForbidden {
					t.Errorf("a stranger is answered %d", status)
				}
			} else if answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: trusting(a, "peer.example")}}).Get(address); err == nil {
				answer.Body.Close()
				t.Error("a stranger without a certificate is answered")
			}

			// What a node forwards does not keep it from leaving.
			stream, err := http.Get("http://" + two.public + "/stream")
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Body.Close()
			two.ends()
			// Over HTTP/2 the other node may end the stream in order when it is given up.
			if _, err := io.ReadAll(stream.Body); err == nil && !secure {
				t.Error("a stream that was cut looks whole")
			}
			one.ends()
		})
	}
}

func TestPeerListenFails(t *testing.T) {
	for _, c := range []Config{
		{PeerListen: "nowhere:x"},
		{PeerListen: "127.0.0.1:0", PeerAdvertise: "http://node-7"},
	} {
		c.Listen, c.Handler, c.Peers = "127.0.0.1:0", http.NotFoundHandler(), newPeers(t, peer.Config{Self: "node"})
		if err := Run(t.Context(), c); err == nil {
			t.Errorf("%s, %s: no error", c.PeerListen, c.PeerAdvertise)
		}
	}
}
