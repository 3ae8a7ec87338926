package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// An Option adjusts a client. Options that cannot be met make [New] fail.
type Option func(*config) error

type config struct {
	protocol         protocol.Protocol
	token            func(context.Context) (string, error)
	header           http.Header
	skipNegotiation  bool
	http             *http.Client
	retry            func(attempt int, err error) (time.Duration, bool) // nil: never
	keepAlive        time.Duration
	serverTimeout    time.Duration
	handshakeTimeout time.Duration
	maxMessage       int
	maxWaiting       int
	logger           *slog.Logger
}

func defaults() config {
	return config{
		protocol:         protocol.JSON,
		http:             http.DefaultClient,
		keepAlive:        15 * time.Second,
		serverTimeout:    30 * time.Second,
		handshakeTimeout: 15 * time.Second,
		maxMessage:       16 << 20,
		maxWaiting:       1 << 20,
		logger:           slog.Default(),
	}
}

// WithProtocol sets the hub protocol. The default is [protocol.JSON].
func WithProtocol(p protocol.Protocol) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("protocol is nil")
		}
		c.protocol = p
		return nil
	}
}

// WithAccessToken sets where the bearer token comes from that authenticates the client.
// The function is called for every attempt to connect, from one goroutine at a time; an
// empty token is none, and an error fails the attempt. It has to heed its context, and
// must not call [Client.Close], which waits for it. The default is no token.
func WithAccessToken(token func(context.Context) (string, error)) Option {
	return func(c *config) error {
		if token == nil {
			return errors.New("access token function is nil")
		}
		c.token = token
		return nil
	}
}

// WithHeader adds fields to the header of every HTTP request. The header is copied.
func WithHeader(header http.Header) Option {
	return func(c *config) error {
		c.header = header.Clone()
		return nil
	}
}

// WithoutNegotiation opens the WebSocket at once, which saves a request. The client
// then does not learn its connection id, and the server cannot redirect it.
func WithoutNegotiation() Option {
	return func(c *config) error {
		c.skipNegotiation = true
		return nil
	}
}

// WithHTTPClient sets the client for the negotiation. The WebSocket is opened with the
// dial functions, the proxy and the TLS configuration of its Transport, which must be an
// [*http.Transport] or nil, and with its cookie jar. The default is
// [http.DefaultClient].
func WithHTTPClient(h *http.Client) Option {
	return func(c *config) error {
		if h == nil {
			return errors.New("HTTP client is nil")
		}
		c.http = h
		return nil
	}
}

// WithAutomaticReconnect reconnects after each of the delays in turn until it succeeds,
// and gives up after the last one failed. No delays are 0, 2, 10 and 30 seconds. The
// default is not to reconnect.
func WithAutomaticReconnect(delays ...time.Duration) Option {
	if len(delays) == 0 {
		delays = []time.Duration{0, 2 * time.Second, 10 * time.Second, 30 * time.Second}
	}
	delays = slices.Clone(delays)
	return WithReconnectPolicy(func(attempt int, _ error) (time.Duration, bool) {
		if attempt >= len(delays) {
			return 0, false
		}
		return delays[attempt], true
	})
}

// WithReconnectPolicy reconnects as the function says: how long to wait before an
// attempt, or not to make it and to give up. Attempts count from 0 with every connection
// that was lost; err says why it was lost, or why the last attempt failed. It is called
// from one goroutine at a time and must not wait.
func WithReconnectPolicy(policy func(attempt int, err error) (delay time.Duration, ok bool)) Option {
	return func(c *config) error {
		if policy == nil {
			return errors.New("reconnect policy is nil")
		}
		c.retry = policy
		return nil
	}
}

// WithKeepAliveInterval sets how often the client sends a ping (HubProtocol, "Ping
// Message Encoding"). The default is 15s. Servers give up on a silent client, by default
// after 30s, so more than half of that risks reconnects. It must be positive.
func WithKeepAliveInterval(d time.Duration) Option {
	return interval("keep-alive interval", d, func(c *config) *time.Duration { return &c.keepAlive })
}

// WithServerTimeout sets how long the server may be silent before the connection counts
// as lost. The default is 30s, twice the interval of the server's pings. It must be
// positive.
func WithServerTimeout(d time.Duration) Option {
	return interval("server time-out", d, func(c *config) *time.Duration { return &c.serverTimeout })
}

// WithHandshakeTimeout sets how long each step of connecting may take: the negotiation,
// opening the WebSocket, and the handshake. The default is 15s. It must be positive.
func WithHandshakeTimeout(d time.Duration) Option {
	return interval("handshake time-out", d, func(c *config) *time.Duration { return &c.handshakeTimeout })
}

func interval(what string, d time.Duration, field func(*config) *time.Duration) Option {
	return func(c *config) error {
		if d <= 0 {
			return fmt.Errorf("%s %v is not positive", what, d)
		}
		*field(c) = d
		return nil
	}
}

// WithMaximumReceiveMessageSize bounds a hub message from the server, in bytes of its
// frame. The default is 16 MiB; 0 is no limit. A larger message ends the connection.
func WithMaximumReceiveMessageSize(bytes int) Option {
	return func(c *config) error {
		if bytes < 0 {
			return fmt.Errorf("maximum receive message size %d is negative", bytes)
		}
		c.maxMessage = bytes
		return nil
	}
}

// WithInboundQueue bounds what may wait for handlers and for loops over streams, in
// bytes. The default is 1 MiB; it must be positive. Beyond it nothing is read (see the
// package's "Flow control").
func WithInboundQueue(bytes int) Option {
	return func(c *config) error {
		if bytes <= 0 {
			return fmt.Errorf("inbound queue of %d bytes is not positive", bytes)
		}
		c.maxWaiting = bytes
		return nil
	}
}

// WithLogger sets where that is logged which nobody else learns of: invocations without
// a handler or that do not fit it, errors of handlers that the server wants no answer
// of, failed attempts to reconnect. The default is [slog.Default].
func WithLogger(l *slog.Logger) Option {
	return func(c *config) error {
		if l == nil {
			return errors.New("logger is nil")
		}
		c.logger = l
		return nil
	}
}
