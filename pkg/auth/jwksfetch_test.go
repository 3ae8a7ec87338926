package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"strings"
	"testing"
)

func TestParseKeySet(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rs, es, ed, hs := signerOf(t, "RS256"), signerOf(t, "ES384"), signerOf(t, "EdDSA"), signerOf(t, "HS256")
	allOfRSA := "RS256 RS384 RS512 PS256 PS384 PS512"
	for _, tt := range []struct {
		name       string
		key        string
		accepted   []string
		algorithms string // empty: passed over
		passedOver string
	}{
		{name: "RSA", key: rs.jwk(t, "1"), algorithms: allOfRSA},
		{name: "EC", key: es.jwk(t, "1"), algorithms: "ES384"},
		{name: "Ed25519", key: ed.jwk(t, "1"), algorithms: "EdDSA"},
		{name: "of an algorithm", key: rs.jwk(t, "1", `"alg":"PS384"`), algorithms: "PS384"},
		{name: "of an accepted algorithm", key: rs.jwk(t, "1"), accepted: []string{"ES256", "PS512", "RS256"}, algorithms: "RS256 PS512"},
		{name: "of no accepted algorithm", key: rs.jwk(t, "1", `"alg":"RS384"`), accepted: []string{"RS256"}, passedOver: "of no algorithm that is accepted"},
		{name: "for signatures", key: es.jwk(t, "1", `"use":"sig","key_ops":["sign","verify"]`), algorithms: "ES384"},
		{name: "with a bad certificate", key: rs.jwk(t, "1", `"x5c":["AAAA"],"x5t":"AAAA","x5u":"http://127.0.0.1/"`), algorithms: allOfRSA},
		{name: "with unknown members", key: ed.jwk(t, "1", `"exp":0,"x":{}`), passedOver: "cannot unmarshal object"},

		{name: "secret", key: hs.jwk(t, "1"), passedOver: "symmetric"},
		{name: "secret in disguise", key: hs.jwk(t, "1", `"alg":"RS256"`), passedOver: "symmetric"},
		{name: "RSA key for HMAC", key: rs.jwk(t, "1", `"alg":"HS256"`), passedOver: "HS256 key is a *rsa.PublicKey"},
		{name: "RSA key for none", key: rs.jwk(t, "1", `"alg":"none"`), passedOver: `unknown algorithm "none"`},
		{name: "RSA key for encryption", key: rs.jwk(t, "1", `"alg":"RSA-OAEP"`), passedOver: `unknown algorithm "RSA-OAEP"`},
		{name: "used for encryption", key: rs.jwk(t, "1", `"use":"enc"`), passedOver: `use is "enc", want sig`},
		{name: "not for verifying", key: rs.jwk(t, "1", `"key_ops":["encrypt"]`), passedOver: `key_ops are ["encrypt"], want verify`},
		{name: "for another curve", key: es.jwk(t, "1", `"alg":"ES256"`), passedOver: "ES256 key is on P-384"},
		{name: "weak", key: signer{public: weak.Public()}.jwk(t, "1"), passedOver: "key has 1024 bits"},
		{name: "off the curve", key: `{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}`, passedOver: "not on the specified curve"},
		{name: "on an unknown curve", key: `{"kty":"EC","crv":"secp256k1","x":"AQ","y":"AQ"}`, passedOver: "unsupported curve"},
		{name: "for agreeing on keys", key: `{"kty":"OKP","crv":"X25519","x":"hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo"}`, passedOver: "of no algorithm that is accepted"},
		{name: "of an unknown kind", key: `{"kty":"AKP","alg":"ML-DSA-44"}`, passedOver: "AKP"},
		{name: "incomplete", key: `{"kty":"RSA","n":"AQAB"}`, passedOver: `"e"`},
		{name: "empty", key: `{}`, passedOver: "kty"},
		{name: "no object", key: `"key"`, passedOver: "cannot unmarshal string"},
		{name: "id a number", key: `{"kty":"RSA","kid":1}`, passedOver: "cannot unmarshal number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// One bad key does not spoil the others.
			keys, passedOver, err := parseKeySet([]byte(keySet(ed.jwk(t, "first", `"alg":"EdDSA"`), tt.key)), slices.Concat(tt.accepted, acceptFirst(tt.accepted)))
			if err != nil || len(keys) == 0 || keys[0].id != "first" {
				t.Fatalf("got %v, %v", keys, err)
			}
			if tt.passedOver != "" {
				if len(keys) != 1 || len(passedOver) != 1 || !strings.Contains(passedOver[0].Error(), tt.passedOver) {
					t.Errorf("got %d keys, passed over: %v, want %q", len(keys), passedOver, tt.passedOver)
				}
				return
			}
			if len(keys) != 2 || len(passedOver) != 0 || keys[1].id != "1" || strings.Join(keys[1].algorithms, " ") != tt.algorithms {
				t.Errorf("got %+v, passed over: %v, want %q", keys, passedOver, tt.algorithms)
			}
		})
	}
}

// acceptFirst accepts the first key's algorithm if not all are accepted anyway.
func acceptFirst(accepted []string) []string {
	if len(accepted) == 0 {
		return nil
	}
	return []string{"EdDSA"}
}
