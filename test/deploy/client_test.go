package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/internal/await"
)

// A client is a connection to the chat hub, in JSON. It belongs to the goroutine of the
// test, which reads from it when it waits for something.
type client struct {
	t      *testing.T
	socket *websocket.Conn
	last   int       // invocation id
	unread []message // of what has been read
}

// A message is what these tests use of one.
type message struct {
	Type         int    `json:"type"`
	InvocationID string `json:"invocationId,omitempty"`
	Target       string `json:"target,omitempty"`
	Arguments    []any  `json:"arguments,omitempty"`
	Error        string `json:"error,omitempty"`
}

const (
	invocation = 1
	completion = 3
)

// userToken returns a token for the user, as whoever knows the secret issues it.
func userToken(t *testing.T, user string) string {
	t.Helper()
	claims := jwt.RegisteredClaims{Subject: user, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// negotiate asks for a connection token.
func negotiate(ctx context.Context, address, access string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/chat/negotiate?negotiateVersion=1", http.NoBody)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+access)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("negotiation is answered %s", response.Status)
	}
	var negotiated struct {
		ConnectionToken string `json:"connectionToken"`
	}
	if err := json.NewDecoder(response.Body).Decode(&negotiated); err != nil {
		return "", fmt.Errorf("negotiation: %w", err)
	}
	return negotiated.ConnectionToken, nil
}

// connect opens a connection and ends its handshake, with a connection token or without
// a negotiation. It is closed at the end of the test.
func connect(t *testing.T, address, access, connection string) *client {
	t.Helper()
	query := url.Values{"access_token": {access}}
	if connection != "" {
		query.Set("id", connection)
	}
	socket, response, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+address+"/chat?"+query.Encode(), nil)
	if err != nil {
		status := ""
		if response != nil {
			status = response.Status
		}
		t.Fatalf("open a WebSocket: %v %s", err, status)
	}
	t.Cleanup(func() { socket.Close() })
	c := &client{t: t, socket: socket}
	c.write(`{"protocol":"json","version":1}`)
	if c.receive(time.Now().Add(await.Deadline)); len(c.unread) != 1 || c.unread[0].Error != "" {
		t.Fatalf("the handshake is answered by %+v", c.unread)
	}
	c.unread = nil
	return c
}

func (c *client) write(text string) {
	c.t.Helper()
	if err := c.socket.WriteMessage(websocket.TextMessage, []byte(text+"\x1e")); err != nil {
		c.t.Fatal(err)
	}
}

// receive reads what comes next, which may be several messages, until the deadline.
func (c *client) receive(deadline time.Time) {
	c.t.Helper()
	c.socket.SetReadDeadline(deadline)
	_, frame, err := c.socket.ReadMessage()
	if err != nil {
		c.t.Fatalf("read: %v; unread are %+v", err, c.unread)
	}
	for text := range strings.SplitSeq(strings.TrimSuffix(string(frame), "\x1e"), "\x1e") {
		var m message
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			c.t.Fatalf("%q: %v", text, err)
		}
		c.unread = append(c.unread, m)
	}
}

// next waits for a message that is wanted and returns it. The others stay unread.
func (c *client) next(wanted func(message) bool) message {
	c.t.Helper()
	deadline := time.Now().Add(await.Deadline)
	for {
		if i := slices.IndexFunc(c.unread, wanted); i >= 0 {
			m := c.unread[i]
			c.unread = slices.Delete(c.unread, i, i+1)
			return m
		}
		c.receive(deadline)
	}
}

// invoke invokes a method and waits until it has completed.
func (c *client) invoke(method string, arguments ...any) {
	c.t.Helper()
	c.last++
	id := strconv.Itoa(c.last)
	b, err := json.Marshal(message{Type: invocation, InvocationID: id, Target: method, Arguments: arguments})
	if err != nil {
		c.t.Fatal(err)
	}
	c.write(string(b))
	answer := func(m message) bool { return m.Type == completion && m.InvocationID == id }
	if m := c.next(answer); m.Error != "" {
		c.t.Fatalf("%s: %s", method, m.Error)
	}
}
