package client

import (
	"fmt"
	"log/slog"
	"time"
)

// run is the goroutine that reads and reconnects. It ends with the client, as the last of
// its goroutines.
func (c *Client) run(conn *connection) {
	err := c.serve(conn)
	c.mu.Lock()
	if c.state != Closed { // or Close was called
		c.err = err
	}
	c.state, c.conn = Closed, nil
	c.mu.Unlock()
	c.inbox.end() // what came before a server's Close message is still handled
	close(c.disconnected)
	c.work.Wait()
	c.endLife(ErrClosed)
	close(c.done)
}

// serve serves one connection after the other, and returns why there is no other.
func (c *Client) serve(conn *connection) error {
	for {
		reason := conn.serve()
		if c.retry == nil || !mayReconnect(reason) || !c.disown() {
			return reason
		}
		c.notify(func(f callbacks) { f.reconnecting(reason) })
		var err error
		if conn, err = c.reconnect(reason); err != nil {
			return err
		}
		if !c.adopt(conn) {
			return ErrClosed
		}
		id := conn.id
		c.notify(func(f callbacks) { f.reconnected(c.life, id) })
	}
}

// reconnect tries to connect as long as the policy says.
func (c *Client) reconnect(reason error) (*connection, error) {
	for attempt, last := 0, reason; ; attempt++ {
		delay, ok := c.retry(attempt, last)
		if !ok {
			if attempt > 0 {
				reason = fmt.Errorf("%w; attempt %d to reconnect: %w", reason, attempt, last)
			}
			return nil, reason
		}
		select {
		case <-time.After(delay):
		case <-c.life.Done():
			return nil, ErrClosed
		}
		conn, err := c.connect(c.life)
		if err == nil {
			return conn, nil
		}
		last = err
		c.logger.Debug("not reconnected", "attempt", attempt+1, slog.Any("error", err))
	}
}

// runHandlers is the goroutine that runs handlers and callbacks.
func (c *Client) runHandlers() {
	for {
		task, err := c.inbox.pop(c.life)
		if err != nil {
			return
		}
		task()
	}
}

// notify makes call run between the handlers, with the callbacks that are set by then. It
// waits while very many callbacks do.
func (c *Client) notify(call func(callbacks)) {
	select {
	case c.changes <- struct{}{}:
	case <-c.life.Done():
		return
	}
	c.inbox.push(func() {
		<-c.changes
		c.mu.Lock()
		f := c.callbacks
		c.mu.Unlock()
		call(f)
	})
}
