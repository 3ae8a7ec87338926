package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// Clients selects connections of the hub, on whatever nodes they are. Names that
// nobody bears select nobody, which is no error.
type Clients struct{ hub *Hub }

// All selects every connection.
func (c Clients) All() ClientProxy { return c.AllExcept() }

// AllExcept selects every connection but those with the given ids.
func (c Clients) AllExcept(connectionIDs ...string) ClientProxy {
	return ClientProxy{hub: c.hub, channels: []backplane.Channel{backplane.All}, excluded: slices.Clone(connectionIDs)}
}

// Client selects the connection with the id, which can also be asked ([Invoke]).
func (c Clients) Client(connectionID string) SingleClientProxy {
	return SingleClientProxy{ClientProxy: ClientProxy{hub: c.hub, connections: []string{connectionID}}}
}

// Clients selects the connections with the ids, each once.
func (c Clients) Clients(connectionIDs ...string) ClientProxy {
	return ClientProxy{hub: c.hub, connections: unique(connectionIDs)}
}

// Group selects the members of the group.
func (c Clients) Group(name string) ClientProxy { return c.GroupExcept(name) }

// GroupExcept selects the members of the group but the connections with the ids.
func (c Clients) GroupExcept(name string, connectionIDs ...string) ClientProxy {
	p := c.Groups(name)
	p.excluded = slices.Clone(connectionIDs)
	return p
}

// Groups selects the members of each of the groups. Who is in several of them gets a
// message several times.
func (c Clients) Groups(names ...string) ClientProxy {
	p := ClientProxy{hub: c.hub, channels: make([]backplane.Channel, len(names))}
	for i, name := range names {
		p.check("group name", name)
		p.channels[i] = backplane.Group(name)
	}
	return p
}

// User selects all connections of the user.
func (c Clients) User(identifier string) ClientProxy { return c.Users(identifier) }

// Users selects all connections of each of the users, each once.
func (c Clients) Users(identifiers ...string) ClientProxy {
	identifiers = unique(identifiers)
	p := ClientProxy{hub: c.hub, channels: make([]backplane.Channel, len(identifiers))}
	for i, id := range identifiers {
		p.check("user identifier", id)
		p.channels[i] = backplane.User(id)
	}
	return p
}

// CallerClients are the [Clients] as seen by one of them: it has the methods of Clients,
// and some that speak of the caller.
type CallerClients struct {
	clients
	c *connection
}

// clients is embedded under this name so that the method Clients is not hidden.
type clients = Clients

// Caller selects the caller's connection.
func (c CallerClients) Caller() SingleClientProxy { return c.Client(c.c.id) }

// Client selects the connection with the id, which can also be asked ([Invoke]).
func (c CallerClients) Client(connectionID string) SingleClientProxy {
	p := c.clients.Client(connectionID)
	p.caller = c.c
	return p
}

// Others selects every connection but the caller's.
func (c CallerClients) Others() ClientProxy { return c.AllExcept(c.c.id) }

// OthersInGroup selects the members of the group but the caller, who need not be one.
func (c CallerClients) OthersInGroup(name string) ClientProxy { return c.GroupExcept(name, c.c.id) }

// A ClientProxy stands for the connections that a selector selected. It may be kept,
// and used concurrently; who they are is found out anew with every send.
type ClientProxy struct {
	hub         *Hub
	channels    []backplane.Channel
	excluded    []string
	connections []string // by id, in place of channels
	err         error    // a name that cannot be used
}

// A SingleClientProxy is the [ClientProxy] of one connection, which can also be asked
// for a result: see [Invoke].
type SingleClientProxy struct {
	ClientProxy
	caller *connection // by whose Clients it was selected; nil: nobody's
}

func (p *ClientProxy) check(what, name string) {
	if err := p.hub.checkName(what, name); err != nil && p.err == nil {
		p.err = err
	}
}

// Send invokes a method of the selected clients with the arguments, which may be
// anything that has an encoding ([protocol]), and wants no answer. It returns when
// the message has been handed to the cluster; that a client got it is not known.
//
// On an error nobody got the message if it wraps [backplane.ErrNotSent], and nobody
// knows if it wraps [backplane.ErrUnknown]; where connections of this node are among
// several selected by id, they have got it in any case. Send does not try again.
func (p ClientProxy) Send(ctx context.Context, method string, arguments ...any) error {
	if err := p.send(ctx, method, arguments); err != nil {
		return fmt.Errorf("send %q: %w", method, err)
	}
	return nil
}

func (p ClientProxy) send(ctx context.Context, method string, arguments []any) error {
	switch {
	case p.err != nil:
		return p.err
	case method == "":
		return errors.New("no method named")
	}
	m := &protocol.Invocation{Target: method, Arguments: arguments}
	channels := p.channels
	for _, id := range p.connections {
		here, err := p.hub.sendHere(ctx, id, m)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		if here {
			continue
		}
		defer p.hub.sends.end(id) // once it has been published
		if err := p.hub.checkName("connection id", id); err != nil {
			return err
		}
		channels = append(channels, backplane.Connection(id))
	}
	if len(channels) == 0 {
		return nil
	}
	body, err := p.hub.encode(m, p.excluded)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return p.hub.attachment.Publish(ctx, body, channels...)
}

// scratch is the memory that frames are made in on their way into a body.
type scratch struct {
	bytes     []byte
	encodings []backplane.Encoding
}

// maxScratch is how many bytes a scratch may have that is used again.
const maxScratch = 64 << 10

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// encode makes the body of an envelope: the message once in each protocol.
func (h *Hub) encode(m protocol.Message, excluded []string) ([]byte, error) {
	s := scratches.Get().(*scratch)
	err := s.encode(m, h.protocols)
	var body []byte
	if err == nil {
		body = backplane.AppendMessage(nil, backplane.Message{Excluded: excluded, Encodings: s.encodings})
	}
	clear(s.encodings) // which may refer to smaller memory that bytes was before
	if cap(s.bytes) <= maxScratch {
		scratches.Put(s)
	}
	return body, err
}

func (s *scratch) encode(m protocol.Message, protocols []protocol.Protocol) (err error) {
	s.bytes, s.encodings = s.bytes[:0], s.encodings[:0]
	for _, p := range protocols {
		begin := len(s.bytes)
		if s.bytes, err = p.Append(s.bytes, m); err != nil {
			return err
		}
		s.encodings = append(s.encodings, backplane.Encoding{Protocol: p.Name(), Frame: slices.Clip(s.bytes[begin:])})
	}
	return nil
}

// encodings are the message once in each protocol.
func (h *Hub) encodings(m protocol.Message) ([]backplane.Encoding, error) {
	var s scratch
	if err := s.encode(m, h.protocols); err != nil {
		return nil, err
	}
	return s.encodings, nil
}

// unique returns a slice of its own.
func unique(names []string) []string {
	if len(names) < 2 {
		return slices.Clone(names)
	}
	seen := make(map[string]struct{}, len(names))
	kept := make([]string, 0, len(names))
	for _, n := range names {
		if _, ok := seen[n]; !ok {
			seen[n] = struct{}{}
			kept = append(kept, n)
		}
	}
	return kept
}
