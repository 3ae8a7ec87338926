package hub

import (
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// After a gap the application is told, and those reconnect who are to.
func TestGapEnds(t *testing.T) {
	for name, test := range map[string]struct {
		who              GapReconnects
		plain, survivors bool // are closed
	}{
		"none":     {ReconnectNone, false, false},
		"stateful": {ReconnectStateful, false, true},
		"all":      {ReconnectAll, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			gaps := make(chan Gap, 10)
			f := newFleet(t, 2, time.Second, WithEndpointOptions(transport.AllowStatefulReconnects()), WithReconnectAfterGap(test.who), WithGapEnded(func(g Gap) {
				gaps <- g
				panic("of the application")
			}))
			other, deaf := f.nodes[0], f.nodes[1]
			ada, ben := deaf.board(t, "ada", protocol.JSON), other.board(t, "ben", protocol.JSON)
			stateful := survive(t, deaf.address, "user=eve", protocol.JSON, noFuse)
			before := time.Now()
			deaf.deafen(t)
			var gap Gap
			select {
			case gap = <-gaps:
			case <-time.After(await.Deadline):
				t.Fatal("nobody was told")
			}
			if gap.Began.Before(before.Add(-time.Minute)) || !gap.Ended.After(gap.Began) {
				t.Errorf("the gap is %v", gap)
			}
			other.say(t, other.Clients().All(), "after")
			ben.expect(t, "after")
			if test.plain {
				ada.awaitClosed(t)
			} else {
				ada.expect(t, "after")
			}
			select {
			case m := <-stateful.messages:
				if c, closed := m.(*protocol.Close); closed != test.survivors || closed && !c.AllowReconnect {
					t.Errorf("the stateful connection got %+v", m)
				}
			case <-time.After(await.Deadline):
				t.Error("the stateful connection got nothing")
			}
			if len(gaps) > 0 {
				t.Error("told twice")
			}
		})
	}
}

func TestBadGapOptions(t *testing.T) {
	for _, o := range []Option{WithGapEnded(nil), WithReconnectAfterGap(-1), WithReconnectAfterGap(3)} {
		if _, err := New(&remote{}, o); err == nil {
			t.Error("it was taken")
		}
	}
}
