package hub

import (
	"sync"

	"github.com/heliograph/heliograph/pkg/auth"
)

// A Caller is the connection on whose behalf application code runs. All invocations
// of a connection get the same one. It may be kept and used from any goroutine, after
// the connection's end too: what is then sent to it is dropped.
type Caller struct {
	c     *connection
	items sync.Map
}

// ConnectionID returns the connection's public id.
func (c *Caller) ConnectionID() string { return c.c.id }

// UserIdentifier returns the user that the connection belongs to. Empty: none.
func (c *Caller) UserIdentifier() string { return c.c.user }

// Identity returns what the credentials say that opened the connection; never nil.
func (c *Caller) Identity() *auth.Identity { return c.c.link.Identity() }

// Claims returns the claims of the connection's credentials; they must not be
// changed.
func (c *Caller) Claims() auth.Claims { return c.c.link.Identity().Claims }

// Items returns a map for the application's own use that lives as long as the
// connection.
func (c *Caller) Items() *sync.Map { return &c.items }

// Abort closes the connection. What was sent to it before still goes out; what the
// running method returns does not. The client is told not to reconnect by itself.
func (c *Caller) Abort() { c.c.end(closing{}) }

// Clients selects whom to send to.
func (c *Caller) Clients() CallerClients {
	return CallerClients{clients: c.c.hub.Clients(), c: c.c}
}

// Groups adds connections to groups and removes them, on behalf of the caller.
func (c *Caller) Groups() Groups { return Groups{hub: c.c.hub, caller: c} }
