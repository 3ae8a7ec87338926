package auth

import (
	"fmt"
	"net/http"

	"github.com/golang-jwt/jwt/v5"
)

// MinimumSecretBytes is the least length of an HS256 secret: a shorter one than the
// hash it keys can be guessed (RFC 7518, section 3.2).
const MinimumSecretBytes = 32

// HS256 returns an authenticator for JSON Web Tokens signed by HMAC-SHA256 with the
// secret, of at least [MinimumSecretBytes]. A token's exp and nbf are checked if it
// has them, with no tolerance; issuer and audience are not looked at. The subject is
// the [NameIdentifier] claim or else sub. A request without a token is [Anonymous].
func HS256(secret []byte) (Authenticator, error) {
	if len(secret) < MinimumSecretBytes {
		return nil, fmt.Errorf("HS256 secret has %d bytes, needs %d", len(secret), MinimumSecretBytes)
	}
	return &hs256{
		secret: append([]byte(nil), secret...),
		parser: jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithJSONNumber()),
	}, nil
}

type hs256 struct {
	secret []byte
	parser *jwt.Parser
}

func (a *hs256) Authenticate(r *http.Request) (*Identity, error) {
	token := BearerToken(r)
	if token == "" {
		return Anonymous, nil
	}
	claims := jwt.MapClaims{}
	if _, err := a.parser.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return a.secret, nil }); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	}
	id := &Identity{Claims: Claims(claims), Authenticated: true}
	id.Subject, _ = id.Claims.First(NameIdentifier)
	if id.Subject == "" {
		id.Subject, _ = id.Claims.First("sub")
	}
	if exp, err := claims.GetExpirationTime(); err == nil && exp != nil {
		id.Expires = exp.Time
	}
	return id, nil
}
