package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/server"
)

// publicTLS is what clients are presented; nil: plain HTTP.
func publicTLS(c config, logger *slog.Logger) (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil
	}
	certificate, err := server.LoadCertificate(c.TLSCert, c.TLSKey, logger)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	return certificate.ServerTLS(), nil
}

// newPeers returns the other nodes, if there may be some, and what they are presented.
func newPeers(c config, self string, logger *slog.Logger) (*peer.Peers, *tls.Config, error) {
	if c.Redis == "" || c.PeerListen == "" {
		return nil, nil, nil
	}
	var present, expect *tls.Config
	if c.PeerTLSCert != "" {
		certificate, err := server.LoadCertificate(c.PeerTLSCert, c.PeerTLSKey, logger)
		if err != nil {
			return nil, nil, fmt.Errorf("--peer-tls-cert: %w", err)
		}
		if present, expect, err = certificate.MutualTLS(c.PeerTLSCA, c.PeerTLSName); err != nil {
			return nil, nil, fmt.Errorf("--peer-tls-ca: %w", err)
		}
	}
	peers, err := peer.New(peer.Config{Self: self, Keys: clusterKeys(c), TLS: expect, Logger: logger})
	return peers, present, err
}
