package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/heliograph/heliograph/pkg/protocol"
)

// A flawed backplane does to a hand-over what it is told to.
type flawed struct {
	backplane.Backplane
	move    atomic.Pointer[func(move func() (bool, error)) (bool, error)] // in place of Homes.Move
	unheard atomic.Bool                                                   // fences are not published
	gate    sync.RWMutex                                                  // while it is locked nothing is delivered
}

func (f *flawed) Attach(prefix string, r backplane.Receiver) (backplane.Attachment, error) {
	a, err := f.Backplane.Attach(prefix, &flawedReceiver{r, r.(backplane.NodeWatcher), f})
	return &flawedAttachment{a, f}, err
}

type flawedReceiver struct {
	backplane.Receiver
	backplane.NodeWatcher
	f *flawed
}

func (r *flawedReceiver) Deliver(ch backplane.Channel, body []byte) {
	r.f.gate.RLock()
	defer r.f.gate.RUnlock()
	r.Receiver.Deliver(ch, body)
}

type flawedAttachment struct {
	backplane.Attachment
	f *flawed
}

func (a *flawedAttachment) PublishCounted(ctx context.Context, body []byte, ch backplane.Channel) (int, error) {
	if a.f.unheard.Load() && strings.HasPrefix(string(ch), "connection:") {
		return 2, nil
	}
	return a.Attachment.PublishCounted(ctx, body, ch)
}

func (a *flawedAttachment) Homes() backplane.Homes { return &flawedHomes{a.Attachment.Homes(), a.f} }

type flawedHomes struct {
	backplane.Homes
	f *flawed
}

func (h *flawedHomes) Move(ctx context.Context, connection string, epoch uint64, to string, life time.Duration) (bool, error) {
	move := func() (bool, error) { return h.Homes.Move(ctx, connection, epoch, to, life) }
	if f := h.f.move.Load(); f != nil {
		return (*f)(move)
	}
	return move()
}

// flawedBerths starts nodes whose backplanes may be flawed.
func flawedBerths(t *testing.T, nodes int) ([]*berth, []*flawed) {
	t.Helper()
	var bus backplane.Bus
	var planes []backplane.Backplane
	var all []*flawed
	for range nodes {
		f := &flawed{Backplane: bus.Join()}
		t.Cleanup(func() { f.Close() })
		planes, all = append(planes, f), append(all, f)
	}
	return berths(t, planes), all
}

