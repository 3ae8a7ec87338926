package backplane

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Bus joins nodes in one process to a cluster. Nothing leaves the process and no
// envelopes are made, since nothing can come late or twice.
//
// What is published waits in a queue of each node that it is for, all or none of them,
// until that node's receive loop delivers it. So all nodes see one order over all
// channels. To a publisher's own node, if nothing is being delivered there, Publish
// delivers itself: to wake a loop for it would cost more than the rest.
//
// The zero Bus is ready for use. It may be used concurrently.
type Bus struct {
	mu       sync.Mutex               // guards all nodes and attachments; never held across Deliver
	attached map[string][]*attachment // by prefix

	homes homeTable
}

// Join adds a node to the bus.
func (b *Bus) Join() *Memory { return &Memory{bus: b, id: rand.Text()} }

// maxQueued is how many bytes may wait for one node's receive loop before publishers
// wait for room. Each publication may go beyond it once.
const maxQueued = 8 << 20

// queuedOverhead is what a queued body counts beyond its bytes.
const queuedOverhead = 64

// maxSpare is how many deliveries the memory that is kept for the next ones may have.
const maxSpare = 64

// Memory is the in-process [Backplane]: a node of a [Bus]. It is always healthy until
// it is closed, and a subscription is in force as soon as Subscribe returns. Publish
// waits while 8 MiB wait for delivery by one of the nodes that it is for; as much again
// may be in delivery. When its context ends first, the body has reached none of them.
type Memory struct {
	bus  *Bus
	id   string
	loop sync.WaitGroup // receive, while there is something in the queue; publishers that deliver

	// Guarded by bus.mu.
	attachments map[string]*attachment // by prefix
	queue       []delivery
	queued      int           // bytes in queue, overhead included
	room        chan struct{} // closed when the queue has room; nil while nobody waits
	receiving   bool          // receive runs, or a publisher delivers
	spare       []delivery    // memory for a publisher's deliveries; empty
	address     string        // as advertised
	closed      bool
}

// A delivery is a body on its way to one attachment, or the news that a node has left.
type delivery struct {
	to      *attachment
	channel Channel
	body    []byte // shared with other deliveries
	left    string // the node; empty: none
}

func (d *delivery) deliver() {
	switch {
	case d.to.hasEnded():
	case d.left == "":
		d.to.receiver.Deliver(d.channel, d.body)
	default:
		if w, ok := d.to.receiver.(NodeWatcher); ok {
			w.NodeLeft(d.left)
		}
	}
}

// NewMemory returns a node on a bus of its own.
func NewMemory() *Memory { return new(Bus).Join() }

// NodeID implements [Backplane].
func (m *Memory) NodeID() string { return m.id }

// Advertise implements [Backplane].
func (m *Memory) Advertise(address string) {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	m.address = address
}

// Healthy implements [Backplane].
func (m *Memory) Healthy() error {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	return nil
}

// Heard implements [Backplane].
func (m *Memory) Heard() time.Time {
	if m.Healthy() != nil {
		return time.Time{}
	}
	return time.Now()
}

// Others implements [Backplane].
func (m *Memory) Others() []NodeState { return nil }

// Attach implements [Backplane].
func (m *Memory) Attach(prefix string, r Receiver) (Attachment, error) {
	if err := CheckPrefix(prefix); err != nil {
		return nil, fmt.Errorf("attach: %w", err)
	}
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	switch {
	case m.closed:
		return nil, fmt.Errorf("attach %q: %w", prefix, ErrClosed)
	case m.attachments[prefix] != nil:
		return nil, fmt.Errorf("attach %q: the prefix is taken", prefix)
	}
	a := &attachment{
		node:     m,
		prefix:   prefix,
		receiver: r,
		ended:    make(chan struct{}),
		holders:  map[Channel]int{All: 1},
	}
	if m.attachments == nil {
		m.attachments = make(map[string]*attachment)
	}
	m.attachments[prefix] = a
	if m.bus.attached == nil {
		m.bus.attached = make(map[string][]*attachment)
	}
	m.bus.attached[prefix] = append(m.bus.attached[prefix], a)
	return a, nil
}

