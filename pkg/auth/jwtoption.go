package auth

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A JWTOption adjusts a JWT authenticator. Options that cannot be met make [NewJWT]
// fail.
type JWTOption func(*JWT) error

// WithKeys sets the keys for tokens whose issuer [WithIssuer] does not name, so if
// there is no such option, for all tokens, whose iss is then not looked at. It can be
// given once.
func WithKeys(source KeySource) JWTOption {
	return func(a *JWT) error {
		switch {
		case empty(source):
			return errors.New("no keys in WithKeys")
		case a.otherwise != nil:
			return errors.New("WithKeys given twice")
		}
		a.otherwise = source
		return nil
	}
}

// WithIssuer accepts tokens whose iss is the issuer, letter for letter, if they are
// signed with one of its own keys: no issuer can speak for another. It can be given
// once for each issuer.
func WithIssuer(issuer string, source KeySource) JWTOption {
	return func(a *JWT) error {
		switch {
		case issuer == "":
			return errors.New("issuer without a name")
		case empty(source):
			return fmt.Errorf("no keys of issuer %s", issuer)
		case a.issuers[issuer] != nil:
			return fmt.Errorf("issuer %s given twice", issuer)
		}
		a.issuers[issuer] = source
		return nil
	}
}

func empty(source KeySource) bool {
	keys, static := source.(StaticKeys)
	return source == nil || static && (len(keys) == 0 || slices.Contains(keys, nil))
}

// WithAudience accepts only tokens whose aud is or contains one of the audiences. The
// default is not to look at it, which is right only where the keys sign tokens for
// nobody else.
func WithAudience(audiences ...string) JWTOption {
	return func(a *JWT) error {
		if len(audiences) == 0 || slices.Contains(audiences, "") {
			return errors.New("audience without a name")
		}
		a.audiences = slices.Clone(audiences)
		return nil
	}
}

// WithLeeway sets how far the issuer's clock may differ: tokens are accepted so much
// before their nbf and after their exp, and their identities expire so much later. The
// default is 0; negative ones are refused.
func WithLeeway(d time.Duration) JWTOption {
	return func(a *JWT) error {
		if d < 0 {
			return fmt.Errorf("leeway %v is negative", d)
		}
		a.leeway = d
		return nil
	}
}

// WithExpirationRequired refuses tokens without exp. The default is to accept them for
// ever.
func WithExpirationRequired() JWTOption {
	return func(a *JWT) error {
		a.mustEnd = true
		return nil
	}
}

// WithSubjectClaim sets which claims may hold the identity's subject, and with it the
// user identifier. The first that has a value counts. The default is [NameIdentifier],
// then sub.
func WithSubjectClaim(claimTypes ...string) JWTOption {
	return func(a *JWT) error {
		if len(claimTypes) == 0 {
			return errors.New("no subject claim")
		}
		a.subject = slices.Clone(claimTypes)
		return nil
	}
}

// WithType sets what the header typ of a token may be, if it is there. Case does not
// matter, nor does a leading "application/". The default is JWT or at+jwt.
func WithType(types ...string) JWTOption {
	return func(a *JWT) error {
		if len(types) == 0 {
			return errors.New("no token type")
		}
		a.types = slices.Clone(types)
		return nil
	}
}