// Whatever fails on the way, the client keeps its connection, on one node, or is told to
// make another; OnDisconnected is called once.
func TestHandOverFails(t *testing.T) {
	cut := func(b *berth, calls ...string) {
		f := func(call string) error {
			if name, _, _ := strings.Cut(call, "/"); slices.Contains(calls, name) {
				return errCut
			}
			return nil
		}
		b.calls.Store(&f)
	}
	moves := func(f *flawed, move func(func() (bool, error)) (bool, error)) { f.move.Store(&move) }
	for _, tt := range []struct {
		name  string
		flaw  func(nodes []*berth, planes []*flawed, s *survivor)
		moved bool
	}{
		{"nothing", func([]*berth, []*flawed, *survivor) {}, true},
		{"successor is dead", func(nodes []*berth, _ []*flawed, _ *survivor) { cut(nodes[1], callPrepare, callDrop) }, false},
		{"successor leaves too", func(nodes []*berth, _ []*flawed, _ *survivor) { nodes[1].connections.Refuse() }, false},
		{"successor dies before it has all", func(nodes []*berth, _ []*flawed, _ *survivor) { cut(nodes[1], callComplete) }, false},
		{"successor is not heard to admit", func(nodes []*berth, _ []*flawed, _ *survivor) { cut(nodes[1], callAdmit) }, true},
		{"fence is lost", func(_ []*berth, planes []*flawed, _ *survivor) { planes[1].unheard.Store(true) }, false},
		{"record cannot be moved", func(_ []*berth, planes []*flawed, _ *survivor) {
			moves(planes[0], func(func() (bool, error)) (bool, error) { return false, backplane.ErrUnavailable })
		}, false},
		{"record is another's", func(_ []*berth, planes []*flawed, _ *survivor) {
			moves(planes[0], func(func() (bool, error)) (bool, error) { return false, nil })
		}, false},
		{"record is moved without a word", func(_ []*berth, planes []*flawed, _ *survivor) {
			moves(planes[0], func(move func() (bool, error)) (bool, error) {
				if moved, err := move(); !moved {
					return moved, err
				}
				return false, backplane.ErrUnavailable
			})
		}, true},
		{"closed meanwhile", func(nodes []*berth, planes []*flawed, s *survivor) {
			moves(planes[0], func(func() (bool, error)) (bool, error) {
				nodes[0].Hub.handovers.leavingConnection(s.id).end(closing{allowReconnect: true})
				return false, nil
			})
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nodes, planes := flawedBerths(t, 2)
			s := moor(t, nodes, "ada", protocol.JSON)
			tt.flaw(nodes, planes, s)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			roster, err := nodes[0].attachment.Nodes(ctx)
			if err != nil {
				t.Fatal(err)
			}
			roster = slices.DeleteFunc(roster, func(n backplane.NodeState) bool { return n.ID == nodes[0].plane.NodeID() })
			moved := nodes[0].handOver(ctx, nodes[0].registry.connection(s.id), roster)
			if moved != tt.moved {
				t.Errorf("handed over is %v", moved)
			}
			if moved {
				s.send(say(1))
				s.expect("Heard1", "answer1")
				if err := nodes[1].CloseConnection(t.Context(), s.id, AllowReconnect()); err != nil {
					t.Error(err)
				}
			}
			s.expect(`close"",true`)
			nodes[1].calls.Store(nil) // so that it hears what it is told
			await.Until(t, "nothing is left of it", func() error {
				for n, b := range nodes {
					if left := b.handovers.count(); left != 0 {
						return fmt.Errorf("node %d has %d hand-overs", n, left)
					}
					if left := b.registry.size() + b.registry.channels(); left != 0 {
						return fmt.Errorf("the registry of node %d has %d entries", n, left)
					}
					if left := testutil.ToFloat64(b.metrics.connections); left != 0 {
						return fmt.Errorf("node %d counts %v connections", n, left)
					}
				}
				if gone := len(nodes[0].ledger.left()) + len(nodes[1].ledger.left()); gone != 1 {
					return fmt.Errorf("OnDisconnected has been called %d times", gone)
				}
				return nil
			})
			if moved == (len(nodes[0].ledger.left()) == 1) {
				t.Error("OnDisconnected was called on the wrong node")
			}
		})
	}
}

// leavingConnection returns the connection that is being handed over to another node.
func (t *handovers) leavingConnection(id string) *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leaving[id].c
}

// count returns how many connections are on their way.
func (t *handovers) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.leaving) + len(t.arriving)
}

// Where one node does not take the connection, another does.
func TestHandOverToAnother(t *testing.T) {
	nodes := onBus(t, 3)
	nodes[1].connections.Refuse()
	s := moor(t, []*berth{nodes[0], nodes[2]}, "ada", protocol.MessagePack)
	nodes[0].Drain(t.Context(), 0)
	if heldBy(nodes, s.id) != nodes[2] {
		t.Fatal("the node that could does not hold the connection")
	}
	s.send(say(1))
	s.expect("Heard1", "answer1")
}

// Without stateful reconnect, or without other nodes, the client is told to reconnect.
func TestDrainWithoutHandOver(t *testing.T) {
	nodes := onBus(t, 2)
	plain := connect(t, nodes[0].address, "ada")
	nodes[0].Drain(t.Context(), 0)
	plain.expect(`{"type":7,"allowReconnect":true}`, "closed 1000")

	alone := onBus(t, 1)
	s := moor(t, alone, "ada", protocol.JSON)
	alone[0].Drain(t.Context(), 0)
	s.expect(`close"",true`)
}

