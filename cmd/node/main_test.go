package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
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
		{[]string{"--allow-anonymous", "--listen", "nowhere:x"}, "listen"},
	} {
		err := run(t.Context(), tt.arguments, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%v: got %v, want an error that contains %q", tt.arguments, err, tt.err)
		}
	}
}
