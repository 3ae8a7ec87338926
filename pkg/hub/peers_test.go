package hub

import (
	"fmt"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/transport"
)

// balance serves the nodes under one address, each request at another node than the one
// before.
func balance(t *testing.T, nodes []*berth) (address string) {
	t.Helper()
	var turn atomic.Int64
	s := httptest.NewServer(&httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		node, err := url.Parse("http" + strings.TrimPrefix(nodes[int(turn.Add(1))%len(nodes)].address, "ws"))
		if err != nil {
			t.Error(err)
		}
		r.Out.URL.Scheme, r.Out.URL.Host = node.Scheme, node.Host
	}})
	t.Cleanup(s.Close)
	return "ws" + strings.TrimPrefix(s.URL, "http") + "/hub"
}

// Whatever node a request arrives at, the hub has one connection.
func TestAnyNodeWillDo(t *testing.T) {
	for name, start := range fleets {
		t.Run(name, func(t *testing.T) {
			nodes := start(t, 3)
			address := balance(t, nodes)
			ended := 0
			withoutWebSocket(t, func(t *testing.T, kind transport.Kind) {
				g := visit(t, address, "user=ada", kind)
				g.shake()
				for i := range 6 {
					group := fmt.Sprintf("%s %d", kind, i)
					g.write(fmt.Sprintf(`{"type":1,"invocationId":"%d","target":"Join","arguments":[%q]}`, i, group))
					g.expect(fmt.Sprintf(`{"type":3,"invocationId":"%d","result":null}`, i))
					if err := nodes[i%3].Clients().Group(group).Send(t.Context(), "Greet"); err != nil {
						t.Fatal(err)
					}
					g.expect(`{"type":1,"target":"Greet","arguments":[]}`)
				}
				for _, node := range nodes {
					if err := node.Clients().Client(g.id).Send(t.Context(), "Greet"); err != nil {
						t.Fatal(err)
					}
					g.expect(`{"type":1,"target":"Greet","arguments":[]}`)
				}
				g.leave()
				ended++
				await.Until(t, "it has ended, once in all", func() error {
					left := 0
					for _, node := range nodes {
						left += len(node.ledger.left())
					}
					if held := heldBy(nodes, g.id); held != nil || left != ended {
						return fmt.Errorf("%d have ended, want %d; it is there: %v", left, ended, held != nil)
					}
					return nil
				})
			})
		})
	}
}

// A connection whose record is another node's is closed, and its client told to come back.
func TestHomeIsLost(t *testing.T) {
	nodes := onBus(t, 2)
	g := visit(t, nodes[0].address, "user=ada", transport.ServerSentEvents)
	g.shake()
	moved, err := nodes[0].attachment.Homes().Move(t.Context(), g.id, 1, nodes[1].plane.NodeID(), time.Minute)
	if err != nil || !moved {
		t.Fatal(moved, err)
	}
	nodes[0].connections.Sweep(time.Now().Add(time.Minute))
	g.expect(`{"type":7,"allowReconnect":true}`, "over")
}

func TestPeersNeedACluster(t *testing.T) {
	plane := backplane.NewMemory()
	defer plane.Close()
	peers, err := peer.New(peer.Config{Self: plane.NodeID(), Keys: clusterKeys})
	if err != nil {
		t.Fatal(err)
	}
	defer peers.Close()
	for name, options := range map[string][]Option{
		"no peers":     {WithBackplane(plane), WithClusterKeys(clusterKeys...), WithPeers(nil)},
		"no backplane": {WithClusterKeys(clusterKeys...), WithPeers(peers)},
		"no keys":      {WithBackplane(plane), WithPeers(peers)},
	} {
		h, err := New(&room{}, options...)
		if err == nil {
			h.Shutdown(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "peers") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
