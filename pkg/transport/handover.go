package transport

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
)

// A Handover is what a manager has to know to take over a stateful connection from
// another node's.
type Handover struct {
	ID            string
	Identity      *auth.Identity
	CloseOnExpiry bool      // it is to be closed when the identity's credentials end
	Spent         time.Time // from then on no node takes the token for that of a new connection
}

// HandOver begins to hand the connection over: its home record, whose epoch it returns,
// is not renewed from here any more, so that it can be moved. Epoch 0 says that there is
// none to move. If nothing comes of it TakeBack must be called.
func (c *Connection) HandOver() (h Handover, epoch uint64) {
	if cluster := c.manager.joined(); cluster != nil {
		epoch = cluster.release(c.id)
	}
	return Handover{ID: c.id, Identity: c.Identity(), CloseOnExpiry: c.closeOnExpiry, Spent: time.UnixMilli(c.spent)}, epoch
}

// TakeBack undoes HandOver: the record is renewed again, and ended with the connection.
func (c *Connection) TakeBack(epoch uint64) { c.manager.keepHome(c.id, epoch, time.UnixMilli(c.spent)) }

// Release forgets the connection, which another node has taken over, or which Adopt made
// and nothing came of. Its carrier is cut without any closing handshake, so that the
// client comes back, and the session is told nothing more: a Receive that is running is
// the last call.
func (c *Connection) Release() {
	if cluster := c.manager.joined(); cluster != nil {
		cluster.release(c.id)
	}
	c.manager.mu.Lock()
	if c.manager.live[c.id] == c { // so that the client, which may come back here at once, is passed on
		delete(c.manager.live, c.id)
	}
	c.manager.mu.Unlock()
	c.mu.Lock()
	carrier := c.carrier
	c.released = true
	c.openHeldLocked()
	c.endLocked()
	c.mu.Unlock()
	if carrier != nil {
		carrier.Abort()
	}
}

// Adopt makes a connection of what another node hands over, which that node serves until
// it has released it. Until Admit, requests for the connection wait: they are not this
// node's to answer yet. If neither that nor Release follows within the disconnect
// time-out, the connection ends. The error says that the connection is here, that the id
// is none, or that the manager takes no more connections.
func (m *Manager) Adopt(h Handover, accept func(*Connection) Session) (*Connection, error) {
	id, err := base64.RawURLEncoding.DecodeString(h.ID)
	if err != nil || len(id) != 16 {
		return nil, fmt.Errorf("adopt connection: %w", errors.Join(errors.New("malformed id"), err))
	}
	c := &Connection{
		id: h.ID, manager: m, kind: WebSockets, stateful: true, resumable: true,
		closeOnExpiry: h.CloseOnExpiry, spent: h.Spent.UnixMilli(),
		vacant: time.Now(), held: make(chan struct{}), holds: 1,
	}
	c.identity.Store(h.Identity)
	if err := m.insert(c, [16]byte(id)); err != nil {
		return nil, fmt.Errorf("adopt connection: %w", err)
	}
	session := accept(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session = session
	c.letGoLocked()
	return c, nil
}

func (m *Manager) insert(c *Connection, id [16]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closing:
		return errors.New("no more connections are taken")
	case m.live[c.id] != nil:
		return errors.New("it is here")
	}
	m.use(id)
	m.live[c.id] = c
	m.watched[c] = struct{}{}
	m.all.Add(1)
	return nil
}

// Admit lets the client of an adopted connection come: it is waited for as if its carrier
// had just broken. epoch is that of the home record, which has been moved here. It
// reports whether the connection has not ended meanwhile.
func (c *Connection) Admit(epoch uint64) bool {
	c.mu.Lock()
	ended := c.ended
	c.vacant = time.Now()
	c.openHeldLocked()
	c.mu.Unlock()
	c.manager.keepHome(c.id, epoch, time.UnixMilli(c.spent))
	return !ended
}

// openHeldLocked lets the requests that wait for Admit go on.
func (c *Connection) openHeldLocked() {
	if c.held != nil {
		close(c.held)
		c.held = nil
	}
}

// admitted waits until the connection may have requests. If it has been released instead,
// it is not known here.
func (c *Connection) admitted(ctx context.Context) refusal {
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held == nil {
		return granted
	}
	select {
	case <-held:
	case <-ctx.Done():
		return aborted
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.released {
		return unknownID
	}
	return granted
}

func (m *Manager) joined() *cluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cluster
}

// keepHome has the connection's record renewed, if there is one.
func (m *Manager) keepHome(id string, epoch uint64, spent time.Time) {
	if c := m.joined(); c != nil && epoch > 0 {
		c.hold(id, keptHome{epoch: epoch, before: spent}, true)
	}
}
