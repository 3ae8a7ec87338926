package auth

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestClaims(t *testing.T) {
	type role string
	c := Claims{
		"name":    "Ada",
		"empty":   "",
		"null":    nil,
		"none":    []any{},
		"level":   3,
		"large":   1e6,
		"exact":   json.Number("9007199254740993"),
		"yes":     true,
		"named":   role("admin"),
		"roles":   []any{"admin", nil, "ops", json.Number("7"), false},
		"strings": []string{"a", "b"},
		"object":  map[string]any{"country": "GB"},
	}
	for claim, want := range map[string][]string{
		"absent":  nil,
		"name":    {"Ada"},
		"empty":   {""},
		"null":    nil,
		"none":    {},
		"level":   {"3"},
		"large":   {"1000000"},
		"exact":   {"9007199254740993"},
		"yes":     {"true"},
		"named":   {"admin"},
		"roles":   {"admin", "ops", "7", "false"},
		"strings": {"a", "b"},
		"object":  {`{"country":"GB"}`},
	} {
		if got := c.Values(claim); !slices.Equal(got, want) {
			t.Errorf("Values(%s) = %q, want %q", claim, got, want)
		}
		first, ok := c.First(claim)
		if ok != (len(want) > 0) || ok && first != want[0] {
			t.Errorf("First(%s) = %q, %v", claim, first, ok)
		}
		for _, v := range want {
			if !c.Has(claim, v) {
				t.Errorf("Has(%s, %s) = false", claim, v)
			}
		}
		if c.Has(claim, "Admin") {
			t.Errorf("Has(%s, Admin) = true", claim)
		}
	}
}
