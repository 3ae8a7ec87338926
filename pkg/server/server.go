package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/peer"
)

// Config says what a node serves, and where.
type Config struct {
	// Listen is the public address, such as ":8080". Port 0 picks a free one.
	Listen string
	// TLS is what the public listener presents, such as [Certificate.ServerTLS]; it then
	// speaks HTTP/2 too, but for WebSockets. Nil: plain HTTP.
	TLS *tls.Config
	// TrustedProxies are the networks of the proxies before the node. Those alone are
	// believed what they tell of their clients: the address, which becomes the request's
	// RemoteAddr, and whatever they put into Forwarded and X-Forwarded headers. These
	// headers are taken off other requests. The default is to believe nobody.
	TrustedProxies []netip.Prefix
	// AdminListen is the address of health and metrics. Empty: none.
	AdminListen string
	// Handler serves the public listener: the hubs at their paths. Required. It is not
	// [http.DefaultServeMux], on which packages put profiles and the command line.
	Handler http.Handler
	// Hubs are shut down when the node leaves.
	Hubs []*hub.Hub
	// Peers lets other nodes forward requests to this one, and the other way round. They
	// are closed after the hubs. Nil: none, and no node-to-node listener.
	Peers *peer.Peers
	// PeerListen is the address of the node-to-node listener, which serves Handler to
	// whoever has a cluster key. It is for the nodes' network, not for the public.
	// Required with Peers. Port 0 picks a free one.
	PeerListen string
	// PeerTLS is what that listener presents, and whom it takes, such as
	// [Certificate.MutualTLS]. Nil: plain HTTP.
	PeerTLS *tls.Config
	// PeerAdvertise is the host under which other nodes reach that listener: a name or an
	// address, with a port if that is not the listener's. The default is the listener's
	// host, or the machine's name if it listens on all.
	PeerAdvertise string
	// Backplane is closed after the hubs, and reported by /readyz?verbose. Other nodes are
	// told by it where to find this one. May be nil.
	Backplane backplane.Backplane
	// StrictReadiness makes a node that does not hear the cluster say at /readyz that it is
	// not ready. The default is that it says so only if another node, asked by way of Peers,
	// has heard since: what all nodes suffer from must not leave the cluster without any.
	StrictReadiness bool
	// Gatherer is what /metrics shows. Nil: nothing.
	Gatherer prometheus.Gatherer
	// DrainDelay is how long a leaving node, which says at /readyz that it is not ready,
	// still takes connections: load balancers need some time to notice. The default is
	// not to wait.
	DrainDelay time.Duration
	// DrainDuration is the time over which a leaving node then spreads the closing of
	// its connections, so that they do not all go to the other nodes at once. The default
	// is to close them all at once.
	DrainDuration time.Duration
	// ShutdownTimeout bounds what is left to do then: the time in which clients and hub
	// methods have to end by themselves. The default is 10s.
	ShutdownTimeout time.Duration
	// Listening, if not nil, is called once all addresses are listened on, with what the
	// public and the admin address have become; admin is nil if there is none.
	Listening func(public, admin net.Addr)
	// Logger gets what no client can be told. The default is slog.Default().
	Logger *slog.Logger
}

// headerTimeout bounds how long a client may take over the head of a request, and
// idleTimeout how long it may keep a connection without one. Neither touches a
// WebSocket; for what is between, see pace.go.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 128 << 10 // a token that names a user of 16 KiB fits
)

// overHTTP2 says when a connection with many requests is given up: when it is silent and
// does not answer a ping, or takes nothing for as long as one write may take.
var overHTTP2 = http.HTTP2Config{
	SendPingTimeout:  30 * time.Second,
	PingTimeout:      15 * time.Second,
	WriteByteTimeout: patience,
}

// lastForwards is for how long a node that takes no more requests waits for those that it
// is passing on, such as WebSockets that open at this moment, before it cuts them.
const lastForwards = time.Second

// Run serves until ctx ends, and then leaves: it is no longer ready, waits DrainDelay,
// takes no more connections, tells the clients one after the other over DrainDuration
// to reconnect elsewhere, waits until they are gone or ShutdownTimeout is over, cuts what
// it forwards to other nodes, and closes the backplane. So it returns within the sum of the
// three after ctx has ended, and up to 6s more if connections are handed over (see
// [hub.Hub.Drain]): nil if that went well, and an error if it could not listen, or had to
// cut what did not end in time.
func Run(ctx context.Context, c Config) error {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = 10 * time.Second
	}
	if c.Handler == http.DefaultServeMux {
		return errors.New("the default mux is not for the public: packages put profiles on it")
	}
	n := &node{Config: c, failed: make(chan error, 3)}
	if c.Backplane != nil {
		n.readiness = newReadiness(c.Backplane, c.Peers, c.StrictReadiness)
	}
	if err := n.listen(); err != nil {
		return errors.Join(err, n.leave())
	}
	select {
	case <-ctx.Done():
		c.Logger.Info("leaving", "within", c.DrainDelay+c.DrainDuration+c.ShutdownTimeout)
		n.drain()
		return n.leave()
	case err := <-n.failed:
		return errors.Join(err, n.leave())
	}
}

