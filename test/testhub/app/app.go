// Package app is the test hub without its process: Go tests start as many nodes of it
// as they like.
package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/hub"
	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/transport"
)

// Config says how a node differs from the defaults of package hub. Of all but
// JWTSecret the zero value is the default.
type Config struct {
	// Redis is the URL of the Redis that connects the nodes. Empty: the node is alone.
	Redis string
	// JWTSecret is what users' tokens are signed with, of at least
	// [auth.MinimumSecretBytes]. Required.
	JWTSecret string
	// ClusterKey authenticates connection tokens between nodes, of at least
	// [transport.MinimumKeyBytes]. The default is derived from JWTSecret.
	ClusterKey string
	// RequireSigned has the node ignore what comes over Redis and is not signed.
	RequireSigned bool
	// CloseOnExpiry closes connections of /secure when their token expires.
	CloseOnExpiry bool
	// ClientTimeout, KeepAlive, HandshakeTimeout and DisconnectTimeout are the hub's
	// options of those names.
	ClientTimeout, KeepAlive, HandshakeTimeout, DisconnectTimeout time.Duration
	// MaxMessage is the limit for a message from a client, in bytes; 0 is none. Nil:
	// the default.
	MaxMessage *int
	// Logger gets what no client can be told. The default is slog.Default().
	Logger *slog.Logger
}

// An App is one node: three hubs that share a backplane. Whoever made it ends it with
// Shutdown, or by shutting down its hubs and then closing its peers and its backplane.
type App struct {
	// Handler serves the hubs at their paths.
	Handler http.Handler
	// Hub is at /hub and at /secure, which are the same connections, groups and users.
	Hub *hub.Hub
	// Chat is at /chat.
	Chat *hub.Hub
	// Bench is at /bench.
	Bench *hub.Hub
	// Backplane is what the hubs are attached to.
	Backplane backplane.Backplane
	// Peers are the other nodes, which need the address of a listener that serves
	// Peers.Handler(Handler) to reach this one.
	Peers *peer.Peers
}

// New starts a node. It listens nowhere: that is for the caller to do with Handler.
func New(c Config) (*App, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	tokens, err := auth.HS256([]byte(c.JWTSecret))
	if err != nil {
		return nil, err
	}
	a := &App{}
	if a.Backplane, err = c.backplane(); err != nil {
		return nil, err
	}
	if err := a.start(c, tokens); err != nil {
		return nil, errors.Join(err, a.Shutdown(context.Background()))
	}
	a.Handler = a.routes(c)
	return a, nil
}

func (a *App) start(c Config, tokens auth.Authenticator) (err error) {
	a.Peers, err = peer.New(peer.Config{Self: a.Backplane.NodeID(), Keys: [][]byte{c.clusterKey()}, Logger: c.Logger})
	if err != nil {
		return err
	}
	shared := c.options(a.Backplane, a.Peers)
	if a.Hub, err = hub.New(&testHub{}, append(shared,
		hub.WithName("hub"),
		hub.WithMethod("Admin", hub.Requires(auth.Role("admin"))),
		hub.WithAuthenticator(tokens))...); err != nil {
		return err
	}
	if a.Chat, err = hub.New(chat{}, append(shared,
		hub.WithName("chat"),
		hub.WithChannelPrefix("chat/"),
		hub.WithAuthenticator(tokens))...); err != nil {
		return err
	}
	a.Bench, err = hub.New(bench{}, append(shared,
		hub.WithName("bench"),
		hub.WithChannelPrefix("bench/"),
		hub.WithUserIdentifier(userParameter))...)
	return err
}

// Hubs returns the hubs that have been started.
func (a *App) Hubs() []*hub.Hub {
	var hubs []*hub.Hub
	for _, h := range []*hub.Hub{a.Hub, a.Chat, a.Bench} {
		if h != nil {
			hubs = append(hubs, h)
		}
	}
	return hubs
}

// Shutdown ends the connections, telling the clients to reconnect elsewhere, and then
// the backplane. When ctx ends first it cuts what is left and returns an error.
func (a *App) Shutdown(ctx context.Context) error {
	var errs []error
	for _, h := range a.Hubs() {
		errs = append(errs, h.Shutdown(ctx))
	}
	if a.Peers != nil {
		a.Peers.Close()
	}
	return errors.Join(append(errs, a.Backplane.Close())...)
}

func (a *App) routes(c Config) http.Handler {
	secured := []transport.EndpointOption{transport.RequireAuthenticated(), transport.AllowStatefulReconnects()}
	if c.CloseOnExpiry {
		secured = append(secured, transport.CloseOnAuthenticationExpiration())
	}
	mux := http.NewServeMux()
	for path, handler := range map[string]http.Handler{
		"/hub":    a.Hub,
		"/secure": a.Hub.Endpoint(secured...),
		"/chat":   a.Chat,
		"/bench":  a.Bench,
	} {
		mux.Handle(path, handler)
		mux.Handle(path+"/", handler)
	}
	return mux
}

func (c Config) backplane() (backplane.Backplane, error) {
	if c.Redis == "" {
		return backplane.NewMemory(), nil
	}
	return redisplane.New(redisplane.Options{
		URL: c.Redis, Keys: [][]byte{c.clusterKey()}, RequireSigned: c.RequireSigned, Logger: c.Logger,
	})
}

// options are those that all hubs have in common. The slice has no spare capacity, so
// that each hub may append its own.
func (c Config) options(plane backplane.Backplane, peers *peer.Peers) []hub.Option {
	options := []hub.Option{
		hub.WithBackplane(plane),
		hub.WithPeers(peers),
		hub.WithLogger(c.Logger),
		hub.WithClusterKeys(c.clusterKey()),
		hub.WithEndpointOptions(transport.AllowStatefulReconnects()),
	}
	for _, o := range []struct {
		value  time.Duration
		option func(time.Duration) hub.Option
	}{
		{c.ClientTimeout, hub.WithClientTimeoutInterval},
		{c.KeepAlive, hub.WithKeepAliveInterval},
		{c.HandshakeTimeout, hub.WithHandshakeTimeout},
		{c.DisconnectTimeout, hub.WithDisconnectTimeout},
	} {
		if o.value != 0 {
			options = append(options, o.option(o.value))
		}
	}
	if c.MaxMessage != nil {
		options = append(options, hub.WithMaximumReceiveMessageSize(*c.MaxMessage))
	}
	return options[:len(options):len(options)]
}

func (c Config) clusterKey() []byte {
	if c.ClusterKey != "" {
		return []byte(c.ClusterKey)
	}
	return transport.DeriveKey([]byte(c.JWTSecret))
}
