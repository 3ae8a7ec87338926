package transport

import (
	"io"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/auth"
)

// An Endpoint serves a hub's connections under one path and its negotiation under
// the path below it that ends in /negotiate. It may be mounted anywhere, and a hub
// may have several.
type Endpoint struct {
	m                    *Manager
	requireAuthenticated bool
	closeOnExpiry        bool
	minimumVersion       int
	upgrader             websocket.Upgrader
}

// An EndpointOption adjusts an Endpoint.
type EndpointOption func(*Endpoint)

// RequireAuthenticated answers 401 to every request without valid credentials. By
// default only invalid ones are refused.
func RequireAuthenticated() EndpointOption {
	return func(e *Endpoint) { e.requireAuthenticated = true }
}

// CloseOnAuthenticationExpiration closes connections when the credentials that
// opened them end. The default is to check credentials only when a transport opens.
func CloseOnAuthenticationExpiration() EndpointOption {
	return func(e *Endpoint) { e.closeOnExpiry = true }
}

// MinimumNegotiateVersion refuses clients that negotiate a lower version. The
// default is 0, which allows all; 1 is the highest.
func MinimumNegotiateVersion(v int) EndpointOption {
	return func(e *Endpoint) { e.minimumVersion = v }
}

// Endpoint returns a handler that serves the manager's connections.
func (m *Manager) Endpoint(options ...EndpointOption) *Endpoint {
	e := &Endpoint{m: m}
	e.upgrader = newUpgrader()
	for _, o := range options {
		o(e)
	}
	return e
}

// ServeHTTP implements http.Handler. For a WebSocket it returns once the transport
// is open.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	identity, err := e.m.Authenticator.Authenticate(r)
	if err != nil || !identity.Authenticated && (e.requireAuthenticated || len(e.m.Requirements) > 0) {
		challenge := "Bearer"
		if err != nil {
			e.m.Logger.Debug("request refused", "path", r.URL.Path, "error", err)
			challenge = `Bearer error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	for _, required := range e.m.Requirements {
		if err := required(r.Context(), identity); err != nil {
			e.m.Logger.Debug("request refused", "path", r.URL.Path, "error", err)
			w.WriteHeader(http.StatusForbidden)
			return
		}
	}
	if strings.HasSuffix(strings.TrimSuffix(r.URL.Path, "/"), "/negotiate") || r.URL.Path == "negotiate" {
		e.negotiate(w, r, identity)
		return
	}
	switch r.Method {
	case http.MethodGet:
		e.open(w, r, identity)
	case http.MethodPost:
		e.existing(w, r, identity, http.StatusMethodNotAllowed, "POST requests are not allowed for WebSocket connections.")
	case http.MethodDelete:
		e.existing(w, r, identity, http.StatusBadRequest, "Cannot terminate this connection using the DELETE endpoint.")
	default:
		answer(w, http.StatusMethodNotAllowed, "")
	}
}

// open answers a GET, which opens a transport. The order of the checks is the
// reference implementation's: id, then transport, then whether it may be attached.
func (e *Endpoint) open(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	kind := transportOf(r)
	token := queryParameter(r, "id")
	if token == "" {
		if kind != webSockets {
			answer(w, http.StatusBadRequest, "Connection ID required")
			return
		}
		id := newConnectionID()
		e.openWebSocket(w, r, identity, idString(id), nil)
		return
	}
	t, id, ok := e.resolve(w, token, identity)
	if !ok {
		return
	}
	if kind != webSockets {
		answer(w, http.StatusNotFound, string(kind)+" transport not supported by this end point type")
		return
	}
	e.openWebSocket(w, r, identity, id, &t)
}

// existing answers a request that concerns a connection but opens none. As long as
// WebSockets are all there is, none has any use for it.
func (e *Endpoint) existing(w http.ResponseWriter, r *http.Request, identity *auth.Identity, status int, text string) {
	token := queryParameter(r, "id")
	if token == "" {
		answer(w, http.StatusBadRequest, "Connection ID required")
		return
	}
	t, id, ok := e.resolve(w, token, identity)
	if !ok {
		return
	}
	if e.m.state(id, t) == unknownID {
		answer(w, http.StatusNotFound, "No Connection with that ID")
		return
	}
	answer(w, status, text)
}

// resolve opens a connection token and finds the connection id that it stands for,
// or answers the request.
func (e *Endpoint) resolve(w http.ResponseWriter, token string, identity *auth.Identity) (t connectionToken, id string, ok bool) {
	version, encoded := 1, token
	if rest, found := strings.CutPrefix(token, versionZeroMark); found {
		version, encoded = 0, rest
	}
	t, err := e.m.Keys.open(e.tokenScope(version), encoded)
	switch {
	case err != nil:
		answer(w, http.StatusNotFound, "No Connection with that ID")
	case t.user != tag(identity.Subject):
		w.WriteHeader(http.StatusForbidden)
	case version == 0:
		return t, token, true
	default:
		return t, idString(t.id), true
	}
	return t, "", false
}

// tokenScope is what a token is valid for. Tokens of negotiate version 0 are public,
// since the connection id is the token, and must not do for version 1.
func (e *Endpoint) tokenScope(version int) string {
	if version == 0 {
		return versionZeroMark + e.m.Hub
	}
	return e.m.Hub
}

type transportKind string

const (
	webSockets       transportKind = "WebSockets"
	serverSentEvents transportKind = "ServerSentEvents"
	longPolling      transportKind = "LongPolling"
)

func transportOf(r *http.Request) transportKind {
	for _, header := range r.Header.Values("Accept") {
		for media := range strings.SplitSeq(header, ",") {
			if strings.EqualFold(strings.TrimSpace(media), "text/event-stream") {
				return serverSentEvents
			}
		}
	}
	if websocket.IsWebSocketUpgrade(r) {
		return webSockets
	}
	return longPolling
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

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	io.WriteString(w, text)
}
