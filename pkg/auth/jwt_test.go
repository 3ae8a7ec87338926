package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// attacks are things done to a good token of any algorithm.
var attacks = []struct {
	name    string
	do      func(s signer, k *token)
	refused string // part of the reason; empty: the token holds
	subject string // of one that holds, if not ada
}{
	{name: "good", do: func(signer, *token) {}},

	// Algorithm
	{name: "alg none", do: func(_ signer, k *token) {
		k.header["alg"], k.method, k.key = "none", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType
	}, refused: `header alg is "none", want ALG`},
	{name: "alg None", do: func(_ signer, k *token) { k.header["alg"] = "None" }, refused: "signing method (alg) is unavailable"},
	{name: "alg absent", do: func(_ signer, k *token) { delete(k.header, "alg") }, refused: "signing method (alg) is unspecified"},
	{name: "alg a list", do: func(s signer, k *token) { k.header["alg"] = []string{s.algorithm} }, refused: "signing method (alg) is unspecified"},
	{name: "alg in another case", do: func(s signer, k *token) { k.header["alg"] = strings.ToLower(s.algorithm) }, refused: "(alg) is unavailable"},
	{name: "HMAC with the public key's DER", do: func(s signer, k *token) {
		k.header["alg"], k.method, k.key = "HS256", jwt.SigningMethodHS256, der(s)
		if s.algorithm == "HS256" {
			k.header["alg"], k.method = "HS384", jwt.SigningMethodHS384
		}
	}, refused: "want ALG"},
	{name: "HMAC with the public key's PEM", do: func(s signer, k *token) {
		k.header["alg"], k.method = "HS512", jwt.SigningMethodHS512
		k.key = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der(s)})
		if s.algorithm == "HS512" {
			k.header["alg"], k.method = "HS256", jwt.SigningMethodHS256
		}
	}, refused: "want ALG"},
	{name: "HMAC with the public key as if it were its own algorithm", do: func(s signer, k *token) {
		k.method, k.key = jwt.SigningMethodHS256, der(s)
	}, refused: "signature is invalid"},
	{name: "another algorithm of the same key", do: func(s signer, k *token) {
		another, possible := map[string]string{
			"HS256": "HS512", "HS384": "HS256", "HS512": "HS256",
			"RS256": "RS512", "RS384": "PS384", "RS512": "RS256",
			"PS256": "RS256", "PS384": "PS256", "PS512": "RS512",
		}[s.algorithm]
		if !possible { // an EC or Ed25519 key has one, so lie about it
			k.header["alg"] = "RS256"
			return
		}
		k.header["alg"], k.method = another, jwt.GetSigningMethod(another)
	}, refused: "want ALG"},

	// Key
	{name: "signed with another key", do: func(s signer, k *token) { k.key = s.other }, refused: "signature is invalid"},
	{name: "key of its own", do: func(s signer, k *token) {
		k.key, k.header["jwk"] = s.other, map[string]any{"kty": "oct", "k": encode(der(s))}
		k.header["jku"], k.header["x5u"] = "http://127.0.0.1/keys", "http://127.0.0.1/certificate"
	}, refused: "signature is invalid"},
	{name: "wrong kid", do: func(_ signer, k *token) { k.header["kid"] = "2" }, refused: `no key with the id "2"`},
	{name: "long kid", do: func(_ signer, k *token) { k.header["kid"] = strings.Repeat("2", 1000) }, refused: `no key with the id "` + strings.Repeat("2", 40) + `"`},
	{name: "kid in a path", do: func(_ signer, k *token) { k.header["kid"] = "../1" }, refused: "no key with the id"},
	{name: "kid absent", do: func(_ signer, k *token) { delete(k.header, "kid") }},
	{name: "kid empty", do: func(_ signer, k *token) { k.header["kid"] = "" }},
	{name: "kid a number", do: func(_ signer, k *token) { k.header["kid"] = 1 }, refused: "header kid is a number, want a string"},
	{name: "kid null", do: func(_ signer, k *token) { k.header["kid"] = nil }, refused: "header kid is null, want a string"},

	// Header
	{name: "typ absent", do: func(_ signer, k *token) { delete(k.header, "typ") }},
	{name: "typ in another case", do: func(_ signer, k *token) { k.header["typ"] = "jwt" }},
	{name: "access token", do: func(_ signer, k *token) { k.header["typ"] = "at+jwt" }},
	{name: "typ in full", do: func(_ signer, k *token) { k.header["typ"] = "application/at+JWT" }},
	{name: "token for another purpose", do: func(_ signer, k *token) { k.header["typ"] = "logout+jwt" }, refused: `header typ is "logout+jwt", want JWT or at+jwt`},
	{name: "typ empty", do: func(_ signer, k *token) { k.header["typ"] = "" }, refused: `header typ is ""`},
	{name: "typ a number", do: func(_ signer, k *token) { k.header["typ"] = 1 }, refused: "header typ is a number, want a string"},
	{name: "crit unknown", do: func(_ signer, k *token) { k.header["crit"], k.header["urgent"] = []string{"urgent"}, true }, refused: "header crit demands extensions"},
	{name: "crit of a known parameter", do: func(_ signer, k *token) { k.header["crit"] = []string{"exp"} }, refused: "header crit"},
	{name: "crit null", do: func(_ signer, k *token) { k.header["crit"] = nil }, refused: "header crit"},
	{name: "unencoded payload", do: func(_ signer, k *token) { k.header["crit"], k.header["b64"] = []string{"b64"}, false }, refused: "header crit"},
	{name: "unknown parameter", do: func(_ signer, k *token) { k.header["x"] = []any{1} }},

	// Time
	{name: "expired by 1s", do: func(_ signer, k *token) { k.claims["exp"] = time.Now().Add(-time.Second).Unix() }, refused: "claim exp is "},
	{name: "exp absent", do: func(_ signer, k *token) { delete(k.claims, "exp") }},
	{name: "exp zero", do: func(_ signer, k *token) { k.claims["exp"] = 0 }, refused: "claim exp is 1970-01-01T00:00:00Z, which is over"},
	{name: "exp negative", do: func(_ signer, k *token) { k.claims["exp"] = -1e300 }, refused: "which is over"},
	{name: "exp far away", do: func(_ signer, k *token) { k.claims["exp"] = json.Number("1e300") }},
	{name: "exp out of range", do: func(_ signer, k *token) { k.payload = `{"sub":"ada","aud":"chat","iss":"here","exp":1e999}` }, refused: "claim exp is out of range"},
	{name: "exp a string", do: func(_ signer, k *token) { k.claims["exp"] = "4102444800" }, refused: "claim exp is a string, want a number"},
	{name: "exp null", do: func(_ signer, k *token) { k.payload = `{"sub":"ada","aud":"chat","iss":"here","exp":null}` }, refused: "claim exp is null, want a number"},
	{name: "nbf in the future", do: func(_ signer, k *token) { k.claims["nbf"] = time.Now().Add(time.Hour).Unix() }, refused: "which is not yet"},
	{name: "nbf in the past", do: func(_ signer, k *token) { k.claims["nbf"] = time.Now().Add(-time.Second).Unix() }},
	{name: "nbf an array", do: func(_ signer, k *token) { k.claims["nbf"] = []int{0} }, refused: "claim nbf is an array, want a number"},

	// Issuer and audience
	{name: "another iss", do: func(_ signer, k *token) { k.claims["iss"] = "there" }, refused: `claim iss is "there", want elsewhere or here`},
	{name: "iss in another case", do: func(_ signer, k *token) { k.claims["iss"] = "Here" }, refused: `claim iss is "Here"`},
	{name: "iss of another key", do: func(_ signer, k *token) { k.claims["iss"] = "elsewhere" }, refused: "signature is invalid"},
	{name: "iss absent", do: func(_ signer, k *token) { delete(k.claims, "iss") }, refused: "claim iss is missing, want elsewhere or here"},
	{name: "iss an array", do: func(_ signer, k *token) { k.claims["iss"] = []string{"here"} }, refused: "claim iss is an array, want a string"},
	{name: "aud in an array", do: func(_ signer, k *token) { k.claims["aud"] = []string{"mail", "chat"} }},
	{name: "the other aud", do: func(_ signer, k *token) { k.claims["aud"] = "talk" }},
	{name: "another aud", do: func(_ signer, k *token) { k.claims["aud"] = "mail" }, refused: `claim aud is "mail", want chat or talk`},
	{name: "other auds", do: func(_ signer, k *token) { k.claims["aud"] = []string{"mail", "chats"} }, refused: `claim aud is "mail chats", want chat or talk`},
	{name: "aud joined", do: func(_ signer, k *token) { k.claims["aud"] = "mail chat" }, refused: `claim aud is "mail chat"`},
	{name: "aud absent", do: func(_ signer, k *token) { delete(k.claims, "aud") }, refused: "claim aud is missing, want chat or talk"},
	{name: "aud empty", do: func(_ signer, k *token) { k.claims["aud"] = []string{} }, refused: `claim aud is ""`},
	{name: "aud an object", do: func(_ signer, k *token) { k.claims["aud"] = map[string]bool{"chat": true} }, refused: "claim aud is an object"},
	{name: "aud with a number in it", do: func(_ signer, k *token) { k.claims["aud"] = []any{"chat", 1} }, refused: "claim aud has a number in it"},

	// Subject
	{name: "name identifier before sub", do: func(_ signer, k *token) { k.claims[NameIdentifier] = "eve" }, subject: "eve"},
	{name: "empty name identifier", do: func(_ signer, k *token) { k.claims[NameIdentifier] = "" }},
	{name: "several name identifiers", do: func(_ signer, k *token) { k.claims[NameIdentifier] = []string{"one", "two"} }, subject: "one"},
	{name: "sub empty", do: func(_ signer, k *token) { k.claims["sub"] = "" }, subject: "-"},
	{name: "sub absent", do: func(_ signer, k *token) { delete(k.claims, "sub") }, subject: "-"},
	{name: "sub null", do: func(_ signer, k *token) { k.claims["sub"] = nil }, subject: "-"},
	{name: "sub no value", do: func(_ signer, k *token) { k.claims["sub"] = []string{} }, subject: "-"},
	{name: "sub a number", do: func(_ signer, k *token) { k.claims["sub"] = json.Number("9007199254740993") }, subject: "9007199254740993"},
	{name: "sub an object", do: func(_ signer, k *token) { k.claims["sub"] = map[string]string{"id": "ada"} }, refused: "claim sub is an object, want a string"},
	{name: "sub a boolean", do: func(_ signer, k *token) { k.claims["sub"] = []any{true} }, refused: "claim sub is a boolean, want a string"},

	// Form
	{name: "claim twice", do: func(_ signer, k *token) {
		k.payload = `{"sub":"ada","iss":"here","aud":"chat","sub":"root"}`
	}, refused: `claim "sub" is there twice`},
	{name: "claim twice, once in disguise", do: func(_ signer, k *token) {
		k.payload = `{"sub":"ada","iss":"here","aud":"chat","su\u0062":"root"}`
	}, refused: `claim "sub" is there twice`},
	{name: "same names further down", do: func(_ signer, k *token) {
		k.payload = `{"sub":"ada","iss":"here","aud":"chat","act":{"sub":"root"}}`
	}},
	{name: "claims null", do: func(_ signer, k *token) { k.payload = "null" }, refused: "claims are no object"},
	{name: "claims an array", do: func(_ signer, k *token) { k.payload = `["sub","ada"]` }, refused: "claims are no object"},
	{name: "claims a string", do: func(_ signer, k *token) { k.payload = `"ada"` }, refused: "claims are no object"},
	{name: "claims no JSON", do: func(_ signer, k *token) { k.payload = "ada" }, refused: "could not JSON decode claim"},
	{name: "something after the claims", do: func(_ signer, k *token) { k.payload = `{"sub":"ada","iss":"here","aud":"chat"}{}` }, refused: "could not JSON decode claim"},
	{name: "deep claims", do: func(_ signer, k *token) {
		k.payload = `{"x":` + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + `}`
	}, refused: "could not JSON decode claim"},
	{name: "payload changed", do: func(_ signer, k *token) {
		k.bend = func(signed string) string {
			parts := strings.Split(signed, ".")
			parts[1] = encode([]byte(`{"sub":"root","iss":"here","aud":"chat"}`))
			return strings.Join(parts, ".")
		}
	}, refused: "signature is invalid"},
	{name: "no signature", do: func(_ signer, k *token) {
		k.bend = func(signed string) string { return signed[:strings.LastIndexByte(signed, '.')+1] }
	}, refused: "signature is invalid"},
	{name: "signature cut short", do: func(_ signer, k *token) {
		k.bend = func(signed string) string {
			dot := strings.LastIndexByte(signed, '.') + 1
			signature, _ := base64.RawURLEncoding.DecodeString(signed[dot:])
			return signed[:dot] + encode(signature[:len(signature)-1])
		}
	}, refused: "signature is invalid"},
	{name: "two parts", do: func(_ signer, k *token) {
		k.bend = func(signed string) string { return signed[:strings.LastIndexByte(signed, '.')] }
	}, refused: "invalid number of segments"},
	{name: "encrypted", do: func(_ signer, k *token) {
		k.bend = func(signed string) string { return signed + ".AAAA.AAAA" }
	}, refused: "invalid number of segments"},
	{name: "padded", do: func(_ signer, k *token) {
		k.bend = func(signed string) string { return signed + "=" }
	}, refused: "could not base64 decode signature"},
	{name: "huge", do: func(_ signer, k *token) { k.claims["x"] = strings.Repeat("x", MaximumTokenBytes) }, refused: "limit 65536"},
	{name: "large", do: func(_ signer, k *token) { k.claims["x"] = strings.Repeat("x", MaximumTokenBytes/2) }},
}

