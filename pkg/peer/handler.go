package peer

import (
	"context"
	"net/http"
	"time"
)

const (
	proofHeader     = "Heliograph-Proof"
	elsewhereHeader = "Heliograph-Elsewhere"
)

// forwardedKey is the key of the context of a request that another node has forwarded.
type forwardedKey struct{}

type forwarded struct{ from, proof string }

// Handler serves the node-to-node listener: requests that other nodes forward, by
// calling public, and calls. A forwarded request looks as it did when the other node got
// it, but for its TLS field and its time-outs, and [Forwarded] tells it from others.
// Public is the handler of the public listener, without what looks at who is connected:
// the other node has done that.
func (p *Peers) Handler(public http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, key, status := p.verify(r)
		if key != nil && s.kind == kindForward {
			w.Header().Set(proofHeader, s.proof(key, 0, nil))
		}
		if status != http.StatusOK {
			p.logger.Debug("refused what did not come from another node", "status", status, "remote", r.RemoteAddr)
			w.WriteHeader(status)
			return
		}
		r.Header.Del(sealHeader)
		if s.kind == kindCall {
			p.serveCall(w, r, &s, key)
			return
		}
		r = r.WithContext(context.WithValue(r.Context(), forwardedKey{}, forwarded{s.from, s.proof(key, 0, nil)}))
		r.RemoteAddr = s.client
		public.ServeHTTP(w, r)
	})
}

// verify returns the seal of a request, the key that it was made with if it is genuine,
// and the status to refuse it with, unless that is 200.
func (p *Peers) verify(r *http.Request) (s seal, key []byte, status int) {
	s, err := sealOf(r)
	if err != nil {
		return s, nil, http.StatusForbidden
	}
	key = p.opened(&s, r)
	now := time.Now()
	switch {
	case key == nil || !s.fresh(now):
		return s, nil, http.StatusForbidden
	case s.to != p.self:
		return s, key, http.StatusMisdirectedRequest
	case s.from == p.self:
		return s, key, http.StatusLoopDetected
	case p.ctx.Err() != nil:
		return s, key, http.StatusServiceUnavailable
	}
	switch first, room := p.nonces.use(s.nonce, now); {
	case !first && room:
		return s, nil, http.StatusForbidden
	case !room:
		return s, key, http.StatusServiceUnavailable
	}
	return s, key, http.StatusOK
}

// Forwarded returns the id of the node that a request was forwarded by, if it was.
func Forwarded(r *http.Request) (from string, ok bool) {
	f, ok := r.Context().Value(forwardedKey{}).(forwarded)
	return f.from, ok
}

// Proof returns the header that the answer to a forwarded request has to have, for
// handlers that do not answer by the [http.ResponseWriter] but hijack the connection. It
// is nil if the request was not forwarded.
func Proof(r *http.Request) http.Header {
	f, ok := r.Context().Value(forwardedKey{}).(forwarded)
	if !ok {
		return nil
	}
	return http.Header{proofHeader: {f.proof}}
}

// Elsewhere tells the node that forwarded a request that what it is for is not here. It is
// to be called before the request is answered, and the answer goes nowhere: the other
// node's Forward returns [ErrElsewhere]. On other requests it has no effect.
func Elsewhere(w http.ResponseWriter, r *http.Request) {
	if _, ok := Forwarded(r); ok {
		w.Header().Set(elsewhereHeader, "1")
	}
}
