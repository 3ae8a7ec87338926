package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// lookInterval is how often a certificate's files are looked at, at most.
const lookInterval = 5 * time.Second

// A Certificate is a certificate with its key, from two files in PEM that are read again
// after they changed: at the first handshake that comes a few seconds later, so that
// nothing runs in between. A pair that does not fit, as while only one of the files has
// been replaced, is logged and the one before stays. It may be used concurrently.
type Certificate struct {
	certFile, keyFile string
	interval          time.Duration
	logger            *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate // never nil
	content [sha256.Size]byte
	looked  time.Time
}

// LoadCertificate reads a certificate, followed in its file by those that lead from it to
// its root, and its key. The logger is told of changes, and the default is
// slog.Default().
func LoadCertificate(certFile, keyFile string, logger *slog.Logger) (*Certificate, error) {
	if logger == nil {
		logger = slog.Default()
	}
	c := &Certificate{certFile: certFile, keyFile: keyFile, interval: lookInterval, logger: logger}
	if err := c.read(); err != nil {
		return nil, err
	}
	c.looked = time.Now()
	return c, nil
}

// ServerTLS returns what a listener needs to present the certificate: TLS 1.2 or later,
// with the cipher suites and curves that Go takes for good. The caller may change it.
func (c *Certificate) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

// MutualTLS returns what nodes need to know each other: each presents its certificate and
// checks that the other's was issued, for servers and for clients, by one of those in a
// file of PEM, which is read once. Certificates of the nodes have to name serverName, or
// if that is empty the host that the node is advertised by.
func (c *Certificate) MutualTLS(caFile, serverName string) (server, client *tls.Config, err error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return nil, nil, fmt.Errorf("read certificate authorities: %s has no certificate", caFile)
	}
	server = c.ServerTLS()
	server.MinVersion = tls.VersionTLS13
	server.ClientAuth = tls.RequireAndVerifyClientCert
	server.ClientCAs = authorities
	client = &tls.Config{
		MinVersion:           tls.VersionTLS13,
		RootCAs:              authorities,
		ServerName:           serverName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
	return server, client, nil
}

// get returns the certificate of now. Who finds it being read waits.
func (c *Certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) >= c.interval {
		if err := c.read(); err != nil {
			c.logger.Error("certificate stays as it was", "error", err)
		}
		c.looked = time.Now()
	}
	return c.current
}

// read takes over what the files have, if that is new.
func (c *Certificate) read() error {
	certificate, err := os.ReadFile(c.certFile)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	content := sha256.Sum256(bytes.Join([][]byte{certificate, key}, []byte{0}))
	if c.current != nil && content == c.content {
		return nil
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	if time.Now().After(pair.Leaf.NotAfter) {
		return fmt.Errorf("certificate %s has expired at %v", c.certFile, pair.Leaf.NotAfter)
	}
	if c.current != nil {
		c.logger.Info("certificate read anew", "file", c.certFile, "until", pair.Leaf.NotAfter)
	}
	c.current, c.content = &pair, content
	return nil
}
