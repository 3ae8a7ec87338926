package transport

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// maxNegotiateVersion is the highest version of the negotiation (TransportProtocols,
// "POST [endpoint-base]/negotiate"): 1 tells the public id and the secret token apart.
const maxNegotiateVersion = 1

// versionZeroMark begins the connection ids of negotiate version 0, which are their
// own tokens. It tells them from the tokens of version 1.
const versionZeroMark = "0."

type negotiateResponse struct {
	StatefulReconnect   bool                 `json:"useStatefulReconnect,omitempty"`
	NegotiateVersion    int                  `json:"negotiateVersion"`
	ConnectionID        string               `json:"connectionId"`
	ConnectionToken     string               `json:"connectionToken,omitempty"`
	TokenLifetime       int32                `json:"tokenLifetimeSeconds,omitempty"`
	AvailableTransports []availableTransport `json:"availableTransports"`
}

type availableTransport struct {
	Transport       Kind     `json:"transport"`
	TransferFormats []string `json:"transferFormats"`
}

func (e *Endpoint) negotiate(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	if r.Method != http.MethodPost {
		answer(w, http.StatusMethodNotAllowed, "")
		return
	}
	e.m.mu.Lock()
	closing := e.m.closing
	e.m.mu.Unlock()
	if closing {
		answer(w, http.StatusServiceUnavailable, "")
		return
	}
	version := 0
	if asked := queryParameter(r, "negotiateVersion"); asked != "" {
		v, err := strconv.ParseInt(asked, 10, 32)
		if err != nil {
			writeJSON(w, http.StatusOK, map[string]string{"error": "The client requested a non-integer protocol version."})
			return
		}
		version = int(v)
	}
	if version < e.minimumVersion {
		writeJSON(w, http.StatusOK, map[string]string{"error": "The client requested version '" + strconv.Itoa(version) + "', but the server does not support this version."})
		return
	}
	stateful := strings.EqualFold(queryParameter(r, "useStatefulReconnect"), "true")
	writeJSON(w, http.StatusOK, e.negotiated(min(version, maxNegotiateVersion), stateful, identity))
}

// negotiated makes up a connection: nothing but the token remembers it.
func (e *Endpoint) negotiated(version int, stateful bool, identity *auth.Identity) negotiateResponse {
	t := connectionToken{
		id:     newConnectionID(),
		before: time.Now().Add(e.m.DisconnectTimeout),
		user:   tag(identity.Subject),
		// Who knows the public id of a connection must not be able to take it over.
		stateful: stateful && e.statefulReconnects && version > 0 && e.serves(WebSockets, false),
	}
	response := negotiateResponse{
		StatefulReconnect:   t.stateful,
		NegotiateVersion:    version,
		AvailableTransports: e.available(version),
	}
	if e.refreshes {
		response.TokenLifetime = lifetime(identity)
	}
	token := e.m.Keys.mint(e.tokenScope(version), t)
	if version == 0 {
		response.ConnectionID = versionZeroMark + token
	} else {
		response.ConnectionID, response.ConnectionToken = idString(t.id), token
	}
	return response
}

// available lists the transports in the order in which clients are to try them.
func (e *Endpoint) available(version int) []availableTransport {
	text, binary := protocol.Text.String(), protocol.Binary.String()
	all := []availableTransport{
		{WebSockets, []string{text, binary}},
		{ServerSentEvents, []string{text}},
		{LongPolling, []string{text, binary}},
	}
	return slices.DeleteFunc(all, func(a availableTransport) bool { return !e.serves(a.Transport, version == 0) })
}

// serves reports whether clients may use a transport. Whoever sees the id of a
// connection must not be able to make requests for it, so a public one, where the id is
// the token, can have nothing but a WebSocket.
func (e *Endpoint) serves(kind Kind, public bool) bool {
	return slices.Contains(e.transports, kind) && !(public && kind != WebSockets)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("response: " + err.Error()) // strings and numbers only
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}
