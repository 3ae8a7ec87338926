package backplanetest

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// A message is what a receiver is told.
type message struct {
	channel backplane.Channel
	body    string
}

func (m message) String() string {
	return fmt.Sprintf("%.40q on %.40q", m.body, string(m.channel))
}

// Markers are bodies of messages that tests wait for and do not count. No two are equal.
const markerPrefix = "marker "

var markers atomic.Int64

func newMarker() string { return markerPrefix + strconv.FormatInt(markers.Add(1), 10) }

// A recorder is a receiver that remembers. It fails the test if calls of Deliver
// overlap, or if a body changes after its delivery.
type recorder struct {
	t    *testing.T
	busy atomic.Bool

	mu       sync.Mutex
	seen     map[message]int
	received map[backplane.Channel][]string // without markers
	count    int                            // in received
	bodies   [][]byte                       // as delivered
	copies   []string                       // of bodies
	left     []string                       // nodes
	changed  chan struct{}                  // closed and replaced by each Deliver
}

func newRecorder(t *testing.T) *recorder {
	r := &recorder{
		t:        t,
		seen:     make(map[message]int),
		received: make(map[backplane.Channel][]string),
		changed:  make(chan struct{}),
	}
	t.Cleanup(r.checkBodies)
	return r
}

// Deliver implements [backplane.Receiver].
func (r *recorder) Deliver(ch backplane.Channel, body []byte) {
	if !r.busy.CompareAndSwap(false, true) {
		r.t.Error("Deliver called while a call was in progress")
	}
	defer r.busy.Store(false)
	runtime.Gosched() // a call that would overlap gets its chance

	r.mu.Lock()
	defer r.mu.Unlock()
	m := message{ch, string(body)}
	r.seen[m]++
	if !strings.HasPrefix(m.body, markerPrefix) {
		r.received[ch] = append(r.received[ch], m.body)
		r.count++
		r.bodies = append(r.bodies, body)
		r.copies = append(r.copies, m.body)
	}
	close(r.changed)
	r.changed = make(chan struct{})
}

// NodeLeft implements [backplane.NodeWatcher].
func (r *recorder) NodeLeft(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = append(r.left, id)
	close(r.changed)
	r.changed = make(chan struct{})
}

// NodeDied implements [backplane.NodeWatcher].
func (r *recorder) NodeDied(id string) { r.t.Errorf("node %s died, which was closed", id) }

// awaitLeft waits until the nodes have left, each as often as it is given, and fails the
// test if others have.
func (r *recorder) awaitLeft(t *testing.T, want ...backplane.Backplane) {
	t.Helper()
	var ids []string
	for _, p := range want {
		ids = append(ids, p.NodeID())
	}
	r.until(t, fmt.Sprintf("%q have left", ids), func() bool { return len(r.left) >= len(ids) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.left, ids) {
		t.Errorf("%q have left, want %q", r.left, ids)
	}
}

func (r *recorder) checkBodies() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, body := range r.bodies {
		if string(body) != r.copies[i] {
			r.t.Errorf("body %.40q has become %.40q", r.copies[i], body)
			return
		}
	}
}

func (r *recorder) has(m message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[m] > 0
}

// any reports whether anything has arrived, be it a marker.
func (r *recorder) any() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.seen) > 0
}

// calls returns how often Deliver was called but for markers.
func (r *recorder) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// await waits until the message has arrived.
func (r *recorder) await(t *testing.T, m message) {
	t.Helper()
	r.until(t, m.String()+" has arrived", func() bool { return r.seen[m] > 0 })
}

// awaitCount waits until n messages have arrived that are no markers.
func (r *recorder) awaitCount(t *testing.T, n int) {
	t.Helper()
	r.until(t, fmt.Sprint(n, " messages have arrived"), func() bool { return r.count >= n })
}

// until looks with every message whether the condition, which is called with mu held,
// has become true.
func (r *recorder) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(await.Deadline)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		ok, changed, count := condition(), r.changed, r.count
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			t.Fatalf("waited %v in vain until %s; %d messages have", await.Deadline, what, count)
		}
	}
}

// bodiesOn returns what has arrived on the channel, without markers.
func (r *recorder) bodiesOn(ch backplane.Channel) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.received[ch])
}

// expect fails the test if the messages are not exactly those that have arrived: on
// each channel in this order, and each as often as here. Markers do not count.
func (r *recorder) expect(t *testing.T, want ...message) {
	t.Helper()
	r.expectOn(t, want...)
	r.mu.Lock()
	defer r.mu.Unlock()
	for ch, got := range r.received {
		if !slices.ContainsFunc(want, func(m message) bool { return m.channel == ch }) {
			t.Fatalf("received %.40q on %.40q, want nothing there", got[0], string(ch))
		}
	}
}

// expectOn is expect for only those channels that the messages are on.
func (r *recorder) expectOn(t *testing.T, want ...message) {
	t.Helper()
	byChannel := make(map[backplane.Channel][]string)
	for _, m := range want {
		byChannel[m.channel] = append(byChannel[m.channel], m.body)
	}
	for ch, bodies := range byChannel {
		got := r.bodiesOn(ch)
		for i := range max(len(got), len(bodies)) {
			switch {
			case i >= len(got):
				t.Fatalf("received %d messages on %.40q, and then not %.40q", i, string(ch), bodies[i])
			case i >= len(bodies):
				t.Fatalf("received %.40q on %.40q, after all %d that were to come", got[i], string(ch), i)
			case got[i] != bodies[i]:
				t.Fatalf("received %.40q as message %d on %.40q, want %.40q", got[i], i, string(ch), bodies[i])
			}
		}
	}
}

// holdGate is the body at which a gate holds Deliver.
const holdGate = markerPrefix + "hold"

// A gate is a receiver that, once, does not return from Deliver until it is opened.
type gate struct {
	*recorder
	held   chan struct{} // closed by hold when Deliver is held
	hold   func()
	opened chan struct{} // closed by open
	open   func()
	left   atomic.Bool // the held Deliver is about to return
}

// newGate returns a gate that is open at the end of the test at the latest.
func newGate(t *testing.T) *gate {
	g := &gate{recorder: newRecorder(t), held: make(chan struct{}), opened: make(chan struct{})}
	g.hold = sync.OnceFunc(func() { close(g.held) })
	g.open = sync.OnceFunc(func() { close(g.opened) })
	t.Cleanup(g.open)
	return g
}

// Deliver implements [backplane.Receiver].
func (g *gate) Deliver(ch backplane.Channel, body []byte) {
	g.recorder.Deliver(ch, body)
	if string(body) == holdGate {
		g.hold()
		<-g.opened
		g.left.Store(true)
	}
}

func (g *gate) awaitHeld(t *testing.T) {
	t.Helper()
	returns(t, "a held Deliver", func() { <-g.held })
}
