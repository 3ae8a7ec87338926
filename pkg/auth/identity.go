package auth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// NameIdentifier is the claim type that holds the user identifier in tokens of
// issuers that write claim URIs. It goes before "sub".
const NameIdentifier = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"

// An Identity is who makes a request. It is not changed once made, so it may be
// shared.
type Identity struct {
	// Subject is the name-identifier claim, which is the user identifier unless the
	// application derives another. Empty: nobody in particular.
	Subject string
	// Claims are all that the credentials say.
	Claims Claims
	// Expires is when the credentials end. Zero: never.
	Expires time.Time
	// Authenticated says that credentials were presented and hold.
	Authenticated bool
}

// Anonymous is the identity of a request without credentials.
var Anonymous = &Identity{}

// Claims are statements about an identity, by claim type.
type Claims map[string]any

// Values returns the values of the claim in order: none, one, or as many as the
// token lists. Values that are not strings are formatted.
func (c Claims) Values(claimType string) []string {
	switch v := c[claimType].(type) {
	case nil:
		return nil
	case []any:
		values := make([]string, 0, len(v))
		for _, e := range v {
			values = append(values, fmt.Sprint(e))
		}
		return values
	default:
		return []string{fmt.Sprint(v)}
	}
}

// First returns the first value of the claim, and whether there is one.
func (c Claims) First(claimType string) (string, bool) {
	values := c.Values(claimType)
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

// Has reports whether value is among the values of the claim.
func (c Claims) Has(claimType, value string) bool {
	for _, v := range c.Values(claimType) {
		if v == value {
			return true
		}
	}
	return false
}

// ErrUnauthenticated reports credentials that do not hold.
var ErrUnauthenticated = errors.New("credentials refused")

// An Authenticator says who makes a request. It is called for every HTTP request to
// a hub, concurrently, and must not keep the request.
type Authenticator interface {
	// Authenticate returns [Anonymous] for a request without credentials, and an
	// error for credentials that do not hold, which the caller of the request must
	// not be told in detail.
	Authenticate(r *http.Request) (*Identity, error)
}

// AuthenticatorFunc is a function as an [Authenticator].
type AuthenticatorFunc func(*http.Request) (*Identity, error)

// Authenticate calls f.
func (f AuthenticatorFunc) Authenticate(r *http.Request) (*Identity, error) { return f(r) }

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