// What a client has invoked ends with an error if it does not end in time; what it has
// not begun to invoke runs at the successor.
func TestHandOverOfInvocations(t *testing.T) {
	nodes := onBus(t, 2)
	s := moor(t, nodes, "ada", protocol.JSON)
	s.send(&protocol.Invocation{InvocationID: "slow", Target: "Wait"})
	<-nodes[0].ledger.began
	asked := make(chan error, 1)
	go func() { // ends when the connection is handed over
		_, err := Invoke[int](t.Context(), nodes[1].Clients().Client(s.id), "Heard", 7)
		asked <- err
	}()
	s.expect("Heard7")
	nodes[0].Drain(t.Context(), 0)
	s.expect("answerslowAn unexpected error occurred invoking 'Wait' on the server. HubException: The server is leaving.")
	if err := <-asked; !errors.Is(err, ErrDisconnected) {
		t.Errorf("who asked the client was told %v", err)
	}
	s.send(say(1))
	s.expect("Heard1", "answer1")
	if heldBy(nodes, s.id) != nodes[1] {
		t.Error("it has not been handed over")
	}
}

// A client that is away when its node is drained comes back to the successor.
func TestHandOverWhileAway(t *testing.T) {
	nodes := onBus(t, 2)
	s := moor(t, nodes, "ada", protocol.JSON)
	s.leave(nodes[0].Hub)
	if err := nodes[1].Clients().Group("ada").Send(t.Context(), "Heard", 1); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "it waits for the client", func() error {
		out := &nodes[0].registry.connection(s.id).out
		out.mu.Lock()
		defer out.mu.Unlock()
		if len(out.frames) == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	nodes[0].Drain(t.Context(), 0)
	if err := nodes[0].Clients().Group("ada").Send(t.Context(), "Heard", 2); err != nil {
		t.Fatal(err)
	}
	again := &survivor{
		t: t, protocol: s.protocol, nodes: s.nodes, query: s.query, id: s.id, fuse: noFuse, received: s.received, next: s.next,
		messages: make(chan protocol.Message, 100), ended: make(chan struct{}), unacked: s.unacked, acked: s.acked,
	}
	again.cuts.Store(1)
	if err := again.resume(); err != nil {
		t.Fatal(err)
	}
	go again.run(nil)
	t.Cleanup(again.close)
	again.expect("Heard1", "Heard2")
}

// What is sent to a group after a removal has been acknowledged does not reach the
// client, however that overlaps with a hand-over.
func TestRevocationDuringHandOver(t *testing.T) {
	for name, start := range fleets {
		t.Run(name, func(t *testing.T) {
			nodes := start(t, 3)
			for round := range 30 {
				user := fmt.Sprint("user", round)
				s := moor(t, nodes[:2], user, protocol.JSON)
				done := make(chan bool)
				go func() { // ends with the hand-over
					roster, err := nodes[0].attachment.Nodes(t.Context())
					roster = slices.DeleteFunc(roster, func(n backplane.NodeState) bool { return n.ID != nodes[1].plane.NodeID() })
					done <- err == nil && nodes[0].handOver(t.Context(), nodes[0].registry.connection(s.id), roster)
				}()
				time.Sleep(time.Duration(round) * 200 * time.Microsecond) // so that the rounds meet different steps
				if err := nodes[round%3].Groups().RemoveUser(t.Context(), user, user); err != nil {
					t.Fatal(err)
				}
				if err := nodes[2].Clients().Group(user).Send(t.Context(), "Secret", 1); err != nil {
					t.Fatal(err)
				}
				if !<-done {
					t.Errorf("round %d: not handed over", round)
				}
				if err := nodes[2].Clients().User(user).Send(t.Context(), "End", 1); err != nil {
					t.Fatal(err)
				}
				if got := s.take(); got != "End1" {
					t.Fatalf("round %d: got %s", round, got)
				}
				s.close()
			}
		})
	}
}

// onCall has f called before a call reaches the node, once.
func (b *berth) onCall(name string, f func()) {
	before := b.calls.Load()
	var once sync.Once
	hook := func(call string) error {
		if is, _, _ := strings.Cut(call, "/"); is == name {
			once.Do(f)
		}
		if before != nil {
			return (*before)(call)
		}
		return nil
	}
	b.calls.Store(&hook)
}

// The successor has been told of a group that the client is then removed from, before it
// hears for the client itself.
func TestRemovalThatTheSuccessorMisses(t *testing.T) {
	nodes := onBus(t, 3)
	s := moor(t, nodes[:1], "ada", protocol.JSON)
	s.nodes = []string{nodes[1].address}
	nodes[2].connections.Refuse()
	send := func(to ClientProxy, target string) {
		if err := to.Send(t.Context(), target, 1); err != nil {
			t.Error(err)
		}
	}
	nodes[1].onCall(callPrepare, func() {
		if err := nodes[2].Groups().RemoveUser(t.Context(), "ada", "ada"); err != nil {
			t.Error(err)
		}
	})
	nodes[1].onCall(callComplete, func() {
		send(nodes[2].Clients().Group("ada"), "Secret")
		send(nodes[2].Clients().User("ada"), "Meanwhile")
		await.Until(t, "the successor has heard it", func() error {
			for _, a := range nodes[1].handovers.all() {
				a.taken.mu.Lock()
				defer a.taken.mu.Unlock()
				if len(a.taken.frames) > 0 && a.taken.frames[len(a.taken.frames)-1].channel == backplane.User("ada") {
					return nil
				}
			}
			return errors.New("it has not")
		})
	})
	nodes[0].Drain(t.Context(), 0)
	if heldBy(nodes, s.id) != nodes[1] {
		t.Fatal("not handed over")
	}
	send(nodes[2].Clients().User("ada"), "End")
	s.expect("Meanwhile1", "End1")
}

// all returns the arrivals that there are.
func (t *handovers) all() (all []*arrival) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.arriving {
		all = append(all, a)
	}
	return all
}

