package auth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// MinimumSecretBytes is the least length of an HS256 secret: a shorter one than the
// hash it keys can be guessed (RFC 7518, section 3.2).
const MinimumSecretBytes = 32

// RSA keys have at least 2048 bits (RFC 7518, section 3.3), and not so many that a
// token keeps the processor busy.
const minimumRSABits, maximumRSABits = 2048, 16384

// A Key verifies the signatures of tokens. It is pinned to algorithms: a token that
// names another one is not verified with it, whatever the key could do. It is not
// changed once made.
type Key struct {
	id         string
	algorithms []string
	material   any // []byte, *rsa.PublicKey, *ecdsa.PublicKey or ed25519.PublicKey
}

// NewKey returns a key for tokens signed by one of the algorithms, which are named as
// in RFC 7518. At least one is needed, and all must suit the key:
//
//	HS256, HS384, HS512       []byte, a secret at least as long as the hash: 32, 48, 64 bytes
//	RS256, RS384, RS512       *rsa.PublicKey of 2048 to 16384 bits
//	PS256, PS384, PS512       the same
//	ES256, ES384, ES512       *ecdsa.PublicKey on P-256, P-384, P-521
//	EdDSA                     ed25519.PublicKey
//
// These are the types that [crypto/x509.ParsePKIXPublicKey] returns. A public key must
// not be changed afterwards.
func NewKey(material any, algorithms ...string) (*Key, error) {
	if len(algorithms) == 0 {
		return nil, errors.New("key without an algorithm")
	}
	for _, algorithm := range algorithms {
		check, known := suits[algorithm]
		if !known {
			return nil, fmt.Errorf("unknown algorithm %q, want %s", algorithm, oneOf(slices.Sorted(maps.Keys(suits))))
		}
		if err := check(material); err != nil {
			return nil, fmt.Errorf("%s %w", algorithm, err)
		}
	}
	if secret, ok := material.([]byte); ok {
		material = bytes.Clone(secret)
	}
	return &Key{algorithms: slices.Clone(algorithms), material: material}, nil
}

// WithID returns the key with an id. It then verifies only tokens whose header names
// that id (kid), or none. A key without an id is tried whatever the header names.
func (k *Key) WithID(id string) *Key {
	return &Key{id: id, algorithms: k.algorithms, material: k.material}
}

// suits says for each algorithm what is wrong with key material for it.
var suits = map[string]func(material any) error{
	"HS256": secretOf(MinimumSecretBytes), "HS384": secretOf(48), "HS512": secretOf(64),
	"RS256": rsaKey, "RS384": rsaKey, "RS512": rsaKey,
	"PS256": rsaKey, "PS384": rsaKey, "PS512": rsaKey,
	"ES256": keyOn(elliptic.P256()), "ES384": keyOn(elliptic.P384()), "ES512": keyOn(elliptic.P521()),
	"EdDSA": ed25519Key,
}

func secretOf(minimum int) func(any) error {
	return func(material any) error {
		secret, ok := material.([]byte)
		switch {
		case !ok:
			return fmt.Errorf("key is a %T, want []byte", material)
		case len(secret) < minimum:
			return fmt.Errorf("secret has %d bytes, needs %d", len(secret), minimum)
		default:
			return nil
		}
	}
}

func rsaKey(material any) error {
	k, ok := material.(*rsa.PublicKey)
	if !ok || k == nil || k.N == nil {
		return fmt.Errorf("key is a %T, want *rsa.PublicKey", material)
	}
	if n := k.N.BitLen(); n < minimumRSABits || n > maximumRSABits {
		return fmt.Errorf("key has %d bits, wants %d to %d", n, minimumRSABits, maximumRSABits)
	}
	if k.E < 3 || k.E%2 == 0 {
		return fmt.Errorf("key has the exponent %d", k.E)
	}
	return nil
}

func keyOn(curve elliptic.Curve) func(any) error {
	return func(material any) error {
		k, ok := material.(*ecdsa.PublicKey)
		if !ok || k == nil || k.Curve == nil {
			return fmt.Errorf("key is a %T, want *ecdsa.PublicKey", material)
		}
		if k.Curve != curve {
			return fmt.Errorf("key is on %s, want %s", k.Curve.Params().Name, curve.Params().Name)
		}
		if _, err := k.Bytes(); err != nil {
			return fmt.Errorf("key is not on its curve: %w", err)
		}
		return nil
	}
}

func ed25519Key(material any) error {
	k, ok := material.(ed25519.PublicKey)
	if !ok {
		return fmt.Errorf("key is a %T, want ed25519.PublicKey", material)
	}
	if len(k) != ed25519.PublicKeySize {
		return fmt.Errorf("key has %d bytes, wants %d", len(k), ed25519.PublicKeySize)
	}
	return nil
}

// A KeySource finds the keys that tokens may be signed with: [StaticKeys], a [*JWKS],
// or an application's own.
type KeySource interface {
	// Keys returns the keys for a token whose header names the key id, or names none if
	// id is empty. Of these, those that are pinned to the token's algorithm are tried in
	// order. No keys, or an error, refuse the token. It is called concurrently, for each
	// token; ctx is the request's. What it returns is only read.
	Keys(ctx context.Context, id string) ([]*Key, error)
}

// StaticKeys are keys that do not change.
type StaticKeys []*Key

// Keys returns the keys that have the id or none, and all of them for an empty id.
func (s StaticKeys) Keys(_ context.Context, id string) ([]*Key, error) {
	return matching(s, id), nil
}

func matching(keys []*Key, id string) []*Key {
	if id == "" {
		return keys
	}
	var found []*Key
	for _, k := range keys {
		if k.id == id || k.id == "" {
			found = append(found, k)
		}
	}
	return found
}

// oneOf lists alternatives for a reader.
func oneOf(alternatives []string) string { return strings.Join(alternatives, " or ") }
