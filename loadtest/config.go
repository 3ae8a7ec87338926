package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// config is all that a load test can be told.
type config struct {
	// Where to.
	nodes     []*url.URL // with the scheme http or https; none if self
	self      bool
	protocol  protocol.Protocol
	negotiate bool
	token     string

	// The hub's names.
	joinMethod, sendMethod, receiveMethod string

	// What load.
	connections, groups, senders int
	rate                         float64 // messages a second
	payload                      int     // bytes
	warmup, duration             time.Duration

	// How.
	concurrency                           int
	rampUp, connectTimeout, settle, drain time.Duration

	// What to report.
	serverPIDs []int
	jsonFile   string // "-" is standard output
	quiet      bool
	allowed    []failureKind
}

// tokenVariable is where the token is looked for when no flag gives it.
const tokenVariable = "HELIOGRAPH_LOADTEST_TOKEN"

const defaultURL = "http://localhost:8080/chat"

const usageText = `Usage: go run ./loadtest [flags]

Opens connections that join groups, sends messages to the groups, and reports what
arrived, when, and what did not. Exit status: 0 if all is well, 1 if something was
lost, duplicated, out of order or failed otherwise, 2 for bad usage, 130 if it was
interrupted and all is well so far.

`

// parse reads the flags. The error is flag.ErrHelp when help was asked for, which has
// been printed then; any other error has been printed too.
func parse(arguments []string, output io.Writer) (config, error) {
	var c config
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(output)
	f.Usage = func() {
		fmt.Fprint(output, usageText)
		f.PrintDefaults()
	}
	serverFlags(f, &c)
	loadFlags(f, &c)
	pacingFlags(f, &c)
	reportFlags(f, &c)
	if err := f.Parse(arguments); err != nil {
		return c, err
	}
	err := c.check(f.Args())
	if err != nil {
		fmt.Fprintf(output, "loadtest: %v\nloadtest -help lists the flags.\n", err)
	}
	return c, err
}

func serverFlags(f *flag.FlagSet, c *config) {
	c.protocol = protocol.JSON
	f.Func("url", "`address` of a hub on one node (http, https, ws or wss); repeat it for further nodes (default "+defaultURL+")", func(s string) error {
		node, err := parseNode(s)
		c.nodes = append(c.nodes, node)
		return err
	})
	f.BoolVar(&c.self, "self", false, "start a node in this process and test that")
	f.Func("protocol", "hub `protocol`: json or messagepack (default json)", func(s string) error {
		if c.protocol = protocol.ByName(s); c.protocol == nil {
			return errors.New("it is neither json nor messagepack")
		}
		return nil
	})
	f.BoolVar(&c.negotiate, "negotiate", false, "negotiate each connection before it is opened")
	f.StringVar(&c.token, "token", "", "access `token`; the environment variable "+tokenVariable+" keeps it out of the process list")
	f.StringVar(&c.joinMethod, "join-method", "AddToGroup", "hub `method` that adds the caller to a group: (group)")
	f.StringVar(&c.sendMethod, "send-method", "SendToGroup", "hub `method` that sends to a group: (group, message)")
	f.StringVar(&c.receiveMethod, "receive-method", "Send", "client `method` by which a group gets the message: (message)")
}

func loadFlags(f *flag.FlagSet, c *config) {
	f.IntVar(&c.connections, "connections", 1000, "connections that receive")
	f.IntVar(&c.groups, "groups", 10, "groups, of which each of them joins one")
	f.IntVar(&c.senders, "senders", 1, "further connections, which send")
	f.Float64Var(&c.rate, "rate", 100, "`messages` a second, of all senders together")
	f.IntVar(&c.payload, "payload", 128, "`bytes` of a message's text")
	f.DurationVar(&c.duration, "duration", 10*time.Second, "how long is measured")
	f.DurationVar(&c.warmup, "warmup", time.Second, "how long is sent before that; counted, but for latency and CPU")
}

func pacingFlags(f *flag.FlagSet, c *config) {
	f.IntVar(&c.concurrency, "concurrency", 64, "connections being opened at a time")
	f.DurationVar(&c.rampUp, "ramp-up", 0, "time to spread the opening over; 0 is as fast as it goes")
	f.DurationVar(&c.connectTimeout, "connect-timeout", 30*time.Second, "how long one connection may take to open and to join")
	f.DurationVar(&c.settle, "settle", time.Second, "rest between the last connect and the first message")
	f.DurationVar(&c.drain, "drain", 5*time.Second, "how long late messages are waited for")
}

func reportFlags(f *flag.FlagSet, c *config) {
	f.Func("server-pid", "`id` of a server's process on this machine, whose CPU and memory are reported; repeat it, or separate several by commas", func(s string) error {
		for field := range strings.SplitSeq(s, ",") {
			pid, err := strconv.Atoi(field)
			if err != nil || pid <= 0 {
				return errors.New("no process id")
			}
			c.serverPIDs = append(c.serverPIDs, pid)
		}
		return nil
	})
	f.StringVar(&c.jsonFile, "json", "", "`file` to write the report to as JSON; - is standard output, and the text goes to standard error")
	f.BoolVar(&c.quiet, "quiet", false, "no progress")
	f.Func("allow", "`kinds` of failure that do not matter to the exit status, separated by commas: all, or "+allFailureKinds(), func(s string) (err error) {
		c.allowed, err = parseFailureKinds(s)
		return err
	})
}

// parseNode reads the address of a hub.
func parseNode(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	case "http", "https":
	default:
		return nil, errors.New("the scheme is none of http, https, ws and wss")
	}
	if u.Host == "" {
		return nil, errors.New("there is no host")
	}
	u.Fragment = ""
	return u, nil
}

// check completes the settings, and says what is wrong with them.
func (c *config) check(rest []string) error {
	if c.token == "" {
		c.token = os.Getenv(tokenVariable)
	}
	for _, n := range []struct {
		flag  string
		value int
	}{{"connections", c.connections}, {"groups", c.groups}, {"senders", c.senders}, {"concurrency", c.concurrency}} {
		if n.value < 1 {
			return fmt.Errorf("-%s is %d: at least 1 is needed", n.flag, n.value)
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{{"warmup", c.warmup}, {"ramp-up", c.rampUp}, {"settle", c.settle}, {"drain", c.drain}} {
		if d.value < 0 {
			return fmt.Errorf("-%s is negative", d.flag)
		}
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("unexpected argument %q", rest[0])
	case c.self && len(c.nodes) > 0:
		return errors.New("-self is instead of -url")
	case c.self && len(c.serverPIDs) > 0:
		return errors.New("-self has no server process of its own for -server-pid")
	case !(c.rate > 0 && c.rate <= 1e6):
		return fmt.Errorf("-rate is %v: more than 0 and at most a million is needed", c.rate)
	case c.payload < minimumPayload:
		return fmt.Errorf("-payload is %d: at least %d bytes are needed to account for a message", c.payload, minimumPayload)
	case c.duration <= 0:
		return errors.New("-duration is not positive")
	case c.connectTimeout <= 0:
		return errors.New("-connect-timeout is not positive")
	}
	if len(c.nodes) == 0 && !c.self {
		node, err := parseNode(defaultURL)
		c.nodes = []*url.URL{node}
		return err
	}
	return nil
}

// allows reports whether failures of the kind do not matter.
func (c *config) allows(k failureKind) bool { return slices.Contains(c.allowed, k) }
