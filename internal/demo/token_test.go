package demo

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func TestToken(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		user       string // of the token; empty: none is given
		status     int
		err        string // is contained
	}{
		{name: "a user", body: `{"user":"ada"}`, user: "ada", status: 200},
		{name: "as it is", body: ` {"user":" Ada [x]: \"é\" "} `, user: ` Ada [x]: "é" `, status: 200},
		{name: "longest", body: `{"user":"` + strings.Repeat("é", 64) + `"}`, user: strings.Repeat("é", 64), status: 200},
		{name: "longest, escaped", body: `{"user":"` + strings.Repeat(`\ud83d\ude00`, 64) + `"}`, user: strings.Repeat("😀", 64), status: 200},
		{name: "joined characters", body: `{"user":"👩‍🚀"}`, user: "👩‍🚀", status: 200},
		{name: "too long", body: `{"user":"` + strings.Repeat("é", 65) + `"}`, status: 400, err: "more than 64 characters"},
		{name: "empty", body: `{"user":""}`, status: 400, err: "empty"},
		{name: "blank", body: `{"user":" \u00a0 "}`, status: 400, err: "empty"},
		{name: "control character", body: `{"user":"a\u0000b"}`, status: 400, err: "control characters"},
		{name: "line break", body: `{"user":"a\nb"}`, status: 400, err: "control characters"},
		{name: "not UTF-8", body: "{\"user\":\"a\xff\"}", status: 400, err: "must be JSON"},
		{name: "no user", body: `{}`, status: 400, err: "must be JSON"},
		{name: "null", body: `{"user":null}`, status: 400, err: "must be JSON"},
		{name: "number", body: `{"user":1}`, status: 400, err: "must be JSON"},
		{name: "array", body: `["ada"]`, status: 400, err: "must be JSON"},
		{name: "unknown field", body: `{"user":"ada","admin":true}`, status: 400, err: "must be JSON"},
		{name: "more after it", body: `{"user":"ada"}{"user":"ben"}`, status: 400, err: "must be JSON"},
		{name: "garbage after it", body: `{"user":"ada"}x`, status: 400, err: "must be JSON"},
		{name: "cut", body: `{"user":"ada"`, status: 400, err: "must be JSON"},
		{name: "nothing", body: ``, status: 400, err: "must be JSON"},
		{name: "form", body: `user=ada`, status: 400, err: "must be JSON"},
		{name: "as large as may be", body: `{"user":"ada"}` + strings.Repeat(" ", maxRequestBytes-14), user: "ada", status: 200},
		{name: "too large", body: `{"user":"ada"}` + strings.Repeat(" ", maxRequestBytes-13), status: 413, err: "more than 4096 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := ask("POST", "/demo/token", tt.body)
			if w.Code != tt.status || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d %v %s, want %d", w.Code, w.Header(), w.Body, tt.status)
			}
			if tt.user != "" {
				if got := subject(t, w.Body.Bytes()); got != tt.user {
					t.Errorf("the token is for %q, want %q", got, tt.user)
				}
				return
			}
			var answer map[string]string
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || len(answer) != 1 || !strings.Contains(answer["error"], tt.err) {
				t.Errorf("got %s, %v, want an error that contains %q", w.Body, err, tt.err)
			}
		})
	}
}

func TestTokenExpires(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	token, err := newTokenIssuer(secret).sign("ada", now)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		after time.Duration
		valid bool
	}{{0, true}, {12*time.Hour - time.Second, true}, {12 * time.Hour, false}} {
		parser := jwt.NewParser(jwt.WithExpirationRequired(), jwt.WithTimeFunc(func() time.Time { return now.Add(tt.after) }))
		if _, err := parser.Parse(token, key); (err == nil) != tt.valid {
			t.Errorf("after %v: got %v, want valid %v", tt.after, err, tt.valid)
		}
	}
}

// subject checks the token in the answer as a hub would, and returns whom it is for.
func subject(t *testing.T, answer []byte) string {
	t.Helper()
	var a map[string]string
	if err := json.Unmarshal(answer, &a); err != nil || len(a) != 1 {
		t.Fatalf("answer %s: %v", answer, err)
	}
	token, err := jwt.NewParser(jwt.WithValidMethods([]string{"HS256"}), jwt.WithExpirationRequired()).Parse(a["token"], key)
	if err != nil {
		t.Fatal(err)
	}
	user, err := token.Claims.GetSubject()
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func key(*jwt.Token) (any, error) { return secret, nil }
