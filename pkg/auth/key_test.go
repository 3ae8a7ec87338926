package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"math/big"
	"slices"
	"strings"
	"testing"
)

func TestNewKeyRefuses(t *testing.T) {
	rsaPublic := signerOf(t, "RS256").public.(*rsa.PublicKey)
	ecPublic := signerOf(t, "ES256").public.(*ecdsa.PublicKey)
	n := func(bits uint) *big.Int {
		return new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(1))
	}
	//lint:ignore SA1019 there is no other way to make such a key
	offCurve := &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}
	for _, tt := range []struct {
		name       string
		material   any
		algorithms []string
		want       string
	}{
		{"no algorithm", []byte(secret), nil, "key without an algorithm"},
		{"none", []byte(secret), []string{"none"}, `unknown algorithm "none", want ES256 or`},
		{"unknown", rsaPublic, []string{"RS256", "RS1"}, `unknown algorithm "RS1"`},
		{"no key", nil, []string{"RS256"}, "RS256 key is a <nil>"},
		{"short HS256", []byte(secret)[:31], []string{"HS256"}, "HS256 secret has 31 bytes, needs 32"},
		{"short HS384", []byte(secret)[:47], []string{"HS384"}, "HS384 secret has 47 bytes, needs 48"},
		{"short HS512", []byte(secret)[:63], []string{"HS256", "HS512"}, "HS512 secret has 63 bytes, needs 64"},
		{"secret as a string", secret, []string{"HS256"}, "key is a string, want []byte"},
		{"RSA key for HS256", rsaPublic, []string{"RS256", "HS256"}, "HS256 key is a *rsa.PublicKey, want []byte"},
		{"secret for RS256", []byte(secret), []string{"RS256"}, "RS256 key is a []uint8, want *rsa.PublicKey"},
		{"private key", signerOf(t, "RS256").private, []string{"RS256"}, "RS256 key is a *rsa.PrivateKey, want *rsa.PublicKey"},
		{"nil RSA key", (*rsa.PublicKey)(nil), []string{"RS256"}, "want *rsa.PublicKey"},
		{"RSA key without a modulus", &rsa.PublicKey{E: 65537}, []string{"PS256"}, "want *rsa.PublicKey"},
		{"RSA of 2047 bits", &rsa.PublicKey{N: n(2047), E: 65537}, []string{"RS256"}, "key has 2047 bits, wants 2048 to 16384"},
		{"RSA of 16385 bits", &rsa.PublicKey{N: n(16385), E: 65537}, []string{"RS256"}, "key has 16385 bits"},
		{"RSA with exponent 1", &rsa.PublicKey{N: rsaPublic.N, E: 1}, []string{"RS256"}, "exponent 1"},
		{"RSA with an even exponent", &rsa.PublicKey{N: rsaPublic.N, E: 4}, []string{"RS256"}, "exponent 4"},
		{"another curve", ecPublic, []string{"ES384"}, "ES384 key is on P-256, want P-384"},
		{"nil EC key", (*ecdsa.PublicKey)(nil), []string{"ES256"}, "want *ecdsa.PublicKey"},
		{"EC key without a curve", &ecdsa.PublicKey{}, []string{"ES256"}, "want *ecdsa.PublicKey"},
		{"off the curve", offCurve, []string{"ES256"}, "not on its curve"},
		{"EC key for EdDSA", ecPublic, []string{"EdDSA"}, "want ed25519.PublicKey"},
		{"short Ed25519", ed25519.PublicKey("short"), []string{"EdDSA"}, "key has 5 bytes, wants 32"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, err := NewKey(tt.material, tt.algorithms...)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v, want %q", k, err, tt.want)
			}
		})
	}
}

func TestNewKeyCopiesSecret(t *testing.T) {
	mine := []byte(secret)
	k, err := NewKey(mine, "HS256")
	if err != nil {
		t.Fatal(err)
	}
	clear(mine)
	if _, err := authenticate(newJWT(t, WithKeys(StaticKeys{k})), signerOf(t, "HS256").token().sign(t)); err != nil {
		t.Errorf("after the secret was cleared: %v", err)
	}
}

func TestStaticKeys(t *testing.T) {
	k := signerOf(t, "EdDSA").key(t)
	s := StaticKeys{k.WithID("a"), k.WithID("b"), k, k.WithID("a")}
	for id, want := range map[string]StaticKeys{
		"":  s,
		"a": {s[0], s[2], s[3]},
		"b": {s[1], s[2]},
		"A": {s[2]},
	} {
		if got, err := s.Keys(t.Context(), id); err != nil || !slices.Equal(got, want) {
			t.Errorf("Keys(%q) = %v, %v, want %v", id, got, err, want)
		}
	}
	if got, _ := (StaticKeys{k.WithID("a")}).Keys(t.Context(), "b"); len(got) != 0 {
		t.Errorf("key a is found as b")
	}
}
