package hub

import (
	"net/http"

	"github.com/heliograph/heliograph/pkg/auth"
)

// Renew implements [transport.Renewer]: a connection stays its user's.
func (c *connection) Renew(r *http.Request, identity *auth.Identity) bool {
	user, err := c.hub.identify(r, identity)
	return err == nil && user == c.user
}
