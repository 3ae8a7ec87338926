package publish

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// MaxName is the greatest length of a user identifier, group name or connection id, in
// bytes: what a hub allows by default.
const MaxName = 16 << 10

// ErrNameTooLong reports a name that is longer than [MaxName].
var ErrNameTooLong = errors.New("name too long")

// A Carrier takes what is published to the nodes that serve a hub. A
// [github.com/heliograph/heliograph/pkg/backplane/redisplane.Publisher] is one, and so is
// any [backplane.Attachment]. Publish keeps the promises of the latter.
type Carrier interface {
	Publish(ctx context.Context, body []byte, channels ...backplane.Channel) error
}

// protocols are those that clients may speak.
var protocols = []protocol.Protocol{protocol.JSON, protocol.MessagePack}

// A Publisher selects connections of a hub, on whatever nodes they are, to send to them.
// Names that nobody bears select nobody, which is no error. Its methods may be called
// concurrently.
type Publisher struct{ carrier Carrier }

// New returns a Publisher to the hub that the carrier is for. Closing that is up to the
// caller.
func New(carrier Carrier) *Publisher { return &Publisher{carrier} }

// All selects every connection.
func (p *Publisher) All() Clients { return p.AllExcept() }

// AllExcept selects every connection but those with the ids.
func (p *Publisher) AllExcept(connectionIDs ...string) Clients {
	return p.clients(nil, connectionIDs, backplane.All)
}

// Connection selects the connection with the id.
func (p *Publisher) Connection(id string) Clients { return p.Connections(id) }

// Connections selects the connections with the ids, each once.
func (p *Publisher) Connections(ids ...string) Clients {
	return p.clients(ids, nil, channels(backplane.Connection, unique(ids))...)
}

// Group selects the members of the group.
func (p *Publisher) Group(name string) Clients { return p.GroupExcept(name) }

// GroupExcept selects the members of the group but the connections with the ids.
func (p *Publisher) GroupExcept(name string, connectionIDs ...string) Clients {
	return p.clients([]string{name}, connectionIDs, backplane.Group(name))
}

// Groups selects the members of each of the groups. Who is in several of them gets a
// message several times.
func (p *Publisher) Groups(names ...string) Clients {
	return p.clients(names, nil, channels(backplane.Group, names)...)
}

// User selects all connections of the user.
func (p *Publisher) User(identifier string) Clients { return p.Users(identifier) }

// Users selects all connections of each of the users, each once.
func (p *Publisher) Users(identifiers ...string) Clients {
	return p.clients(identifiers, nil, channels(backplane.User, unique(identifiers))...)
}

// clients copies what belongs to the caller.
func (p *Publisher) clients(names, excluded []string, on ...backplane.Channel) Clients {
	c := Clients{carrier: p.carrier, channels: on, excluded: slices.Clone(excluded)}
	for _, name := range names {
		if len(name) > MaxName {
			c.err = fmt.Errorf("%w: %d bytes, limit %d", ErrNameTooLong, len(name), MaxName)
		}
	}
	return c
}

// Clients are the connections that a selector of a [Publisher] selected. They may be kept,
// and used concurrently; who they are is found out anew with every message.
type Clients struct {
	carrier  Carrier
	channels []backplane.Channel
	excluded []string
	err      error // a name that cannot be used
}

// Send invokes a method of the clients with the arguments, which may be anything that has
// an encoding ([protocol]), and wants no answer. It returns when the cluster has taken the
// message.
//
// On an error nobody got the message if it wraps [backplane.ErrNotSent], and it is not known
// who did if it wraps [backplane.ErrUnknown]. On any other, such as [ErrNameTooLong] or that
// of an argument without an encoding, nothing was tried. Send does not try again.
func (c Clients) Send(ctx context.Context, method string, arguments ...any) error {
	if err := c.send(ctx, method, arguments); err != nil {
		return fmt.Errorf("send %q: %w", method, err)
	}
	return nil
}

func (c Clients) send(ctx context.Context, method string, arguments []any) error {
	switch {
	case c.err != nil:
		return c.err
	case method == "":
		return errors.New("no method named")
	case len(c.channels) == 0:
		return nil
	}
	message := backplane.Message{Excluded: c.excluded}
	for _, p := range protocols {
		frame, err := p.Append(nil, &protocol.Invocation{Target: method, Arguments: arguments})
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		message.Encodings = append(message.Encodings, backplane.Encoding{Protocol: p.Name(), Frame: frame})
	}
	return c.carrier.Publish(ctx, backplane.AppendMessage(nil, message), c.channels...)
}

func channels(of func(name string) backplane.Channel, names []string) []backplane.Channel {
	all := make([]backplane.Channel, len(names))
	for i, name := range names {
		all[i] = of(name)
	}
	return all
}

// unique returns the names in the order in which each comes first.
func unique(names []string) []string {
	seen := make(map[string]struct{}, len(names))
	var kept []string
	for _, name := range names {
		if _, ok := seen[name]; !ok {
			seen[name] = struct{}{}
			kept = append(kept, name)
		}
	}
	return kept
}
