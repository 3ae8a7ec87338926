package transport

import (
	"encoding/json"
	"net/http"
	"strconv"
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
	NegotiateVersion    int                  `json:"negotiateVersion"`
	ConnectionID        string               `json:"connectionId"`
	ConnectionToken     string               `json:"connectionToken,omitempty"`
	AvailableTransports []availableTransport `json:"availableTransports"`
}

type availableTransport struct {
	Transport       transportKind `json:"transport"`
	TransferFormats []string      `json:"transferFormats"`
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
		v, err := strconv.Atoi(asked)
		if err != nil {
			writeJSON(w, map[string]string{"error": "The client requested a non-integer protocol version."})
			return
		}
		version = v
	}
	if version < e.minimumVersion {
		writeJSON(w, map[string]string{"error": "The client requested version '" + strconv.Itoa(version) + "', but the server does not support this version."})
		return
	}
	writeJSON(w, e.negotiated(min(version, maxNegotiateVersion), identity))
}

// negotiated makes up a connection: nothing but the token remembers it.
func (e *Endpoint) negotiated(version int, identity *auth.Identity) negotiateResponse {
	t := connectionToken{
		id:     newConnectionID(),
		before: time.Now().Add(e.m.DisconnectTimeout),
		user:   tag(identity.Subject),
	}
	response := negotiateResponse{
		NegotiateVersion: version,
		AvailableTransports: []availableTransport{
			{webSockets, []string{protocol.Text.String(), protocol.Binary.String()}},
		},
	}
	token := e.m.Keys.mint(e.tokenScope(version), t)
	if version == 0 {
		response.ConnectionID = versionZeroMark + token
	} else {
		response.ConnectionID, response.ConnectionToken = idString(t.id), token
	}
	return response
}

func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("negotiate response: " + err.Error()) // strings and numbers only
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.Write(body)
}
