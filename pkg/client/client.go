package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A State says how a client stands with its hub.
type State int

const (
	Disconnected State = iota // not started yet
	Connected
	Reconnecting
	Closed // for good
)

// String returns the state's name.
func (s State) String() string {
	names := []string{"Disconnected", "Connected", "Reconnecting", "Closed"}
	if s < 0 || int(s) >= len(names) {
		return "State(" + strconv.Itoa(int(s)) + ")"
	}
	return names[s]
}

// A Client is a client of one hub, with one connection at a time. Its methods may be
// called concurrently, from handlers too.
type Client struct {
	config
	address *url.URL
	dialer  *websocket.Dialer

	ids     atomic.Uint64
	waiting *budget        // for inbox, and the answers of all calls
	inbox   *queue[func()] // what the goroutine that runs handlers is to do
	changes chan struct{}  // bounds the callbacks in inbox: one element for each

	life    context.Context // ends at the beginning of Close, or at the end of everything
	endLife context.CancelCauseFunc
	work    sync.WaitGroup // goroutines that run application code

	disconnected chan struct{} // closed when there is no connection and will be none
	done         chan struct{} // closed when there is no goroutine either

	mu        sync.Mutex
	state     State
	starting  bool        // or started
	conn      *connection // nil unless Connected
	err       error       // why the client is Closed
	handlers  map[string]*handler
	callbacks callbacks
}

// callbacks are never nil.
type callbacks struct {
	reconnecting func(reason error)
	reconnected  func(ctx context.Context, connectionID string)
}

// maxChanges is how many callbacks may wait for handlers before them.
const maxChanges = 16

// New makes a client of the hub at the address, which is the URL that the hub is mounted
// at. The error names every option that will not do. The client needs no closing if it is
// not started.
func New(address string, options ...Option) (*Client, error) {
	c := &Client{
		config:       defaults(),
		inbox:        newQueue[func()](),
		changes:      make(chan struct{}, maxChanges),
		disconnected: make(chan struct{}),
		done:         make(chan struct{}),
		handlers:     make(map[string]*handler),
		callbacks: callbacks{
			reconnecting: func(error) {},
			reconnected:  func(context.Context, string) {},
		},
	}
	var wrong []error
	for _, o := range options {
		if err := o(&c.config); err != nil {
			wrong = append(wrong, err)
		}
	}
	var err error
	if c.address, err = parseAddress(address); err != nil {
		wrong = append(wrong, err)
	}
	if c.dialer, err = dialer(c.http); err != nil {
		wrong = append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, fmt.Errorf("new client: %w", err)
	}
	c.waiting = newBudget(c.maxWaiting)
	c.life, c.endLife = context.WithCancelCause(context.Background())
	return c, nil
}

// Start connects and returns when the hub has accepted the connection, so that it can be
// called and can call. It does not try again by itself; after an error it may be called
// again. The context is for starting only.
//
// The error wraps an [*Error] if the hub refused, a [*StatusError] if the HTTP server
// did, and [ErrClosed] if the client is closed.
func (c *Client) Start(ctx context.Context) error {
	if err := c.startOnce(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	return nil
}

// Close ends the connection in order: what was sent before goes out, within 5 seconds.
// Calls that wait fail. It does not wait for application code, so handlers may call it;
// what waits for them is dropped. Later calls do nothing but wait for the first.
func (c *Client) Close() {
	c.mu.Lock()
	conn := c.conn
	if c.state == Disconnected {
		close(c.disconnected)
		close(c.done)
	}
	c.state, c.conn = Closed, nil
	c.endLife(ErrClosed)
	c.mu.Unlock()
	if conn != nil {
		conn.end(ErrClosed)
		defer time.AfterFunc(closeTimeout, conn.socket.abort).Stop()
	}
	<-c.disconnected
}

// Done returns a channel that is closed when the client is closed for good, for whatever
// reason, and no handler, callback or upload runs any more.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client is closed for good: nil if it is not, or if [Client.Close]
// closed it. If the server closed it with an error, that is an [*Error] in it.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// State returns how the client stands with its hub.
func (c *Client) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// ConnectionID returns the public id of the connection. It is empty unless the client is
// Connected, and without negotiation.
func (c *Client) ConnectionID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return ""
	}
	return c.conn.id
}

// OnReconnecting sets what is called when a connection was lost that is to be replaced,
// with the reason. It replaces an earlier one and must not be nil.
func (c *Client) OnReconnecting(f func(reason error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.callbacks.reconnecting = f
}

// OnReconnected sets what is called when a connection has been replaced, with the id of
// the new one and a context that ends when the client is closed. It replaces an earlier
// one and must not be nil.
func (c *Client) OnReconnected(f func(ctx context.Context, connectionID string)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.callbacks.reconnected = f
}

func (c *Client) startOnce(ctx context.Context) error {
	if err := c.beginStart(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.life, func() { cancel(ErrClosed) })()
	conn, err := c.connect(ctx)
	if err == nil && !c.adopt(conn) {
		err = ErrClosed
	}
	if err != nil {
		c.mu.Lock()
		c.starting = false
		c.mu.Unlock()
		return err
	}
	c.work.Go(c.runHandlers)
	go c.run(conn)
	return nil
}

// beginStart makes sure that the client is started once.
func (c *Client) beginStart() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state == Closed:
		return ErrClosed
	case c.starting:
		return errors.New("started already")
	}
	c.starting = true
	return nil
}

// adopt makes conn the connection for calls, unless the client has been closed meanwhile.
func (c *Client) adopt(conn *connection) bool {
	c.mu.Lock()
	closed := c.state == Closed
	if !closed {
		c.state, c.conn = Connected, conn
	}
	c.mu.Unlock()
	if closed {
		conn.end(ErrClosed)
		conn.socket.abort()
	}
	return !closed
}

// disown makes calls wait for another connection, unless the client has been closed.
func (c *Client) disown() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == Closed {
		return false
	}
	c.state, c.conn = Reconnecting, nil
	return true
}

// connected returns the connection for a call.
func (c *Client) connected() (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.conn != nil:
		return c.conn, nil
	case c.state == Closed:
		return nil, ErrClosed
	}
	return nil, ErrNotConnected
}
