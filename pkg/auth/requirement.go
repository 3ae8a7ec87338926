package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Requirement says whether an identity may do something: nil if so, and otherwise
// why not, which is for the log and not for the client. It is called concurrently.
type Requirement func(ctx context.Context, id *Identity) error

// RoleClaim is the claim type of roles in tokens of issuers that write claim URIs.
const RoleClaim = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"

var errNotAuthenticated = errors.New("not authenticated")

// Authenticated requires credentials that hold.
func Authenticated() Requirement {
	return func(_ context.Context, id *Identity) error {
		if !id.Authenticated {
			return errNotAuthenticated
		}
		return nil
	}
}

// Role requires one of the roles: a value of the claim "role" or [RoleClaim].
func Role(roles ...string) Requirement {
	return func(_ context.Context, id *Identity) error {
		for _, claim := range []string{"role", RoleClaim} {
			if slices.ContainsFunc(roles, func(role string) bool { return id.Claims.Has(claim, role) }) {
				return nil
			}
		}
		return fmt.Errorf("none of the roles %s", strings.Join(roles, ", "))
	}
}

// Claim requires the claim with one of the values, or with any if none is given.
func Claim(claimType string, values ...string) Requirement {
	return func(_ context.Context, id *Identity) error {
		has := func(value string) bool { return id.Claims.Has(claimType, value) }
		if _, any := id.Claims.First(claimType); any && len(values) == 0 || slices.ContainsFunc(values, has) {
			return nil
		}
		return fmt.Errorf("claim %s is not as required", claimType)
	}
}
