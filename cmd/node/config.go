package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/heliograph/heliograph/pkg/transport"
)

// config is all that a node can be told. Each setting is a flag, an environment
// variable of the same name, or a key of the config file; the first of these that
// has it wins.
type config struct {
	Config kong.ConfigFlag `placeholder:"FILE" env:"HELIOGRAPH_CONFIG" help:"YAML file with any of these settings, by their names without dashes in front."`

	Listen      string `default:":8080" env:"HELIOGRAPH_LISTEN" help:"Address for clients."`
	TLSCert     string `name:"tls-cert" placeholder:"FILE" env:"HELIOGRAPH_TLS_CERT" help:"Certificate for clients, in PEM, with those that lead to its root. Read again when it changes. Without it clients are spoken to by plain HTTP."`
	TLSKey      string `name:"tls-key" placeholder:"FILE" env:"HELIOGRAPH_TLS_KEY" help:"Its key, in PEM."`
	AdminListen string `default:"127.0.0.1:8081" env:"HELIOGRAPH_ADMIN_LISTEN" help:"Address for health, metrics and profiles, not for the public. Empty: none."`

	AllowedOrigins   []string       `placeholder:"ORIGIN,..." env:"HELIOGRAPH_ALLOWED_ORIGINS" help:"Web pages of other hosts that may connect, each by scheme, host and port as in https://app.example.com; * alone for all."`
	AllowCredentials bool           `default:"true" negatable:"" env:"HELIOGRAPH_ALLOW_CREDENTIALS" help:"Let those pages send cookies, as the official JavaScript client does by default. Not together with *."`
	TrustedProxies   []netip.Prefix `placeholder:"NETWORK,..." env:"HELIOGRAPH_TRUSTED_PROXIES" help:"Networks of the proxies that are believed what they tell of clients in X-Forwarded headers, as in 10.0.0.0/8. Without it nobody is."`

	Redis string `placeholder:"URL" env:"HELIOGRAPH_REDIS" help:"Redis that connects the nodes, as redis://host:6379 or, with Sentinel, redis+sentinel://host1,host2,host3/mymaster, or in a Redis Cluster, redis+cluster://host1,host2,host3; rediss for redis over TLS. Without it the node is alone."`

	PeerListen    string `default:":0" env:"HELIOGRAPH_PEER_LISTEN" help:"Address for other nodes, which forward requests to this one; not for the public. Port 0: any that is free, since nodes tell each other. Only with --redis. Empty: none, and then a balancer has to keep each client of other transports than WebSockets at one node."`
	PeerAdvertise string `placeholder:"HOST" env:"HELIOGRAPH_PEER_ADVERTISE" help:"Where other nodes reach that, as a name or an address, with a port if it is not the same. Without it: the listener's address, or the machine's name if it listens on all."`
	PeerTLSCert   string `name:"peer-tls-cert" placeholder:"FILE" env:"HELIOGRAPH_PEER_TLS_CERT" help:"Certificate for other nodes, which want to see it both ways. Without it nodes speak plain HTTP to each other."`
	PeerTLSKey    string `name:"peer-tls-key" placeholder:"FILE" env:"HELIOGRAPH_PEER_TLS_KEY" help:"Its key."`
	PeerTLSCA     string `name:"peer-tls-ca" placeholder:"FILE" env:"HELIOGRAPH_PEER_TLS_CA" help:"Certificates of those who issue the nodes' certificates. Read once."`
	PeerTLSName   string `name:"peer-tls-name" placeholder:"NAME" env:"HELIOGRAPH_PEER_TLS_NAME" help:"Name that all nodes' certificates have. Without it: the host that each is advertised by."`

	JWTSecret      string   `name:"jwt-secret" placeholder:"SECRET" env:"HELIOGRAPH_JWT_SECRET" help:"Secret of at least 32 bytes that clients' tokens are signed with (HS256)."`
	AllowAnonymous bool     `env:"HELIOGRAPH_ALLOW_ANONYMOUS" help:"Take clients without a token too. They belong to no user."`
	ClusterKey     []string `placeholder:"KEY" sep:"none" env:"HELIOGRAPH_CLUSTER_KEY" help:"Secret of at least 32 bytes that is the same on all nodes; repeat it to replace a key: the first signs, all are accepted. Without it, it is derived from the JWT secret."`

	RequireSignedEnvelopes bool `env:"HELIOGRAPH_REQUIRE_SIGNED_ENVELOPES" help:"Ignore what comes over Redis and is not signed with a cluster key, the plain JSON form included. Nodes always sign what they publish."`

	StrictReadiness bool `env:"HELIOGRAPH_STRICT_READINESS" help:"Say at /readyz that the node is not ready whenever it does not hear the others. Without it: only if another node does hear."`

	ReconnectAfterGap string `default:"none" enum:"none,stateful,all" env:"HELIOGRAPH_RECONNECT_AFTER_GAP" help:"Whose clients are told to reconnect when the node has been deaf to the others, and may have missed messages: none, stateful (those with stateful reconnect) or all."`

	CloseOnAuthenticationExpiration bool `env:"HELIOGRAPH_CLOSE_ON_AUTHENTICATION_EXPIRATION" help:"Close connections when the tokens end that they were opened with."`
	EnableAuthenticationRefresh     bool `env:"HELIOGRAPH_ENABLE_AUTHENTICATION_REFRESH" help:"Let clients replace the token of a connection before it ends."`

	Transports         []transport.Kind `default:"WebSockets,ServerSentEvents,LongPolling" placeholder:"NAME,..." env:"HELIOGRAPH_TRANSPORTS" help:"Transports that clients may use."`
	StatefulReconnects bool             `default:"true" negatable:"" env:"HELIOGRAPH_STATEFUL_RECONNECTS" help:"Let clients that ask for it come back over another WebSocket as if nothing had happened."`
	LongPollingTimeout time.Duration    `default:"90s" env:"HELIOGRAPH_LONG_POLLING_TIMEOUT" help:"How long a poll waits for something to tell. Whatever is between clients and nodes has to wait longer."`

	KeepAliveInterval         time.Duration `default:"15s" env:"HELIOGRAPH_KEEP_ALIVE_INTERVAL" help:"How often clients are pinged."`
	ClientTimeoutInterval     time.Duration `default:"30s" env:"HELIOGRAPH_CLIENT_TIMEOUT_INTERVAL" help:"How long a client may be silent."`
	HandshakeTimeout          time.Duration `default:"15s" env:"HELIOGRAPH_HANDSHAKE_TIMEOUT" help:"How long a client may take to send its handshake."`
	MaximumReceiveMessageSize int           `default:"32768" placeholder:"BYTES" env:"HELIOGRAPH_MAXIMUM_RECEIVE_MESSAGE_SIZE" help:"Limit for a message from a client, in bytes. 0: none."`

	DrainDelay      time.Duration `default:"5s" env:"HELIOGRAPH_DRAIN_DELAY" help:"How long a node that was told to end still takes connections while it says that it is not ready: the time that load balancers need to notice."`
	DrainDuration   time.Duration `default:"20s" env:"HELIOGRAPH_DRAIN_DURATION" help:"The time over which its connections are then closed, one after the other."`
	ShutdownTimeout time.Duration `default:"10s" env:"HELIOGRAPH_SHUTDOWN_TIMEOUT" help:"How long what is left may take to end after that."`

	Demo      bool `env:"HELIOGRAPH_DEMO" help:"Serve a page at / to try the node out with, and take anybody. The page gives a token for any user: not for production."`
	DemoForce bool `env:"HELIOGRAPH_DEMO_FORCE" help:"Serve it even in a cluster."`

	LogLevel  slog.Level `default:"info" placeholder:"LEVEL" env:"HELIOGRAPH_LOG_LEVEL" help:"Least level that is logged: debug, info, warn or error."`
	LogFormat string     `default:"text" enum:"text,json" env:"HELIOGRAPH_LOG_FORMAT" help:"Format of the log: text or json."`
}

