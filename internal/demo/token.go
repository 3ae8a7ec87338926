package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenLifetime     = 12 * time.Hour
	maxUserCharacters = 64
	maxRequestBytes   = 4 << 10 // a user of the longest kind fits, with every character escaped
)

// A tokenIssuer hands a token for any user to anyone who asks.
type tokenIssuer struct {
	secret []byte
}

func newTokenIssuer(secret []byte) *tokenIssuer {
	return &tokenIssuer{secret: slices.Clone(secret)}
}

type (
	tokenAnswer struct {
		Token string `json:"token"`
	}
	errorAnswer struct {
		Error string `json:"error"`
	}
)

func (t *tokenIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, http.StatusMethodNotAllowed, errorAnswer{"use POST"})
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBytes))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		answer(w, http.StatusRequestEntityTooLarge, errorAnswer{fmt.Sprintf("the request has more than %d bytes", maxRequestBytes)})
		return
	}
	if err != nil {
		answer(w, http.StatusBadRequest, errorAnswer{"the request could not be read"})
		return
	}
	user, err := userOf(body)
	if err != nil {
		answer(w, http.StatusBadRequest, errorAnswer{err.Error()})
		return
	}
	token, err := t.sign(user, time.Now())
	if err != nil {
		answer(w, http.StatusInternalServerError, errorAnswer{"the token could not be signed"})
		return
	}
	answer(w, http.StatusOK, tokenAnswer{token})
}

// userOf reads the user that a token is asked for. Its errors are for the one who asks.
func userOf(body []byte) (string, error) {
	var request struct {
		User *string `json:"user"`
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&request)
	if err == nil {
		_, err = decoder.Token() // there must be nothing more
	}
	if !errors.Is(err, io.EOF) || request.User == nil || !utf8.Valid(body) {
		return "", errors.New(`the request must be JSON like {"user":"ada"}`)
	}
	user := *request.User
	switch {
	case strings.TrimSpace(user) == "":
		return "", errors.New("the name is empty")
	case utf8.RuneCountInString(user) > maxUserCharacters:
		return "", fmt.Errorf("the name has more than %d characters", maxUserCharacters)
	case strings.ContainsFunc(user, unicode.IsControl):
		return "", errors.New("the name has control characters")
	}
	return user, nil
}

func (t *tokenIssuer) sign(user string, now time.Time) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.RegisteredClaims{
		Subject:   user,
		IssuedAt:  jwt.NewNumericDate(now),
		ExpiresAt: jwt.NewNumericDate(now.Add(tokenLifetime)),
	}).SignedString(t.secret)
}

// answer writes the value as JSON. Tokens must not be kept on the way.
func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(value)
}
