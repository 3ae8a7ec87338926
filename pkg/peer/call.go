package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxCall is the greatest length of what a call brings, and of what it is answered, in
// bytes. Only who has the cluster's key can have as much read.
const MaxCall = 64 << 20

const (
	// maxCalls is how many calls a node serves at once; more are answered 503.
	maxCalls = 64
	// callTimeout bounds a call whose context has no deadline, and how long the other node
	// has to send it.
	callTimeout = 10 * time.Second
	// maxRefusal is how much of an error's text goes to the other node.
	maxRefusal = 1024
)

// A CallFunc answers calls: of the node from, which has the cluster's key. Both body and
// answer are at most [MaxCall] long. The text of an error reaches the one who calls. The
// context ends when he does not wait any more. Calls run concurrently.
type CallFunc func(ctx context.Context, from string, body []byte) (answer []byte, err error)

// Handle has f answer the calls of that name from now on, in place of what did before. If
// f is nil nobody does. Calls in progress go on.
func (p *Peers) Handle(name string, f CallFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f == nil {
		delete(p.calls, name)
	} else {
		p.calls[name] = f
	}
}

// Call asks another node, and returns what its function of that name answers. It waits
// until ctx ends, or for 10s if ctx has no deadline, and repeats nothing. The error wraps
// [ErrUnreachable], where the call may have been served; [ErrReplaced], [ErrBusy]; that the
// function failed, or there is none, as [ErrRefused]; [ErrClosed]; or the context's error.
func (p *Peers) Call(ctx context.Context, to Node, name string, body []byte) ([]byte, error) {
	answer, err := p.call(ctx, to, name, body)
	if err != nil {
		return nil, fmt.Errorf("call %s of node %s: %w", name, to.ID, err)
	}
	return answer, nil
}

func (p *Peers) call(outer context.Context, to Node, name string, body []byte) ([]byte, error) {
	if len(body) > MaxCall {
		return nil, fmt.Errorf("%w: %d bytes are too many", ErrRefused, len(body))
	}
	base, err := p.base(to)
	if err != nil {
		return nil, err
	}
	ctx, done, err := p.begin(outer)
	if err != nil {
		return nil, err
	}
	defer done()
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}

	base.Path, base.RawPath = "/"+name, "/"+url.PathEscape(name)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, base.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	s := p.newSeal(kindCall, to.ID)
	s.body = sha256.Sum256(body)
	p.put(&s, r)
	response, err := p.transport.RoundTrip(r)
	if err != nil {
		return nil, p.failure(outer, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, MaxCall+1))
	switch {
	case err != nil:
		return nil, p.failure(outer, err)
	case len(answer) > MaxCall:
		return nil, fmt.Errorf("%w: it answers too much", ErrUnreachable)
	case response.StatusCode == http.StatusMisdirectedRequest:
		return nil, ErrReplaced // without a proof, since there is nothing to be gained by it
	case response.StatusCode == http.StatusServiceUnavailable:
		return nil, ErrBusy
	case !p.proves(&s, response, answer):
		return nil, fmt.Errorf("%w: no node of the cluster is there, which answered %d", ErrUnreachable, response.StatusCode)
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s", ErrRefused, answer)
	}
	return answer, nil
}

// serveCall answers a call whose seal is good; whether it is for this body is to be seen.
func (p *Peers) serveCall(w http.ResponseWriter, r *http.Request, s *seal, key []byte) {
	ctx, done, err := p.begin(r.Context())
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer done()
	select {
	case p.callSlots <- struct{}{}:
		defer func() { <-p.callSlots }()
	default:
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}

	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(callTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxCall))
	if err != nil || sha256.Sum256(body) != s.body {
		status := http.StatusForbidden
		if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
			status = http.StatusRequestEntityTooLarge
		}
		w.WriteHeader(status)
		return
	}
	control.SetReadDeadline(time.Time{})

	status := http.StatusOK
	answer, err := p.answer(ctx, strings.TrimPrefix(r.URL.Path, "/"), s.from, body)
	if err != nil {
		text := err.Error()
		status, answer = http.StatusInternalServerError, []byte(text[:min(len(text), maxRefusal)])
	}
	control.SetWriteDeadline(time.Now().Add(callTimeout))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(proofHeader, s.proof(key, status, answer))
	w.WriteHeader(status)
	w.Write(answer)
}

func (p *Peers) answer(ctx context.Context, name, from string, body []byte) ([]byte, error) {
	p.mu.Lock()
	f := p.calls[name]
	p.mu.Unlock()
	if f == nil {
		return nil, fmt.Errorf("nobody answers %q", name)
	}
	answer, err := f(ctx, from, body)
	if err == nil && len(answer) > MaxCall {
		err = fmt.Errorf("the answer has %d bytes, which is too much", len(answer))
	}
	return answer, err
}
