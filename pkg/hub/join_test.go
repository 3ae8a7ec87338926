package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
)

// A thinker is a join authorizer that waits for the test's word.
type thinker struct{ thinking, decide chan error }

func newThinker() thinker { return thinker{make(chan error), make(chan error)} }

func (a thinker) authorize(context.Context, *Caller, string) (time.Time, error) {
	a.thinking <- nil
	return time.Time{}, <-a.decide
}

func leased(d time.Duration) Option {
	return func(c *config) error {
		c.lease = d
		return nil
	}
}

// A removal is not overtaken by a join that somebody was still thinking about, whoever
// asks for either, and wherever the connections are.
func TestRemovalCancelsJoinsUnderWay(t *testing.T) {
	a := newThinker()
	testRemovalCancelsJoins(t, a, newCluster(t, WithJoinAuthorizer(a.authorize), WithDetailedErrors()))
}

func TestRemovalCancelsJoinsUnderWayOverRedis(t *testing.T) {
	a := newThinker()
	redis := redistest.Start(t)
	testRemovalCancelsJoins(t, a, newClusterOn(t, func() backplane.Backplane {
		plane, err := redisplane.New(redisplane.Options{URL: redis.URL(), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return plane
	}, WithJoinAuthorizer(a.authorize), WithDetailedErrors()))
}

func testRemovalCancelsJoins(t *testing.T, a thinker, c *cluster) {
	joins := map[string]func() (by *client, method, id string){
		"one's own":                    func() (*client, string, string) { return c.ben, "Join", c.ben.start("Join", "room") },
		"a connection of another node": func() (*client, string, string) { return c.ada, "Admit", c.ada.start("Admit", c.benID, "room") },
		"a user":                       func() (*client, string, string) { return c.ada, "AdmitUser", c.ada.start("AdmitUser", "ben", "room") },
	}
	removals := map[string]struct {
		remove  func(Groups) error
		cancels bool
	}{
		"user":                      {func(g Groups) error { return g.RemoveUser(t.Context(), "ben", "room") }, true},
		"user from all groups":      {func(g Groups) error { return g.RemoveUserFromAll(t.Context(), "ben") }, true},
		"connection":                {func(g Groups) error { return g.Remove(t.Context(), c.benID, "room") }, true},
		"connection from all":       {func(g Groups) error { return g.RemoveFromAll(t.Context(), c.benID) }, true},
		"user from another group":   {func(g Groups) error { return g.RemoveUser(t.Context(), "ben", "other") }, false},
		"another user":              {func(g Groups) error { return g.RemoveUser(t.Context(), "ada", "room") }, false},
		"another user from all":     {func(g Groups) error { return g.RemoveUserFromAll(t.Context(), "ada") }, false},
		"another connection of all": {func(g Groups) error { return g.RemoveFromAll(t.Context(), c.adaID) }, false},
	}
	for joining, join := range joins {
		for removing, r := range removals {
			for node, h := range c.hubs {
				t.Run(fmt.Sprintf("%s, removal of %s by node %d", joining, removing, node), func(t *testing.T) {
					by, method, id := join()
					<-a.thinking
					if err := r.remove(h.Groups()); err != nil {
						t.Error(err)
					}
					a.decide <- nil
					want := `{"type":3,"invocationId":"` + id + `","result":null}`
					if r.cancels {
						at, what := "", "connection"
						if method != "Join" {
							at = "node " + c.planes[1].NodeID() + ": "
						}
						if method == "AdmitUser" {
							what = "user"
						}
						want = failure(id, askFailed+"'"+method+"' on the server. add "+what+" to group: "+at+"removed from the group meanwhile")
					}
					by.expect(want)
					if c.gets("room") == r.cancels {
						t.Errorf("ben is a member: %v", !r.cancels)
					}
					if err := c.hubs[0].Groups().RemoveUser(t.Context(), "ben", "room"); err != nil {
						t.Error(err)
					}
					c.awaitIdle()
				})
			}
		}
	}
}

// The error says on the asking node that the join was overtaken.
func TestRemoteErrors(t *testing.T) {
	for text, want := range map[string]error{
		ErrRemoved.Error():                         ErrRemoved,
		"no room\n" + ErrExpired.Error():           ErrExpired,
		"not " + ErrRemoved.Error() + ", but lost": nil,
	} {
		_, err := outcomeOf([]backplane.Reply{{Outcome: backplane.OutcomeDone}, {Node: "n", Outcome: backplane.OutcomeFailed, Error: text}})
		if err == nil || errors.Is(err, ErrRemoved) != (want == ErrRemoved) || errors.Is(err, ErrExpired) != (want == ErrExpired) {
			t.Errorf("%q is %v", text, err)
		}
	}
}

// Nothing stays of joins that were begun on other nodes and are not to be.
func TestJoinsElsewhereThatAreNotMade(t *testing.T) {
	a := newThinker()
	c := newCluster(t, WithJoinAuthorizer(a.authorize))
	for _, join := range [][]any{{"Admit", c.benID, "room"}, {"AdmitUser", "ben", "room"}} {
		id := c.ada.start(join[0].(string), join[1:]...)
		<-a.thinking
		c.awaitHeld(1, 1)
		a.decide <- &Error{Message: "no"}
		c.ada.expect(failure(id, askFailed+"'"+join[0].(string)+"' on the server. HubException: no"))
		c.awaitIdle()

		c.ada.start(join[0].(string), join[1:]...)
		<-a.thinking
		c.awaitHeld(1, 1)
		receiver{c.hubs[1]}.NodeLeft(c.planes[0].NodeID())
		c.awaitHeld(1, 0)
		a.decide <- nil
		if frame := c.ada.read(); c.hubs[1].isMember("room") {
			t.Errorf("%s after the node seemed to have left: %s", join[0], frame)
		}
		c.awaitIdle()
	}
}

// awaitHeld waits until the node holds so much for others.
func (c *cluster) awaitHeld(node, want int) {
	c.t.Helper()
	await.Until(c.t, fmt.Sprint(want, " operations are held"), func() error {
		s := &c.hubs[node].holdings
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.held) != want {
			return fmt.Errorf("%d are", len(s.held))
		}
		return nil
	})
}

// An authorizer may take its time: what was begun is kept.
func TestJoinsElsewhereAreKept(t *testing.T) {
	a := newThinker()
	var asked counter
	c := newTapped(t, asked.tap, WithJoinAuthorizer(a.authorize), leased(300*time.Millisecond))
	for _, join := range [][]any{{"Admit", c.benID, "room"}, {"AdmitUser", "ben", "room"}} {
		id := c.ada.start(join[0].(string), join[1:]...)
		<-a.thinking
		asked.awaitMore(t, backplane.OpKeep, 2*leaseRenewals)
		a.decide <- nil
		c.ada.expect(`{"type":3,"invocationId":"` + id + `","result":null}`)
		if !c.gets("room") {
			t.Errorf("after %s ben is no member", join[0])
		}
		if err := c.hubs[1].Groups().RemoveUser(t.Context(), "ben", "room"); err != nil {
			t.Error(err)
		}
		c.awaitIdle()
	}
}

// Without word from the node that asks, what was begun is given up.
func TestLeaseRunsOut(t *testing.T) {
	c := newCluster(t)
	for _, o := range []backplane.Operation{
		{Kind: backplane.OpBeginJoin, TargetKind: backplane.TargetUser, Target: "ben", Group: "room"},
		{Kind: backplane.OpAsk, TargetKind: backplane.TargetConnection, Target: c.benID, Encodings: []backplane.Encoding{{Protocol: "json", Frame: []byte("{}\x1e")}}},
	} {
		p := c.hubs[0].operations.expect()
		o.ID, o.Lease = p.id, uint64(time.Hour/time.Millisecond)
		if err := c.hubs[0].publishOperation(t.Context(), channelOf(o), o); err != nil {
			t.Fatal(err)
		}
		c.awaitHeld(1, 1)
		keep := backplane.Operation{ID: newOperationID(), Kind: backplane.OpKeep, TargetKind: o.TargetKind, Target: o.Target, Earlier: p.id, Lease: 1}
		if err := c.hubs[0].publishOperation(t.Context(), channelOf(o), keep); err != nil {
			t.Fatal(err)
		}
		p.forget()
		if o.Kind == backplane.OpBeginJoin { // on this node too
			c.awaitHeld(0, 0)
		}
		c.awaitIdle()
	}
}
