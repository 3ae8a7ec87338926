package transport

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
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
	// DisconnectTimeout is how long a connection waits for a transport: the first one
	// after the negotiation, the next poll, another WebSocket of a stateful connection.
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
	all     sync.WaitGroup // the connections, each until the last of its goroutines is done
	cluster *cluster       // nil: there are no other nodes; set by Join

	mu      sync.Mutex
	live    map[string]*Connection   // by id
	watched map[*Connection]struct{} // of those, the ones whose time may run out
	closing bool
	// Ids of tokens that have made a connection, so that none does twice. An id is
	// dropped only after its token has run out: tables are swapped at most once in the
	// time that a token lives.
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
		watched: make(map[*Connection]struct{}),
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
		m.all.Wait()
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
	live := slices.Collect(maps.Values(m.live))
	m.mu.Unlock()
	for _, c := range live {
		c.cut()
	}
}

// find returns the connection with that id, or nil.
func (m *Manager) find(id string) *Connection {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.live[id]
}

// findOrMake returns the connection with that id, made of its token if it is not there
// and the token is good for it. t is nil if there is no token.
func (m *Manager) findOrMake(id string, t *connectionToken, identity *auth.Identity) (*Connection, refusal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.live[id]; c != nil {
		return c, granted
	}
	if m.closing {
		return nil, refusing
	}
	if t != nil && !m.isFresh(t) {
		return nil, unknownID
	}
	c := &Connection{id: id, manager: m, vacant: time.Now()}
	c.identity.Store(identity)
	if t != nil {
		c.stateful, c.public, c.spent = t.stateful, t.public, t.spent().UnixMilli()
		m.use(t.id)
	}
	m.live[id] = c
	m.watched[c] = struct{}{}
	m.all.Add(1)
	return c, granted
}

// forget gives the connection's place back.
func (m *Manager) forget(c *Connection) {
	m.mu.Lock()
	delete(m.watched, c)
	if m.live[c.id] == c { // else it has been released, and may have come back since
		delete(m.live, c.id)
		if m.cluster != nil {
			m.cluster.ended(c.id)
		}
	}
	m.mu.Unlock()
	m.all.Done()
}

// isFresh and use are called with mu held.
func (m *Manager) isFresh(t *connectionToken) bool {
	_, used := m.used[t.id]
	_, before := m.usedBefore[t.id]
	return !used && !before && !time.Now().After(t.before.Add(clockLeeway))
}

func (m *Manager) use(id [16]byte) {
	// A token lives at most DisconnectTimeout and the leeway, twice if the clock of
	// the node that minted it is ahead by as much.
	if now := time.Now(); now.Sub(m.swapped) > m.DisconnectTimeout+2*clockLeeway {
		m.used, m.usedBefore, m.swapped = make(map[[16]byte]struct{}), m.used, now
	}
	m.used[id] = struct{}{}
}
