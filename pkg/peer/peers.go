package peer

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// Why a node could not be asked. Errors of [Peers.Forward] and [Peers.Call] wrap one of
// these, or the context's error.
var (
	// ErrUnreachable reports that there was no answer, or none of a node of the cluster.
	// Whether the request was served is not known.
	ErrUnreachable = errors.New("node not reachable")
	// ErrReplaced reports that another node has the address: the one that was asked for is
	// gone.
	ErrReplaced = errors.New("another node has this address")
	// ErrElsewhere reports that the node does not have what the request is for.
	ErrElsewhere = errors.New("not on this node")
	// ErrLoop reports a request that has been forwarded before.
	ErrLoop = errors.New("forwarded before")
	// ErrBusy reports a call to a node that has too much to do at the moment.
	ErrBusy = errors.New("node busy")
	// ErrRefused reports that a call reached the node, which answered it with an error. Its
	// text follows.
	ErrRefused = errors.New("refused")
	// ErrClosed reports that Close has been called.
	ErrClosed = errors.New("peers closed")
)

// MinimumKeyBytes is the least length of a cluster key.
const MinimumKeyBytes = 32

// Tolerance is how far the clocks of two nodes may be apart, the time on the way
// included.
const Tolerance = time.Minute

// How long another node may take. What is not bounded here, the client's patience bounds.
const (
	dialTimeout      = 3 * time.Second
	handshakeTimeout = 3 * time.Second
	idleTimeout      = 30 * time.Second // well below that of any node's listener
	maxIdlePerNode   = 64
	maxAnswerHeader  = 64 << 10
)

// A Node is where another node is.
type Node struct {
	ID string
	// Address is the base URL that the node advertises, such as https://10.0.0.7:7070. It
	// is to come from somebody who is trusted, as the signed roster is.
	Address string
}

// Config says who this node is, and how it shows that.
type Config struct {
	// Self is the node's id, new with each start of the process. Required.
	Self string
	// Keys are the cluster's: the first seals, all are accepted. All nodes have the same;
	// each has at least [MinimumKeyBytes]. Required.
	Keys [][]byte
	// TLS is for the connections to other nodes, with whatever certificate they want to
	// see. If it is not nil, nodes whose addresses are not https are not reached. The
	// default trusts the system's authorities.
	TLS *tls.Config
	// Logger gets what no caller can be told. The default is slog.Default().
	Logger *slog.Logger
}

// Peers are the other nodes of a cluster, as one node reaches them and is reached. The
// methods may be called concurrently.
type Peers struct {
	self      string
	keys      [][]byte // derived from the cluster's
	secure    bool     // only https
	logger    *slog.Logger
	transport *http.Transport
	nonces    *nonces
	callSlots chan struct{} // one element for each call that is being served

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex
	calls  map[string]CallFunc
	closed bool
	active sync.WaitGroup // what Close waits for; added to under mu, unless closed
}

// New returns the peers of a node. They are to be closed. The error says what is wrong
// with the configuration.
func New(c Config) (*Peers, error) {
	if c.Self == "" {
		return nil, errors.New("peers: the node has no id")
	}
	if len(c.Keys) == 0 {
		return nil, errors.New("peers: no cluster key")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	p := &Peers{
		self:      c.Self,
		secure:    c.TLS != nil,
		logger:    c.Logger,
		nonces:    newNonces(maxNonces),
		callSlots: make(chan struct{}, maxCalls),
		calls:     make(map[string]CallFunc),
	}
	for i, k := range c.Keys {
		if len(k) < MinimumKeyBytes {
			return nil, fmt.Errorf("peers: cluster key %d has %d bytes, needs %d", i+1, len(k), MinimumKeyBytes)
		}
		derived, err := hkdf.Key(sha256.New, k, nil, "heliograph node to node", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("peers: cluster key %d: %w", i+1, err)
		}
		p.keys = append(p.keys, derived)
	}
	p.transport = newTransport(c.TLS)
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

// newTransport returns one that neither repeats, follows nor decodes anything, and that
// goes through no proxy. WebSockets need HTTP/1.1.
func newTransport(c *tls.Config) *http.Transport {
	dialer := &net.Dialer{
		Timeout: dialTimeout,
		// A host that is gone without a word is noticed while nothing is sent to it.
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	return &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        c.Clone(),
		TLSHandshakeTimeout:    handshakeTimeout,
		DisableCompression:     true,
		MaxIdleConns:           0, // bounded for each node
		MaxIdleConnsPerHost:    maxIdlePerNode,
		IdleConnTimeout:        idleTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHeader,
		Protocols:              onlyHTTP1(),
	}
}

func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// Close cuts everything that is being forwarded to other nodes, ends the calls in
// progress, and waits until that is done: no longer than a write to a client may take.
// What other nodes forward to this one is not cut, since it ends like any request to the
// public handler. Everything that follows fails with [ErrClosed], or is answered 503.
func (p *Peers) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.active.Wait()
	p.transport.CloseIdleConnections()
}

// begin counts something that Close waits for, and gives it a context that Close ends.
func (p *Peers) begin(ctx context.Context) (_ context.Context, done func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, nil, ErrClosed
	}
	p.active.Add(1)
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
		p.active.Done()
	}, nil
}

// base returns the URL that a node advertises.
func (p *Peers) base(n Node) (*url.URL, error) {
	u, err := url.Parse(n.Address)
	switch {
	case n.ID == "" || n.Address == "":
		return nil, fmt.Errorf("%w: it has no address", ErrUnreachable)
	case err != nil:
		return nil, fmt.Errorf("%w: address: %w", ErrUnreachable, err)
	case u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || p.secure):
		return nil, fmt.Errorf("%w: address %q is of the wrong kind", ErrUnreachable, n.Address)
	case *u != url.URL{Scheme: u.Scheme, Host: u.Host}:
		return nil, fmt.Errorf("%w: address %q has more than a host", ErrUnreachable, n.Address)
	}
	return u, nil
}

var reasons = []error{ErrUnreachable, ErrReplaced, ErrElsewhere, ErrLoop, ErrBusy, ErrRefused}

// failure is the error for an attempt that ended with err.
func (p *Peers) failure(ctx context.Context, err error) error {
	isReason := func(reason error) bool { return errors.Is(err, reason) }
	switch {
	case slices.ContainsFunc(reasons, isReason):
		return err
	case p.ctx.Err() != nil:
		return ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
}