// Close implements [Backplane].
func (m *Memory) Close() error {
	m.bus.mu.Lock()
	m.closed = true
	for _, a := range m.attachments {
		a.end()
	}
	m.bus.mu.Unlock()
	m.loop.Wait()
	return nil
}

// enqueue is called with bus.mu held. The queue may be full: who calls has looked.
func (m *Memory) enqueue(d delivery) {
	m.queue = append(m.queue, d)
	m.queued += len(d.body) + queuedOverhead
	if !m.receiving {
		m.receiving = true
		m.loop.Go(m.receive) // under the lock, so never after Close has begun to wait
	}
}

// receive delivers what is in the queue, and ends when that is empty.
func (m *Memory) receive() {
	var batch []delivery
	for {
		batch = m.take(batch)
		if len(batch) == 0 {
			return
		}
		for _, d := range batch {
			d.deliver()
		}
		clear(batch) // so that it keeps no bodies alive
	}
}

// receiveOwn delivers what a publisher, who calls it, has just published to its own node,
// and no more: for what has been published meanwhile it starts receive.
func (m *Memory) receiveOwn(own []delivery) {
	defer m.loop.Done()
	defer m.goOn(own)
	for _, d := range own {
		d.deliver()
	}
}

// goOn ends receiveOwn, also if a Deliver ended the publisher's goroutine.
func (m *Memory) goOn(own []delivery) {
	clear(own)
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	if cap(own) <= maxSpare {
		m.spare = own[:0]
	}
	if m.receiving = len(m.queue) > 0; m.receiving {
		m.loop.Go(m.receive)
	}
}

// take empties the queue, for which it leaves the memory of the last batch.
func (m *Memory) take(last []delivery) []delivery {
	m.bus.mu.Lock()
	defer m.bus.mu.Unlock()
	batch := m.queue
	m.queue, m.queued = last[:0], 0
	if m.room != nil {
		close(m.room)
		m.room = nil
	}
	m.receiving = len(batch) > 0
	return batch
}

// attachment implements [Attachment].
type attachment struct {
	node     *Memory
	prefix   string
	receiver Receiver
	ended    chan struct{}   // closed by end, under bus.mu
	holders  map[Channel]int // guarded by bus.mu; never 0; nil once ended
}

// Partition implements [Attachment].
func (a *attachment) Partition(Channel) int { return 0 }

// Publish implements [Attachment].
func (a *attachment) Publish(ctx context.Context, body []byte, channels ...Channel) error {
	_, err := a.publishWhenRoom(ctx, body, channels)
	return err
}

func (a *attachment) publishWhenRoom(ctx context.Context, body []byte, channels []Channel) (deliveries int, err error) {
	body = bytes.Clone(body)
	for ctx.Err() == nil {
		n, own, room, err := a.publish(body, channels)
		switch {
		case err != nil:
			return 0, fmt.Errorf("publish: %w: %w", ErrNotSent, err)
		case len(own) > 0:
			a.node.receiveOwn(own)
			return n, nil
		case room == nil:
			return n, nil
		}
		select {
		case <-room:
		case <-a.ended:
		case <-ctx.Done():
		}
	}
	return 0, fmt.Errorf("publish: %w: %w", ErrNotSent, ctx.Err())
}

// PublishCounted implements [Attachment].
func (a *attachment) PublishCounted(ctx context.Context, body []byte, ch Channel) (int, error) {
	return a.publishWhenRoom(ctx, body, []Channel{ch})
}

// PublishKept implements [Attachment]. In process, no node is ever deaf.
func (a *attachment) PublishKept(ctx context.Context, operation []byte, ch Channel) (int, error) {
	return a.PublishCounted(ctx, operation, ch)
}

// Nodes implements [Attachment].
func (a *attachment) Nodes(context.Context) ([]NodeState, error) {
	bus := a.node.bus
	bus.mu.Lock()
	defer bus.mu.Unlock()
	if a.hasEnded() {
		return nil, fmt.Errorf("list nodes: %w", ErrClosed)
	}
	var nodes []NodeState
	for _, of := range bus.attached[a.prefix] {
		nodes = append(nodes, of.node.state())
	}
	return nodes, nil
}

