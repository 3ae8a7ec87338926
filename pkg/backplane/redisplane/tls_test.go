package redisplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
)

// A Redis that speaks TLS itself, wants a certificate of its clients, and gives them a user:
// nodes get in with all of these, and say which is missing.
func TestTLSByRedis(t *testing.T) {
	authority := newAuthority(t)
	dir := t.TempDir()
	files := authority.write(t, dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	listener.Close()
	server := redistest.Start(t, "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "yes",
		"--tls-ca-cert-file", files.authority, "--tls-cert-file", files.certificate, "--tls-key-file", files.key)
	documentedUser(t, server, "server")

	roots := x509.NewCertPool()
	roots.AddCert(authority.certificate)
	of := func(password string, c *tls.Config) func(*Options) {
		return func(o *Options) { o.Username, o.Password, o.TLS = "node", password, c }
	}
	full := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{authority.pair}}
	url := "rediss://127.0.0.1:" + strconv.Itoa(port)

	n := start(t, url, of("the-password", full))
	n.join(t, "user:ada")
	n.send(t, "hi", "user:ada")
	n.awaitLast(t, "user:ada hi")

	for _, test := range []struct {
		name, url string
		option    func(*Options)
		want      string
	}{
		{"no certificate", url, of("the-password", &tls.Config{RootCAs: roots}), "certificate required"},
		{"unknown authority", url, of("the-password", &tls.Config{Certificates: full.Certificates}), "unknown authority"},
		{"other name", url, of("the-password", &tls.Config{RootCAs: roots, Certificates: full.Certificates, ServerName: "elsewhere"}), "elsewhere"},
		{"wrong password", url, of("wrong", full), "WRONGPASS"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := startDeaf(t, test.url, test.option)
			await.Until(t, "the node says why it is deaf", func() error {
				if err := n.Healthy(); err == nil || !strings.Contains(err.Error(), test.want) {
					return fmt.Errorf("it says %v", err)
				}
				return nil
			})
		})
	}
}

// An authority has signed itself, and stands for everybody.
type authority struct {
	certificate *x509.Certificate
	pair        tls.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, key}
}

type certificateFiles struct{ authority, certificate, key string }

// write writes what redis-server reads.
func (a authority) write(t *testing.T, dir string) certificateFiles {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, raw []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := write("certificate.pem", "CERTIFICATE", a.certificate.Raw)
	return certificateFiles{certificate, certificate, write("key.pem", "PRIVATE KEY", key)}
}
