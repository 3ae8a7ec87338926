package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// An Option adjusts a hub. Options that cannot be met make [New] fail.
type Option func(*config) error

type config struct {
	name            string
	prefix          string
	plane           backplane.Backplane
	peers           *peer.Peers // nil: requests are not passed on
	transport       transport.Config
	endpointOptions []transport.EndpointOption
	userIdentifier  func(*http.Request, *auth.Identity) string
	protocols       []protocol.Protocol
	logger          *slog.Logger
	registerer      prometheus.Registerer

	keepAlive        time.Duration
	clientTimeout    time.Duration
	handshakeTimeout time.Duration
	subscribeWait    time.Duration
	maxMessage       int
	maxQueueBytes    int
	maxQueueFrames   int
	maxUnacked       int
	maxWaiting       int
	maxStreams       int
	parallel         int
	filters          []Filter
	methodOptions    []methodOptions
	joinAuthorizer   JoinAuthorizer
	operationTimeout time.Duration
	lease            time.Duration // of what stays with other nodes, see holdings
	nodeDied         func(node string)
	gapEnded         func(Gap)
	gapReconnects    GapReconnects
	maxName          int
	detailedErrors   bool
}

func defaults() config {
	return config{
		userIdentifier:   func(_ *http.Request, id *auth.Identity) string { return id.Subject },
		protocols:        []protocol.Protocol{protocol.JSON, protocol.MessagePack},
		logger:           slog.Default(),
		keepAlive:        15 * time.Second,
		clientTimeout:    30 * time.Second,
		handshakeTimeout: 15 * time.Second,
		subscribeWait:    2 * time.Second,
		maxMessage:       32768,
		maxQueueBytes:    4 << 20,
		maxQueueFrames:   65536,
		maxUnacked:       100_000,
		maxWaiting:       1 << 20,
		maxStreams:       1000,
		parallel:         1,
		operationTimeout: 5 * time.Second,
		lease:            90 * time.Second,
		maxName:          16 << 10,
	}
}

// WithName names the hub in logs, metrics and connection tokens. The default is the
// name of the hub's type. Nodes of a cluster must agree on it.
func WithName(name string) Option {
	return func(c *config) error {
		c.name = name
		return nil
	}
}

// WithBackplane connects the hub to other nodes. The default is a backplane of its
// own within the process, for a single node. The hub does not close it.
func WithBackplane(b backplane.Backplane) Option {
	return func(c *config) error {
		if b == nil {
			return errors.New("backplane is nil")
		}
		c.plane = b
		return nil
	}
}

// WithChannelPrefix begins the names of all the hub's channels on the backplane. Two
// hubs that share a backplane, or a Redis, need different ones, of the form
// [A-Za-z0-9_-]+/ . The default is none.
func WithChannelPrefix(prefix string) Option {
	return func(c *config) error {
		c.prefix = prefix
		return nil
	}
}

// WithAuthenticator sets who says who a client is. The default takes all clients for
// anonymous.
func WithAuthenticator(a auth.Authenticator) Option {
	return func(c *config) error {
		if a == nil {
			return errors.New("authenticator is nil")
		}
		c.transport.Authenticator = a
		return nil
	}
}

// WithUserIdentifier derives the user identifier of a connection from the request
// that opened its transport and from the identity that the authenticator found. It is
// called once for each connection, concurrently. Empty means no user. The default is
// the identity's subject.
func WithUserIdentifier(f func(*http.Request, *auth.Identity) string) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("user identifier function is nil")
		}
		c.userIdentifier = f
		return nil
	}
}

// WithClusterKeys sets the keys that authenticate connection tokens, of at least
// [transport.MinimumKeyBytes] each: the first signs, all are accepted. All nodes of a
// cluster need the same. The default is a random one, for a single node.
func WithClusterKeys(keys ...[]byte) Option {
	return func(c *config) (err error) {
		c.transport.Keys, err = transport.NewKeys(keys...)
		return err
	}
}

// WithEndpointOptions sets the options of the endpoint that the hub itself is. Those
// that [Hub.Endpoint] returns have their own. The default is none.
func WithEndpointOptions(options ...transport.EndpointOption) Option {
	return func(c *config) error {
		c.endpointOptions = append(c.endpointOptions, options...)
		return nil
	}
}

// WithProtocols sets the hub protocols that clients may choose from. The default is
// both. Nodes of a cluster must agree on them.
func WithProtocols(protocols ...protocol.Protocol) Option {
	return func(c *config) error {
		if len(protocols) == 0 {
			return errors.New("there are no supported protocols")
		}
		c.protocols = protocols
		return nil
	}
}

// WithKeepAliveInterval sets how often the server sends a ping on a connection
// (HubProtocol, "Ping Message Encoding"). The default is 15s. Clients give up on a
// silent server, by default after 30s, so more than half of that risks reconnects.
// Less than 50ms is refused.
func WithKeepAliveInterval(d time.Duration) Option {
	return interval("keep-alive interval", d, func(c *config) *time.Duration { return &c.keepAlive })
}

// WithClientTimeoutInterval sets how long a client may be silent before its
// connection is closed, counted from its first ping on: a client that never pings is
// never timed out. The default is 30s, twice the interval of the official clients'
// pings. Less than 50ms is refused.
func WithClientTimeoutInterval(d time.Duration) Option {
	return interval("client time-out interval", d, func(c *config) *time.Duration { return &c.clientTimeout })
}

// WithHandshakeTimeout sets how long a client may take, from opening the transport,
// to send its handshake request. The default is 15s. Less than 50ms is refused.
func WithHandshakeTimeout(d time.Duration) Option {
	return interval("handshake time-out", d, func(c *config) *time.Duration { return &c.handshakeTimeout })
}

