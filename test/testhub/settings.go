package main

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/heliograph/heliograph/test/testhub/app"
)

// settings are what the environment says.
type settings struct {
	listen, internalListen    string
	drainDelay, drainDuration time.Duration
	app                       app.Config
}

// readSettings reads the environment, or names every variable in it that will not do.
//
//	LISTEN              address to serve on; 127.0.0.1:5001
//	REDIS               redis://, redis+sentinel:// or redis+cluster://; unset: the in-process backplane
//	JWT_SECRET          HS256 secret, required
//	CLUSTER_KEY         what authenticates connection tokens; unset: from JWT_SECRET
//	REQUIRE_SIGNED      1: ignore what comes over Redis and CLUSTER_KEY has not signed
//	INTERNAL_LISTEN     node-to-node address; unset: a free loopback port
//	AUTH_EXPIRY         1: /secure closes a connection when its token expires
//	DRAIN_DELAY         from SIGTERM to when no more connections are taken; 0
//	DRAIN_DURATION      over which connections are closed then; 2s
//	CLIENT_TIMEOUT      these four are durations such as 1.5s,
//	KEEP_ALIVE          and unset: the hub's defaults
//	HANDSHAKE_TIMEOUT
//	DISCONNECT_TIMEOUT
//	MAX_MESSAGE         bytes, 0: no limit; unset: the hub's default
func readSettings(getenv func(string) string) (settings, error) {
	r := reader{getenv: getenv}
	s := settings{
		listen:         cmp.Or(getenv("LISTEN"), "127.0.0.1:5001"),
		internalListen: cmp.Or(getenv("INTERNAL_LISTEN"), "127.0.0.1:0"),
		drainDelay:     r.duration("DRAIN_DELAY", 0, 0),
		drainDuration:  r.duration("DRAIN_DURATION", 2*time.Second, 0),
		app: app.Config{
			Redis:             getenv("REDIS"),
			JWTSecret:         getenv("JWT_SECRET"),
			ClusterKey:        getenv("CLUSTER_KEY"),
			RequireSigned:     r.flag("REQUIRE_SIGNED"),
			CloseOnExpiry:     r.flag("AUTH_EXPIRY"),
			ClientTimeout:     r.duration("CLIENT_TIMEOUT", 0, 1),
			KeepAlive:         r.duration("KEEP_ALIVE", 0, 1),
			HandshakeTimeout:  r.duration("HANDSHAKE_TIMEOUT", 0, 1),
			DisconnectTimeout: r.duration("DISCONNECT_TIMEOUT", 0, 1),
			MaxMessage:        r.bytes("MAX_MESSAGE"),
		},
	}
	return s, errors.Join(r.wrong...)
}

// A reader collects what is wrong, so that all of it is told at once.
type reader struct {
	getenv func(string) string
	wrong  []error
}

func (r *reader) flag(name string) bool {
	switch v := r.getenv(name); v {
	case "", "0":
		return false
	case "1":
		return true
	default:
		r.wrong = append(r.wrong, fmt.Errorf("%s is %q, want 1, 0 or nothing", name, v))
		return false
	}
}

// duration returns unset where nothing is set.
func (r *reader) duration(name string, unset, least time.Duration) time.Duration {
	v := r.getenv(name)
	if v == "" {
		return unset
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < least {
		r.wrong = append(r.wrong, fmt.Errorf("%s is %q, want a duration such as 1.5s", name, v))
	}
	return d
}

func (r *reader) bytes(name string) *int {
	v := r.getenv(name)
	if v == "" {
		return nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		r.wrong = append(r.wrong, fmt.Errorf("%s is %q, want a number of bytes", name, v))
		return nil
	}
	return &n
}
