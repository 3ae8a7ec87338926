package main

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// settings are what the environment says.
type settings struct {
	listen                          string
	redis                           string
	secret, clusterKey              []byte
	issuerKey                       any // a public key; nil: there is no issuer
	operationTimeout, drainDuration time.Duration
	probeInterval, sendTimeout      time.Duration
}

// readSettings reads the environment, or says what in it will not do.
//
//	LISTEN             address to serve on; 127.0.0.1:5001
//	REDIS              Redis URL; unset: the in-process backplane
//	JWT_SECRET         HS256 secret of tokens without an issuer, required
//	CLUSTER_KEY        what nodes authenticate each other by; JWT_SECRET
//	ISSUER_KEY         public key in PEM of the issuer of RS256 tokens; unset: there is none
//	OPERATION_TIMEOUT  of operations on other nodes' connections; the hub's default
//	PROBE_INTERVAL     of nodes looking for each other; the backplane's default
//	SEND_TIMEOUT       of one write to a client; the hub's default
//	DRAIN_DURATION     over which connections are closed after SIGTERM; 0
func readSettings(getenv func(string) string) (settings, error) {
	s := settings{
		listen:     cmp.Or(getenv("LISTEN"), "127.0.0.1:5001"),
		redis:      getenv("REDIS"),
		secret:     []byte(getenv("JWT_SECRET")),
		clusterKey: []byte(cmp.Or(getenv("CLUSTER_KEY"), getenv("JWT_SECRET"))),
	}
	var errs [5]error
	s.issuerKey, errs[0] = publicKey(getenv("ISSUER_KEY"))
	s.operationTimeout, errs[1] = duration(getenv, "OPERATION_TIMEOUT")
	s.probeInterval, errs[2] = duration(getenv, "PROBE_INTERVAL")
	s.sendTimeout, errs[3] = duration(getenv, "SEND_TIMEOUT")
	s.drainDuration, errs[4] = duration(getenv, "DRAIN_DURATION")
	return s, errors.Join(errs[:]...)
}

func publicKey(text string) (any, error) {
	if text == "" {
		return nil, nil
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("ISSUER_KEY is not in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("ISSUER_KEY: %w", err)
	}
	return key, nil
}

// duration returns 0 where nothing is set.
func duration(getenv func(string) string, name string) (time.Duration, error) {
	v := getenv(name)
	if v == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%s is %q, want a duration such as 1.5s", name, v)
	}
	return d, nil
}
