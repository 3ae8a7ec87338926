package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Requirement says whether an identity may do something: nil if so, and otherwise
// why not, which is for the log and not for the client. Any function of this form is
// one. It is called concurrently, and the identity is never nil.
type Requirement func(ctx context.Context, id *Identity) error

// RoleClaim is the claim type of roles in tokens of issuers that write claim URIs.
const RoleClaim = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"

// roleClaims are where issuers write roles.
var roleClaims = [...]string{"role", "roles", RoleClaim}

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

// Role requires credentials that hold and give one of the roles, as a value of the
// claim "role", "roles" or [RoleClaim]. Case matters. Nobody has one of no roles.
func Role(roles ...string) Requirement {
	return func(_ context.Context, id *Identity) error {
		if !id.Authenticated {
			return errNotAuthenticated
		}
		for _, claim := range roleClaims {
			for _, role := range id.Claims.Values(claim) {
				if slices.Contains(roles, role) {
					return nil
				}
			}
		}
		return fmt.Errorf("none of the roles %s", strings.Join(roles, ", "))
	}
}

// Claim requires credentials that hold and have the claim, with one of the values, or
// with any if none is given. Case matters.
func Claim(claimType string, values ...string) Requirement {
	return func(_ context.Context, id *Identity) error {
		if !id.Authenticated {
			return errNotAuthenticated
		}
		has := id.Claims.Values(claimType)
		switch {
		case len(has) == 0:
			return fmt.Errorf("no claim %s", claimType)
		case len(values) > 0 && !slices.ContainsFunc(has, func(v string) bool { return slices.Contains(values, v) }):
			return fmt.Errorf("claim %s is none of %s", claimType, strings.Join(values, ", "))
		default:
			return nil
		}
	}
}

// All requires all of the requirements, asked in order up to the first that is not met.
func All(requirements ...Requirement) Requirement {
	return func(ctx context.Context, id *Identity) error {
		for _, required := range requirements {
			if err := required(ctx, id); err != nil {
				return err
			}
		}
		return nil
	}
}

// Any requires one of the requirements, asked in order up to the first that is met.
// None of no requirements is ever met.
func Any(requirements ...Requirement) Requirement {
	return func(ctx context.Context, id *Identity) error {
		var unmet []error
		for _, required := range requirements {
			err := required(ctx, id)
			if err == nil {
				return nil
			}
			unmet = append(unmet, err)
		}
		return fmt.Errorf("no alternative is met: %w", errors.Join(unmet...))
	}
}