// A node is a running Config.
type node struct {
	Config
	public, peer, admin *http.Server // nil until listening
	readiness           *readiness   // nil: there is no backplane
	leaving             atomic.Bool
	serving             sync.WaitGroup // the goroutines in http.Server.Serve, which leave ends
	failed              chan error     // one for each of them
}

// listen listens on all addresses before it serves on any.
func (n *node) listen() (err error) {
	var public, between, admin net.Listener
	defer func() {
		for _, l := range []net.Listener{public, between, admin} {
			if err != nil && l != nil {
				l.Close()
			}
		}
	}()
	if public, err = net.Listen("tcp", n.Listen); err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	var advertised string
	if n.Peers != nil {
		if between, err = net.Listen("tcp", n.PeerListen); err != nil {
			return fmt.Errorf("listen for other nodes: %w", err)
		}
		if advertised, err = advertisedURL(between.Addr(), n.PeerAdvertise, n.PeerTLS != nil); err != nil {
			return fmt.Errorf("advertise the node-to-node address: %w", err)
		}
	}
	var adminAddr net.Addr
	if n.AdminListen != "" {
		if admin, err = net.Listen("tcp", n.AdminListen); err != nil {
			return fmt.Errorf("listen for admin: %w", err)
		}
		adminAddr = admin.Addr()
	}

	handler := paced(n.Handler, patience)
	n.public = n.serve(public, n.TLS, fromProxies(n.TrustedProxies, handler))
	if between != nil {
		n.peer = n.serve(between, n.PeerTLS, n.Peers.Handler(handler))
		n.Logger.Info("other nodes reach this one", "listen", between.Addr(), "advertised", advertised)
		if n.Backplane != nil {
			n.Backplane.Advertise(advertised)
		}
	}
	if admin != nil {
		n.admin = n.serve(admin, nil, n.adminHandler())
	}
	if n.Listening != nil {
		n.Listening(public.Addr(), adminAddr)
	}
	return nil
}

func (n *node) serve(l net.Listener, certificate *tls.Config, h http.Handler) *http.Server {
	settings := overHTTP2
	s := &http.Server{
		Handler:           h,
		TLSConfig:         certificate.Clone(), // net/http adds to it
		HTTP2:             &settings,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(n.Logger.Handler(), slog.LevelDebug),
	}
	n.serving.Go(func() {
		serve := s.Serve
		if certificate != nil {
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
			n.failed <- fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
	})
	return s
}

// drain empties the node of connections while the others fill.
func (n *node) drain() {
	n.leaving.Store(true)
	time.Sleep(n.DrainDelay)
	var draining sync.WaitGroup
	for _, h := range n.Hubs {
		draining.Go(func() { h.Drain(context.Background(), n.DrainDuration) })
	}
	draining.Wait()
}

// leave ends everything that listen started, in an order in which nothing is missed
// by what still runs.
func (n *node) leave() error {
	n.leaving.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), n.ShutdownTimeout)
	defer cancel()

	ended := make([]error, len(n.Hubs)) // of each hub
	stopped := make(chan error, 1)      // of the public listener
	var hubs sync.WaitGroup
	for i, h := range n.Hubs {
		hubs.Go(func() { ended[i] = h.Shutdown(ctx) })
	}
	deaf := make(chan struct{}) // closed when no client can come any more
	if n.public != nil {
		n.public.RegisterOnShutdown(func() { close(deaf) })
		go func() { stopped <- stop(ctx, n.public) }() // joined below
		<-deaf
	} else {
		stopped <- nil
	}
	// What other nodes forward is for the hubs, until these are done. What this node
	// forwards has nobody to end it; its clients come again, and not here.
	hubs.Wait()
	if n.Peers != nil {
		select {
		case err := <-stopped:
			stopped <- err
		case <-time.After(lastForwards):
		case <-ctx.Done():
		}
		n.Peers.Close()
	}
	errs := append(ended, stop(ctx, n.peer))
	errs = append(errs, <-stopped)
	if n.Backplane != nil {
		errs = append(errs, n.Backplane.Close())
	}
	errs = append(errs, stop(ctx, n.admin))
	n.serving.Wait()
	return errors.Join(errs...)
}

// stop ends a server in order if there is time, and at once if not.
func stop(ctx context.Context, s *http.Server) error {
	if s == nil {
		return nil
	}
	if err := s.Shutdown(ctx); err != nil {
		s.Close()
		return fmt.Errorf("finish requests: %w", err)
	}
	return nil
}