// der returns the public key, or the secret's hash where there is none, as bytes to
// sign with.
func der(s signer) []byte {
	if b, err := x509.MarshalPKIXPublicKey(s.public); err == nil {
		return b
	}
	return []byte("as good as any other secret is")
}

func TestAttacks(t *testing.T) {
	for _, s := range signers() {
		other, err := NewKey(publicOf(s.other), s.algorithm)
		if err != nil {
			t.Fatal(err)
		}
		a := newJWT(t,
			WithIssuer("here", StaticKeys{s.key(t).WithID("1")}),
			WithIssuer("elsewhere", StaticKeys{other.WithID("1")}),
			WithAudience("chat", "talk"))
		t.Run(s.algorithm, func(t *testing.T) {
			for _, attack := range attacks {
				t.Run(attack.name, func(t *testing.T) {
					k := s.token()
					attack.do(s, k)
					signed := k.sign(t)
					id, err := authenticate(a, signed)
					if attack.refused != "" {
						refused(t, id, err, strings.ReplaceAll(attack.refused, "ALG", s.algorithm), signed)
						return
					}
					want := map[string]string{"": "ada", "-": ""}
					subject, special := want[attack.subject]
					if !special {
						subject = attack.subject
					}
					if err != nil || id.Subject != subject || !id.Authenticated {
						t.Errorf("got %+v, %v, want subject %q", id, err, subject)
					}
				})
			}
		})
	}
}

