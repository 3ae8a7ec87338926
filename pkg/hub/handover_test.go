package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/redisplane"
	"github.com/heliograph/heliograph/pkg/peer"
	"github.com/heliograph/heliograph/pkg/protocol"
)

var clusterKeys = [][]byte{[]byte("a key of the cluster, of 32 bytes")}

// A berth is a node whose connections may be handed over: it has peers.
type berth struct {
	*Hub
	ledger  *ledger
	address string // of the public listener
	// calls, if it is set, is asked about each call from another node before the node is.
	calls atomic.Pointer[func(call string) error]
}

// berths starts a node on each of the planes.
func berths(t *testing.T, planes []backplane.Backplane, options ...Option) []*berth {
	t.Helper()
	var all []*berth
	for _, plane := range planes {
		b := &berth{ledger: newLedger()}
		peers, err := peer.New(peer.Config{Self: plane.NodeID(), Keys: clusterKeys})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(peers.Close)
		private := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if f := b.calls.Load(); f != nil {
				if err := (*f)(strings.TrimPrefix(r.URL.Path, "/handover/")); err != nil {
					panic(http.ErrAbortHandler)
				}
			}
			peers.Handler(b.Hub).ServeHTTP(w, r)
		}))
		t.Cleanup(private.Close)
		plane.Advertise(private.URL)
		b.Hub, b.address = serveStateful(t, b.ledger, append([]Option{
			WithBackplane(plane), WithClusterKeys(clusterKeys...), WithPeers(peers), WithName("ledger"),
		}, options...)...)
		all = append(all, b)
	}
	for _, b := range all {
		await.Until(t, "the node knows the others", func() error {
			nodes, err := b.attachment.Nodes(t.Context())
			for _, n := range nodes {
				if n.Address == "" {
					err = errors.New("no address")
				}
			}
			if err == nil && len(nodes) != len(planes) {
				err = fmt.Errorf("knows %d of %d", len(nodes), len(planes))
			}
			return err
		})
	}
	return all
}

// onBus starts nodes in one process.
func onBus(t *testing.T, nodes int, options ...Option) []*berth {
	t.Helper()
	var bus backplane.Bus
	var planes []backplane.Backplane
	for range nodes {
		plane := bus.Join()
		t.Cleanup(func() { plane.Close() })
		planes = append(planes, plane)
	}
	return berths(t, planes, options...)
}

// onRedis starts nodes on one Redis.
func onRedis(t *testing.T, nodes int, options ...Option) []*berth {
	t.Helper()
	redis := redistest.Start(t)
	var planes []backplane.Backplane
	for range nodes {
		plane, err := redisplane.New(redisplane.Options{
			URL: redis.URL(), Keys: clusterKeys, ProbeInterval: time.Second, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { plane.Close() })
		planes = append(planes, plane)
	}
	return berths(t, planes, options...)
}

// moor connects a client to the first of the nodes, which then comes back to any.
func moor(t *testing.T, nodes []*berth, user string, p protocol.Protocol) *survivor {
	t.Helper()
	s := survive(t, nodes[0].address, "user="+user, p, noFuse)
	s.nodes = nil
	for _, b := range nodes {
		s.nodes = append(s.nodes, b.address)
	}
	s.send(&protocol.Invocation{InvocationID: "join", Target: "Join", Arguments: []any{user}})
	s.expect("answerjoin")
	return s
}

// heldBy returns the node that holds the connection.
func heldBy(nodes []*berth, id string) *berth {
	for _, b := range nodes {
		if b.registry.connection(id) != nil {
			return b
		}
	}
	return nil
}

// fleets are the ways to connect nodes.
var fleets = map[string]func(t *testing.T, nodes int, options ...Option) []*berth{"in process": onBus, "Redis": onRedis, "partitions": onPartitions}

func TestHandOver(t *testing.T) {
	for name, start := range fleets {
		for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
			t.Run(name+"/"+p.Name(), func(t *testing.T) { testHandOver(t, start(t, 2), p) })
		}
	}
}

