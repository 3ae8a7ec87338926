package transport

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
)

// Config says what the connections of a hub have in common. Zero values mean the
// defaults.
type Config struct {
	// Hub is the hub's name. A connection token of one hub is none of another's.
	Hub string
	// Keys authenticate connection tokens; all nodes of a cluster have the same. The
	// default is a random one, which does for a single node.
	Keys Keys
	// Accept makes the session of each new connection. Required.
	Accept Accept
	// Authenticator says who makes a request. The default takes all for anonymous.
	Authenticator auth.Authenticator
	// Requirements are met by whoever makes a request: 401 answers who is not
	// authenticated, if there are any, and 403 who does not meet them.
	Requirements []auth.Requirement
	// DisconnectTimeout is how long a negotiated connection waits for its transport.
	// The default is 15s.
	DisconnectTimeout time.Duration
	// SendTimeout bounds each write to a client. The default is 10s.
	SendTimeout time.Duration
	// CloseTimeout is how long a client has to answer a closing handshake. The
	// default is 5s.
	CloseTimeout time.Duration
	// Logger gets what no caller can be told. The default is slog.Default().
	Logger *slog.Logger
}

// clockLeeway is how far the clocks of the nodes may be apart: it is added to the
// time in which a token of another node may be attached.
const clockLeeway = 5 * time.Second

// A Manager holds the connections that one hub has on this node. Its methods may be
// called concurrently.
type Manager struct {
	Config
	readers sync.WaitGroup // the reader goroutines of all connections

	mu      sync.Mutex
	live    map[string]*Connection // by id; nil while the transport is being opened
	closing bool
	// Ids of tokens that have been attached, so that none is twice. An id is dropped
	// only after its token has run out: tables are swapped at most once in the time
	// that a token lives.
	used, usedBefore map[[16]byte]struct{}
	swapped          time.Time
}

// anonymous takes everybody for nobody in particular.
type anonymous struct{}

func (anonymous) Authenticate(*http.Request) (*auth.Identity, error) { return auth.Anonymous, nil }

// NewManager returns a manager without connections.
func NewManager(c Config) *Manager {
	if c.Keys == nil {
		c.Keys = RandomKey()
	}
	if c.Authenticator == nil {
		c.Authenticator = anonymous{}
	}
	c.DisconnectTimeout = orDefault(c.DisconnectTimeout, 15*time.Second)
	c.SendTimeout = orDefault(c.SendTimeout, 10*time.Second)
	c.CloseTimeout = orDefault(c.CloseTimeout, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Manager{
		Config:  c,
		live:    make(map[string]*Connection),
		used:    make(map[[16]byte]struct{}),
		swapped: time.Now(),
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// Refuse makes every later negotiation and transport be answered 503, so that
// clients go to other nodes. Connections that there are stay.
func (m *Manager) Refuse() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closing = true
}

// Wait returns when no connection is left or ctx ends, whose error it then returns.
// It is for use after Refuse.
func (m *Manager) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends when the last connection does, which Abort can bring about
		m.readers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Abort cuts all connections.
func (m *Manager) Abort() {
	m.mu.Lock()
	live := make([]*Connection, 0, len(m.live))
	for _, c := range m.live {
		if c != nil {
			live = append(live, c)
		}
	}
	m.mu.Unlock()
	for _, c := range live {
		c.Abort()
	}
}

// attachment is the answer to the question whether a transport may be opened.
type attachment int

const (
	attached attachment = iota
	unknownID
	alreadyAttached
	refusing
)

// reserve takes the id for a connection that is about to be opened, so that of two
// requests with one token one gets it. t is nil if there is no token.
func (m *Manager) reserve(id string, t *connectionToken) attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return refusing
	}
	if _, ok := m.live[id]; ok {
		return alreadyAttached
	}
	if t != nil {
		if m.isUsed(t.id) || time.Now().After(t.before.Add(clockLeeway)) {
			return unknownID
		}
		m.use(t.id)
	}
	m.live[id] = nil
	m.readers.Add(1)
	return attached
}

func (m *Manager) isUsed(id [16]byte) bool {
	_, used := m.used[id]
	_, before := m.usedBefore[id]
	return used || before
}

func (m *Manager) use(id [16]byte) {
	// A token lives at most DisconnectTimeout and the leeway, twice if the clock of
	// the node that minted it is ahead by as much.
	if now := time.Now(); now.Sub(m.swapped) > m.DisconnectTimeout+2*clockLeeway {
		m.used, m.usedBefore, m.swapped = make(map[[16]byte]struct{}), m.used, now
	}
	m.used[id] = struct{}{}
}

// opened puts the connection where reserve kept its place.
func (m *Manager) opened(c *Connection) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.live[c.id] = c
}

// notOpened undoes reserve: the token may be tried again.
func (m *Manager) notOpened(id string, t *connectionToken) {
	m.mu.Lock()
	if t != nil {
		delete(m.used, t.id)
		delete(m.usedBefore, t.id)
	}
	m.mu.Unlock()
	m.ended(id)
}

// ended gives the place back that reserve took.
func (m *Manager) ended(id string) {
	m.mu.Lock()
	delete(m.live, id)
	m.mu.Unlock()
	m.readers.Done()
}

// state says what there is under a valid token's id, for requests that open nothing.
func (m *Manager) state(id string, t connectionToken) attachment {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.live[id]; ok {
		return alreadyAttached
	}
	if m.isUsed(t.id) || time.Now().After(t.before.Add(clockLeeway)) {
		return unknownID
	}
	return attached
}
