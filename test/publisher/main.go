// Command publisher sends to the clients of a cluster without being a node of it. Each
// argument is one message in JSON:
//
//	{"to": "groups", "names": ["red"], "except": ["ID"], "method": "Message", "arguments": ["hi"]}
//
// where to is all, connections, groups or users, and except is for all and for one group.
// It sends them in that order and ends with status 0, or with 1 once one could not be
// sent. REDIS is a Redis URL, CLUSTER_KEY what it signs with (unset: nothing), and PREFIX
// that of the hub's channels.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/publish"
)

func main() {
	if err := run(os.Args[1:], os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "publisher:", err)
		os.Exit(1)
	}
}

func run(messages []string, getenv func(string) string) error {
	options := redisplane.Options{URL: getenv("REDIS")}
	if key := getenv("CLUSTER_KEY"); key != "" {
		options.Keys = [][]byte{[]byte(key)}
	}
	carrier, err := redisplane.NewPublisher(getenv("PREFIX"), options)
	if err != nil {
		return err
	}
	defer carrier.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	publisher := publish.New(carrier)
	for _, text := range messages {
		var m message
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			return fmt.Errorf("message %s: %w", text, err)
		}
		clients, err := m.clients(publisher)
		if err != nil {
			return err
		}
		if err := clients.Send(ctx, m.Method, m.Arguments...); err != nil {
			return err
		}
	}
	return nil
}

type message struct {
	To        string   `json:"to"`
	Names     []string `json:"names"`
	Except    []string `json:"except"`
	Method    string   `json:"method"`
	Arguments []any    `json:"arguments"`
}

func (m *message) clients(p *publish.Publisher) (publish.Clients, error) {
	switch {
	case m.To == "all":
		return p.AllExcept(m.Except...), nil
	case m.To == "connections":
		return p.Connections(m.Names...), nil
	case m.To == "groups" && len(m.Names) == 1:
		return p.GroupExcept(m.Names[0], m.Except...), nil
	case m.To == "groups":
		return p.Groups(m.Names...), nil
	case m.To == "users":
		return p.Users(m.Names...), nil
	}
	return publish.Clients{}, fmt.Errorf("nobody is selected by %q", m.To)
}
