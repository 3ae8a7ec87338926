package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestBearerToken(t *testing.T) {
	for _, tt := range []struct{ name, header, query, want string }{
		{name: "none"},
		{name: "header", header: "Bearer one", want: "one"},
		{name: "any case", header: "bEARER one", want: "one"},
		{name: "more spaces", header: "Bearer   one ", want: "one"},
		{name: "query", query: "access_token=two%2Bthree", want: "two+three"},
		{name: "header first", header: "Bearer one", query: "access_token=two", want: "one"},
		{name: "another scheme", header: "Basic YTpi", query: "access_token=two", want: "two"},
		{name: "scheme alone", header: "Bearer", query: "access_token=two", want: "two"},
		{name: "scheme without a space", header: "Bearerone"},
		{name: "another parameter", query: "Access_Token=two"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/hub?"+tt.query, nil)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			if got := BearerToken(r); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestFirstOf(t *testing.T) {
	// header takes what stands in a header of that name for the user; "bad" does not hold.
	header := func(name string) Authenticator {
		return AuthenticatorFunc(func(r *http.Request) (*Identity, error) {
			switch v := r.Header.Get(name); v {
			case "":
				return Anonymous, nil
			case "bad":
				return nil, ErrUnauthenticated
			default:
				return &Identity{Subject: v, Authenticated: true}, nil
			}
		})
	}
	guest := AuthenticatorFunc(func(*http.Request) (*Identity, error) { return &Identity{Subject: "guest"}, nil })
	for _, tt := range []struct {
		name    string
		a       Authenticator
		headers map[string]string
		want    string
		refused bool
	}{
		{name: "nobody", a: FirstOf(header("A"), header("B"))},
		{name: "of none", a: FirstOf(), headers: map[string]string{"A": "ada"}},
		{name: "first", a: FirstOf(header("A"), header("B")), headers: map[string]string{"A": "ada"}, want: "ada"},
		{name: "second", a: FirstOf(header("A"), header("B")), headers: map[string]string{"B": "ben"}, want: "ben"},
		{name: "both", a: FirstOf(header("A"), header("B")), headers: map[string]string{"A": "ada", "B": "ben"}, want: "ada"},
		{name: "first refuses", a: FirstOf(header("A"), header("B")), headers: map[string]string{"A": "bad", "B": "ben"}, refused: true},
		{name: "second is not asked", a: FirstOf(header("A"), header("B")), headers: map[string]string{"A": "ada", "B": "bad"}, want: "ada"},
		{name: "second refuses", a: FirstOf(header("A"), header("B")), headers: map[string]string{"B": "bad"}, refused: true},
		{name: "last names guests", a: FirstOf(header("A"), guest), want: "guest"},
		{name: "guest before", a: FirstOf(guest, header("A")), headers: map[string]string{"A": "ada"}, want: "ada"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/hub", nil)
			for k, v := range tt.headers {
				r.Header.Set(k, v)
			}
			id, err := tt.a.Authenticate(r)
			if tt.refused {
				if !errors.Is(err, ErrUnauthenticated) {
					t.Fatalf("got %v, %v, want a refusal", id, err)
				}
				return
			}
			if err != nil || id.Subject != tt.want {
				t.Fatalf("got %+v, %v, want %q", id, err, tt.want)
			}
		})
	}
}
