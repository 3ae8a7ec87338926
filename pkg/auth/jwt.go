package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// MaximumTokenBytes bounds a token; a longer one is refused unseen.
const MaximumTokenBytes = 64 << 10

// A JWT authenticates requests by JSON Web Tokens (RFC 7519), which they bear as
// [BearerToken] says. A request without a token is [Anonymous]. The identity's subject
// is the first claim that is there of [NameIdentifier] and sub ([WithSubjectClaim]).
//
// A token holds if its signature verifies with a key of its issuer that is pinned to
// the algorithm which the token names; if its issuer, audience and type are as the
// options say; and if the time is within its nbf and exp. What it says about where to
// find keys (jku, jwk, x5u) is not looked at, and one with extensions that must be
// understood (crit) is refused, as none is.
//
// A JWT starts no goroutines; its key sources may (see [JWKS]).
type JWT struct {
	issuers   map[string]KeySource
	otherwise KeySource // for tokens of all other issuers; nil: they are refused
	audiences []string  // empty: any
	types     []string
	subject   []string
	leeway    time.Duration
	mustEnd   bool
}

// NewJWT returns an authenticator for tokens signed with keys of [WithKeys] or
// [WithIssuer], of which there must be one. The error names all options that will not
// do.
func NewJWT(options ...JWTOption) (*JWT, error) {
	a := &JWT{
		issuers: make(map[string]KeySource),
		types:   []string{"JWT", "at+jwt"},
		subject: []string{NameIdentifier, "sub"},
	}
	var wrong []error
	for _, o := range options {
		if err := o(a); err != nil {
			wrong = append(wrong, err)
		}
	}
	if len(wrong) == 0 && a.otherwise == nil && len(a.issuers) == 0 {
		wrong = append(wrong, errors.New("no keys"))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, fmt.Errorf("new JWT authenticator: %w", err)
	}
	return a, nil
}

// HS256 returns an authenticator for JSON Web Tokens signed by HMAC-SHA256 with the
// secret, of at least [MinimumSecretBytes]. A token's exp and nbf are checked if it
// has them, with no tolerance; issuer and audience are not looked at. It is a [JWT]
// without further options.
func HS256(secret []byte) (Authenticator, error) {
	key, err := NewKey(secret, "HS256")
	if err != nil {
		return nil, err
	}
	return NewJWT(WithKeys(StaticKeys{key}))
}

// Authenticate implements [Authenticator]. Its errors say what of the token is not as
// it should be, and how it should be, but do not repeat the token.
func (a *JWT) Authenticate(r *http.Request) (*Identity, error) {
	token := BearerToken(r)
	if token == "" {
		return Anonymous, nil
	}
	return a.Verify(r.Context(), token)
}

// Verify returns the identity that a token stands for, for tokens that come in another
// way than [BearerToken] knows. The errors are those of Authenticate.
func (a *JWT) Verify(ctx context.Context, token string) (*Identity, error) {
	id, err := a.verify(ctx, token)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	return id, nil
}

// parser checks signatures only: what it has to say about claims does not say what
// was expected of them.
var parser = jwt.NewParser(jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation())

func (a *JWT) verify(ctx context.Context, token string) (*Identity, error) {
	if len(token) > MaximumTokenBytes {
		return nil, fmt.Errorf("token has %d bytes, limit %d", len(token), MaximumTokenBytes)
	}
	claims := new(claimSet)
	var keyErr error // as it was, without the parser's words around it
	_, err := parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		var keys jwt.VerificationKeySet
		keys, keyErr = a.keys(ctx, t.Header, claims)
		return keys, keyErr
	})
	switch {
	case keyErr != nil:
		return nil, keyErr
	case err != nil:
		return nil, err
	}
	return a.identity(claims, time.Now())
}

// keys returns what the token may have been signed with, going by what it says of
// itself, which is not to be trusted yet: header and claims choose among the keys, but
// only a signature by the issuer's key and the key's algorithm will verify.
func (a *JWT) keys(ctx context.Context, header map[string]any, claims *claimSet) (set jwt.VerificationKeySet, err error) {
	if claims.MapClaims == nil { // the payload null, which is never unmarshalled
		return set, errNoClaims
	}
	if _, ok := header["crit"]; ok {
		return set, errors.New("header crit demands extensions, and none is understood")
	}
	if err := a.checkType(header); err != nil {
		return set, err
	}
	source, err := a.source(claims)
	if err != nil {
		return set, err
	}
	id, _, err := stringAt(header, "kid")
	if err != nil {
		return set, fmt.Errorf("header %w", err)
	}
	found, err := source.Keys(ctx, id)
	if err != nil {
		return set, err
	}
	if len(found) == 0 {
		return set, fmt.Errorf("no key with the id %.40q", id)
	}
	algorithm, _ := header["alg"].(string)
	pinned := make(map[string]struct{})
	for _, k := range found {
		if slices.Contains(k.algorithms, algorithm) {
			set.Keys = append(set.Keys, k.material)
		}
		for _, a := range k.algorithms {
			pinned[a] = struct{}{}
		}
	}
	if len(set.Keys) == 0 {
		return set, fmt.Errorf("header alg is %.40q, want %s", algorithm, oneOf(slices.Sorted(maps.Keys(pinned))))
	}
	return set, nil
}

// checkType looks at the token's declared type, so that no token made for another
// purpose by the same issuer is taken for one of these (RFC 8725, section 3.11).
func (a *JWT) checkType(header map[string]any) error {
	typ, ok, err := stringAt(header, "typ")
	if err != nil {
		return fmt.Errorf("header %w", err)
	}
	const prefix = "application/" // may be left out (RFC 7515, section 4.1.9)
	if len(typ) > len(prefix) && strings.EqualFold(typ[:len(prefix)], prefix) {
		typ = typ[len(prefix):]
	}
	if ok && !slices.ContainsFunc(a.types, func(t string) bool { return strings.EqualFold(t, typ) }) {
		return fmt.Errorf("header typ is %.40q, want %s", typ, oneOf(a.types))
	}
	return nil
}

func (a *JWT) source(claims *claimSet) (KeySource, error) {
	if len(a.issuers) == 0 {
		return a.otherwise, nil
	}
	issuer, ok, err := stringAt(claims.MapClaims, "iss")
	if err != nil {
		return nil, fmt.Errorf("claim %w", err)
	}
	if source, ok := a.issuers[issuer]; ok {
		return source, nil
	}
	if a.otherwise != nil {
		return a.otherwise, nil
	}
	want := oneOf(slices.Sorted(maps.Keys(a.issuers)))
	if !ok {
		return nil, fmt.Errorf("claim iss is missing, want %s", want)
	}
	return nil, fmt.Errorf("claim iss is %.80q, want %s", issuer, want)
}

// identity makes an identity of claims whose signature has been verified, if they are
// good at the time.
func (a *JWT) identity(claims *claimSet, now time.Time) (*Identity, error) {
	ends, err := claims.checkTime(now, a.leeway, a.mustEnd)
	if err != nil {
		return nil, err
	}
	if err := claims.checkAudience(a.audiences); err != nil {
		return nil, err
	}
	subject, err := claims.subject(a.subject)
	if err != nil {
		return nil, err
	}
	return &Identity{Subject: subject, Claims: Claims(claims.MapClaims), Expires: ends, Authenticated: true}, nil
}
