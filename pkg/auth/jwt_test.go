package auth

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const secret = "a shared secret of thirty-two bytes or more"

func sign(t *testing.T, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	s, err := jwt.NewWithClaims(method, claims).SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestHS256(t *testing.T) {
	in, ago := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Second).Unix()
	hs := jwt.SigningMethodHS256
	for _, tt := range []struct {
		name    string
		token   string
		subject string
		refused bool
	}{
		{name: "no token"},
		{name: "sub", token: sign(t, hs, []byte(secret), jwt.MapClaims{"sub": "Ada", "exp": in}), subject: "Ada"},
		{name: "no expiry", token: sign(t, hs, []byte(secret), jwt.MapClaims{"sub": "Ada"}), subject: "Ada"},
		{name: "name identifier before sub", token: sign(t, hs, []byte(secret), jwt.MapClaims{"sub": "x", NameIdentifier: "Ada"}), subject: "Ada"},
		{name: "empty sub", token: sign(t, hs, []byte(secret), jwt.MapClaims{"sub": ""})},
		{name: "expired", token: sign(t, hs, []byte(secret), jwt.MapClaims{"sub": "Ada", "exp": ago}), refused: true},
		{name: "not yet valid", token: sign(t, hs, []byte(secret), jwt.MapClaims{"sub": "Ada", "nbf": in}), refused: true},
		{name: "forged", token: sign(t, hs, []byte("another secret of thirty-two bytes or more"), jwt.MapClaims{"sub": "Ada"}), refused: true},
		{name: "algorithm none", token: sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"sub": "Ada"}), refused: true},
		{name: "other algorithm", token: sign(t, jwt.SigningMethodHS512, []byte(secret), jwt.MapClaims{"sub": "Ada"}), refused: true},
		{name: "garbage", token: "x.y.z", refused: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := HS256([]byte(secret))
			if err != nil {
				t.Fatal(err)
			}
			for _, carrier := range []string{"header", "query"} {
				r := httptest.NewRequest("POST", "/hub/negotiate", nil)
				switch {
				case tt.token == "":
				case carrier == "header":
					r.Header.Set("Authorization", "bearer "+tt.token)
				default:
					r.URL.RawQuery = url.Values{"access_token": {tt.token}}.Encode()
				}
				id, err := a.Authenticate(r)
				if tt.refused {
					if !errors.Is(err, ErrUnauthenticated) {
						t.Fatalf("%s: got %v, %v, want a refusal", carrier, id, err)
					}
					if strings.Contains(err.Error(), tt.token) {
						t.Fatalf("%s: error repeats the token: %v", carrier, err)
					}
					continue
				}
				if err != nil || id.Subject != tt.subject || id.Authenticated != (tt.token != "") {
					t.Fatalf("%s: got %+v, %v, want subject %q", carrier, id, err, tt.subject)
				}
			}
		})
	}
}

func TestHS256RefusesShortSecret(t *testing.T) {
	if _, err := HS256([]byte("short")); err == nil {
		t.Fatal("no error")
	}
}

func TestBearerTokenPrefersHeader(t *testing.T) {
	r := &http.Request{Header: http.Header{"Authorization": {"Bearer one"}}, URL: &url.URL{RawQuery: "access_token=two"}}
	if got := BearerToken(r); got != "one" {
		t.Fatalf("got %q", got)
	}
}

func TestClaims(t *testing.T) {
	c := Claims{"role": []any{"admin", "ops"}, "level": 3, "name": "Ada"}
	if v, ok := c.First("role"); v != "admin" || !ok {
		t.Errorf("First(role) = %q, %v", v, ok)
	}
	if v, ok := c.First("level"); v != "3" || !ok {
		t.Errorf("First(level) = %q, %v", v, ok)
	}
	if _, ok := c.First("absent"); ok {
		t.Error("absent claim has a value")
	}
	if !c.Has("role", "ops") || c.Has("role", "Ops") {
		t.Error("Has(role) is wrong about ops or Ops")
	}
}
