package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gorilla/websocket"
	"github.com/rs/cors"

	"github.com/heliograph/heliograph/pkg/peer"
)

// preflightSeconds is for how long a browser may remember what a page may do: the
// longest that any takes.
const preflightSeconds = 7200

// Origins says which web pages of other origins may use an endpoint. Pages of the
// endpoint's own host always may, and so may whatever is no browser and names no
// origin. The zero value allows no others. It may be used concurrently.
type Origins struct {
	allowed     map[string]struct{}
	all         bool
	credentials bool
	cors        *cors.Cors // nil: no page of another origin reads what it is answered
}

// NewOrigins returns the origins of a list, each as a browser names it: a scheme, a host,
// and a port unless it is the scheme's own, such as "https://app.example.com". "*" alone
// means all.
//
// Credentials allows cookies and the like, which the official JavaScript client sends
// unless it is told withCredentials: false: without them it cannot connect from another
// origin. Cookies that come from there although they are not allowed are taken off the
// request. It is an error to allow credentials to all, or to name what no browser does.
func NewOrigins(credentials bool, origins ...string) (*Origins, error) {
	o := &Origins{allowed: make(map[string]struct{}), credentials: credentials}
	for _, text := range origins {
		if text == "*" {
			if credentials {
				return nil, errors.New("origin *: with credentials, origins have to be named one by one")
			}
			o.all = true
			continue
		}
		origin, err := parseOrigin(text)
		if err != nil {
			return nil, fmt.Errorf("origin %q: %w", text, err)
		}
		o.allowed[origin] = struct{}{}
	}
	if len(origins) > 0 {
		o.cors = cors.New(cors.Options{
			AllowOriginFunc: o.allows,
			// What the endpoint takes. Clients send headers of their own and their
			// application's; none of them tells more than the token does.
			AllowedMethods:   []string{http.MethodGet, http.MethodPost, http.MethodDelete},
			AllowedHeaders:   []string{"*"},
			AllowCredentials: credentials,
			MaxAge:           preflightSeconds,
		})
	}
	return o, nil
}

// AllowedOrigins lets pages of other origins use the endpoint: it answers what browsers
// ask for them (CORS), and takes their WebSockets, which browsers do not ask for. The
// default is to take pages of the endpoint's own host alone.
func AllowedOrigins(o *Origins) EndpointOption {
	return func(e *Endpoint) { e.origins = o }
}

// parseOrigin returns the origin as browsers write it.
func parseOrigin(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", errors.Unwrap(err)
	case u.Scheme == "" || u.Hostname() == "":
		return "", errors.New("want a scheme and a host, as in https://app.example.com")
	case *u != url.URL{Scheme: u.Scheme, Host: u.Host}:
		return "", errors.New("want nothing behind the host and its port, not even a slash")
	case strings.Contains(u.Host, "*"):
		return "", errors.New("want the whole host")
	}
	for _, r := range u.Host {
		if r > '~' {
			return "", errors.New("want the host in ASCII, as xn--…")
		}
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host, nil
}

// admit answers a request that is for the browser alone, or that comes from a page which
// may not make it, and returns nil. Otherwise it returns the request to go on with. What
// browsers ask before a request has no credentials, so this comes before them. What
// another node forwards has been admitted there, and gets its headers there.
func (o *Origins) admit(w http.ResponseWriter, r *http.Request) *http.Request {
	origin := r.Header.Get("Origin")
	if _, forwarded := peer.Forwarded(r); forwarded || origin == "" || sameHost(origin, r) {
		return r
	}
	switch {
	case websocket.IsWebSocketUpgrade(r):
		if !o.allows(origin) {
			w.WriteHeader(http.StatusForbidden)
			return nil
		}
	case o.cors != nil:
		o.cors.HandlerFunc(w, r)
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			return nil
		}
	}
	if o.credentials && o.allows(origin) || r.Header.Get("Cookie") == "" {
		return r
	}
	r = r.Clone(r.Context())
	r.Header.Del("Cookie")
	return r
}

func (o *Origins) allows(origin string) bool {
	_, named := o.allowed[strings.ToLower(origin)]
	return named || o.all
}

// sameHost reports whether a page is of the host that the request is for. Whether by
// HTTP or HTTPS is not known behind a balancer that ends TLS.
func sameHost(origin string, r *http.Request) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
