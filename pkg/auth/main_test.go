package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// secret is the one of tokens signed with HMAC.
const secret = "a shared secret of sixty-four bytes, which is what HS512 needs.."

// A signer signs tokens by an algorithm.
type signer struct {
	algorithm string
	private   any
	public    any // what verifies
	other     any // another private key of the kind
}

// signers has one for each algorithm that there is.
var signers = sync.OnceValue(func() []signer {
	must := func(k any, err error) any {
		if err != nil {
			panic(err)
		}
		return k
	}
	newRSA := func() any { return must(rsa.GenerateKey(rand.Reader, 2048)) }
	newEC := func(c elliptic.Curve) any { return must(ecdsa.GenerateKey(c, rand.Reader)) }
	newEd := func() any {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return must(private, err)
	}
	shared, otherSecret := []byte(secret), []byte(strings.ToUpper(secret))
	rsa1, rsa2 := newRSA(), newRSA()
	all := []signer{{algorithm: "EdDSA", private: newEd(), other: newEd()}}
	for _, size := range []string{"256", "384", "512"} {
		curve := map[string]elliptic.Curve{"256": elliptic.P256(), "384": elliptic.P384(), "512": elliptic.P521()}[size]
		all = append(all,
			signer{algorithm: "HS" + size, private: shared, other: otherSecret},
			signer{algorithm: "RS" + size, private: rsa1, other: rsa2},
			signer{algorithm: "PS" + size, private: rsa1, other: rsa2},
			signer{algorithm: "ES" + size, private: newEC(curve), other: newEC(curve)})
	}
	for i := range all {
		all[i].public = publicOf(all[i].private)
	}
	return all
})

func publicOf(private any) any {
	if s, ok := private.(crypto.Signer); ok {
		return s.Public()
	}
	return private // a secret
}

func signerOf(t testing.TB, algorithm string) signer {
	t.Helper()
	for _, s := range signers() {
		if s.algorithm == algorithm {
			return s
		}
	}
	t.Fatalf("no signer of %s", algorithm)
	panic("unreachable")
}

// key returns what verifies the signer's tokens.
func (s signer) key(t testing.TB) *Key {
	t.Helper()
	k, err := NewKey(s.public, s.algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A token is one to be signed: a good one, and what was done to it.
type token struct {
	header  map[string]any
	claims  map[string]any
	payload string // in place of claims
	method  jwt.SigningMethod
	key     any
	bend    func(signed string) string
}

func (s signer) token() *token {
	return &token{
		header: map[string]any{"alg": s.algorithm, "typ": "JWT", "kid": "1"},
		claims: map[string]any{"iss": "here", "aud": "chat", "sub": "ada", "exp": time.Now().Add(time.Hour).Unix()},
		method: jwt.GetSigningMethod(s.algorithm),
		key:    s.private,
	}
}

// with returns the token with these claims beside or instead of its own; nil is none.
func (k *token) with(claims map[string]any) *token {
	for name, value := range claims {
		k.claims[name] = value
	}
	maps.DeleteFunc(k.claims, func(_ string, v any) bool { return v == nil })
	return k
}

func (k *token) sign(t testing.TB) string {
	t.Helper()
	header, err := json.Marshal(k.header)
	if err != nil {
		t.Fatal(err)
	}
	payload := []byte(k.payload)
	if k.payload == "" {
		if payload, err = json.Marshal(k.claims); err != nil {
			t.Fatal(err)
		}
	}
	text := encode(header) + "." + encode(payload)
	signature, err := k.method.Sign(text, k.key)
	if err != nil {
		t.Fatal(err)
	}
	signed := text + "." + encode(signature)
	if k.bend != nil {
		return k.bend(signed)
	}
	return signed
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func newJWT(t testing.TB, options ...JWTOption) *JWT {
	t.Helper()
	a, err := NewJWT(options...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// authenticate makes a request that bears the token.
func authenticate(a Authenticator, token string) (*Identity, error) {
	r := httptest.NewRequest("POST", "/hub/negotiate", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return a.Authenticate(r)
}