// refused checks that the token was, for the reason, and that the error does not give
// it away.
func refused(t *testing.T, id *Identity, err error, reason, signed string) {
	t.Helper()
	if id != nil || !errors.Is(err, ErrUnauthenticated) {
		t.Fatalf("got %+v, %v, want a refusal", id, err)
	}
	if !strings.Contains(err.Error(), reason) {
		t.Errorf("got %q, want %q in it", err, reason)
	}
	if len(err.Error()) > 300 {
		t.Errorf("error has %d bytes", len(err.Error()))
	}
	for part := range strings.SplitSeq(signed, ".") {
		if len(part) > 8 && strings.Contains(err.Error(), part) {
			t.Errorf("error repeats the token: %v", err)
		}
	}
}

// The base64 of most signatures has bits to spare, which must not be a way to write one
// token in several ways.
func TestSpareBitsRefused(t *testing.T) {
	s := signerOf(t, "HS256") // 32 bytes leave 2 bits
	a := newJWT(t, WithKeys(StaticKeys{s.key(t)}))
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	signed := s.token().sign(t)
	last := len(signed) - 1
	changed := signed[:last] + string(digits[strings.IndexByte(digits, signed[last])^1])
	if b, err := base64.RawURLEncoding.DecodeString(changed[strings.LastIndexByte(changed, '.')+1:]); err != nil || len(b) != 32 {
		t.Fatalf("no other way to write it: %v", err)
	}
	id, err := authenticate(a, changed)
	refused(t, id, err, "could not base64 decode signature", changed)
}

