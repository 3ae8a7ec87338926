package hub

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// A membership of a group. All fields are guarded by the connection's mu.
type membership struct {
	*member
	// confirmed says that the subscription has been seen in force since the connection
	// joined, so that somebody may have been told that the join is effective.
	confirmed bool
	// expires is when the membership ends, by the last join that was confirmed; zero: never.
	expires time.Time
	// joiners are the joins that wait for the subscription. Until they have it or fail,
	// they only put the end off. The last of them to fail ends a membership that none has
	// seen confirmed.
	joiners []*joining
	// expiry ends the membership; nil if it has no end. A timer that has fired too late
	// to be stopped finds another one here, and does nothing.
	expiry *time.Timer
}

// ends returns when the membership is to end; zero: never.
func (m *membership) ends() (end time.Time) {
	ends := make([]time.Time, 0, len(m.joiners)+1)
	if m.confirmed {
		ends = append(ends, m.expires)
	}
	for _, j := range m.joiners {
		ends = append(ends, j.expires)
	}
	for _, t := range ends {
		if t.IsZero() {
			return t
		}
		if t.After(end) {
			end = t
		}
	}
	return end
}

// A joining is a join under way, from before anybody is asked whether it may be.
type joining struct {
	group    string
	canceled bool      // by a removal meanwhile; guarded by the connection's mu
	expires  time.Time // zero: never; set by joinGroup
}

// beginJoin begins a join, which joinGroup or endJoin ends.
func (c *connection) beginJoin(group string) *joining {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := &joining{group: group}
	if c.joinings == nil {
		c.joinings = make(map[*joining]struct{})
	}
	c.joinings[j] = struct{}{}
	return j
}

func (c *connection) endJoin(j *joining) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.joinings, j)
}

// joinGroup returns nil once the membership is in force, until expires if that is not
// zero.
//
// The membership is entered, and its channel counted, before waiting: what arrives
// meanwhile is delivered, and whoever ends the connection finds it to undo.
func (c *connection) joinGroup(ctx context.Context, j *joining, expires time.Time) error {
	group, ch := j.group, backplane.Group(j.group)
	c.mu.Lock()
	if err := c.refuseJoin(j); err != nil {
		delete(c.joinings, j)
		c.mu.Unlock()
		return err
	}
	m, again := c.groups[group]
	if !again {
		m = &membership{member: c.hub.registry.join(ch, c)}
		if c.groups == nil {
			c.groups = make(map[string]*membership)
		}
		c.groups[group] = m
	}
	j.expires = expires
	m.joiners = append(m.joiners, j)
	c.expire(group, m)
	wait := c.hub.attachment.Subscribe(ch)
	c.mu.Unlock()

	err := wait(ctx)

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.joinings, j)
	m.joiners = slices.DeleteFunc(m.joiners, func(other *joining) bool { return other == j })
	if again { // the first join holds the channel, this one did only to wait
		c.hub.attachment.Unsubscribe(ch)
	}
	switch refused := c.refuseJoin(j); {
	case refused == errMoving:
		err = refused // and what came of it is undone
	case refused != nil:
		return refused
	}
	if c.groups[group] != m || err == nil && !expires.IsZero() && !expires.After(time.Now()) {
		err = errors.Join(ErrExpired, err) // while this waited
	}
	if err == nil {
		m.confirmed, m.expires = true, expires
	}
	switch {
	case c.groups[group] != m:
	case !m.confirmed && len(m.joiners) == 0:
		c.dropGroup(group, m)
	default:
		c.expire(group, m)
	}
	return err
}

// refuseJoin says why a join cannot go on. It is called with mu held.
func (c *connection) refuseJoin(j *joining) error {
	switch {
	case c.ended:
		return ErrNoConnection
	case c.joinless:
		return errMoving
	case j.canceled:
		return ErrRemoved
	}
	return nil
}

// expire has a membership end when it is to. It is called with mu held.
func (c *connection) expire(group string, m *membership) {
	m.stopExpiry()
	at := m.ends()
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

// stopExpiry is called with mu held.
func (m *membership) stopExpiry() {
	if m.expiry != nil {
		m.expiry.Stop()
		m.expiry = nil
	}
}

// leaveGroup ends the membership, and joins to it that are under way.
func (c *connection) leaveGroup(group string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for j := range c.joinings {
		j.canceled = j.canceled || j.group == group
	}
	if m, ok := c.groups[group]; ok {
		c.dropGroup(group, m)
	}
}

// leaveAllGroups ends all memberships, and joins that are under way.
func (c *connection) leaveAllGroups() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for j := range c.joinings {
		j.canceled = true
	}
	for group, m := range c.groups {
		c.dropGroup(group, m)
	}
}

// dropGroup is called with mu held.
func (c *connection) dropGroup(group string, m *membership) {
	delete(c.groups, group)
	m.stopExpiry()
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
