// Command node is one node of a Heliograph cluster. It serves a chat hub to SignalR
// clients at /chat, alone or with other nodes that share its Redis.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/heliograph/heliograph/internal/demo"
	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/server"
	"github.com/heliograph/heliograph/pkg/transport"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal is not caught, and ends the process
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "node:", err)
		os.Exit(1)
	}
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) error {
	c, err := parse(arguments, stdout)
	if err != nil {
		return err
	}
	if c.demo() && c.JWTSecret == "" {
		c.JWTSecret = rand.Text() + rand.Text()
	}
	logger := newLogger(c, stderr)
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	plane, err := newBackplane(c, logger, metrics)
	if err != nil {
		return err
	}
	s := server.Config{
		Listen:          c.Listen,
		TrustedProxies:  c.TrustedProxies,
		PeerListen:      c.PeerListen,
		PeerAdvertise:   c.PeerAdvertise,
		AdminListen:     c.AdminListen,
		Backplane:       plane,
		StrictReadiness: c.StrictReadiness,
		Gatherer:        metrics,
		DrainDelay:      c.DrainDelay,
		DrainDuration:   c.DrainDuration,
		ShutdownTimeout: c.ShutdownTimeout,
		Logger:          logger,
		Listening:       func(public, admin net.Addr) { welcome(stdout, c, public, admin) },
	}
	if err := serve(&s, c, metrics); err != nil {
		if s.Peers != nil {
			s.Peers.Close()
		}
		plane.Close()
		return err
	}
	return server.Run(ctx, s)
}

// serve adds what the node serves, and with whom.
func serve(s *server.Config, c config, metrics prometheus.Registerer) (err error) {
	if s.TLS, err = publicTLS(c, s.Logger); err != nil {
		return err
	}
	origins, err := transport.NewOrigins(c.AllowCredentials, c.AllowedOrigins...)
	if err != nil {
		return fmt.Errorf("--allowed-origins: %w", err)
	}
	if s.Peers, s.PeerTLS, err = newPeers(c, s.Backplane.NodeID(), s.Logger); err != nil {
		return err
	}
	chat, err := newHub(c, s, metrics)
	if err != nil {
		return err
	}
	s.Hubs = []*hub.Hub{chat}
	s.Handler = routes(c, chat, origins)
	return nil
}

func newLogger(c config, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

func newBackplane(c config, logger *slog.Logger, metrics prometheus.Registerer) (backplane.Backplane, error) {
	if c.Redis == "" {
		return backplane.NewMemory(), nil
	}
	return redisplane.New(redisplane.Options{
		URL:           c.Redis,
		Keys:          clusterKeys(c),
		RequireSigned: c.RequireSignedEnvelopes,
		Logger:        logger,
		Registerer:    metrics,
	})
}

func newHub(c config, s *server.Config, metrics prometheus.Registerer) (*hub.Hub, error) {
	options := []hub.Option{
		hub.WithName("chat"),
		hub.WithBackplane(s.Backplane),
		hub.WithLogger(s.Logger),
		hub.WithMetrics(metrics),
		hub.WithKeepAliveInterval(c.KeepAliveInterval),
		hub.WithClientTimeoutInterval(c.ClientTimeoutInterval),
		hub.WithHandshakeTimeout(c.HandshakeTimeout),
		hub.WithMaximumReceiveMessageSize(c.MaximumReceiveMessageSize),
		hub.WithReconnectAfterGap(gapReconnects[c.ReconnectAfterGap]),
	}
	if c.JWTSecret != "" {
		tokens, err := auth.HS256([]byte(c.JWTSecret))
		if err != nil {
			return nil, fmt.Errorf("--jwt-secret: %w", err)
		}
		options = append(options, hub.WithAuthenticator(tokens))
	}
	if s.Peers != nil {
		options = append(options, hub.WithPeers(s.Peers))
	}
	if keys := clusterKeys(c); len(keys) > 0 {
		options = append(options, hub.WithClusterKeys(keys...))
	}
	return hub.New(chat{}, options...)
}

// gapReconnects are the choices of --reconnect-after-gap.
var gapReconnects = map[string]hub.GapReconnects{
	"none": hub.ReconnectNone, "stateful": hub.ReconnectStateful, "all": hub.ReconnectAll,
}

// clusterKeys are the ones given, or else one that all nodes with the same JWT secret
// arrive at.
func clusterKeys(c config) [][]byte {
	var keys [][]byte
	for _, k := range c.ClusterKey {
		keys = append(keys, []byte(k))
	}
	if len(keys) == 0 && c.JWTSecret != "" {
		keys = append(keys, transport.DeriveKey([]byte(c.JWTSecret)))
	}
	return keys
}

// routes has the chat hub at its path, and nothing at any other but the page of --demo.
func routes(c config, h *hub.Hub, origins *transport.Origins) http.Handler {
	options := []transport.EndpointOption{
		transport.AllowedOrigins(origins),
		transport.Transports(c.Transports...),
		transport.LongPollingTimeout(c.LongPollingTimeout),
	}
	if c.StatefulReconnects {
		options = append(options, transport.AllowStatefulReconnects())
	}
	if c.CloseOnAuthenticationExpiration {
		options = append(options, transport.CloseOnAuthenticationExpiration())
	}
	if c.EnableAuthenticationRefresh {
		options = append(options, transport.EnableAuthenticationRefresh())
	}
	if !c.AllowAnonymous && !c.demo() {
		options = append(options, transport.RequireAuthenticated())
	}
	endpoint := h.Endpoint(options...)
	mux := http.NewServeMux()
	for _, path := range []string{"/chat", "/chat/negotiate", "/chat/refresh"} {
		mux.Handle(path, endpoint)
		mux.Handle(path+"/{$}", endpoint)
	}
	if c.demo() {
		mux.Handle("/", demo.Handler([]byte(c.JWTSecret)))
	}
	return mux
}

// welcome tells where the node is and what to try.
func welcome(w io.Writer, c config, public, admin net.Addr) {
	at := "http://" + reachable(public)
	if c.TLSCert != "" {
		at = "https://" + reachable(public)
	}
	fmt.Fprintf(w, "listening on %s\n\n", at)
	if c.demo() {
		fmt.Fprintf(w, "Open %s in two tabs to try it out, or talk to the chat hub at %s/chat:\n", at, at)
	} else {
		fmt.Fprintf(w, "The chat hub is at %s/chat. Try:\n", at)
	}
	fmt.Fprintf(w, "  curl -X POST '%s/chat/negotiate?negotiateVersion=1'\n", at)
	if admin != nil {
		fmt.Fprintf(w, "  curl 'http://%s/readyz?verbose'\n", reachable(admin))
	}
	if c.Redis == "" {
		fmt.Fprintln(w, "This node is alone; nodes with the same --redis and --jwt-secret are one cluster.")
	}
}

// reachable turns the address of a listener on all interfaces into one to connect to.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
