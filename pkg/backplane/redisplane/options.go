package redisplane

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// Options are the settings of a [Plane]. Only URL is required; a zero value means the
// default.
type Options struct {
	// URL says which Redis connects the nodes:
	//
	//	redis://user:password@host:port/database
	//	redis+sentinel://user:password@host:port,host:port,host:port/master/database
	//	redis+cluster://user:password@host:port,host:port,host:port
	//
	// or rediss:// and so on for TLS. User, password, ports (6379, of sentinels 26379) and
	// database (0) may be left out; the database is of no consequence to channels. Of
	// parameters there are client_name, and for TLS skip_verify=true, which accepts any
	// certificate.
	//
	// The second form names all sentinels, and the master as they know it. User and
	// password are Redis'; where sentinels want some too, those are the parameters
	// sentinel_username and sentinel_password.
	//
	// The third form names servers of a Redis Cluster, of version 7 or later, best all of
	// them. Its masters share the channels, which are sharded ones and lie in as many
	// partitions as the parameter partitions says: from 1 to 1024, by default 16. A node has
	// three connections to each partition that it uses. With the parameter pubsub=classic
	// channels are classic ones: of the masters, nodes use the one that has the keys, and
	// the others only take its place. All nodes, and a [Publisher], need the same of both
	// parameters. Of nodes that differ, those that started later are not healthy.
	URL string

	// Username, Password, SentinelUsername and SentinelPassword are used in place of
	// what the URL says, if they are not empty.
	Username, Password, SentinelUsername, SentinelPassword string

	// TLS is the configuration of TLS, for Redis and sentinels, in place of what the URL
	// says. It is copied. The default is nil, which leaves it to the URL. Without a
	// ServerName, that is the host which is connected to.
	TLS *tls.Config

	// Keys are the cluster's: the first signs every envelope, and what this node says of
	// itself in the roster; what others say there counts if any of them has. All nodes need
	// the same. The default is none, which trusts whoever can write to Redis.
	Keys [][]byte

	// RequireSigned demands that any of the Keys, of which there must be one, has signed
	// every envelope: others are counted and ignored, the plain JSON form among them. The
	// default is to look at no signature, so that any program that gets at Redis can
	// publish messages. Nodes with and without it understand each other, if they have the
	// same keys.
	RequireSigned bool

	// WithoutClients is for programs that have no clients, but want to ask of nodes what a
	// hub can ask: to add to groups and to remove from them, to close, who is there. No
	// other node waits for this one, since it serves no hub as far as the roster says; its
	// hubs are subscribed to their own replies alone, and all other subscriptions fail with
	// [backplane.ErrUnavailable]. So a hub on it must not be served to clients: they would
	// not be reached. What is asked before Healthy returns nil may not be answered.
	WithoutClients bool

	// Logger gets what an operator should know: that the connection was lost, and is
	// back. The default is [slog.Default]. What the Redis client library itself has to
	// say goes to the Logger of the first Plane in the process, at debug level; the
	// library knows one logger per process.
	Logger *slog.Logger

	// Registerer gets the metrics, all named heliograph_backplane_…, until Close. The
	// default is none.
	Registerer prometheus.Registerer

	// DialTimeout bounds the time in which a connection to Redis must be made and
	// greeted, and in which the roster must have been read. The default is 5s.
	DialTimeout time.Duration

	// PublishTimeout bounds the time in which Redis must have answered what was sent
	// to it at once. The default is 5s. A Publish call may have to wait for the
	// messages sent before its own as well.
	PublishTimeout time.Duration

	// SubscribeTimeout bounds how long is waited for a subscription to be in force.
	// The default is 5s.
	SubscribeTimeout time.Duration

	// ProbeInterval is how often the node publishes to itself to prove that it hears.
	// The default is 3s. A node that has not heard that for two intervals, which is
	// noticed after three at the latest, takes itself for deaf and connects anew. As
	// often, nodes announce themselves and look for each other: one that has not been
	// announced for five intervals of its own is taken for dead. So all nodes had better
	// have the same.
	ProbeInterval time.Duration

	// MaxQueuedBytes and MaxQueuedMessages bound what waits to be published, where a
	// body counts once for each of its channels. Beyond them Publish fails at once; a
	// call that finds the queue empty is always taken. The defaults are 16 MiB and
	// 65536.
	MaxQueuedBytes    int
	MaxQueuedMessages int
}

// withDefaults returns the options with defaults in place of zeros.
func (o Options) withDefaults() (Options, error) {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.RequireSigned && len(o.Keys) == 0 {
		return o, errors.New("RequireSigned needs Keys")
	}
	for _, d := range []struct {
		name    string
		value   *time.Duration
		initial time.Duration
	}{
		{"DialTimeout", &o.DialTimeout, 5 * time.Second},
		{"PublishTimeout", &o.PublishTimeout, 5 * time.Second},
		{"SubscribeTimeout", &o.SubscribeTimeout, 5 * time.Second},
		{"ProbeInterval", &o.ProbeInterval, 3 * time.Second},
	} {
		switch {
		case *d.value < 0:
			return o, fmt.Errorf("%s is negative: %v", d.name, *d.value)
		case *d.value == 0:
			*d.value = d.initial
		}
	}
	if o.MaxQueuedBytes < 0 || o.MaxQueuedMessages < 0 {
		return o, fmt.Errorf("bounds of the queue are negative: %d bytes, %d messages", o.MaxQueuedBytes, o.MaxQueuedMessages)
	}
	if o.MaxQueuedBytes == 0 {
		o.MaxQueuedBytes = 16 << 20
	}
	if o.MaxQueuedMessages == 0 {
		o.MaxQueuedMessages = 65536
	}
	return o, nil
}

// envelopeKeys returns the keys for one goroutine's use, or nil if there are none.
func (o Options) envelopeKeys() *backplane.EnvelopeKeys {
	if len(o.Keys) == 0 {
		return nil
	}
	return backplane.NewEnvelopeKeys(o.Keys)
}

// urlParameters are those that mean something here. Retries above all do not: nothing
// is ever published twice.
var urlParameters = []string{"client_name", "skip_verify"}

// clientOptions returns what clients of the Redis library are made with that a URL is for
// which names one Redis. Errors do not quote it: it may hold a password.
func (o Options) clientOptions(text string) (*redis.Options, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errMalformed
	}
	if u.Scheme != "redis" && u.Scheme != "rediss" {
		return nil, fmt.Errorf("scheme %q is none of %s", u.Scheme, schemes)
	}
	for name := range u.Query() {
		if !slices.Contains(urlParameters, name) {
			return nil, fmt.Errorf("there is a parameter that is none of %s", strings.Join(urlParameters, ", "))
		}
	}
	c, err := redis.ParseURL(text)
	if err != nil {
		return nil, errors.New("what follows the host is not a database number, with at most parameters after it")
	}

	// Publishing again what may have been published doubles it.
	c.MaxRetries = -1
	// Without this, a context's deadline is not one for the socket.
	c.ContextTimeoutEnabled = true
	c.DialTimeout = o.DialTimeout
	c.DialerRetries = 1
	c.ReadTimeout = o.PublishTimeout
	c.WriteTimeout = o.PublishTimeout
	// Version 3 of the protocol would let notices of other kinds come between replies;
	// channels need none of it.
	c.Protocol = 2
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c.DisableIdentity = true
	// A client has one socket at a time (see link). With a pool of one, the first
	// failure to connect would set off a goroutine that goes on trying.
	c.PoolSize = 2
	c.PipelinePoolSize = -1
	c.ReadBufferSize = 64 << 10
	c.WriteBufferSize = 64 << 10
	return c, nil
}
