package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A claimSet is the payload of a token.
type claimSet struct{ jwt.MapClaims }

var errNoClaims = errors.New("claims are no object")

// UnmarshalJSON refuses claims that are there twice, which programs that read the
// token after this one may understand in another way (RFC 7519, section 4).
func (c *claimSet) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // an integer may be too large for a float
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return errors.Join(errNoClaims, err)
	}
	c.MapClaims = make(jwt.MapClaims)
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		claim := name.(string) // nothing else can be there
		if _, twice := c.MapClaims[claim]; twice {
			return fmt.Errorf("claim %.40q is there twice", claim)
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return err
		}
		c.MapClaims[claim] = value
	}
	return nil
}

// checkTime returns when the token ends, with the leeway; zero if never.
func (c *claimSet) checkTime(now time.Time, leeway time.Duration, mustEnd bool) (ends time.Time, err error) {
	exp, ok, err := c.time("exp")
	switch {
	case err != nil:
		return ends, err
	case ok:
		ends = exp.Add(leeway)
		if !now.Before(ends) {
			return ends, fmt.Errorf("claim exp is %s, which is over%s", stamp(exp), with(leeway))
		}
	case mustEnd:
		return ends, errors.New("claim exp is missing, want a time")
	}
	nbf, ok, err := c.time("nbf")
	if err != nil {
		return ends, err
	}
	if ok && now.Before(nbf.Add(-leeway)) {
		return ends, fmt.Errorf("claim nbf is %s, which is not yet%s", stamp(nbf), with(leeway))
	}
	return ends, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func with(leeway time.Duration) string {
	if leeway == 0 {
		return ""
	}
	return " by more than the leeway of " + leeway.String()
}

// latest is the end of the year 9999, which any later time is taken for.
const latest = 253402300799

// time returns a claim that is a number of seconds since 1970 (RFC 7519, section 2).
func (c *claimSet) time(claim string) (t time.Time, ok bool, err error) {
	v, ok := c.MapClaims[claim]
	if !ok {
		return t, false, nil
	}
	n, isNumber := v.(json.Number)
	if !isNumber {
		return t, false, fmt.Errorf("claim %s is %s, want a number", claim, kind(v))
	}
	f, err := n.Float64()
	if err != nil {
		return t, false, fmt.Errorf("claim %s is out of range", claim)
	}
	seconds, fraction := math.Modf(min(max(f, 0), latest))
	return time.Unix(int64(seconds), int64(fraction*1e9)), true, nil
}

// checkAudience accepts any audience if none is wanted.
func (c *claimSet) checkAudience(want []string) error {
	if len(want) == 0 {
		return nil
	}
	var has []string
	switch aud := c.MapClaims["aud"].(type) {
	case nil:
		return fmt.Errorf("claim aud is missing, want %s", oneOf(want))
	case string:
		has = []string{aud}
	case []any:
		for _, v := range aud {
			s, ok := v.(string)
			if !ok {
				return fmt.Errorf("claim aud has %s in it, want %s", kind(v), oneOf(want))
			}
			has = append(has, s)
		}
	default:
		return fmt.Errorf("claim aud is %s, want %s", kind(aud), oneOf(want))
	}
	if !slices.ContainsFunc(has, func(s string) bool { return slices.Contains(want, s) }) {
		return fmt.Errorf("claim aud is %.80q, want %s", strings.Join(has, " "), oneOf(want))
	}
	return nil
}

// subject returns the first value of the first of the claims that has one: a string,
// or a number as it is written. There need not be any.
func (c *claimSet) subject(claims []string) (string, error) {
	for _, claim := range claims {
		v := c.MapClaims[claim]
		if several, ok := v.([]any); ok {
			v = nil
			if len(several) > 0 {
				v = several[0]
			}
		}
		switch v := v.(type) {
		case nil:
		case string:
			if v != "" {
				return v, nil
			}
		case json.Number:
			return v.String(), nil
		default:
			return "", fmt.Errorf("claim %s is %s, want a string", claim, kind(v))
		}
	}
	return "", nil
}

// stringAt returns the string in a header or claim, and whether it is there.
func stringAt(object map[string]any, name string) (s string, ok bool, err error) {
	v, ok := object[name]
	if !ok {
		return "", false, nil
	}
	if s, ok = v.(string); !ok {
		return "", false, fmt.Errorf("%s is %s, want a string", name, kind(v))
	}
	return s, true, nil
}

// kind names what a JSON value is.
func kind(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	default:
		return "a number"
	}
}
