package transport

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
)

// methods are those that a connection's requests have.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodDelete}

var (
	badGateway = refusal{http.StatusBadGateway, ""}
	loops      = refusal{http.StatusLoopDetected, ""}
)

// elsewhere sees to a request for a connection that is not on this node, and reports
// whether it has answered it: what another node serves is passed on. If it has not, the
// request is as good as on a single node: the connection is here by now, or its token is
// of no more use, or there is something else wrong with the request.
func (e *Endpoint) elsewhere(w http.ResponseWriter, r *http.Request, identity *auth.Identity) (answered bool) {
	encoded := queryParameter(r, "id")
	if e.m.cluster == nil || encoded == "" || !slices.Contains(methods, r.Method) {
		return false
	}
	if e.m.cluster.Peers.Astray(r) {
		loops.answer(w)
		return true
	}
	t, id, err := e.openToken(encoded)
	if err != nil || t.user != tag(identity.Subject) || e.m.find(id) != nil {
		return false
	}
	_, forwarded := peer.Forwarded(r)
	q := &question{
		id: id, token: &t, identity: identity, forwarded: forwarded,
		socket: r.Method == http.MethodGet && kindOf(r) == WebSockets,
	}
	home, refused := e.m.cluster.place(r.Context(), q)
	if refused == granted && home != "" && !forwarded {
		if refused = e.forward(w, r, q, home); refused == granted {
			return true
		}
	}
	switch {
	case refused == unknownID:
		e.m.spend(&t)
		return false
	case refused == granted:
		if forwarded && e.m.find(id) == nil {
			e.m.spend(&t)
			peer.Elsewhere(w, r) // so the other node looks again, or answers itself
		}
		return false
	}
	if r.Method == http.MethodGet && kindOf(r) == LongPolling {
		forbidCaching(w.Header())
	}
	refused.answer(w)
	return true
}

// forward has another node serve the request. If the connection is not there and nothing
// of the request has been read, it looks once more where it is.
func (e *Endpoint) forward(w http.ResponseWriter, r *http.Request, q *question, home string) refusal {
	c := e.m.cluster
	refused := e.forwardTo(w, r, home)
	if refused == unknownID || refused == badGateway {
		c.located.forget(q.id)
	}
	if refused != unknownID {
		return refused
	}
	if r.Body != nil && r.Body != http.NoBody {
		return unknownID
	}
	moved, refused := c.place(r.Context(), q)
	switch {
	case refused != granted:
		return refused
	case moved == "" || moved == home:
		return unknownID
	default:
		return e.forwardTo(w, r, moved)
	}
}

// forwardTo returns granted if the request has been answered.
func (e *Endpoint) forwardTo(w http.ResponseWriter, r *http.Request, home string) refusal {
	c := e.m.cluster
	n, known, err := c.Node(r.Context(), home)
	if err == nil && !known {
		return unknownID // its connections have ended with it
	}
	if err == nil {
		err = c.Peers.Forward(w, r, peer.Node{ID: n.ID, Address: n.Address})
	}
	switch {
	case err == nil:
		return granted
	case errors.Is(err, peer.ErrElsewhere), errors.Is(err, peer.ErrReplaced):
		return unknownID
	case r.Context().Err() != nil:
		return badGateway // for nobody
	}
	e.m.Logger.Warn("request not forwarded", "node", home, "error", err)
	switch {
	case errors.Is(err, peer.ErrLoop):
		return loops
	case errors.Is(err, peer.ErrUnreachable):
		return badGateway
	default: // the backplane is away, or this node is leaving
		return refusing
	}
}

// A question is where a connection is, for one request.
type question struct {
	id        string
	token     *connectionToken
	identity  *auth.Identity
	socket    bool // the request opens a WebSocket
	forwarded bool // by another node, which takes this one for the home
}

// place returns the node that a request is for, and nothing if that is this one. Then the
// connection is in the manager's table, or its token is spent.
func (c *cluster) place(ctx context.Context, q *question) (home string, refused refusal) {
	remembered, isRecent := c.located.get(q.id)
	if q.forwarded {
		remembered = ""
	}
	if remembered != "" && isRecent && !q.socket {
		return remembered, granted
	}
	fresh := c.manager.wouldTake(q.token)
	h, found, won, err := c.ask(ctx, q, fresh)
	switch {
	case err != nil:
		return c.guess(ctx, q, remembered, fresh, err)
	case won, found && fresh && h.Node == c.Self:
		c.take(q, h.Epoch)
		return "", granted
	case !found || h.Ended() || h.Node == c.Self:
		c.manager.spend(q.token)
		return "", granted
	default:
		c.located.put(q.id, h.Node)
		return h.Node, granted
	}
}

// guess is place while the backplane is away: a home that is remembered is believed, and
// WebSockets whose tokens are fresh are taken, since they need nobody to find them. Should
// another node have one too, the records show that once the backplane is back, where it
// matters.
func (c *cluster) guess(ctx context.Context, q *question, remembered string, fresh bool, err error) (home string, refused refusal) {
	switch {
	case remembered != "":
		c.located.put(q.id, remembered)
		return remembered, granted
	case fresh && q.socket && !q.forwarded && ctx.Err() == nil:
		c.take(q, 1)
		return "", granted
	}
	c.manager.Logger.Debug("connection not located", "error", err)
	return "", refusing
}

// ask claims the connection if its token is fresh, and otherwise only looks where it is.
func (c *cluster) ask(ctx context.Context, q *question, fresh bool) (h backplane.Home, found, won bool, err error) {
	if !fresh {
		h, found, err = c.Homes.Locate(ctx, q.id)
		return h, found, false, err
	}
	life := homeLife
	if !q.isKept() {
		life = max(time.Until(q.token.spent()), time.Millisecond)
	}
	h, won, err = c.Homes.Claim(ctx, q.id, life)
	return h, true, won, err
}

// take makes the connection here.
func (c *cluster) take(q *question, epoch uint64) {
	c.located.forget(q.id)
	c.manager.findOrMake(q.id, q.token, q.identity)
	c.hold(q.id, keptHome{epoch: epoch, before: q.token.spent()}, q.isKept())
}

// isKept reports whether the connection may be met again over HTTP, so that its home has
// to be known for as long as it lives.
func (q *question) isKept() bool { return !q.socket || q.token.stateful }

// spent returns when no node takes the token any more, by this one's clock: another's may
// be behind.
func (t *connectionToken) spent() time.Time { return t.before.Add(2 * clockLeeway) }

// wouldTake reports whether a connection could be made of the token here and now.
func (m *Manager) wouldTake(t *connectionToken) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.closing && m.isFresh(t)
}

// spend makes the token of no more use here: it has been used.
func (m *Manager) spend(t *connectionToken) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.use(t.id)
}