// WithDisconnectTimeout sets how long a connection waits for a transport: the first
// one after the negotiation, the next poll, another WebSocket of a stateful connection.
// The default is 15s. Less than 50ms is refused.
func WithDisconnectTimeout(d time.Duration) Option {
	return interval("disconnect time-out", d, func(c *config) *time.Duration { return &c.transport.DisconnectTimeout })
}

// WithSendTimeout sets how long one write to a client may take before its connection
// is given up. The default is 10s. Less than 50ms is refused.
func WithSendTimeout(d time.Duration) Option {
	return interval("send time-out", d, func(c *config) *time.Duration { return &c.transport.SendTimeout })
}

const shortestInterval = 50 * time.Millisecond

func interval(what string, d time.Duration, field func(*config) *time.Duration) Option {
	return func(c *config) error {
		if d < shortestInterval {
			return fmt.Errorf("%s %v is under %v", what, d, shortestInterval)
		}
		*field(c) = d
		return nil
	}
}

// WithMaximumReceiveMessageSize bounds a hub message from a client, in bytes of its
// frame. The default is 32768; 0 is no limit. A larger message closes the connection.
func WithMaximumReceiveMessageSize(bytes int) Option {
	return func(c *config) error {
		if bytes < 0 {
			return fmt.Errorf("maximum receive message size %d is negative", bytes)
		}
		c.maxMessage = bytes
		return nil
	}
}

// WithOutboundQueue bounds what may wait for a client that reads slowly, in bytes and
// in messages. The defaults are 4 MiB and 65536. A single message into an empty queue
// always fits. A client for which more would have to wait is disconnected, alone.
func WithOutboundQueue(bytes, messages int) Option {
	return func(c *config) error {
		if bytes < 1 || messages < 1 {
			return fmt.Errorf("outbound queue of %d bytes and %d messages", bytes, messages)
		}
		c.maxQueueBytes, c.maxQueueFrames = bytes, messages
		return nil
	}
}

// WithMaximumNameBytes bounds group names and user identifiers. The default is 16384.
func WithMaximumNameBytes(bytes int) Option {
	return func(c *config) error {
		if bytes < 1 {
			return fmt.Errorf("maximum name of %d bytes", bytes)
		}
		c.maxName = bytes
		return nil
	}
}

// WithDetailedErrors shows clients the text of every error, not only of those made
// for them ([Error]). It may reveal what clients should not know; the default is off.
func WithDetailedErrors() Option {
	return func(c *config) error {
		c.detailedErrors = true
		return nil
	}
}

// WithLogger sets where the hub logs. The default is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("logger is nil")
		}
		c.logger = l
		return nil
	}
}

// WithMetrics registers the hub's metrics, which have a label with its name. The
// default is to register them nowhere.
func WithMetrics(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}

// WithMaximumParallelInvocationsPerClient sets how many invocations of one connection
// may run at a time. The default is 1: they run one after the other. Invocations that
// have part in a stream run beside them in any case.
func WithMaximumParallelInvocationsPerClient(n int) Option {
	return func(c *config) error {
		if n < 1 {
			return fmt.Errorf("maximum of %d parallel invocations per client", n)
		}
		c.parallel = n
		return nil
	}
}

// WithMaximumStreamsPerClient bounds how many invocations that stream, either way, one
// connection may have at a time. The default is 1000; more are refused.
func WithMaximumStreamsPerClient(n int) Option {
	return func(c *config) error {
		if n < 0 {
			return fmt.Errorf("maximum of %d streams per client", n)
		}
		c.maxStreams = n
		return nil
	}
}

// WithWaitingInput bounds what may wait of a connection's input, in bytes: invocations
// for their turn, and items of uploaded streams for their method. Each counts for what
// its message or its decoded values take, whichever is more, and for what it takes beside
// them, which is 640 bytes for an invocation and 96 for an item. The default is 1 MiB,
// which about 1600 invocations with small arguments fill. While that much waits nothing
// more is read from the client; up to then pings, completions and cancellations pass what
// waits. One message fits in any case.
func WithWaitingInput(bytes int) Option {
	return func(c *config) error {
		if bytes < 1 {
			return fmt.Errorf("waiting input of %d bytes", bytes)
		}
		c.maxWaiting = bytes
		return nil
	}
}

// WithFilter adds a filter around everything that the hub does. Of several, the first
// is the outermost.
func WithFilter(f Filter) Option {
	return func(c *config) error {
		c.filters = append(c.filters, f)
		return nil
	}
}

// WithAuthorization requires something of everybody who makes a request to the hub: who
// is not authenticated is answered 401, and who does not meet a requirement 403. The
// default is to let everybody in whose credentials are not invalid.
func WithAuthorization(requirements ...auth.Requirement) Option {
	return func(c *config) error {
		c.transport.Requirements = append(c.transport.Requirements, requirements...)
		return nil
	}
}

// WithOperationTimeout bounds how long an operation on other nodes' connections waits
// for their answers. The default is 5s. Less than 50ms is refused.
func WithOperationTimeout(d time.Duration) Option {
	return interval("operation time-out", d, func(c *config) *time.Duration { return &c.operationTimeout })
}

// WithNodeDied has f called when another node has gone without having been closed, some
// seconds after: whatever it held, connections and memberships, is gone. Calls come one
// at a time, in the order in which the nodes went, and may take their time: while one
// lasts, up to 1024 more nodes are remembered. A panic of f is logged. [Hub.Shutdown] waits
// for a call that is running; after it there is none. The default is to tell nobody.
func WithNodeDied(f func(node string)) Option {
	return func(c *config) error {
		if f == nil {
			return errors.New("node died function is nil")
		}
		c.nodeDied = f
		return nil
	}
}
