package main

import (
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

func TestRecorder(t *testing.T) {
	const id = trialID("abcdefgh")
	epoch := time.Now().Add(-time.Hour)
	c := config{receiveMethod: "Send", protocol: protocol.JSON, payload: minimumPayload}
	r := newRecorder(id, epoch, c, []int{0, 1})
	r.measuredFrom.Store(int64(time.Minute))
	v := r.receiver(7, 0)
	v.connection = new(connection)

	get := func(target, text string) {
		frame, err := protocol.JSON.Append(nil, &protocol.Invocation{Target: target, Arguments: []any{text}})
		if err != nil {
			t.Fatal(err)
		}
		m, _, err := protocol.JSON.Parse(frame, 0)
		if err != nil {
			t.Fatal(err)
		}
		v.handle(m)
	}
	message := func(sender, target int, sequence uint64, due time.Duration) string {
		return string(appendMessage(nil, id, message{sender, target, sequence, due}, minimumPayload))
	}
	get("Send", message(0, 7, 1, time.Second)) // in the warm-up
	get("send", message(0, 7, 2, time.Hour))
	get("Send", message(0, 7, 2, time.Hour)) // again
	get("Send", message(1, 7, 2, time.Minute))
	get("Send", message(1, 7, 1, time.Minute)) // late
	get("Send", message(1, 8, 1, time.Minute)) // another target's
	get("Send", message(2, 7, 1, time.Minute)) // no such sender
	get("Send", message(0, 7, 3, time.Minute)+"x")
	get("Send", message(0, 7, 3, time.Minute)[:minimumPayload-1]+"y")
	get("Send", "ada has joined the group.")
	get("Other", message(0, 7, 3, time.Minute))
	get("Send", "load another 0 7 3 1 x")
	v.handle(&protocol.Completion{InvocationID: "1"})
	v.handle(&protocol.Invocation{Target: "Send", RawArguments: []byte(`[1,2]`)})

	want := tally{delivered: 4, duplicated: 1, outOfOrder: 1, stray: 1, damaged: 3, ignored: 5}
	if got := r.tally(); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	all, crossNode := r.latencies()
	if all.histogram.TotalCount() != 3 || crossNode.histogram.TotalCount() != 2 {
		t.Errorf("%d latencies, %d across nodes", all.histogram.TotalCount(), crossNode.histogram.TotalCount())
	}
	// Those from the other node were due 59 minutes ago.
	if got := time.Duration(crossNode.histogram.Max()) * time.Microsecond; got < longest-time.Second {
		t.Errorf("the largest latency is %v, want the largest that is told from others, %v", got, longest)
	}

	senders := []*sender{{outgoing: make([]outgoing, 8)}, {outgoing: make([]outgoing, 8)}}
	senders[0].outgoing[7] = outgoing{sequence: 5, failed: 1}
	senders[1].outgoing[7] = outgoing{sequence: 2}
	if got := v.lost(senders); got != 2 {
		t.Errorf("%d lost, want 2", got)
	}
	unopened, without := r.receiver(7, 0), r.receiver(7, 0)
	without.connection = new(connection)
	without.connection.ended.Store(true)
	l := &load{senders: senders, receivers: []*receiver{v, unopened, without}, targets: 8}
	if all, ended := l.lost(); all != 8 || ended != 6 {
		t.Errorf("%d lost, %d of them on ended connections", all, ended)
	}
	v.connection.ended.Store(true)
	if all, ended := l.lost(); all != 8 || ended != 8 {
		t.Errorf("after the end %d lost, %d of them on ended connections", all, ended)
	}
	if m := l.members(); m[7] != 2 || m[0] != 0 {
		t.Errorf("members are %v", m)
	}
}
