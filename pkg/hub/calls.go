package hub

import (
	"fmt"
	"sync"
)

// calls are what a client may refer to by an id of its own: invocations to cancel, and
// streams that it uploads.
type calls struct {
	mu          sync.Mutex
	invocations map[string]*invocation
	uploads     map[string]*upload
	streams     int // invocations that run beside the others
}

// begin makes the invocation known under its id. One that has part in a stream may be
// refused: the text says why.
func (c *connection) begin(i *invocation) (refusal string) {
	s := &c.calls
	s.mu.Lock()
	defer s.mu.Unlock()
	other := s.invocations[i.id]
	streamHasID := other != nil && other.streaming
	if i.streaming || len(i.uploads) > 0 {
		if s.streams == c.hub.maxStreams {
			return fmt.Sprintf("%s HubException: Client has %d streams, which is the limit.", errorInvoking(i.method.name), s.streams)
		}
		if i.streaming && streamHasID {
			return "Invocation ID '" + i.id + "' is already in use."
		}
		s.streams++
	}
	if i.id != "" && !streamHasID { // which only its own end takes from it
		if s.invocations == nil {
			s.invocations = make(map[string]*invocation)
		}
		s.invocations[i.id] = i // of two plain ones that share an id, the later can be canceled
	}
	for _, u := range i.uploads {
		if s.uploads == nil {
			s.uploads = make(map[string]*upload)
		}
		s.uploads[u.id] = u
	}
	return ""
}

// done undoes begin, and ends what belongs to the invocation, the first time that it is
// called.
func (c *connection) done(i *invocation) {
	i.ctx.end()
	s := &c.calls
	s.mu.Lock()
	defer s.mu.Unlock()
	if i.isDone {
		return
	}
	i.isDone = true
	if i.streaming || len(i.uploads) > 0 {
		s.streams--
	}
	if s.invocations[i.id] == i {
		delete(s.invocations, i.id)
	}
	for _, u := range i.uploads {
		if s.uploads[u.id] == u {
			delete(s.uploads, u.id)
		}
		u.close()
	}
}

// cancelInvocation ends the context of an invocation, if there is one under the id.
func (c *connection) cancelInvocation(id string) {
	s := &c.calls
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.invocations[id]; i != nil {
		i.ctx.end()
	}
}

// upload returns the stream that is uploaded under the id, or nil.
func (c *connection) upload(id string) *upload {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	return c.calls.uploads[id]
}

// forgetUpload makes later items of the stream be dropped.
func (c *connection) forgetUpload(u *upload) {
	c.calls.mu.Lock()
	defer c.calls.mu.Unlock()
	if c.calls.uploads[u.id] == u {
		delete(c.calls.uploads, u.id)
	}
}
