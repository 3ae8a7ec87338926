package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"runtime/debug"
	"sync"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/transport"
)

// A ConnectedHandler is a hub that wants to know of new connections.
type ConnectedHandler interface {
	// OnConnected runs before the connection's first invocation, while nothing more is
	// read from the client. Sending to the caller works. An error refuses the
	// connection: it is closed, and OnDisconnected is not called for it.
	OnConnected(ctx context.Context, caller *Caller) error
}

// A DisconnectedHandler is a hub that wants to know of connections that ended.
type DisconnectedHandler interface {
	// OnDisconnected runs once for each connection for which OnConnected returned nil,
	// however it ended, while it still is in its groups; what is sent to it is dropped.
	// Methods that it invoked may still be running. err is nil if the client or the
	// server closed it in order, and says why it was closed otherwise. ctx is not the
	// connection's, which has ended; it ends when the hub is shut down. An error is
	// only logged.
	OnDisconnected(ctx context.Context, caller *Caller, err error) error
}

// A Hub serves the connections of one hub on this node, and reaches those on others.
// It is an [http.Handler]. Its methods may be called concurrently.
type Hub struct {
	config
	value   any
	methods methods
	results results

	operations operations
	handovers  handovers
	sends      sends
	holdings   holdings
	deaths     deaths
	pings      [][]byte // by encoding
	metrics    *metrics

	connections *transport.Manager
	endpoint    http.Handler
	attachment  backplane.Attachment
	ownPlane    backplane.Backplane // made by New, closed by Shutdown; nil otherwise
	registry    *registry
	handshakes  handshakes

	ctx    context.Context // ends at the end of Shutdown
	cancel context.CancelFunc
	work   work           // connections, and the goroutines that they start
	beat   sync.WaitGroup // the heartbeat
	once   sync.Once      // guards Shutdown
}

// New makes a hub of value, whose exported methods clients may invoke (see the
// package's documentation for what they look like). The error names every method and
// every option that will not do. The hub runs until [Hub.Shutdown].
func New(value any, options ...Option) (*Hub, error) {
	c := defaults()
	var wrong []error
	for _, o := range options {
		if err := o(&c); err != nil {
			wrong = append(wrong, err)
		}
	}
	ms, err := methodsOf(value, c.methodOptions)
	if err != nil {
		wrong = append(wrong, err)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, fmt.Errorf("new hub: %w", err)
	}
	if c.name == "" {
		c.name = reflect.Indirect(reflect.ValueOf(value)).Type().Name()
	}
	h := &Hub{
		config:     c,
		value:      value,
		methods:    ms,
		pings:      pingFrames(c.protocols),
		metrics:    newMetrics(c.name),
		registry:   newRegistry(),
		handshakes: handshakes{pending: make(map[*connection]struct{})},
	}
	if err := h.start(); err != nil {
		return nil, fmt.Errorf("new hub: %w", err)
	}
	return h, nil
}

func (h *Hub) start() error {
	if h.peers != nil && (h.plane == nil || h.config.transport.Keys == nil) {
		return errors.New("peers: they need a backplane, and the cluster's keys")
	}
	if h.registerer != nil {
		if err := h.metrics.register(h.registerer); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	if h.plane == nil {
		h.ownPlane = backplane.NewMemory()
		h.plane = h.ownPlane
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.config.transport.Hub = h.name
	h.config.transport.Accept = h.accept
	h.config.transport.Logger = h.logger
	h.connections = transport.NewManager(h.config.transport)
	h.endpoint = h.connections.Endpoint(h.endpointOptions...)
	attachment, err := h.plane.Attach(h.prefix, receiver{h})
	if err != nil {
		h.cancel()
		return fmt.Errorf("attach to backplane: %w", err)
	}
	h.attachment = attachment
	h.joinCluster()
	if h.peers != nil {
		h.answerHandovers()
	}
	attachment.Subscribe(backplane.Node(h.plane.NodeID()))
	h.beat.Go(h.heartbeat)
	return nil
}

// ServeHTTP serves negotiation and transports, under any path: what ends in
// /negotiate is a negotiation.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.endpoint.ServeHTTP(w, r) }

// Endpoint returns a handler like the hub itself, with options of its own. The
// connections that it serves are the hub's like any other.
func (h *Hub) Endpoint(options ...transport.EndpointOption) http.Handler {
	return h.connections.Endpoint(options...)
}

// Clients selects whom to send to, from outside of hub methods.
func (h *Hub) Clients() Clients { return Clients{hub: h} }

// Groups adds connections to groups and removes them, from outside of hub methods.
func (h *Hub) Groups() Groups { return Groups{hub: h} }

// Shutdown takes no more connections, tells the clients to reconnect (elsewhere) and
// waits until all connections have ended and no method runs. When ctx ends first, it
// cuts what is left and returns the context's error; methods that do not heed their
// context are then left behind. Later calls do nothing.
func (h *Hub) Shutdown(ctx context.Context) (err error) {
	h.once.Do(func() { err = h.shutdown(ctx) })
	return err
}

func (h *Hub) shutdown(ctx context.Context) error {
	h.connections.Refuse()
	if h.peers != nil {
		h.refuseHandovers()
	}
	// In this order, since a connection is registered before its handshake is done.
	all := h.handshakes.close()
	h.registry.each(func(c *connection) { all = append(all, c) })
	for _, c := range all {
		c.end(closing{allowReconnect: true})
	}
	err := h.connections.Wait(ctx)
	if err == nil {
		err = waitFor(ctx, &h.work.WaitGroup)
	}
	h.work.close()
	if err == nil {
		h.work.workers.Wait() // they have nothing to do any more
	}
	h.operations.close()
	if err == nil { // so that those who asked are answered, while that is possible
		err = waitFor(ctx, &h.operations.performing)
	}
	if err != nil {
		h.connections.Abort()
		err = fmt.Errorf("shut down hub %s: %w", h.name, err)
	}
	h.cancel()
	h.beat.Wait()
	h.connections.Close()
	h.attachment.Detach()
	h.operations.performing.Wait()
	h.deaths.close() // nobody brings news any more
	if told := waitFor(ctx, &h.deaths.telling); err == nil && told != nil {
		err = fmt.Errorf("shut down hub %s: wait for the node died function: %w", h.name, told)
	}
	h.holdings.dropAll()
	if h.ownPlane != nil {
		err = errors.Join(err, h.ownPlane.Close())
	}
	if h.registerer != nil {
		h.metrics.unregister(h.registerer)
	}
	return err
}

func waitFor(ctx context.Context, work *sync.WaitGroup) error {
	done := make(chan struct{})
	go func() { // ends with the last hub method, or operation, or call of the node died function
		work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errGoexit is what became of application code that has ended its goroutine.
var errGoexit = errors.New("the goroutine was ended (runtime.Goexit)")

// guardThen is guard, and calls then with the error: also if f ends the goroutine, as
// [testing.T.FailNow] does, with errGoexit, and then as the last thing that it does.
func (h *Hub) guardThen(f func() error, then func(error)) {
	err := errGoexit
	defer func() { then(err) }()
	err = h.guard(f)
}

// apart is guard for code that must not end the goroutine which it is called from. It runs
// in one of its own, which it waits for.
func (h *Hub) apart(f func() error) error {
	ended := make(chan error, 1)
	go h.guardThen(f, func(err error) { ended <- err })
	return <-ended
}

// guard turns a panic of application code into an error, and logs its stack.
func (h *Hub) guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
			h.logPanic(v)
		}
	}()
	return f()
}

func (h *Hub) logPanic(v any) {
	h.logger.Error("panic in hub "+h.name, slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
}
