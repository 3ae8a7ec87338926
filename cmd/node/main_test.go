package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/server"
)

func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// What the node prints is enough to reach it, and works as printed.
func TestRun(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() { // ends with stop
		ended <- run(ctx, []string{"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--demo", "--drain-delay", "0s", "--drain-duration", "0s"}, write, io.Discard)
		write.Close()
	}()
	var printed strings.Builder
	for lines := bufio.NewScanner(read); lines.Scan(); {
		fmt.Fprintln(&printed, lines.Text())
		if strings.HasPrefix(lines.Text(), "This node is alone") {
			break
		}
	}
	go io.Copy(io.Discard, read) // ends with run
	for _, tt := range []struct{ method, command, body string }{
		{"POST", `curl -X POST '(\S+)'`, `"connectionToken"`},
		{"GET", `curl '(\S+)'`, "[+] backplane: ok"},
		{"GET", `Open (\S+) in`, "<!doctype html>"},
	} {
		found := regexp.MustCompile(tt.command).FindStringSubmatch(printed.String())
		if found == nil {
			t.Fatalf("no %s in:\n%s", tt.command, &printed)
		}
		r, err := http.NewRequest(tt.method, found[1], nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s: got %d %q, %v", found[0], answer.StatusCode, body, err)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, tt := range []struct {
		arguments []string
		err       string
	}{
		{[]string{"--jwt-secret", "short"}, "--jwt-secret: HS256 secret has 5 bytes"},
		{[]string{"--allow-anonymous", "--cluster-key", "short"}, "cluster key 1 has 5 bytes"},
		{[]string{"--allow-anonymous", "--keep-alive-interval", "1ms"}, "keep-alive interval 1ms"},
		{[]string{"--jwt-secret", secret, "--redis", "http://localhost"}, "redis"},
		{[]string{"--allow-anonymous", "--allowed-origins", "*"}, "--allowed-origins: origin *"},
		{[]string{"--allow-anonymous", "--tls-cert", "nowhere", "--tls-key", "nowhere"}, "--tls-cert: read certificate"},
		{[]string{"--jwt-secret", secret, "--redis", "redis://localhost:1", "--peer-tls-cert", "nowhere", "--peer-tls-key", "b", "--peer-tls-ca", "c"}, "--peer-tls-cert: read certificate"},
		{[]string{"--jwt-secret", secret, "--redis", "redis://localhost:1", "--peer-listen", "nowhere:x"}, "listen for other nodes"},
		{[]string{"--allow-anonymous", "--listen", "nowhere:x"}, "listen"},
	} {
		err := run(t.Context(), tt.arguments, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v: got %v, want an error that contains %q", tt.arguments, err, tt.err)
		}
	}
}

// The node serves the hub at its paths, and nothing elsewhere.
func TestRoutes(t *testing.T) {
	c, err := parse([]string{"--allow-anonymous", "--allowed-origins", "https://app.example.com"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	s := server.Config{Logger: slog.New(slog.DiscardHandler), Backplane: backplane.NewMemory()}
	if err := serve(&s, c, prometheus.NewRegistry()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(s.Hubs[0].Shutdown(context.Background()), s.Backplane.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct {
		method, path string
		status       int
		body         string // is contained
	}{
		{"POST", "/chat/negotiate?negotiateVersion=1", 200, "connectionToken"},
		{"POST", "/chat/negotiate/", 200, "connectionId"},
		{"OPTIONS", "/chat/negotiate", 204, ""},
		{"GET", "/chat/negotiate", 405, ""},
		{"GET", "/chat", 400, "Connection ID required"},
		{"GET", "/chat/", 400, "Connection ID required"},
		{"PATCH", "/chat", 405, ""},
		{"BREW", "/chat", 405, ""},
		{"GET", "/", 404, ""},
		{"POST", "/negotiate", 404, ""},
		{"OPTIONS", "/elsewhere", 404, ""},
		{"GET", "/chat/elsewhere", 404, ""},
		{"POST", "/chat/elsewhere/negotiate", 404, ""},
		{"GET", "/chatter", 404, ""},
		{"GET", "/readyz", 404, ""},
		{"GET", "/metrics", 404, ""},
		{"GET", "/debug/pprof/", 404, ""},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		r.Header.Set("Origin", "https://app.example.com")
		r.Header.Set("Access-Control-Request-Method", "POST")
		w := httptest.NewRecorder()
		s.Handler.ServeHTTP(w, r)
		if w.Code != tt.status || !strings.Contains(w.Body.String(), tt.body) {
			t.Errorf("%s %s: got %d %q, want %d %q", tt.method, tt.path, w.Code, w.Body, tt.status, tt.body)
		}
	}
}