// The examples of RFC 7515, appendices A.1 and A.3, which ended in 2011.
func TestTokensOfRFC7515(t *testing.T) {
	const claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
	const hs256 = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + claims + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	const es256 = "eyJhbGciOiJFUzI1NiJ9." + claims + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
	secret, err := base64.RawURLEncoding.DecodeString("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
	if err != nil {
		t.Fatal(err)
	}
	hmac, err := NewKey(secret, "HS256")
	if err != nil {
		t.Fatal(err)
	}
	point, err := base64.RawURLEncoding.DecodeString("BH_Nzidw9sRdQYPL7m_bS3tYBzM1e-nvE7rPbjx70VRFx_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")
	if err != nil {
		t.Fatal(err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := NewKey(public, "ES256")
	if err != nil {
		t.Fatal(err)
	}
	a := newJWT(t, WithIssuer("joe", StaticKeys{hmac, ec}))
	for _, token := range []string{hs256, es256} {
		synctest.Test(t, func(t *testing.T) { // where it is the year 2000
			id, err := authenticate(a, token)
			if err != nil || !id.Claims.Has("http://example.com/is_root", "true") || !id.Expires.Equal(time.Unix(1300819380, 0)) {
				t.Errorf("got %+v, %v", id, err)
			}
			time.Sleep(time.Until(time.Unix(1300819380, 0)))
			id, err = authenticate(a, token)
			refused(t, id, err, "claim exp is 2011-03-22T18:43:00Z, which is over", token)
		})
	}
}

func TestTime(t *testing.T) {
	s := signerOf(t, "HS256")
	for _, tt := range []struct {
		name    string
		options []JWTOption
		claims  map[string]any // seconds from now on
		after   time.Duration
		expires time.Duration // from the start; 0: never
		refused string
	}{
		{name: "just before exp", claims: map[string]any{"exp": 10}, after: 10*time.Second - 1, expires: 10 * time.Second},
		{name: "at exp", claims: map[string]any{"exp": 10}, after: 10 * time.Second, refused: "claim exp is 2000-01-01T00:00:10Z, which is over"},
		{name: "before a fraction", claims: map[string]any{"exp": 10.5}, after: 10*time.Second + 499*time.Millisecond, expires: 10500 * time.Millisecond},
		{name: "after a fraction", claims: map[string]any{"exp": 10.5}, after: 10*time.Second + 501*time.Millisecond, refused: "claim exp is 2000-01-01T00:00:10.5Z"},
		{name: "leeway on exp", options: []JWTOption{WithLeeway(time.Minute)}, claims: map[string]any{"exp": 10}, after: 70*time.Second - 1, expires: 70 * time.Second},
		{name: "beyond leeway", options: []JWTOption{WithLeeway(time.Minute)}, claims: map[string]any{"exp": 10}, after: 70 * time.Second, refused: "which is over by more than the leeway of 1m0s"},
		{name: "just before nbf", claims: map[string]any{"nbf": 10}, after: 10*time.Second - 1, refused: "claim nbf is 2000-01-01T00:00:10Z, which is not yet"},
		{name: "at nbf", claims: map[string]any{"nbf": 10}, after: 10 * time.Second},
		{name: "leeway on nbf", options: []JWTOption{WithLeeway(time.Minute)}, claims: map[string]any{"nbf": 70}, after: 10 * time.Second},
		{name: "before leeway", options: []JWTOption{WithLeeway(time.Minute)}, claims: map[string]any{"nbf": 70}, after: 10*time.Second - 1, refused: "not yet by more than the leeway of 1m0s"},
		{name: "iat in the future", claims: map[string]any{"iat": 1000}},
		{name: "never", claims: map[string]any{}, after: 1e6 * time.Hour},
		{name: "never, though it must", options: []JWTOption{WithExpirationRequired()}, claims: map[string]any{}, refused: "claim exp is missing"},
		{name: "sometime, as it must", options: []JWTOption{WithExpirationRequired()}, claims: map[string]any{"exp": 10}, expires: 10 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				k := s.token().with(map[string]any{"exp": nil})
				for claim, seconds := range tt.claims {
					switch n := seconds.(type) {
					case int:
						k.claims[claim] = start.Unix() + int64(n)
					case float64:
						k.claims[claim] = float64(start.Unix()) + n
					}
				}
				signed := k.sign(t)
				a := newJWT(t, append(tt.options, WithKeys(StaticKeys{s.key(t)}))...)
				time.Sleep(tt.after)
				id, err := authenticate(a, signed)
				if tt.refused != "" {
					refused(t, id, err, tt.refused, signed)
					return
				}
				var want time.Time
				if tt.expires != 0 {
					want = start.Add(tt.expires)
				}
				if err != nil || !id.Expires.Equal(want) {
					t.Errorf("got %+v, %v, want it to expire %v", id, err, want)
				}
			})
		})
	}
}

