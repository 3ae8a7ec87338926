package hub

import (
	"context"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A membership of a group. All fields are guarded by the connection's mu.
type membership struct {
	*member
	// confirmed says that the subscription has been seen in force since the connection
	// joined, so that somebody may have been told that the join is effective.
	confirmed bool
	// expiry ends the membership; nil if it has no end. A timer that has fired too late
	// to be stopped finds another one here, and does nothing.
	expiry *time.Timer
}

// joinGroup returns nil once the membership is in force, until expires if that is not
// zero.
//
// The membership is entered, and its channel counted, before waiting: what arrives
// meanwhile is delivered, and whoever ends the connection finds it to undo.
func (c *connection) joinGroup(ctx context.Context, group string, expires time.Time) error {
	ch := backplane.Group(group)
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrNoConnection
	}
	m, again := c.groups[group]
	if !again {
		m = &membership{member: c.hub.registry.join(ch, c)}
		if c.groups == nil {
			c.groups = make(map[string]*membership)
		}
		c.groups[group] = m
	}
	c.expire(group, m, expires)
	wait := c.hub.attachment.Subscribe(ch)
	c.mu.Unlock()

	err := wait(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()
	if again { // the first join holds the channel, this one did only to wait
		c.hub.attachment.Unsubscribe(ch)
	}
	if c.ended {
		return ErrNoConnection
	}
	if c.groups[group] != m {
		return err // left while this waited
	}
	switch {
	case err == nil:
		m.confirmed = true
	case !again && !m.confirmed:
		c.dropGroup(group, m)
	}
	return err
}

// expire sets when a membership ends: never, if that is zero. It is called with mu held.
func (c *connection) expire(group string, m *membership, at time.Time) {
	if m.expiry != nil {
		m.expiry.Stop()
		m.expiry = nil
	}
	if at.IsZero() {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(at), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.groups[group] == m && m.expiry == timer {
			c.dropGroup(group, m)
		}
	})
	m.expiry = timer
}

func (c *connection) leaveGroup(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.groups[group]; ok {
		c.dropGroup(group, m)
	}
}

// dropGroup is called with mu held.
func (c *connection) dropGroup(group string, m *membership) {
	delete(c.groups, group)
	c.expire(group, m, time.Time{})
	c.hub.registry.leave(m.member)
	c.hub.attachment.Unsubscribe(m.channel)
}

// register makes the connection known to the node under its id and its user, and
// waits a little for the cluster to know it too. Without the backplane it is taken
// all the same: what needs no backplane works, and the subscriptions are made when
// that is back.
func (c *connection) register() error {
	channels := []backplane.Channel{backplane.Connection(c.id)}
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrNoConnection
	}
	c.hub.registry.add(c)
	if c.user != "" {
		channels = append(channels, backplane.User(c.user))
		c.userMember = c.hub.registry.join(backplane.User(c.user), c)
	}
	c.registered = true
	wait := c.hub.attachment.Subscribe(channels...)
	c.mu.Unlock()

	ctx, cancel := context.WithTimeout(c.ctx, c.hub.subscribeWait)
	defer cancel()
	if err := wait(ctx); err != nil && c.ctx.Err() == nil {
		c.hub.logger.Warn("connection taken without the backplane", "error", err)
	}
	return nil
}

// unregister undoes register and every join. c.ended is set, so that none follows.
func (c *connection) unregister() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for group, m := range c.groups {
		c.dropGroup(group, m)
	}
	if !c.registered {
		return
	}
	c.registered = false
	if c.userMember != nil {
		c.hub.registry.leave(c.userMember)
		c.hub.attachment.Unsubscribe(c.userMember.channel)
	}
	c.hub.registry.remove(c)
	c.hub.attachment.Unsubscribe(backplane.Connection(c.id))
}
