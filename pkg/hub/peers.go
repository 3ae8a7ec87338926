package hub

import (
	"errors"

	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/transport"
)

// WithPeers lets the hub's nodes pass requests on to each other, so that clients need no
// sticky sessions: a connection then has one home in the cluster, and its requests may
// arrive at any node. It needs a backplane ([WithBackplane]), on which the address of the
// node-to-node listener is advertised that serves [peer.Peers.Handler], and the cluster's
// keys ([WithClusterKeys]). Several hubs of one node may share p. Whoever made it closes
// it, when the hubs are shut down.
//
// The default is that each node serves what arrives there. In a cluster that does for
// clients that use WebSockets and nothing else.
func WithPeers(p *peer.Peers) Option {
	return func(c *config) error {
		if p == nil {
			return errors.New("peers: none")
		}
		c.peers = p
		return nil
	}
}

// joinCluster is called before the first request.
func (h *Hub) joinCluster() {
	if h.peers == nil {
		return
	}
	h.connections.Join(transport.Cluster{
		Self:  h.plane.NodeID(),
		Homes: h.attachment.Homes(),
		Node:  h.attachment.Node,
		Peers: h.peers,
	})
}

var _ transport.HomeLoser = (*connection)(nil)

// HomeLost implements [transport.HomeLoser]: whatever has become of the connection, the
// client is better off with a new one.
func (c *connection) HomeLost() { c.end(closing{allowReconnect: true}) }