func TestIssuersHaveTheirOwnKeys(t *testing.T) {
	one, two, three := signerOf(t, "ES256"), signerOf(t, "EdDSA"), signerOf(t, "RS256")
	a := newJWT(t,
		WithIssuer("one", StaticKeys{one.key(t)}),
		WithIssuer("two", StaticKeys{two.key(t)}),
		WithKeys(StaticKeys{three.key(t)}))
	for _, tt := range []struct {
		name    string
		s       signer
		iss     any
		refused string
	}{
		{"one by one", one, "one", ""},
		{"two by two", two, "two", ""},
		{"two by one", one, "two", `header alg is "ES256", want EdDSA`},
		{"one by another", three, "one", `header alg is "RS256", want ES256`},
		{"another", three, "three", ""},
		{"nobody", three, nil, ""},
		{"another by one", one, "three", `header alg is "ES256", want RS256`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			signed := tt.s.token().with(map[string]any{"iss": tt.iss}).sign(t)
			id, err := authenticate(a, signed)
			if tt.refused != "" {
				refused(t, id, err, tt.refused, signed)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestKeyOfSeveralAlgorithms(t *testing.T) {
	k, err := NewKey(signerOf(t, "RS256").public, "RS256", "PS512")
	if err != nil {
		t.Fatal(err)
	}
	a := newJWT(t, WithKeys(StaticKeys{k}))
	for algorithm, reason := range map[string]string{
		"RS256": "", "PS512": "", "RS384": `header alg is "RS384", want PS512 or RS256`, "PS256": `header alg is "PS256"`,
	} {
		signed := signerOf(t, algorithm).token().sign(t)
		id, err := authenticate(a, signed)
		if reason != "" {
			refused(t, id, err, reason, signed)
		} else if err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

// Keys with the same id, or without, are all tried.
func TestSeveralKeysOfOneID(t *testing.T) {
	s := signerOf(t, "ES256")
	old, err := NewKey(publicOf(s.other), "ES256")
	if err != nil {
		t.Fatal(err)
	}
	a := newJWT(t, WithKeys(StaticKeys{old.WithID("1"), s.key(t), s.key(t).WithID("2")}))
	good := s.token().sign(t)
	byOld := s.token()
	byOld.key = s.other
	for _, signed := range []string{good, byOld.sign(t)} {
		if _, err := authenticate(a, signed); err != nil {
			t.Error(err)
		}
	}
}

func TestJWTOptions(t *testing.T) {
	s := signerOf(t, "HS256")
	keys := WithKeys(StaticKeys{s.key(t)})
	for _, tt := range []struct {
		name    string
		options []JWTOption
		do      func(k *token)
		subject string
		refused string
	}{
		{name: "aud and iss are not looked at", do: func(k *token) { k.claims["aud"], k.claims["iss"] = 1, []int{2} }, subject: "ada"},
		{name: "subject claim", options: []JWTOption{WithSubjectClaim("oid", "email")}, do: func(k *token) { k.claims["email"] = "ada@example.com" }, subject: "ada@example.com"},
		{name: "first subject claim", options: []JWTOption{WithSubjectClaim("oid", "email")}, do: func(k *token) { k.claims["oid"], k.claims["email"] = 7, "ada@example.com" }, subject: "7"},
		{name: "no subject claim", options: []JWTOption{WithSubjectClaim("oid")}, do: func(*token) {}},
		{name: "type", options: []JWTOption{WithType("chat+jwt")}, do: func(k *token) { k.header["typ"] = "application/Chat+JWT" }, subject: "ada"},
		{name: "type that no longer is", options: []JWTOption{WithType("chat+jwt")}, do: func(*token) {}, refused: `header typ is "JWT", want chat+jwt`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := s.token()
			tt.do(k)
			signed := k.sign(t)
			id, err := authenticate(newJWT(t, append(tt.options, keys)...), signed)
			if tt.refused != "" {
				refused(t, id, err, tt.refused, signed)
			} else if err != nil || id.Subject != tt.subject {
				t.Errorf("got %+v, %v, want subject %q", id, err, tt.subject)
			}
		})
	}
}

func TestNewJWTRefuses(t *testing.T) {
	source := StaticKeys{signerOf(t, "HS256").key(t)}
	for _, tt := range []struct {
		options []JWTOption
		want    string
	}{
		{nil, "no keys"},
		{[]JWTOption{WithKeys(nil)}, "no keys in WithKeys"},
		{[]JWTOption{WithKeys(StaticKeys{})}, "no keys in WithKeys"},
		{[]JWTOption{WithKeys(StaticKeys{nil})}, "no keys in WithKeys"},
		{[]JWTOption{WithKeys(source), WithKeys(source)}, "WithKeys given twice"},
		{[]JWTOption{WithIssuer("", source)}, "issuer without a name"},
		{[]JWTOption{WithIssuer("a", nil)}, "no keys of issuer a"},
		{[]JWTOption{WithIssuer("a", source), WithIssuer("a", source)}, "issuer a given twice"},
		{[]JWTOption{WithKeys(source), WithAudience()}, "audience without a name"},
		{[]JWTOption{WithKeys(source), WithAudience("a", "")}, "audience without a name"},
		{[]JWTOption{WithKeys(source), WithSubjectClaim()}, "no subject claim"},
		{[]JWTOption{WithKeys(source), WithType()}, "no token type"},
		{[]JWTOption{WithKeys(source), WithLeeway(-1), WithAudience()}, "leeway -1ns is negative\naudience without a name"},
	} {
		if a, err := NewJWT(tt.options...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, %v, want %q", a, err, tt.want)
		}
	}
}

type sourceFunc func(context.Context, string) ([]*Key, error)

func (f sourceFunc) Keys(ctx context.Context, id string) ([]*Key, error) { return f(ctx, id) }

func TestKeySource(t *testing.T) {
	type mark struct{}
	ctx := context.WithValue(t.Context(), mark{}, "request")
	s := signerOf(t, "HS256")
	errAway := errors.New("vault is away")
	var keys []*Key
	var keysErr error
	a := newJWT(t, WithKeys(sourceFunc(func(ctx context.Context, id string) ([]*Key, error) {
		if id != "1" || ctx.Value(mark{}) != "request" {
			t.Errorf("asked for %q with %v", id, ctx)
		}
		return keys, keysErr
	})))
	signed := s.token().sign(t)
	id, err := a.Verify(ctx, signed)
	refused(t, id, err, `no key with the id "1"`, signed)
	keysErr = errAway
	if _, err = a.Verify(ctx, signed); !errors.Is(err, errAway) || !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
	keys, keysErr = []*Key{s.key(t)}, nil
	if _, err = a.Verify(ctx, signed); err != nil {
		t.Error(err)
	}
}

func TestHS256(t *testing.T) {
	s := signerOf(t, "HS256")
	a, err := HS256([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		token   string
		subject string
		refused bool
	}{
		{name: "no token"},
		{name: "token", token: s.token().sign(t), subject: "ada"},
		{name: "no expiry", token: s.token().with(map[string]any{"exp": nil}).sign(t), subject: "ada"},
		{name: "expired", token: s.token().with(map[string]any{"exp": time.Now().Unix()}).sign(t), refused: true},
		{name: "other algorithm", token: signerOf(t, "HS512").token().sign(t), refused: true},
		{name: "garbage", token: "x.y.z", refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, carrier := range []string{"header", "query"} {
				r := httptest.NewRequest("POST", "/hub/negotiate", nil)
				switch {
				case tt.token == "":
				case carrier == "header":
					r.Header.Set("Authorization", "bearer "+tt.token)
				default:
					r.URL.RawQuery = url.Values{"access_token": {tt.token}}.Encode()
				}
				id, err := a.Authenticate(r)
				if tt.refused {
					refused(t, id, err, "", tt.token)
				} else if err != nil || id.Subject != tt.subject || id.Authenticated != (tt.token != "") {
					t.Errorf("%s: got %+v, %v, want subject %q", carrier, id, err, tt.subject)
				}
			}
		})
	}
	if _, err := HS256([]byte("short")); err == nil || err.Error() != "HS256 secret has 5 bytes, needs 32" {
		t.Errorf("short secret: %v", err)
	}
}
