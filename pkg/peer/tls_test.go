package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// An authority issues the certificates of a cluster's nodes.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	certificate := a.issue(t, template)
	a.cert, a.key = certificate.Leaf, certificate.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for both sides of a connection; the first signs itself.
func (a authority) issue(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.Subject = pkix.Name{CommonName: "node"}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// node issues a certificate for a node's address.
func (a authority) node(t *testing.T) tls.Certificate {
	return a.issue(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

func TestMutualTLS(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	listener := func(t *testing.T, a authority) Node {
		ended := make(chan error, 1)
		sockets := echoSocket(ended)
		s := httptest.NewUnstartedServer(newPeers(t, "home").Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Upgrade") != "" {
				sockets.ServeHTTP(w, r)
				return
			}
			io.WriteString(w, "hello")
		})))
		s.TLS = &tls.Config{Certificates: []tls.Certificate{a.node(t)}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool}
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		s.StartTLS()
		t.Cleanup(s.Close)
		return Node{ID: "home", Address: s.URL}
	}
	with := func(c ...tls.Certificate) *tls.Config { return &tls.Config{RootCAs: ours.pool, Certificates: c} }
	plain := listen(t, newPeers(t, "home"), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, tt := range []struct {
		name   string
		to     Node
		client *tls.Config
		want   error
	}{
		{"both of the cluster", listener(t, ours), with(ours.node(t)), nil},
		{"no certificate", listener(t, ours), with(), ErrUnreachable},
		{"another authority's certificate", listener(t, ours), with(theirs.node(t)), ErrUnreachable},
		{"another authority's listener", listener(t, theirs), with(ours.node(t)), ErrUnreachable},
		{"no configuration", listener(t, ours), nil, ErrUnreachable},
		{"no TLS there", plain, with(ours.node(t)), ErrUnreachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			away := peersOf(t, Config{Self: "edge", Keys: [][]byte{key('k')}, TLS: tt.client})
			outcome := make(chan error, 2)
			public := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				outcome <- away.Forward(w, r, tt.to)
			}))
			defer public.Close()
			response, err := http.Get(public.URL)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			response.Body.Close()
			if got := <-outcome; !errors.Is(got, tt.want) || err != nil || (string(body) == "hello") != (tt.want == nil) {
				t.Errorf("error %v, client got %q, %v", got, body, err)
			}
			if _, err := away.Call(t.Context(), tt.to, "x", nil); !errors.Is(err, tt.want) && !(tt.want == nil && errors.Is(err, ErrRefused)) {
				t.Errorf("call: %v", err)
			}
			if tt.want != nil {
				return
			}
			conn := dial(t, public)
			if err := conn.WriteMessage(1, []byte("over TLS")); err != nil {
				t.Fatal(err)
			}
			if _, p, err := conn.ReadMessage(); err != nil || string(p) != "over TLS" {
				t.Errorf("got %q, %v", p, err)
			}
		})
	}
}

// A node that takes connections and then says nothing is given up.
func TestSilentTLS(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	p := newPeers(t, "edge")
	p.transport.TLSHandshakeTimeout = 50 * time.Millisecond
	if _, err := p.Call(t.Context(), Node{"home", "https://" + silent.Addr().String()}, "x", nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}
