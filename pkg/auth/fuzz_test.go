package auth

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzAuthenticate: whatever a request bears, it is answered by an identity or by a
// refusal that does not repeat it, and only a token that the keys signed is accepted.
func FuzzAuthenticate(f *testing.F) {
	// Workers are other processes, so the keys must not be made at random.
	private := ed25519.NewKeyFromSeed([]byte(secret)[:ed25519.SeedSize])
	hs := signer{algorithm: "HS256", private: []byte(secret), public: []byte(secret), other: []byte(secret)}
	ed := signer{algorithm: "EdDSA", private: private, public: private.Public(), other: private}
	a := newJWT(f, WithIssuer("here", StaticKeys{hs.key(f), ed.key(f).WithID("1")}), WithAudience("chat"))
	signed := func(token string) bool {
		dot := strings.LastIndexByte(token, '.')
		signature, err := base64.RawURLEncoding.Strict().DecodeString(token[dot+1:])
		if err != nil {
			return false
		}
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(token[:dot]))
		return hmac.Equal(signature, mac.Sum(nil)) || ed25519.Verify(private.Public().(ed25519.PublicKey), []byte(token[:dot]), signature)
	}
	for _, s := range []signer{hs, ed} {
		for _, attack := range attacks {
			k := s.token()
			attack.do(s, k)
			if token := k.sign(f); len(token) < 10_000 {
				f.Add("Bearer "+token, "")
				f.Add("", token)
			}
		}
	}
	f.Add("bearer ..", "")
	f.Add("Bearer e30.e30.", "e30.bnVsbA.")
	f.Fuzz(func(t *testing.T, header, query string) {
		r := httptest.NewRequest("GET", "/hub", nil)
		r.Header.Set("Authorization", header)
		r.URL.RawQuery = "access_token=" + query
		token := BearerToken(r)
		id, err := a.Authenticate(r)
		switch {
		case err != nil:
			if id != nil || !errors.Is(err, ErrUnauthenticated) {
				t.Fatalf("got %v, %v", id, err)
			}
			if len(token) > 100 && strings.Contains(err.Error(), token) {
				t.Fatalf("error repeats the token: %v", err)
			}
		case token == "":
			if id != Anonymous {
				t.Fatalf("got %+v of no token", id)
			}
		case !id.Authenticated || !signed(token) || !id.Claims.Has("aud", "chat") || !id.Claims.Has("iss", "here"):
			t.Fatalf("accepted %q as %+v", token, id)
		}
	})
}

// FuzzClaims: what is accepted as the claims of a token with a good signature can be
// used.
func FuzzClaims(f *testing.F) {
	s := signerOf(f, "HS256")
	a := newJWT(f, WithKeys(StaticKeys{s.key(f)}), WithAudience("chat"))
	for _, payload := range []string{
		`{"aud":"chat"}`, `{"aud":["chat"],"sub":1,"exp":1e30,"nbf":-1}`, `null`, `{"aud":"chat","role":[1,null,{"a":[]}]}`, `{"a":1,"a":2}`, ` {} x`,
	} {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		k := s.token()
		k.payload = payload
		id, err := authenticate(a, k.sign(t))
		if err != nil {
			if !errors.Is(err, ErrUnauthenticated) {
				t.Fatal(err)
			}
			return
		}
		if !id.Claims.Has("aud", "chat") {
			t.Fatalf("accepted for another audience: %q", payload)
		}
		for claim := range id.Claims {
			if first, ok := id.Claims.First(claim); ok && !id.Claims.Has(claim, first) {
				t.Fatalf("claim %q has no %q", claim, first)
			}
		}
	})
}

// FuzzKeySet: whatever an issuer publishes, only keys come of it that are pinned to
// algorithms which suit them.
func FuzzKeySet(f *testing.F) {
	for _, s := range signers() {
		f.Add([]byte(keySet(s.jwk(f, "1", `"alg":"`+s.algorithm+`","use":"sig"`))))
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AQ"},null,1]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		keys, _, err := parseKeySet(body, nil)
		if err != nil && keys != nil {
			t.Fatalf("got %v, %v", keys, err)
		}
		for _, k := range keys {
			if _, secret := k.material.([]byte); secret || len(k.algorithms) == 0 {
				t.Fatalf("got %+v", k)
			}
			if _, err := NewKey(k.material, k.algorithms...); err != nil {
				t.Fatal(err)
			}
		}
	})
}
