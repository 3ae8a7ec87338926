package app_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/test/testhub/app"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEachHubIsAtItsPath(t *testing.T) {
	a, err := app.New(app.Config{JWTSecret: strings.Repeat("s", 32)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := a.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	for path, want := range map[string]int{
		"/hub":       http.StatusOK,
		"/secure":    http.StatusUnauthorized,
		"/chat":      http.StatusOK,
		"/bench":     http.StatusOK,
		"":           http.StatusNotFound,
		"/elsewhere": http.StatusNotFound,
	} {
		answer := httptest.NewRecorder()
		a.Handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, path+"/negotiate?negotiateVersion=1", nil))
		body, _ := io.ReadAll(answer.Body)
		if answer.Code != want {
			t.Errorf("negotiation at %q answered %d %s, want %d", path, answer.Code, body, want)
		}
	}
}

func TestFailedStartLeavesNothingBehind(t *testing.T) {
	negative := -1
	_, err := app.New(app.Config{JWTSecret: strings.Repeat("s", 32), MaxMessage: &negative})
	if err == nil || !strings.Contains(err.Error(), "-1") {
		t.Errorf("error is %v, want one about -1", err)
	}
	// TestMain finds what is left running.
}
