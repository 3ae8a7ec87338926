package auth

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// NameIdentifier is the claim type that holds the user identifier in tokens of
// issuers that write claim URIs. It goes before "sub".
const NameIdentifier = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"

// An Identity is who makes a request. It is not changed once made, so it may be
// shared.
type Identity struct {
	// Subject is the name-identifier claim, which is the user identifier unless the
	// application derives another. Empty: nobody in particular.
	Subject string
	// Claims are all that the credentials say.
	Claims Claims
	// Expires is when the credentials end. Zero: never.
	Expires time.Time
	// Authenticated says that credentials were presented and hold.
	Authenticated bool
}

// Anonymous is the identity of a request without credentials.
var Anonymous = &Identity{}

// Claims are statements about an identity, by claim type. A value is anything that JSON
// can express; an array, or a slice of strings, stands for several values. Numbers in
// tokens are of the type [json.Number].
type Claims map[string]any

// Values returns the values of the claim in order: none, one, or as many as the token
// lists. Values that are not strings are given in their JSON form; null is no value.
func (c Claims) Values(claimType string) []string {
	switch v := c[claimType].(type) {
	case nil:
		return nil
	case []string:
		return slices.Clone(v)
	case []any:
		values := make([]string, 0, len(v))
		for _, e := range v {
			if e != nil {
				values = append(values, text(e))
			}
		}
		return values
	default:
		return []string{text(v)}
	}
}

// First returns the first value of the claim, and whether there is one.
func (c Claims) First(claimType string) (string, bool) {
	values := c.Values(claimType)
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

// Has reports whether value is among the values of the claim. Case matters.
func (c Claims) Has(claimType, value string) bool {
	return slices.Contains(c.Values(claimType), value)
}

func text(v any) string {
	if s := reflect.ValueOf(v); s.Kind() == reflect.String { // a json.Number too
		return s.String()
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
