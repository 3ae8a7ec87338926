package main

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var secret = strings.Repeat("s", 32)

func TestNonsenseEndsWithStatus2(t *testing.T) {
	for name, test := range map[string]struct {
		set  map[string]string
		says string
	}{
		"no secret":     {map[string]string{"JWT_SECRET": ""}, "JWT_SECRET"},
		"no URL":        {map[string]string{"REDIS": "localhost:6379"}, "none of redis, rediss"},
		"no PEM":        {map[string]string{"ISSUER_KEY": "key"}, "ISSUER_KEY is not in PEM"},
		"no duration":   {map[string]string{"OPERATION_TIMEOUT": "5"}, `OPERATION_TIMEOUT is "5"`},
		"no interval":   {map[string]string{"PROBE_INTERVAL": "often"}, `PROBE_INTERVAL is "often"`},
		"short timeout": {map[string]string{"OPERATION_TIMEOUT": "1ms"}, "operation time-out 1ms"},
		"negative":      {map[string]string{"DRAIN_DURATION": "-1s"}, `DRAIN_DURATION is "-1s"`},
	} {
		t.Run(name, func(t *testing.T) {
			getenv := func(name string) string {
				if v, ok := test.set[name]; ok {
					return v
				}
				return map[string]string{"LISTEN": "127.0.0.1:0", "JWT_SECRET": secret}[name]
			}
			var stdout, stderr bytes.Buffer
			if status := run(getenv, &stdout, &stderr); status != 2 {
				t.Errorf("status %d, want 2", status)
			}
			if !strings.Contains(stderr.String(), test.says) || stdout.Len() > 0 {
				t.Errorf("stderr is %q, want %q in it; stdout is %q", stderr.String(), test.says, stdout.String())
			}
		})
	}
}

func TestEachHubIsAtItsPath(t *testing.T) {
	n, err := newNode(settings{secret: []byte(secret), clusterKey: []byte(secret)}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.shutdown(); err != nil {
			t.Error(err)
		}
	}()
	for path, want := range map[string]int{
		"/ops":      http.StatusOK,
		"/parallel": http.StatusOK,
		"/hub":      http.StatusNotFound,
	} {
		answer := httptest.NewRecorder()
		n.routes().ServeHTTP(answer, httptest.NewRequest(http.MethodPost, path+"/negotiate?negotiateVersion=1", nil))
		if answer.Code != want {
			t.Errorf("negotiation at %q answered %d %s, want %d", path, answer.Code, answer.Body, want)
		}
	}
}