// What the successor publishes before it has the connection comes before what it then
// sends directly, however long it takes to be heard.
func TestSendsBeforeAndAfterHandOver(t *testing.T) {
	nodes, planes := flawedBerths(t, 2)
	s := moor(t, nodes, "ada", protocol.JSON)
	there := nodes[1].Clients().Client(s.id)
	send := func(n int) {
		if err := there.Send(t.Context(), "Heard", n); err != nil {
			t.Error(err)
		}
	}
	nodes[1].onCall(callAdmit, func() {
		planes[1].gate.Lock()
		send(1)
	})
	drained := make(chan struct{})
	go func() { // ends with the drain
		defer close(drained)
		nodes[0].Drain(t.Context(), 0)
	}()
	await.Until(t, "it is admitted", func() error {
		if nodes[1].registry.connection(s.id) == nil {
			return errors.New("it is not")
		}
		return nil
	})
	sent := make(chan struct{})
	go func() { // ends when what was sent before is heard
		defer close(sent)
		send(2)
	}()
	select {
	case <-sent: // and has overtaken it
	case <-time.After(100 * time.Millisecond):
	}
	planes[1].gate.Unlock()
	s.expect("Heard1", "Heard2")
	<-sent
	<-drained
}

// A leaving node that loses Redis just before the record is to be moved keeps the
// connection, and closes it; so the client is told, and nobody else has it.
func TestRedisGoneDuringHandOver(t *testing.T) {
	redis := redistest.Start(t)
	var planes []backplane.Backplane
	var proxies []*redistest.Proxy
	for range 2 {
		proxy := redistest.NewProxy(t, redis)
		plane, err := redisplane.New(redisplane.Options{URL: proxy.URL(), Keys: clusterKeys, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { plane.Close() })
		planes, proxies = append(planes, plane), append(proxies, proxy)
	}
	nodes := berths(t, planes)
	s := moor(t, nodes, "ada", protocol.JSON)
	nodes[1].onCall(callComplete, proxies[0].Freeze)
	t.Cleanup(proxies[0].Thaw)
	nodes[0].Drain(t.Context(), 0)
	s.expect(`close"",true`)
	nodes[0].ledger.awaitGone(t, nil)
	await.Until(t, "the successor has forgotten it", func() error {
		if n := nodes[1].handovers.count() + nodes[1].registry.size() + nodes[1].registry.channels(); n != 0 {
			return fmt.Errorf("%d entries", n)
		}
		return nil
	})
	if left := nodes[1].ledger.left(); left != nil {
		t.Errorf("OnDisconnected was called on the successor: %v", left)
	}
}
