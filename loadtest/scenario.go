package main

import (
	"context"
	"fmt"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A scenario is one kind of load.
type scenario struct {
	name string
	// run opens connections through the trial's fleet, makes them do what is to be
	// measured, and leaves what it finds in the trial. It returns when it is through,
	// or soon after ctx has ended; an error means that there was no load to speak of.
	run func(ctx context.Context, t *trial) error
}

// fanout is the scenario of messages to groups. The receivers' connections take the
// nodes in turn, and the groups in such a way that each group is on all nodes. The
// senders are connections of their own and belong to no group.
var fanout = scenario{"fanout", runFanout}

func runFanout(ctx context.Context, t *trial) error {
	groups := make([]string, t.config.groups)
	for i := range groups {
		groups[i] = fmt.Sprintf("load-%s-%d", t.id, i)
	}
	l := newLoad(t, len(groups), func(target int, text string) *protocol.Invocation {
		return &protocol.Invocation{Target: t.config.sendMethod, Arguments: []any{groups[target], text}}
	})
	nodes := len(t.fleet.nodes)
	for i := range t.config.connections {
		group := i / nodes % len(groups)
		l.receiver(i%nodes, group, &protocol.Invocation{Target: t.config.joinMethod, Arguments: []any{groups[group]}})
	}
	return l.run(ctx)
}
