package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/client"
)

const jwtSecret = "a shared secret of thirty-two bytes or more"

// token returns a token for the user, as whoever knows the secret issues it.
func token(user string) (string, error) {
	claims := jwt.RegisteredClaims{Subject: user, ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour))}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(jwtSecret))
}

// connect starts a client of the chat hub at the address, for the user. It is closed at
// the end of the test.
func connect(t *testing.T, address, user string, options ...client.Option) (*client.Client, error) {
	options = append(options, client.WithAccessToken(func(context.Context) (string, error) { return token(user) }))
	c, err := client.New("http://"+address+"/chat", options...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), await.Deadline)
	defer cancel()
	if err := c.Start(ctx); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		c.Close()
		<-c.Done()
	})
	return c, nil
}

// A crowd is many clients that reconnect by themselves, evenly spread over users and
// groups. What happens to them is written down here; the methods may be called
// concurrently.
type crowd struct {
	groups, users []string
	members       []*member

	mu        sync.Mutex
	closes    []time.Time   // when a connection was seen to be closed, for each
	returns   int           // of clients that have been at a closed connection and are in their group again
	absence   time.Duration // the longest between the two
	delivered int           // messages from senders
	finals    int           // messages from bid
	faults    []error
}

// A member is a client in a crowd. Its fields belong to its handlers, of which one runs
// at a time.
type member struct {
	crowd       *crowd
	client      *client.Client
	group, user string
	left        time.Time      // when the connection was closed
	last        map[string]int // number of the last message, by sender and selector
}

// start connects the members to the address, several at once, and makes each join its
// group. Negotiation and WebSocket are connections of their own, so that a balancer may
// take them to different nodes.
func (c *crowd) start(t *testing.T, address string, size int) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	var starting sync.WaitGroup
	room := make(chan struct{}, 16)
	for i := range size {
		m := &member{crowd: c, group: c.groups[i%len(c.groups)], user: c.users[i%len(c.users)], last: make(map[string]int)}
		c.members = append(c.members, m)
		starting.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			if err := m.start(t, address, client.WithAutomaticReconnect(), client.WithHTTPClient(&http.Client{Transport: transport})); err != nil {
				c.fault(fmt.Errorf("start client %d: %w", i, err))
			}
		})
	}
	starting.Wait()
	if err := c.fault(nil); err != nil {
		t.Fatal(err)
	}
}

func (m *member) start(t *testing.T, address string, options ...client.Option) error {
	var err error
	if m.client, err = connect(t, address, m.user, options...); err != nil {
		return err
	}
	m.client.OnReconnecting(m.leave)
	m.client.OnReconnected(m.rejoin)
	err = errors.Join(
		m.client.On("Send", func(text string) { m.receive("group", text) }),
		m.client.On("ReceiveMessage", func(text string) { m.receive("user", text) }),
	)
	if err != nil {
		return err
	}
	return m.join(t.Context())
}

func (m *member) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, await.Deadline)
	defer cancel()
	return m.client.Invoke(ctx, "AddToGroup", m.group)
}

func (m *member) leave(error) {
	m.left = time.Now()
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	m.crowd.closes = append(m.crowd.closes, m.left)
}

func (m *member) rejoin(ctx context.Context, _ string) {
	clear(m.last) // the order is one of each connection
	if err := m.join(ctx); err != nil {
		m.crowd.fault(fmt.Errorf("join again: %w", err))
		return
	}
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	m.crowd.returns++
	m.crowd.absence = max(m.crowd.absence, time.Since(m.left))
}

// receive takes a message, which a sender has numbered, or bid has sent, or the hub.
func (m *member) receive(selector, text string) {
	if text == final {
		m.crowd.mu.Lock()
		defer m.crowd.mu.Unlock()
		m.crowd.finals++
		return
	}
	from, n, _ := strings.Cut(text, " ")
	number, err := strconv.Atoi(n)
	if err != nil {
		return // somebody has joined, says the hub
	}
	key := selector + from
	if number <= m.last[key] {
		m.crowd.fault(fmt.Errorf("message %d of %s to a %s came after %d", number, from, selector, m.last[key]))
	}
	m.last[key] = number
	m.crowd.mu.Lock()
	defer m.crowd.mu.Unlock()
	m.crowd.delivered++
}

// closed returns how many connections have been closed.
func (c *crowd) closed() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.closes)
}

// fault writes down what went wrong, if it is not nil, and returns everything that has.
func (c *crowd) fault(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && len(c.faults) < 20 {
		c.faults = append(c.faults, err)
	}
	return errors.Join(c.faults...)
}

// A sender sends to the groups and users of a crowd in turn.
type sender struct {
	name   string
	client *client.Client
	crowd  *crowd
	sent   int
}

// pace is the time between two rounds of a sender, each of a message to a group and one
// to a user.
const pace = 50 * time.Millisecond

// run sends until stop is closed, or something fails.
func (s *sender) run(ctx context.Context, stop <-chan struct{}) error {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-ticker.C:
		}
		s.sent++
		text := s.name + " " + strconv.Itoa(s.sent)
		if err := s.send(ctx, "SendToGroup", s.crowd.groups[s.sent%len(s.crowd.groups)], text); err != nil {
			return err
		}
		if err := s.send(ctx, "SendPrivateMessage", s.crowd.users[s.sent%len(s.crowd.users)], text); err != nil {
			return err
		}
	}
}

const final = "final"

// bid sends one last message to each group and to each user.
func (s *sender) bid(ctx context.Context) error {
	for _, group := range s.crowd.groups {
		if err := s.send(ctx, "SendToGroup", group, final); err != nil {
			return err
		}
	}
	for _, user := range s.crowd.users {
		if err := s.send(ctx, "SendPrivateMessage", user, final); err != nil {
			return err
		}
	}
	return nil
}

func (s *sender) send(ctx context.Context, method, to, text string) error {
	ctx, cancel := context.WithTimeout(ctx, await.Deadline)
	defer cancel()
	if err := s.client.Invoke(ctx, method, to, text); err != nil {
		return fmt.Errorf("%s: %s to %s: %w", s.name, method, to, err)
	}
	return nil
}
