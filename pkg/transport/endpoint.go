package transport

import (
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/auth"
)

// An Endpoint serves a hub's connections under one path and its negotiation under
// the paths below it that end in /negotiate and /refresh. It may be mounted anywhere,
// and a hub may have several.
type Endpoint struct {
	m                    *Manager
	requireAuthenticated bool
	closeOnExpiry        bool
	minimumVersion       int
	transports           []Kind
	statefulReconnects   bool
	refreshes            bool
	maximumBody          int64
	pollTimeout          time.Duration
	origins              *Origins
	upgrader             websocket.Upgrader
}

// Endpoint returns a handler that serves the manager's connections.
func (m *Manager) Endpoint(options ...EndpointOption) *Endpoint {
	e := &Endpoint{
		m: m, origins: new(Origins), transports: []Kind{WebSockets, ServerSentEvents, LongPolling},
		maximumBody: 30_000_000, pollTimeout: 90 * time.Second,
	}
	e.upgrader = newUpgrader(m.SendTimeout)
	e.upgrader.CheckOrigin = func(*http.Request) bool { return true } // admit has
	for _, o := range options {
		o(e)
	}
	return e
}

// ServeHTTP implements http.Handler. For a WebSocket it returns once the transport
// is open.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r = e.origins.admit(w, r); r == nil {
		return
	}
	identity, ok := e.authorize(w, r)
	if !ok {
		return
	}
	switch last := lastElement(r.URL.Path); {
	case last == "negotiate":
		e.negotiate(w, r, identity)
	case e.elsewhere(w, r, identity):
	case last == refreshPath:
		e.refresh(w, r, identity)
	case r.Method == http.MethodGet:
		e.open(w, r, identity)
	case r.Method == http.MethodPost:
		e.post(w, r, identity)
	case r.Method == http.MethodDelete:
		e.delete(w, r, identity)
	default:
		answer(w, http.StatusMethodNotAllowed, "")
	}
}

// lastElement returns what is behind the last slash of a path, but for a slash at its
// end.
func lastElement(path string) string {
	path = strings.TrimSuffix(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// authorize finds out who makes the request, or answers it.
func (e *Endpoint) authorize(w http.ResponseWriter, r *http.Request) (*auth.Identity, bool) {
	identity, err := e.m.Authenticator.Authenticate(r)
	if err != nil || !identity.Authenticated && (e.requireAuthenticated || len(e.m.Requirements) > 0) {
		challenge := "Bearer"
		if err != nil {
			e.m.Logger.Debug("request refused", "path", r.URL.Path, "error", err)
			challenge = `Bearer error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		if lastElement(r.URL.Path) == refreshPath {
			refuseRefresh(w, http.StatusUnauthorized, "invalid_token")
		} else {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return nil, false
	}
	for _, required := range e.m.Requirements {
		if err := required(r.Context(), identity); err != nil {
			e.m.Logger.Debug("request refused", "path", r.URL.Path, "error", err)
			w.WriteHeader(http.StatusForbidden)
			return nil, false
		}
	}
	return identity, true
}

// open answers a GET, which opens a transport. The order of the checks is the
// reference implementation's: id, then transport, then whether it may be opened.
func (e *Endpoint) open(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	kind := kindOf(r)
	if kind == LongPolling {
		forbidCaching(w.Header())
	}
	c, refused := e.connection(r, identity, kind)
	switch {
	case refused != granted:
		refused.answer(w)
	case !e.serves(kind, c.public):
		answer(w, http.StatusNotFound, string(kind)+" transport not supported by this end point type")
	case kind == WebSockets:
		e.openWebSocket(w, r, identity, c)
	case kind == ServerSentEvents:
		e.openEventStream(w, r, identity, c)
	default:
		e.poll(w, r, identity, c)
	}
}

func forbidCaching(h http.Header) {
	h.Set("Cache-Control", "no-cache, no-store")
	h.Set("Pragma", "no-cache")
	h.Set("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")
}

// connection returns the connection that a request is for. It is made by the first
// request with its token, whatever that wants, and for a WebSocket without a token.
// kind is that of the transport that the request opens, if it opens one.
func (e *Endpoint) connection(r *http.Request, identity *auth.Identity, kind Kind) (*Connection, refusal) {
	encoded := queryParameter(r, "id")
	if encoded == "" {
		if kind == WebSockets {
			return e.m.findOrMake(idString(newConnectionID()), nil, identity)
		}
		return nil, noID
	}
	t, id, err := e.openToken(encoded)
	switch {
	case err != nil:
		return nil, unknownID
	case t.user != tag(identity.Subject):
		return nil, otherUser
	}
	c, refused := e.m.findOrMake(id, &t, identity)
	if refused == granted {
		refused = c.admitted(r.Context())
	}
	return c, refused
}

// openToken opens a connection token and finds the connection id that it stands for.
func (e *Endpoint) openToken(token string) (t connectionToken, id string, err error) {
	if encoded, found := strings.CutPrefix(token, versionZeroMark); found {
		t, err = e.m.Keys.open(e.tokenScope(0), encoded)
		t.public = true
		return t, token, err
	}
	t, err = e.m.Keys.open(e.tokenScope(1), token)
	return t, idString(t.id), err
}

// tokenScope is what a token is valid for. Tokens of negotiate version 0 are public,
// since the connection id is the token, and must not do for version 1.
func (e *Endpoint) tokenScope(version int) string {
	if version == 0 {
		return versionZeroMark + e.m.Hub
	}
	return e.m.Hub
}

// A Kind is a kind of transport, by its name in the negotiation.
type Kind string

// The transports.
const (
	WebSockets       Kind = "WebSockets"
	ServerSentEvents Kind = "ServerSentEvents"
	LongPolling      Kind = "LongPolling"
)

func kindOf(r *http.Request) Kind {
	for _, header := range r.Header.Values("Accept") {
		for media := range strings.SplitSeq(header, ",") {
			if strings.EqualFold(strings.TrimSpace(media), "text/event-stream") {
				return ServerSentEvents
			}
		}
	}
	if websocket.IsWebSocketUpgrade(r) {
		return WebSockets
	}
	return LongPolling
}

// queryParameter returns a query parameter whose name is compared without case.
func queryParameter(r *http.Request, name string) string {
	query := r.URL.Query()
	if v := query.Get(name); v != "" {
		return v
	}
	for k, v := range query {
		if strings.EqualFold(k, name) && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

// A refusal is the answer to a request that cannot be met.
type refusal struct {
	status int
	text   string
}

var (
	granted        = refusal{}
	noID           = refusal{http.StatusBadRequest, "Connection ID required"}
	unknownID      = refusal{http.StatusNotFound, "No Connection with that ID"}
	otherUser      = refusal{http.StatusForbidden, ""}
	otherKind      = refusal{http.StatusBadRequest, "Cannot change transports mid-connection"}
	hasCarrier     = refusal{http.StatusConflict, ""}
	alreadyEnded   = refusal{http.StatusNotFound, ""}
	endedMeanwhile = refusal{http.StatusNoContent, ""}
	refusing       = refusal{http.StatusServiceUnavailable, ""}
	onlyWebSockets = refusal{http.StatusMethodNotAllowed, "POST requests are not allowed for WebSocket connections."}
	aborted        = refusal{http.StatusBadRequest, ""}
	tooMany        = refusal{http.StatusTooManyRequests, ""}
)

func (f refusal) answer(w http.ResponseWriter) {
	if f.text == "" {
		w.WriteHeader(f.status)
		return
	}
	answer(w, f.status, f.text)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	io.WriteString(w, text)
}
