package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An authority issues certificates for a test.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string // its own certificate
	issued      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t), file: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test authority"},
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a pair of files for a host, for servers and clients, over those that
// there are.
func (a *authority) issue(directory, host string, until time.Time) (certFile, keyFile string) {
	a.t.Helper()
	a.issued++
	key := newKey(a.t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1 + a.issued),
		NotAfter:     until,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(directory, "tls.crt"), filepath.Join(directory, "tls.key")
	writePEM(a.t, certFile, "CERTIFICATE", der)
	writePEM(a.t, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func (a *authority) load(directory, host string) *Certificate {
	a.t.Helper()
	certFile, keyFile := a.issue(directory, host, time.Now().Add(time.Hour))
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		a.t.Fatal(err)
	}
	c.interval = 0 // the files are looked at with each handshake
	return c
}

// trusting is what a client needs that has no certificate.
func trusting(a *authority, name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return &tls.Config{RootCAs: pool, ServerName: name}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	writeFile(t, file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func writeFile(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateIsReadAnew(t *testing.T) {
	a, directory := newAuthority(t), t.TempDir()
	c := a.load(directory, "hub.example.com")
	var log bytes.Buffer
	c.logger = slog.New(slog.NewTextHandler(&log, nil))
	presents := func(serial int64, logged string) {
		t.Helper()
		got, err := c.ServerTLS().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.Leaf.SerialNumber.Int64() != serial {
			t.Errorf("certificate %v is presented, want %d", got.Leaf.SerialNumber, serial)
		}
		if logged == "" && log.Len() > 0 || !strings.Contains(log.String(), logged) {
			t.Errorf("logged is %q, want %q", &log, logged)
		}
		log.Reset()
	}
	presents(2, "")

	a.issue(directory, "hub.example.com", time.Now().Add(time.Hour))
	presents(3, "certificate read anew")
	presents(3, "")

	writeFile(t, c.keyFile, []byte("no key"))
	presents(3, "certificate stays as it was")
	a.issue(directory, "hub.example.com", time.Now().Add(-time.Hour))
	presents(3, "has expired")
	if err := os.Remove(c.certFile); err != nil {
		t.Fatal(err)
	}
	presents(3, "certificate stays as it was")

	a.issue(directory, "hub.example.com", time.Now().Add(time.Hour))
	presents(5, "certificate read anew")
}

// Files are looked at now and then, not with every handshake.
func TestCertificateIsLookedAtSeldom(t *testing.T) {
	a, directory := newAuthority(t), t.TempDir()
	c := a.load(directory, "hub.example.com")
	c.interval = time.Hour
	a.issue(directory, "hub.example.com", time.Now().Add(time.Hour))
	if got := c.get().Leaf.SerialNumber.Int64(); got != 2 {
		t.Errorf("certificate %d is presented", got)
	}
	c.looked = time.Now().Add(-time.Hour)
	if got := c.get().Leaf.SerialNumber.Int64(); got != 3 {
		t.Errorf("certificate %d is presented, an hour later", got)
	}
}

func TestLoadCertificateFails(t *testing.T) {
	a, one, two := newAuthority(t), t.TempDir(), t.TempDir()
	certFile, keyFile := a.issue(one, "hub.example.com", time.Now().Add(time.Hour))
	_, otherKey := a.issue(two, "hub.example.com", time.Now().Add(time.Hour))
	for _, tt := range []struct{ cert, key, err string }{
		{"nowhere", keyFile, "read certificate: open nowhere"},
		{certFile, "nowhere", "read key: open nowhere"},
		{certFile, otherKey, "private key does not match"},
		{keyFile, keyFile, "certificate " + keyFile},
	} {
		if _, err := LoadCertificate(tt.cert, tt.key, nil); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s, %s: got %v, want %q", tt.cert, tt.key, err, tt.err)
		}
	}
	c := a.load(t.TempDir(), "hub.example.com")
	for file, want := range map[string]string{"nowhere": "open nowhere", keyFile: "has no certificate"} {
		if _, _, err := c.MutualTLS(file, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("authorities in %s: got %v, want %q", file, err, want)
		}
	}
}

func TestMutualTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	server, _, err := ours.load(t.TempDir(), "peer.example").MutualTLS(ours.file, "")
	if err != nil {
		t.Fatal(err)
	}
	client := func(issuer *authority, trusts *authority, name string) *tls.Config {
		_, client, err := issuer.load(t.TempDir(), "peer.example").MutualTLS(trusts.file, name)
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	for _, tt := range []struct {
		name    string
		client  *tls.Config
		refused bool
	}{
		{"a node", client(ours, ours, "peer.example"), false},
		{"nobody", trusting(ours, "peer.example"), true},
		{"a stranger", client(others, ours, "peer.example"), true},
		{"a node that does not trust this one", client(ours, others, "peer.example"), true},
		{"a node that looks for another", client(ours, ours, "other.example"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", server)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan error, 1)
			go func() { // ends when the client has gone, or has never come
				conn, err := l.Accept()
				if err == nil {
					defer conn.Close()
					_, err = conn.Write([]byte("!"))
				}
				served <- err
			}()
			conn, err := tls.Dial("tcp", l.Addr().String(), tt.client)
			if err == nil {
				defer conn.Close()
				// Only what comes then says that the server took the client's certificate.
				_, err = conn.Read(make([]byte, 1))
			}
			if serverErr := <-served; (err != nil) != tt.refused || (serverErr != nil) != tt.refused {
				t.Errorf("the client got %v and the server %v", err, serverErr)
			}
		})
	}
}
