package hub

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// expiring is a hub whose memberships end by themselves.
type expiring struct{}

func (expiring) Join(ctx context.Context, c *Caller, group string, milliseconds int) error {
	var options []MembershipOption
	if milliseconds != 0 {
		options = append(options, Until(time.Now().Add(time.Duration(milliseconds)*time.Millisecond)))
	}
	return c.Groups().Add(ctx, c.ConnectionID(), group, options...)
}

func (h *Hub) isMember(group string) (member bool) {
	h.registry.eachMember(backplane.Group(group), func(*connection) { member = true })
	return member
}

func TestMembershipExpires(t *testing.T) {
	h, address := serve(t, expiring{})
	c := connect(t, address, "ada")
	hour := int(time.Hour / time.Millisecond)
	for _, join := range []struct {
		group        string
		milliseconds int
	}{
		{"short", 30}, {"lasting", 0}, {"extended", 30}, {"extended", hour}, {"kept", 30}, {"kept", 0}, {"shortened", hour}, {"shortened", 30},
	} {
		c.invoke("Join", join.group, join.milliseconds)
	}
	for _, group := range []string{"short", "shortened"} {
		await.Until(t, group+" has ended", func() error {
			if h.isMember(group) {
				return errors.New("it has not")
			}
			return nil
		})
	}
	for _, group := range []string{"lasting", "extended", "kept"} {
		if !h.isMember(group) {
			t.Errorf("membership of %s has ended", group)
		}
	}
	if got, want := c.invoke("Join", "over", -1), `"error":"An unexpected error occurred invoking 'Join' on the server."`; got != want || h.isMember("over") {
		t.Errorf("joining for a time that is over: %s", got)
	}
}

func TestJoinAuthorizer(t *testing.T) {
	h, address := serve(t, expiring{}, WithJoinAuthorizer(func(_ context.Context, c *Caller, group string) (time.Time, error) {
		switch group {
		case "open":
			return time.Time{}, nil
		case "brief":
			return time.Now().Add(30 * time.Millisecond), nil
		default:
			return time.Time{}, &Error{Message: c.UserIdentifier() + " may not join " + group}
		}
	}))
	c := connect(t, address, "ada")
	if got := c.invoke("Join", "open", 0); got != done || !h.isMember("open") {
		t.Errorf("open: %s", got)
	}
	if got := c.invoke("Join", "closed", 0); got != `"error":"An unexpected error occurred invoking 'Join' on the server. HubException: ada may not join closed"` || h.isMember("closed") {
		t.Errorf("closed: %s", got)
	}
	if got := c.invoke("Join", "brief", 3_600_000); got != done {
		t.Errorf("brief: %s", got)
	}
	await.Until(t, "the authorizer's end comes before the joiner's", func() error {
		if h.isMember("brief") {
			return errors.New("it has not come")
		}
		return nil
	})
	var id string
	h.registry.each(func(c *connection) { id = c.id })
	if err := h.Groups().Add(t.Context(), id, "closed"); err != nil || !h.isMember("closed") {
		t.Errorf("the server itself needs nobody's consent: %v", err)
	}
}

// What a join asks for that fails is not in force, neither while it waits nor after.
func TestFailedJoinLeavesTheEndAsItWas(t *testing.T) {
	memory := backplane.NewMemory()
	defer memory.Close()
	plane := slowPlane{memory, make(chan struct{})}
	h, address := serve(t, &room{}, WithBackplane(plane))
	id := connect(t, address, "").id()
	c := h.registry.connection(id)
	// join adds the connection, and has that confirmed or given up.
	join := func(ends time.Time, confirm bool) error {
		ctx, giveUp := context.WithCancel(t.Context())
		defer giveUp()
		joined := make(chan error, 1)
		go func() { joined <- h.Groups().Add(ctx, id, "room", Until(ends)) }()
		if confirm {
			plane.confirm <- struct{}{}
			return <-joined
		}
		await.Until(t, "the join waits", func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if m := c.groups["room"]; m == nil || len(m.joiners) == 0 {
				return errors.New("it does not")
			}
			return nil
		})
		giveUp()
		return <-joined
	}
	expect := func(want time.Time) {
		t.Helper()
		c.mu.Lock()
		defer c.mu.Unlock()
		m := c.groups["room"]
		if m == nil || !m.ends().Equal(want) || (m.expiry == nil) != want.IsZero() {
			t.Errorf("the membership is %+v, and is to end %v", m, want)
		}
	}
	hour, never := time.Now().Add(time.Hour), time.Time{}
	for _, confirmed := range []time.Time{never, hour} {
		if err := join(confirmed, true); err != nil {
			t.Fatal(err)
		}
		for _, failed := range []time.Time{time.Now().Add(time.Minute), never} {
			if err := join(failed, false); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: %v", err)
			}
			expect(confirmed)
		}
	}
	if err := join(never, false); !errors.Is(err, context.Canceled) || !h.isMember("room") {
		t.Errorf("given up: %v", err)
	}
	if err := join(time.Now().Add(200*time.Millisecond), true); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "it has ended", func() error {
		if h.isMember("room") {
			return errors.New("it has not")
		}
		return nil
	})
}
