package hub_test

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"

	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/client"
	"github.com/heliograph/heliograph/pkg/hub"
)

// A node is a hub on a server of its own, as one process of a cluster would have it.
type node struct {
	*hub.Hub
	server *httptest.Server
}

func serve(value any, options ...hub.Option) *node {
	options = append([]hub.Option{hub.WithAuthenticator(byHeader), hub.WithLogger(slog.New(slog.DiscardHandler))}, options...)
	h, err := hub.New(value, options...)
	if err != nil {
		log.Fatal(err)
	}
	return &node{h, httptest.NewServer(h)}
}

// cluster starts two nodes on one backplane.
func cluster() (one, two *node, stop func()) {
	var bus backplane.Bus
	keys := hub.WithClusterKeys([]byte("a key of the cluster, of 32 bytes"))
	planes := []*backplane.Memory{bus.Join(), bus.Join()}
	one, two = serve(Chat{}, hub.WithBackplane(planes[0]), keys), serve(Chat{}, hub.WithBackplane(planes[1]), keys)
	return one, two, func() {
		one.close()
		two.close()
		for _, p := range planes {
			p.Close()
		}
	}
}

func (n *node) close() {
	if err := n.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	n.server.Close()
}

// A participant is a client that notes what it hears.
type participant struct {
	*client.Client
	name  string
	heard chan string
}

// connect starts a client, which lasts as long as the node.
func (n *node) connect(name string) *participant {
	c, err := client.New(n.server.URL, client.WithHeader(http.Header{"Name": {name}}))
	if err != nil {
		log.Fatal(err)
	}
	p := &participant{c, name, make(chan string, 100)}
	if err := c.On("Heard", func(text string) { p.heard <- text }); err != nil {
		log.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		log.Fatal(err)
	}
	return p
}

// until returns what was heard up to the text, sorted: there is no order between sends
// to connections of the same node and others.
func (p *participant) until(last string) []string {
	var all []string
	for text := range p.heard {
		all = append(all, text)
		if text == last {
			break
		}
	}
	slices.Sort(all)
	return all
}
