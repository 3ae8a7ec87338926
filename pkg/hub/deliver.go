package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
)

// receiver is the hub as the backplane sees it. It is a type of its own so that
// Deliver is no method of Hub.
type receiver struct{ *Hub }

// Deliver implements [backplane.Receiver]: it puts a message into the queues of the
// channel's local members, and has operations performed. The backplane's receive loop runs it, one call at a time.
func (h receiver) Deliver(ch backplane.Channel, body []byte) {
	var err error
	switch {
	case backplane.IsOperation(body):
		var o backplane.Operation
		if o, err = backplane.ParseOperation(body, h.connections.Keys, h.address(ch)); err == nil {
			if !h.handovers.intercept(ch, o) {
				h.receiveOperation(o)
			}
		}
	case backplane.IsReply(body):
		var r backplane.Reply
		if r, err = backplane.ParseReply(body, h.connections.Keys, h.address(ch)); err == nil {
			h.operations.receive(r)
		}
	default:
		err = h.deliverMessage(ch, body)
	}
	if err != nil {
		h.metrics.unread(err).Inc()
		h.logger.Debug("message from the backplane ignored", "hub", h.name, "error", err)
	}
}

func (h receiver) deliverMessage(ch backplane.Channel, body []byte) error {
	message, err := backplane.ParseMessage(body)
	if err == nil && message.Plain != nil {
		message, err = h.translate(message.Plain)
	}
	if err != nil {
		return err
	}
	d := delivery{channel: ch, frames: make([][]byte, len(h.protocols)), excluded: exclude(message.Excluded)}
	for _, e := range message.Encodings {
		for i, p := range h.protocols {
			if p.Name() == e.Protocol {
				d.frames[i] = e.Frame
			}
		}
	}
	switch id, toConnection := strings.CutPrefix(string(ch), "connection:"); {
	case ch == backplane.All:
		h.handovers.each(h.registry, d.to)
	case toConnection:
		h.handovers.one(h.registry, id, d.to)
	default:
		h.registry.eachMember(ch, d.to)
	}
	h.metrics.sent.Add(float64(d.sent))
	for _, c := range d.slow {
		c.tooSlow(errSlowConsumer)
	}
	return nil
}

// A delivery is one message on its way into queues.
type delivery struct {
	channel  backplane.Channel
	frames   [][]byte // by encoding; nil where the sender had none
	excluded exclusion
	sent     int
	slow     []*connection // ended once no lock is held
}

func (d *delivery) to(c *connection) {
	frame := d.frames[c.encoding]
	if frame == nil || d.excluded.has(c.id) {
		return
	}
	switch c.take(d.channel, frame) {
	case nil:
		d.sent++
	case errSlowConsumer:
		d.slow = append(d.slow, c)
	}
}

// An exclusion is the ids of connections that do not get a message. Few are searched,
// many are looked up: each member of the channel asks.
type exclusion struct {
	few  []string
	many map[string]struct{}
}

func exclude(ids []string) exclusion {
	if len(ids) <= 8 {
		return exclusion{few: ids}
	}
	many := make(map[string]struct{}, len(ids))
	for _, id := range ids {
		many[id] = struct{}{}
	}
	return exclusion{many: many}
}

func (e exclusion) has(id string) bool {
	if e.many == nil {
		return slices.Contains(e.few, id)
	}
	_, excluded := e.many[id]
	return excluded
}

// translate turns the plain JSON form of an invocation, which any program may
// publish, into that of this hub's nodes.
func (h receiver) translate(plain []byte) (backplane.Message, error) {
	var invocation struct {
		Target    string          `json:"target"`
		Arguments json.RawMessage `json:"arguments"`
	}
	if err := json.Unmarshal(plain, &invocation); err != nil {
		return backplane.Message{}, fmt.Errorf("plain JSON message: %w", err)
	}
	if invocation.Target == "" {
		return backplane.Message{}, errors.New("plain JSON message without a target")
	}
	var arguments []any
	if invocation.Arguments != nil {
		var err error
		arguments, err = protocol.Elements(protocol.Raw{Protocol: protocol.JSON, Bytes: invocation.Arguments})
		if err != nil {
			return backplane.Message{}, fmt.Errorf("arguments of plain JSON message: %w", err)
		}
	}
	body, err := h.encode(&protocol.Invocation{Target: invocation.Target, Arguments: arguments}, nil)
	if err != nil {
		return backplane.Message{}, fmt.Errorf("translate plain JSON message: %w", err)
	}
	return backplane.ParseMessage(body)
}