// Node implements [Attachment].
func (a *attachment) Node(_ context.Context, id string) (NodeState, bool, error) {
	bus := a.node.bus
	bus.mu.Lock()
	defer bus.mu.Unlock()
	if a.hasEnded() {
		return NodeState{}, false, fmt.Errorf("find node: %w", ErrClosed)
	}
	for _, of := range bus.attached[a.prefix] {
		if of.node.id == id {
			return of.node.state(), true, nil
		}
	}
	return NodeState{}, false, nil
}

// state is called with bus.mu held.
func (m *Memory) state() NodeState {
	return NodeState{ID: m.id, Hearing: true, Address: m.address}
}

// publish hands body to all nodes that it is for, or to none: then it returns an error
// or a channel that is closed when there is room for more. Deliveries of its own are the
// caller's to pass to receiveOwn.
func (a *attachment) publish(body []byte, channels []Channel) (deliveries int, own []delivery, room <-chan struct{}, err error) {
	bus := a.node.bus
	bus.mu.Lock()
	defer bus.mu.Unlock()
	if a.hasEnded() {
		return 0, nil, nil, ErrClosed
	}
	all := bus.attached[a.prefix]
	for _, to := range all {
		if n := to.node; n.queued >= maxQueued && to.holdsAny(channels) {
			if n.room == nil {
				n.room = make(chan struct{})
			}
			return 0, nil, n.room, nil
		}
	}
	idle := !a.node.receiving
	if idle {
		own, a.node.spare = a.node.spare, nil
	}
	for _, ch := range channels {
		for _, to := range all {
			switch d := (delivery{to: to, channel: ch, body: body}); {
			case to.holders[ch] == 0:
				continue
			case idle && to.node == a.node:
				own = append(own, d)
			default:
				to.node.enqueue(d)
			}
			deliveries++
		}
	}
	switch {
	case len(own) > 0:
		a.node.receiving = true
		a.node.loop.Add(1) // under the lock, so never after Close has begun to wait
	case idle:
		a.node.spare = own
	}
	return deliveries, own, nil, nil
}

func (a *attachment) holdsAny(channels []Channel) bool {
	return slices.ContainsFunc(channels, func(ch Channel) bool { return a.holders[ch] > 0 })
}

// Subscribe implements [Attachment].
func (a *attachment) Subscribe(channels ...Channel) (wait func(context.Context) error) {
	a.node.bus.mu.Lock()
	defer a.node.bus.mu.Unlock()
	if !a.hasEnded() {
		for _, ch := range channels {
			a.holders[ch]++
		}
	}
	return a.subscribed
}

// subscribed is what waits for subscriptions, which are in force already.
func (a *attachment) subscribed(context.Context) error {
	if a.hasEnded() {
		return fmt.Errorf("subscribe: %w", ErrClosed)
	}
	return nil
}

// Unsubscribe implements [Attachment].
func (a *attachment) Unsubscribe(channels ...Channel) {
	a.node.bus.mu.Lock()
	defer a.node.bus.mu.Unlock()
	for _, ch := range channels {
		switch n := a.holders[ch]; n {
		case 0:
		case 1:
			delete(a.holders, ch)
		default:
			a.holders[ch] = n - 1
		}
	}
}

// Detach implements [Attachment].
func (a *attachment) Detach() {
	a.node.bus.mu.Lock()
	defer a.node.bus.mu.Unlock()
	a.end()
}

// end is called with bus.mu held.
func (a *attachment) end() {
	if a.hasEnded() {
		return
	}
	close(a.ended)
	a.holders = nil
	delete(a.node.attachments, a.prefix)
	bus := a.node.bus
	rest := slices.DeleteFunc(bus.attached[a.prefix], func(other *attachment) bool { return other == a })
	if bus.attached[a.prefix] = rest; len(rest) == 0 {
		delete(bus.attached, a.prefix)
	}
	for _, other := range rest {
		if !other.node.closed {
			other.node.enqueue(delivery{to: other, left: a.node.id})
		}
	}
}

func (a *attachment) hasEnded() bool {
	select {
	case <-a.ended:
		return true
	default:
		return false
	}
}
