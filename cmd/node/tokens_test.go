package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"
)

// A journal is what a node has logged so far.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

// startLogged starts a node that logs all it can, and returns its address and what ends
// it and returns the log.
func startLogged(t *testing.T, arguments ...string) (address string, end func() string) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	read, write := io.Pipe()
	log, ended := new(journal), make(chan error, 1)
	go func() { // ends with stop
		ended <- run(ctx, append([]string{
			"--listen", "127.0.0.1:0", "--admin-listen", "", "--drain-delay", "0s", "--drain-duration", "0s", "--log-level", "debug",
		}, arguments...), write, log)
		write.Close()
	}()
	lines := bufio.NewReader(read)
	line, err := lines.ReadString('\n')
	found := regexp.MustCompile(`^listening on http://(\S+)`).FindStringSubmatch(line)
	if found == nil {
		stop()
		t.Fatalf("the node says %q, %v: %v", line, err, <-ended)
	}
	go io.Copy(io.Discard, lines) // ends with run
	return found[1], func() string {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.text.String()
	}
}

// However a request goes wrong, neither the user's token nor the connection's is logged,
// wherever they are in it.
func TestTokensAreNotLogged(t *testing.T) {
	address, end := startLogged(t, "--jwt-secret", secret, "--allowed-origins", "https://app.example.com")
	sign := func(key string, until time.Time) string {
		claims := jwt.RegisteredClaims{Subject: "ada", ExpiresAt: jwt.NewNumericDate(until)}
		token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := sign(secret, time.Now().Add(time.Hour))
	access := map[string]string{
		"good":    good,
		"expired": sign(secret, time.Now().Add(-time.Hour)),
		"forged":  sign(strings.ToUpper(secret), time.Now().Add(time.Hour)),
		"no JWT":  "not-a-token-but-secret-all-the-same",
	}
	ids := map[string]string{"forged": "Zm9yZ2VkLWNvbm5lY3Rpb24tdG9rZW4"}
	var negotiated struct {
		ConnectionToken string `json:"connectionToken"`
	}
	body := request(t, "POST", "http://"+address+"/chat/negotiate?negotiateVersion=1", http.Header{"Authorization": {"Bearer " + good}})
	if err := json.Unmarshal([]byte(body), &negotiated); err != nil || negotiated.ConnectionToken == "" {
		t.Fatalf("negotiation: %q, %v", body, err)
	}
	ids["good"] = negotiated.ConnectionToken

	for _, token := range access {
		for _, id := range ids {
			query := url.Values{"id": {id}, "access_token": {token}}.Encode()
			for _, method := range []string{"GET", "POST", "DELETE", "PATCH", "OPTIONS"} {
				request(t, method, "http://"+address+"/chat?"+query, http.Header{"Origin": {"https://evil.example"}})
				request(t, method, "http://"+address+"/chat?id="+url.QueryEscape(id), http.Header{"Authorization": {"Bearer " + token}, "Accept": {"text/plain"}})
				request(t, method, "http://"+address+"/chat/negotiate?"+query, nil)
				request(t, method, "http://"+address+"/chat/elsewhere?"+query, nil)
			}
			for _, header := range []http.Header{
				nil,
				{"Authorization": {"Bearer " + token}},
				{"Origin": {"https://evil.example"}},
			} {
				open(t, "ws://"+address+"/chat?"+query, header)
			}
			// Not what a WebSocket begins with.
			request(t, "GET", "http://"+address+"/chat?"+query, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}})
			// Not what HTTP is.
			request(t, "GET", "http://"+address+"/chat?"+query, http.Header{"X": {strings.Repeat("x", 1<<20)}, "Authorization": {"Bearer " + token}})
		}
	}
	log := end()
	if !strings.Contains(log, "level=DEBUG") {
		t.Errorf("nothing was logged that could show it:\n%s", log)
	}
	for _, secrets := range []map[string]string{access, ids} {
		for kind, token := range secrets {
			for part := range strings.SplitSeq(token, ".") { // of a JWT, the signature alone would do
				if strings.Contains(log, part) {
					t.Errorf("the %s token is in the log, at least in part: %s", kind, part)
				}
			}
		}
	}
	if strings.Contains(log, "access_token") || strings.Contains(log, "Bearer ") {
		t.Error("there are queries or headers in the log")
	}
}

// request makes a request, whatever it is answered. An answer that does not end is left.
func request(t *testing.T, method, target string, header http.Header) (body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header != nil {
		r.Header = header
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return ""
	}
	defer answer.Body.Close()
	b, _ := io.ReadAll(answer.Body)
	return string(b)
}

// open opens a WebSocket, if that is possible, and sends nonsense.
func open(t *testing.T, target string, header http.Header) {
	t.Helper()
	socket, answer, err := websocket.DefaultDialer.DialContext(t.Context(), target, header)
	if answer != nil {
		answer.Body.Close()
	}
	if err != nil {
		return
	}
	socket.WriteMessage(websocket.TextMessage, []byte("nonsense\x1e"))
	socket.Close()
}
