package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/MicahParks/jwkset"
)

// What a key set may be at most. A token without a key id is tried with all keys.
const (
	maximumKeySetBytes = 1 << 20
	maximumKeys        = 100
)

// fetch returns the keys that are published now.
func (j *JWKS) fetch(ctx context.Context) ([]*Key, error) {
	ctx, cancel := context.WithTimeout(ctx, j.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url.String(), nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := j.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s, want 200", response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maximumKeySetBytes+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read key set: %w", err)
	case len(body) > maximumKeySetBytes:
		return nil, fmt.Errorf("key set has more than %d bytes", maximumKeySetBytes)
	}
	keys, passedOver, err := parseKeySet(body, j.algorithms)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	for _, reason := range passedOver {
		j.logger.Debug("key passed over", "url", j.url.Redacted(), "error", reason)
	}
	return keys, nil
}

// parseKeySet returns the keys of a set that can be used with some of the algorithms,
// and for each other one why it cannot be.
func parseKeySet(body []byte, algorithms []string) (keys []*Key, passedOver []error, err error) {
	var set struct{ Keys *[]json.RawMessage }
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, err
	}
	switch {
	case set.Keys == nil:
		return nil, nil, errors.New(`no "keys" in it`)
	case len(*set.Keys) > maximumKeys:
		return nil, nil, fmt.Errorf("%d keys, limit %d", len(*set.Keys), maximumKeys)
	}
	for i, raw := range *set.Keys {
		k, err := parseKey(raw, algorithms)
		if err != nil {
			passedOver = append(passedOver, fmt.Errorf("key %d: %w", i+1, err))
			continue
		}
		keys = append(keys, k)
	}
	return keys, passedOver, nil
}

func parseKey(raw json.RawMessage, algorithms []string) (*Key, error) {
	var fields jwkset.JWKMarshal
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	// Certificates are not looked at, so they need not be good.
	fields.X5C, fields.X5T, fields.X5TS256, fields.X5U = nil, "", "", ""
	switch {
	case fields.USE != "" && fields.USE != jwkset.UseSig:
		return nil, fmt.Errorf("use is %.40q, want sig", fields.USE)
	case len(fields.KEYOPS) > 0 && !slices.Contains(fields.KEYOPS, jwkset.KeyOpsVerify):
		return nil, fmt.Errorf("key_ops are %.40q, want verify", fields.KEYOPS)
	}
	// Secrets (kty oct) are refused here, as nobody may publish them: whoever can read
	// the set could sign with them.
	jwk, err := jwkset.NewJWKFromMarshal(fields, jwkset.JWKMarshalOptions{Private: false}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil, err
	}
	pins := suited(jwk.Key())
	if fields.ALG != "" {
		pins = []string{string(fields.ALG)}
	}
	if len(algorithms) > 0 {
		pins = slices.DeleteFunc(pins, func(p string) bool { return !slices.Contains(algorithms, p) })
	}
	if len(pins) == 0 {
		return nil, errors.New("of no algorithm that is accepted")
	}
	k, err := NewKey(jwk.Key(), pins...)
	if err != nil {
		return nil, err
	}
	return k.WithID(fields.KID), nil
}

// suited returns the algorithms that a key of the type may be for.
func suited(material any) []string {
	switch k := material.(type) {
	case *rsa.PublicKey:
		return []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	case *ecdsa.PublicKey:
		return []string{map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[k.Curve.Params().BitSize]}
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	default: // for agreeing on keys (X25519), not for signatures
		return nil
	}
}
