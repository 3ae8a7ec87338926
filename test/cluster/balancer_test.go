package cluster

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// checkInterval is how often a balancer asks nodes whether they are ready.
const checkInterval = 100 * time.Millisecond

// A balancer hands TCP connections to its nodes in turn, leaving out those that do not
// say that they are ready. It keeps nobody at a node.
type balancer struct {
	listener net.Listener
	stop     context.CancelFunc
	wg       sync.WaitGroup // all goroutines; close joins them

	mu    sync.Mutex
	nodes []*backend
	next  int
	conns map[net.Conn]struct{} // both ends of what is open, for close
	ended bool
}

// A backend is a node at a balancer. Its fields are guarded by the balancer's lock.
type backend struct {
	node  *node
	ready bool
	taken int // connections that it was given
}

// startBalancer starts a balancer without nodes. It lasts until the end of the test.
func startBalancer(t *testing.T) *balancer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	b := &balancer{listener: listener, stop: stop, conns: make(map[net.Conn]struct{})}
	b.wg.Go(b.accept)
	b.wg.Go(func() { b.check(ctx) })
	t.Cleanup(b.close)
	return b
}

func (b *balancer) address() string { return b.listener.Addr().String() }

// add gives the balancer another node, which is ready.
func (b *balancer) add(n *node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes = append(b.nodes, &backend{node: n, ready: true})
}

// taken returns how many connections each node was given.
func (b *balancer) taken() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	var counts []int
	for _, n := range b.nodes {
		counts = append(counts, n.taken)
	}
	return counts
}

func (b *balancer) accept() {
	for {
		client, err := b.listener.Accept()
		if err != nil {
			return // closed
		}
		b.wg.Go(func() { b.serve(client.(*net.TCPConn)) })
	}
}

func (b *balancer) serve(client *net.TCPConn) {
	defer client.Close()
	address, ok := b.pick()
	if !ok {
		return
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	defer server.Close()
	if !b.keep(client, server) {
		return
	}
	defer b.forget(client, server)
	var passing sync.WaitGroup
	passing.Go(func() { pass(client, server) })
	passing.Go(func() { pass(server, client) })
	passing.Wait()
}

// pass passes on what comes from one end, and then that it has ended.
func pass(from, to *net.TCPConn) {
	io.Copy(to, from)
	to.CloseWrite()
}

// pick returns the address of the node whose turn it is.
func (b *balancer) pick() (address string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.nodes {
		n := b.nodes[b.next%len(b.nodes)]
		b.next++
		if n.ready {
			n.taken++
			return n.node.address, true
		}
	}
	return "", false
}

// check goes on asking the nodes whether they are ready, until ctx ends.
func (b *balancer) check(ctx context.Context) {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		b.mu.Lock()
		nodes := b.nodes
		b.mu.Unlock()
		for _, n := range nodes {
			ready := n.node.ready(ctx) == nil
			b.mu.Lock()
			n.ready = ready
			b.mu.Unlock()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// keep remembers a connection's two ends for close, which may have come before.
func (b *balancer) keep(ends ...net.Conn) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range ends {
		b.conns[c] = struct{}{}
	}
	return !b.ended
}

func (b *balancer) forget(ends ...net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range ends {
		delete(b.conns, c)
	}
}

func (b *balancer) close() {
	b.stop()
	b.listener.Close()
	b.mu.Lock()
	b.ended = true
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}
