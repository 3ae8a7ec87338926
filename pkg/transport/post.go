package transport

import (
	"net/http"

	"github.com/heliograph/heliograph/pkg/auth"
)

// post answers a POST, which brings what a client sends that has no WebSocket.
func (e *Endpoint) post(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	_, refused := e.connection(r, identity, "")
	if refused != granted {
		refused.answer(w)
		return
	}
	answer(w, http.StatusMethodNotAllowed, "POST requests are not allowed for WebSocket connections.")
}

// delete answers a DELETE, by which a client that polls ends its connection.
func (e *Endpoint) delete(w http.ResponseWriter, r *http.Request, identity *auth.Identity) {
	_, refused := e.connection(r, identity, "")
	if refused != granted {
		refused.answer(w)
		return
	}
	answer(w, http.StatusBadRequest, "Cannot terminate this connection using the DELETE endpoint.")
}
