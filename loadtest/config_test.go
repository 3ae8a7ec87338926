package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name  string
		token string // in the environment
		flags string
		check func(config) bool
		err   string // is contained
	}{
		{name: "defaults", check: func(c config) bool {
			return len(c.nodes) == 1 && c.nodes[0].String() == defaultURL && c.protocol == protocol.JSON &&
				c.connections == 1000 && c.groups == 10 && c.rate == 100 && c.duration == 10*time.Second && c.token == "" &&
				c.joinMethod == "AddToGroup" && c.sendMethod == "SendToGroup" && c.receiveMethod == "Send"
		}},
		{name: "several nodes", flags: "-url http://a/hub -url wss://b:1/hub?x=y#z", check: func(c config) bool {
			return len(c.nodes) == 2 && c.nodes[0].String() == "http://a/hub" && c.nodes[1].String() == "https://b:1/hub?x=y"
		}},
		{name: "self", flags: "-self", check: func(c config) bool { return c.self && len(c.nodes) == 0 }},
		{name: "protocol", flags: "-protocol MessagePack", check: func(c config) bool { return c.protocol == protocol.MessagePack }},
		{name: "token in the environment", token: "secret", check: func(c config) bool { return c.token == "secret" }},
		{name: "token by flag", token: "secret", flags: "-token other", check: func(c config) bool { return c.token == "other" }},
		{name: "processes", flags: "-server-pid 1,22 -server-pid 333", check: func(c config) bool { return reflect.DeepEqual(c.serverPIDs, []int{1, 22, 333}) }},
		{name: "allow", flags: "-allow lost,sends", check: func(c config) bool {
			return c.allows(lostMessages) && c.allows(failedSends) && !c.allows(duplicates)
		}},
		{name: "allow all", flags: "-allow all", check: func(c config) bool { return c.allows(lostMessages) && c.allows(damagedMessages) }},

		{name: "no scheme", flags: "-url localhost:8080", err: "none of http"},
		{name: "no host", flags: "-url http:///hub", err: "no host"},
		{name: "no protocol", flags: "-protocol xml", err: "neither json"},
		{name: "no kind", flags: "-allow everything", err: "everything"},
		{name: "no process", flags: "-server-pid 1,two", err: "no process id"},
		{name: "no connections", flags: "-connections 0", err: "-connections is 0"},
		{name: "no groups", flags: "-groups 0", err: "-groups is 0"},
		{name: "no senders", flags: "-senders 0", err: "-senders is 0"},
		{name: "no rate", flags: "-rate 0", err: "-rate is 0"},
		{name: "no number", flags: "-rate NaN", err: "-rate is NaN"},
		{name: "short payload", flags: "-payload 10", err: "-payload is 10"},
		{name: "no duration", flags: "-duration 0", err: "-duration"},
		{name: "negative", flags: "-drain -1s", err: "-drain is negative"},
		{name: "argument", flags: "http://a/hub", err: "unexpected argument"},
		{name: "self and other", flags: "-self -url http://a/hub", err: "-self is instead"},
		{name: "self and process", flags: "-self -server-pid 1", err: "-self has no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(tokenVariable, tt.token)
			var printed strings.Builder
			c, err := parse(strings.Fields(tt.flags), &printed)
			switch {
			case tt.err == "" && err != nil:
				t.Fatal(err)
			case tt.err != "" && (err == nil || !strings.Contains(printed.String(), tt.err)):
				t.Fatalf("got %v and %q, want an error that contains %q", err, &printed, tt.err)
			case tt.err == "" && !tt.check(c):
				t.Errorf("got %+v", c)
			}
		})
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help: %v", err)
	}
}

// The flags that README.md names are there.
func TestReadmeFlags(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var help strings.Builder
	parse([]string{"-help"}, &help)
	named := regexp.MustCompile("[ `]-([a-z]{2}[a-z-]*)").FindAllStringSubmatch(string(text), -1)
	if len(named) < 10 {
		t.Errorf("only %d flags are named", len(named))
	}
	for _, m := range named {
		if name := m[1]; name != "help" && !regexp.MustCompile(`(?m)^  -`+name+`\b`).MatchString(help.String()) {
			t.Errorf("there is no flag -%s", name)
		}
	}
}
