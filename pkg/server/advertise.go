package server

import (
	"errors"
	"net"
	"net/url"
	"os"
	"strings"
)

// advertisedURL returns the base URL of the node-to-node listener for other nodes: that
// of the host, with or without a port, or a guess if the host is empty.
func advertisedURL(listening net.Addr, host string, secure bool) (string, error) {
	own, port, err := net.SplitHostPort(listening.String())
	if err != nil {
		return "", err
	}
	if host == "" {
		host = own
		if ip := net.ParseIP(own); ip == nil || ip.IsUnspecified() {
			if host, err = os.Hostname(); err != nil {
				return "", err
			}
		}
	} else if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}
	if secure {
		u.Scheme = "https"
	}
	switch again, err := url.Parse(u.String()); {
	case err != nil:
		return "", errors.Unwrap(err)
	case host == "" || port == "" || *again != u:
		return "", errors.New("want a host, or a host and a port")
	}
	return u.String(), nil
}