// parse reads the settings. It does not return for --help.
func parse(arguments []string, stdout io.Writer) (config, error) {
	var c config
	parser, err := newParser(&c, stdout)
	if err != nil {
		return c, err
	}
	if _, err := parser.Parse(arguments); err != nil {
		return c, err
	}
	return c, c.check()
}

func newParser(c *config, stdout io.Writer) (*kong.Kong, error) {
	parser, err := kong.New(c,
		kong.Name("node"),
		kong.Description("A node of a Heliograph cluster: serves SignalR clients at /chat."),
		kong.Configuration(configFile),
		kong.Writers(stdout, os.Stderr),
	)
	if err != nil {
		return nil, fmt.Errorf("describe settings: %w", err)
	}
	return parser, nil
}

func (c *config) demo() bool { return c.Demo || c.DemoForce }

var allTransports = []transport.Kind{transport.WebSockets, transport.ServerSentEvents, transport.LongPolling}

func (c *config) check() error {
	switch {
	case c.demo() && c.Redis != "" && !c.DemoForce:
		return errors.New("--demo lets anybody be any user, which is seldom wanted of a node with --redis: add --demo-force if it is")
	case c.demo() && c.Redis != "" && c.JWTSecret == "":
		return errors.New("--demo-force needs a --jwt-secret that is the same on all nodes")
	case c.LongPollingTimeout <= 0:
		return fmt.Errorf("--long-polling-timeout: %v is not positive", c.LongPollingTimeout)
	case slices.ContainsFunc(c.Transports, func(k transport.Kind) bool { return !slices.Contains(allTransports, k) }):
		return fmt.Errorf("--transports: want some of %v", allTransports)
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key need each other")
	case (c.PeerTLSCert == "") != (c.PeerTLSKey == "") || (c.PeerTLSCert == "") != (c.PeerTLSCA == ""):
		return errors.New("--peer-tls-cert, --peer-tls-key and --peer-tls-ca need each other")
	case c.JWTSecret == "" && !c.AllowAnonymous && !c.demo():
		return errors.New("nobody could connect: set --jwt-secret, or --allow-anonymous, or both")
	case c.Redis != "" && len(c.ClusterKey) == 0 && c.JWTSecret == "":
		return errors.New("nodes that share a Redis need the same --cluster-key (or --jwt-secret, which it is derived from)")
	}
	return nil
}

// configFile reads a YAML file of settings. The environment goes before it, and a
// name that is no setting is an error.
func configFile(r io.Reader) (kong.Resolver, error) {
	values := make(map[string]any)
	if err := yaml.NewDecoder(r).Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read config file: %w", err)
	}
	return fileSettings(values), nil
}

type fileSettings map[string]any

func (s fileSettings) Validate(app *kong.Application) error {
	known := make(map[string]bool)
	for _, f := range app.Flags {
		known[f.Name] = true
	}
	for name := range s {
		if !known[name] {
			return fmt.Errorf("config file: there is no setting %q", name)
		}
	}
	return nil
}

func (s fileSettings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	return s[flag.Name], nil
}