// testHandOver has a client be handed over by a drain, and checks that it goes on.
func testHandOver(t *testing.T, nodes []*berth, p protocol.Protocol) {
	s := moor(t, nodes, "ada", p)
	s.send(say(1))
	s.expect("Heard1", "answer1")
	nodes[0].Drain(t.Context(), 0)
	if heldBy(nodes, s.id) != nodes[1] {
		t.Fatal("the other node does not hold the connection")
	}
	for n, b := range nodes {
		for _, to := range []ClientProxy{b.Clients().Client(s.id).ClientProxy, b.Clients().User("ada"), b.Clients().Group("ada")} {
			if err := to.Send(t.Context(), "Heard", 10+n); err != nil {
				t.Error(err)
			}
		}
	}
	var heard []string
	for range 6 {
		heard = append(heard, s.take())
	}
	slices.Sort(heard) // what different nodes send has no order
	if want := []string{"Heard10", "Heard10", "Heard10", "Heard11", "Heard11", "Heard11"}; !slices.Equal(heard, want) {
		t.Errorf("the client heard %v", heard)
	}
	s.send(say(2))
	s.expect("Heard2", "answer2")
	if got := slices.Concat(nodes[0].ledger.of(s.id), nodes[1].ledger.of(s.id)); !slices.Equal(got, []int{1, 2}) {
		t.Errorf("the hubs heard %v", got)
	}
	if cuts := s.cuts.Load(); cuts != 1 {
		t.Errorf("the client was cut %d times", cuts)
	}
	if err := nodes[1].CloseConnection(t.Context(), s.id); err != nil {
		t.Error(err)
	}
	s.expect(`close"",false`)
	nodes[1].ledger.awaitGone(t, nil)
	if left := nodes[0].ledger.left(); left != nil {
		t.Errorf("OnDisconnected was called on the node that was left: %v", left)
	}
	if n := testutil.ToFloat64(nodes[0].metrics.connections); n != 0 {
		t.Errorf("the node that was left counts %v connections", n)
	}
	if testutil.ToFloat64(nodes[0].metrics.handedOver) != 1 || testutil.ToFloat64(nodes[1].metrics.takenOver) != 1 {
		t.Error("the hand-over was not counted")
	}
}

// While connections are handed over again and again, all that is sent to them, by whatever
// node and selector, and all that they send, arrives once and in order.
func TestStormOfHandOvers(t *testing.T) {
	for name, start := range fleets {
		t.Run(name, func(t *testing.T) { testStormOfHandOvers(t, start(t, 3)) })
	}
}

func testStormOfHandOvers(t *testing.T, nodes []*berth) {
	const clients, rounds, handOvers = 6, 400, 12
	var all sync.WaitGroup
	for i := range clients {
		p := []protocol.Protocol{protocol.JSON, protocol.MessagePack}[i%2]
		user := fmt.Sprint("user", i)
		s := moor(t, nodes, user, p)
		expected := rounds * (2 + 3*len(nodes))
		for n, b := range nodes {
			all.Go(func() {
				for round := range rounds {
					for kind, to := range map[string]ClientProxy{
						"Client": b.Clients().Client(s.id).ClientProxy, "User": b.Clients().User(user), "Group": b.Clients().Group(user),
					} {
						if err := to.Send(t.Context(), kind+"Of"+string(rune('A'+n)), round); err != nil {
							t.Error(err)
						}
					}
					time.Sleep(time.Millisecond) // so that it goes on for some hand-overs
				}
			})
		}
		unanswered, finished := make(chan struct{}, 20), make(chan struct{})
		all.Go(func() {
			for n := range rounds {
				select {
				case unanswered <- struct{}{}:
					s.send(say(n))
				case <-finished:
				}
			}
		})
		all.Go(func() {
			defer close(finished)
			next := map[string]int{}
			for range expected {
				text := s.take()
				kind := strings.TrimRight(text, "0123456789")
				if want := fmt.Sprint(kind, next[kind]); text != want {
					t.Errorf("%s: got %s, want %s; had %v", user, text, want, next)
					return
				}
				next[kind]++
				if kind == "answer" {
					<-unanswered
				}
				if rand.IntN(30) == 0 {
					s.acknowledge()
				}
			}
		})
		all.Go(func() {
			for range handOvers {
				from := heldBy(nodes, s.id)
				if from == nil {
					t.Errorf("%s: nobody holds it", user)
					return
				}
				all, err := from.attachment.Nodes(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				to := slices.DeleteFunc(all, func(n backplane.NodeState) bool { return n.ID == from.plane.NodeID() })
				from.handOver(t.Context(), from.registry.connection(s.id), to)
				s.awaitBack(nodes)
			}
		})
	}
	all.Wait()
	for _, b := range nodes {
		if n := testutil.ToFloat64(b.metrics.notHandedOver); n != 0 {
			t.Errorf("%v hand-overs failed", n)
		}
	}
}

// awaitBack waits until the client has come back to the node that holds it.
func (s *survivor) awaitBack(nodes []*berth) {
	s.t.Helper()
	await.Until(s.t, "the client is back", func() error {
		if b := heldBy(nodes, s.id); b == nil || b.registry.connection(s.id).out.away() {
			return errors.New("it is not")
		}
		return nil
	})
}
