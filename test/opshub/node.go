package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/hub"
)

// issuer is who signs tokens with the issuer key.
const issuer = "https://issuer.example"

// A node is two hubs that share a backplane.
type node struct {
	plane    backplane.Backplane
	ops      *hub.Hub // at /ops
	parallel *hub.Hub // at /parallel
}

// newNode starts a node. It listens nowhere yet.
func newNode(s settings, logger *slog.Logger) (*node, error) {
	tokens, err := s.tokens()
	if err != nil {
		return nil, err
	}
	n := &node{}
	if n.plane, err = s.plane(logger); err != nil {
		return nil, err
	}
	if err := n.start(s, tokens, logger); err != nil {
		return nil, errors.Join(err, n.shutdown())
	}
	return n, nil
}

func (n *node) start(s settings, tokens auth.Authenticator, logger *slog.Logger) (err error) {
	shared := []hub.Option{
		hub.WithBackplane(n.plane),
		hub.WithClusterKeys(s.clusterKey),
		hub.WithAuthenticator(tokens),
		hub.WithLogger(logger),
	}
	if s.operationTimeout != 0 {
		shared = append(shared, hub.WithOperationTimeout(s.operationTimeout))
	}
	if s.sendTimeout != 0 {
		shared = append(shared, hub.WithSendTimeout(s.sendTimeout))
	}
	if n.ops, err = newOperations(n.plane, shared); err != nil {
		return err
	}
	n.parallel, err = newParallel(shared)
	return err
}

// hubs returns the hubs that have been started.
func (n *node) hubs() []*hub.Hub {
	var hubs []*hub.Hub
	for _, h := range []*hub.Hub{n.ops, n.parallel} {
		if h != nil {
			hubs = append(hubs, h)
		}
	}
	return hubs
}

func (n *node) routes() http.Handler {
	mux := http.NewServeMux()
	for path, h := range map[string]*hub.Hub{"/ops": n.ops, "/parallel": n.parallel} {
		mux.Handle(path, h)
		mux.Handle(path+"/", h)
	}
	return mux
}

// shutdown ends what runs of a node that serves nobody.
func (n *node) shutdown() error {
	var errs []error
	for _, h := range n.hubs() {
		errs = append(errs, h.Shutdown(context.Background()))
	}
	return errors.Join(append(errs, n.plane.Close())...)
}

// tokens accepts those of the issuer, signed with its own key, and those without an
// issuer, signed with the shared secret.
func (s settings) tokens() (*auth.JWT, error) {
	secret, err := auth.NewKey(s.secret, "HS256")
	if err != nil {
		return nil, fmt.Errorf("JWT_SECRET: %w", err)
	}
	options := []auth.JWTOption{auth.WithKeys(auth.StaticKeys{secret})}
	if s.issuerKey != nil {
		key, err := auth.NewKey(s.issuerKey, "RS256")
		if err != nil {
			return nil, fmt.Errorf("ISSUER_KEY: %w", err)
		}
		options = append(options, auth.WithIssuer(issuer, auth.StaticKeys{key}))
	}
	return auth.NewJWT(options...)
}

func (s settings) plane(logger *slog.Logger) (backplane.Backplane, error) {
	if s.redis == "" {
		return backplane.NewMemory(), nil
	}
	return redisplane.New(redisplane.Options{
		URL:           s.redis,
		Keys:          [][]byte{s.clusterKey},
		ProbeInterval: s.probeInterval,
		Logger:        logger,
	})
}
