package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestRequirements(t *testing.T) {
	who := func(claims Claims) *Identity { return &Identity{Claims: claims, Authenticated: true} }
	admin := who(Claims{"role": "admin"})
	claimsOfNobody := &Identity{Claims: Claims{"role": "admin", "scope": "chat"}}
	errNo := errors.New("no")
	yes := Requirement(func(context.Context, *Identity) error { return nil })
	no := Requirement(func(context.Context, *Identity) error { return errNo })
	never := Requirement(func(context.Context, *Identity) error { panic("asked") })

	for _, tt := range []struct {
		name     string
		required Requirement
		id       *Identity
		unmet    string // in the error; empty: met
	}{
		{"authenticated", Authenticated(), admin, ""},
		{"anonymous", Authenticated(), Anonymous, "not authenticated"},

		{"role", Role("admin"), admin, ""},
		{"role in a list", Role("ops", "admin"), admin, ""},
		{"role in an array", Role("ops"), who(Claims{"role": []any{"admin", "ops"}}), ""},
		{"role in roles", Role("ops"), who(Claims{"roles": []any{"ops"}}), ""},
		{"role by URI", Role("ops"), who(Claims{RoleClaim: "ops"}), ""},
		{"role in the second claim", Role("ops"), who(Claims{"role": "admin", RoleClaim: "ops"}), ""},
		{"another role", Role("ops", "dev"), admin, "none of the roles ops, dev"},
		{"role in another case", Role("Admin"), admin, "none of the roles Admin"},
		{"part of a role", Role("admin"), who(Claims{"role": "admin ops"}), "none of the roles"},
		{"role in another claim", Role("admin"), who(Claims{"group": "admin"}), "none of the roles"},
		{"one of no roles", Role(), admin, "none of the roles"},
		{"role of nobody", Role("admin"), claimsOfNobody, "not authenticated"},

		{"claim", Claim("role"), admin, ""},
		{"claim that is empty", Claim("role"), who(Claims{"role": ""}), ""},
		{"claim with a value", Claim("role", "ops", "admin"), admin, ""},
		{"claim with another value", Claim("role", "ops", "dev"), admin, "claim role is none of ops, dev"},
		{"claim with many values", Claim("role", "b"), who(Claims{"role": []any{"a", "b"}}), ""},
		{"number", Claim("level", "3"), who(Claims{"level": 3}), ""},
		{"no claim", Claim("scope"), admin, "no claim scope"},
		{"null", Claim("scope"), who(Claims{"scope": nil}), "no claim scope"},
		{"claim of nobody", Claim("scope"), claimsOfNobody, "not authenticated"},

		{"all", All(yes, Authenticated(), Role("admin")), admin, ""},
		{"all but one", All(yes, no, never), admin, "no"},
		{"all of none", All(), Anonymous, ""},
		{"any", Any(no, yes, never), admin, ""},
		{"any of those unmet", Any(no, Role("ops")), admin, "none of the roles ops"},
		{"any of none", Any(), admin, "no alternative is met"},
		{"any of all", Any(All(yes, no), All(yes, yes)), admin, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.required(t.Context(), tt.id)
			switch {
			case tt.unmet == "" && err != nil:
				t.Errorf("unmet: %v", err)
			case tt.unmet != "" && (err == nil || !strings.Contains(err.Error(), tt.unmet)):
				t.Errorf("got %v, want %q in it", err, tt.unmet)
			}
		})
	}
	if err := Any(no, no)(t.Context(), admin); !errors.Is(err, errNo) {
		t.Errorf("Any hides why: %v", err)
	}
}

func TestRequirementGetsContext(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	seen := 0
	r := Requirement(func(ctx context.Context, _ *Identity) error {
		if ctx.Value(key{}) == "value" {
			seen++
		}
		return nil
	})
	if All(r, Any(r))(ctx, Anonymous) != nil || seen != 2 {
		t.Errorf("%d of 2 saw the context", seen)
	}
}
