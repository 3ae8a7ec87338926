package auth

import (
	"errors"
	"net/http"
	"strings"
)

// ErrUnauthenticated reports credentials that do not hold.
var ErrUnauthenticated = errors.New("credentials refused")

// An Authenticator says who makes a request. It is called for every HTTP request to
// a hub, concurrently, and must not keep the request.
type Authenticator interface {
	// Authenticate returns [Anonymous] for a request without credentials, and an
	// error for credentials that do not hold, which the caller of the request must
	// not be told in detail. The error wraps [ErrUnauthenticated] and does not repeat
	// the credentials, since it is logged.
	Authenticate(r *http.Request) (*Identity, error)
}

// AuthenticatorFunc is a function as an [Authenticator].
type AuthenticatorFunc func(*http.Request) (*Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(r *http.Request) (*Identity, error) { return f(r) }

// FirstOf returns an authenticator that asks the given ones in order. The first that
// finds credentials decides, by the identity that it makes of them or by its refusal:
// credentials that do not hold are not forgiven because others do. If none finds any,
// the last one's answer is given; of no authenticators, [Anonymous].
//
// Authenticators that look for credentials in the same place cannot be combined so, as
// the first of them decides alone. Tokens of several issuers are a matter of one [JWT].
func FirstOf(authenticators ...Authenticator) Authenticator {
	return AuthenticatorFunc(func(r *http.Request) (*Identity, error) {
		id := Anonymous
		for _, a := range authenticators {
			var err error
			if id, err = a.Authenticate(r); err != nil || id.Authenticated {
				return id, err
			}
		}
		return id, nil
	})
}

// BearerToken returns the request's bearer token: from the Authorization header, or
// else from the query parameter access_token, which is where browsers put it that
// cannot set headers on a WebSocket. Empty: there is none.
func BearerToken(r *http.Request) string {
	const scheme = "bearer "
	if h := r.Header.Get("Authorization"); len(h) > len(scheme) && strings.EqualFold(h[:len(scheme)], scheme) {
		return strings.TrimSpace(h[len(scheme):])
	}
	return r.URL.Query().Get("access_token")
}
