package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// proxyHeaders are those in which proxies tell of the request that they got.
var proxyHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto", "X-Real-Ip"}

// fromProxies believes what proxies in these networks tell, and nobody else: it sets the
// request's RemoteAddr to the address of the client as they saw it, from X-Forwarded-For,
// and takes the headers of proxies off all requests that come from elsewhere.
func fromProxies(trusted []netip.Prefix, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if client := clientAddress(trusted, r); client != "" {
			r.RemoteAddr = client
		} else {
			for _, name := range proxyHeaders {
				r.Header.Del(name)
			}
		}
		h.ServeHTTP(w, r)
	})
}

// clientAddress returns the client's address, with port 0 if no proxy tells it, and
// nothing if the request does not come from a trusted proxy. Each proxy adds to the end
// whom it got the request from, so the client is the last one that is not trusted: what
// stands before is its own claim.
func clientAddress(trusted []netip.Prefix, r *http.Request) string {
	isTrusted := func(a netip.AddrPort) bool {
		return slices.ContainsFunc(trusted, func(p netip.Prefix) bool { return p.Contains(a.Addr()) })
	}
	client, ok := parseAddress(r.RemoteAddr)
	if !ok || !isTrusted(client) {
		return ""
	}
	told := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, text := range slices.Backward(told) {
		a, ok := parseAddress(strings.TrimSpace(text))
		if !ok {
			break
		}
		if client = a; !isTrusted(a) {
			break
		}
	}
	return client.String()
}

// parseAddress reads an address with or without a port, as proxies write them.
func parseAddress(text string) (netip.AddrPort, bool) {
	host, port := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), uint64(0)
	if h, p, err := net.SplitHostPort(text); err == nil {
		if port, err = strconv.ParseUint(p, 10, 16); err != nil {
			return netip.AddrPort{}, false
		}
		host = h
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, false
	}
	// An IPv4 client of an IPv6 socket is in the networks of IPv4, and one with a zone
	// in those without.
	return netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(port)), true
}
