package transport

import (
	"math"
	"net/http"
	"reflect"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
)

// A Renewer is a session that has a say in whose a connection is.
type Renewer interface {
	// Renew is asked when a later request of a connection brings other credentials,
	// before these replace those that it has: whether they are the same user's. It must
	// not keep r, and may be called concurrently. A session that is no Renewer agrees to
	// whatever has the same subject.
	Renew(r *http.Request, identity *auth.Identity) bool
}

// renew takes the credentials of a later request for the connection's own, unless they
// end sooner.
func (c *Connection) renew(r *http.Request, identity *auth.Identity) refusal {
	c.mu.Lock()
	session := c.session
	c.mu.Unlock()
	old := c.Identity()
	if session == nil || reflect.DeepEqual(old, identity) {
		return granted
	}
	if s, ok := session.(Renewer); ok && !s.Renew(r, identity) {
		return otherUser
	}
	for !endsSooner(identity, old) {
		if c.identity.CompareAndSwap(old, identity) {
			break
		}
		old = c.Identity()
	}
	return granted
}

func endsSooner(identity, than *auth.Identity) bool {
	switch {
	case identity.Expires.IsZero():
		return false
	case than.Expires.IsZero():
		return true
	default:
		return identity.Expires.Before(than.Expires)
	}
}

const refreshPath = "refresh"

// refresh answers POST …/refresh: new credentials for a connection that there is.
func (e *Endpoint) refresh(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	switch {
	case r.Method != http.MethodPost:
		answer(w, http.StatusMethodNotAllowed, "")
		return
	case !e.refreshes:
		refuseRefresh(w, http.StatusNotFound, "refresh_disabled")
		return
	case queryParameter(r, "id") == "":
		refuseRefresh(w, http.StatusBadRequest, "missing_connection_token")
		return
	case !identity.Authenticated:
		refuseRefresh(w, http.StatusUnauthorized, "invalid_token")
		return
	}
	c, refused := e.connection(r, identity, "")
	if refused == granted {
		switch {
		case c.public:
			refuseRefresh(w, http.StatusBadRequest, "unsupported_negotiate_version")
			return
		case !c.hasSession():
			refused = alreadyEnded
		default:
			refused = c.renew(r, identity)
		}
	}
	switch refused.status {
	case granted.status:
		writeJSON(w, http.StatusOK, refreshed{lifetime(c.Identity())})
	case http.StatusForbidden:
		refuseRefresh(w, http.StatusForbidden, "permission_change_rejected")
	case http.StatusNotFound:
		refuseRefresh(w, http.StatusNotFound, "connection_not_found")
	default:
		refused.answer(w)
	}
}

// hasSession reports whether a transport has been opened and the connection lives.
func (c *Connection) hasSession() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session != nil && !c.ended
}

type refreshed struct {
	TokenLifetimeSeconds int32 `json:"tokenLifetimeSeconds,omitempty"`
}

// lifetime returns for how long credentials are still good, in whole seconds. Zero:
// that is not known, or they are not.
func lifetime(identity *auth.Identity) int32 {
	if identity.Expires.IsZero() {
		return 0
	}
	return int32(max(0, min(time.Until(identity.Expires)/time.Second, math.MaxInt32)))
}

func refuseRefresh(w http.ResponseWriter, status int, code string) {
	writeJSON(w, status, map[string]string{"error": code})
}
