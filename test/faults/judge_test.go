package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A judge that lets things pass would make all other tests here pass.
func TestJudge(t *testing.T) {
	begun := time.Now()
	at := func(seconds int) time.Time { return begun.Add(time.Duration(seconds) * time.Second) }
	send := func(number, second int, err error) *message {
		return &message{sender: "s", number: number, channel: "a", begun: at(second), ended: at(second + 1), err: err}
	}
	notSent := fmt.Errorf("publish: %w", backplane.ErrNotSent)
	unknown := fmt.Errorf("publish: %w", backplane.ErrUnknown)
	one, two := send(1, 10, nil), send(2, 20, nil)
	elsewhere := &message{sender: "s", number: 3, channel: "b", begun: at(30), ended: at(31)}

	for _, test := range []struct {
		name  string
		sent  []*message
		heard []*message
		other []*message // what another node has heard
		gap   span
		since time.Time // of the join
		wrong string    // part of what is wrong; empty: nothing
	}{
		{name: "all heard", sent: []*message{one, two}, heard: []*message{one, two}},
		{name: "twice", sent: []*message{one, two}, heard: []*message{one, two, two}, wrong: "twice"},
		{name: "reordered", sent: []*message{one, two}, heard: []*message{two, one}, wrong: "after 2 of the same"},
		{name: "from nowhere", heard: []*message{one}, wrong: "nobody has sent"},
		{name: "never joined", sent: []*message{elsewhere}, heard: []*message{elsewhere}, wrong: "never joined"},
		{name: "lost", sent: []*message{one, two}, heard: []*message{one}, wrong: `not heard "s 2 on a"`},
		{name: "lost in a gap", sent: []*message{one, two}, heard: []*message{one}, gap: span{at(20), at(21)}},
		{name: "lost after a gap", sent: []*message{one, two}, heard: []*message{one}, gap: span{at(10), at(20)}, wrong: "not heard"},
		{name: "lost before a gap", sent: []*message{one, two}, heard: []*message{two}, gap: span{at(11), at(12)}, wrong: "not heard"},
		{name: "sent before the join was in force", sent: []*message{one, two}, heard: []*message{two}, since: at(10)},
		{name: "sent when the join was in force", sent: []*message{one, two}, heard: []*message{two}, since: at(9), wrong: "not heard"},
		{name: "not sent", sent: []*message{send(1, 10, notSent)}},
		{name: "not sent and heard", sent: []*message{send(1, 10, notSent)}, heard: []*message{one}, wrong: "not sent"},
		{name: "unknown", sent: []*message{send(1, 10, unknown)}},
		{name: "unknown and heard", sent: []*message{send(1, 10, unknown)}, heard: []*message{one}},
		{name: "another error", sent: []*message{send(1, 10, backplane.ErrClosed)}, wrong: "was told"},
		{
			name: "two orders", sent: []*message{one, {sender: "t", number: 1, channel: "a", begun: at(10), ended: at(12)}},
			heard: []*message{one, {sender: "t", number: 1, channel: "a"}},
			other: []*message{{sender: "t", number: 1, channel: "a"}, one},
			wrong: "before it",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r record
			for _, heard := range [][]*message{test.heard, test.other} {
				to := newReceiver("node")
				for _, m := range heard {
					to.Deliver(m.channel, []byte(m.body()))
				}
				to.held["a"] = at(0)
				if test.since.After(begun) {
					to.held["a"] = test.since
				}
				to.gaps = []span{test.gap}
				if heard != nil {
					r.receivers = append(r.receivers, to)
				}
			}
			if len(r.receivers) == 0 {
				r.receivers = []*receiver{newReceiver("node")}
			}
			for _, m := range test.sent {
				r.add(m)
			}
			got := fmt.Sprint(r.judge().wrong)
			if test.wrong == "" && got != "[]" || !strings.Contains(got, test.wrong) {
				t.Errorf("wrong is %s, want %q", got, test.wrong)
			}
		})
	}
}
