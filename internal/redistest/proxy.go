package redistest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A Direction is one of the two ways through a [Pipe].
type Direction int

const (
	ToServer Direction = iota
	ToClient
)

// A Proxy stands between clients and a server, passes everything on, and misbehaves
// when it is told to. Its methods may be called concurrently.
type Proxy struct {
	listener net.Listener
	server   atomic.Pointer[Server]
	delay    atomic.Int64 // nanoseconds, see DelaySubscribers
	latency  atomic.Int64 // nanoseconds, see Delay
	refuse   atomic.Bool
	wg       sync.WaitGroup // the accepting goroutine and the pipes' own

	mu     sync.Mutex
	pipes  map[*Pipe]struct{}
	frozen bool // new pipes are frozen from their start
	closed bool
	cuts   [2]*countdown // by Direction; nil: none
}

// A countdown ends one pipe.
type countdown struct {
	bytes int           // that may still pass
	over  chan struct{} // closed when the pipe has been cut
}

// NewProxy starts a proxy in front of the server, which lasts until the end of the
// test.
func NewProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	p := &Proxy{listener: listener, pipes: make(map[*Pipe]struct{})}
	p.server.Store(s)
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// URL returns the proxy's address as redis://, without credentials.
func (p *Proxy) URL() string { return "redis://" + p.listener.Addr().String() }

// DelaySubscribers makes everything that a client writes on a connection on which it
// subscribes, from its first SUBSCRIBE on, arrive that much later. Nothing else is
// delayed.
func (p *Proxy) DelaySubscribers(d time.Duration) { p.delay.Store(int64(d)) }

// Delay makes everything that is sent from now on, in either direction, arrive that much
// later.
func (p *Proxy) Delay(d time.Duration) { p.latency.Store(int64(d)) }

// CutAfter lets n more bytes pass in the direction, on whatever connections, and cuts the
// one on which the next would: in the middle of what is sent, or of greeting the server. The
// channel is closed then. There is one such cut at a time for each direction.
func (p *Proxy) CutAfter(d Direction, n int) (over <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts[d] = &countdown{bytes: n, over: make(chan struct{})}
	return p.cuts[d].over
}

// count returns how many of n bytes may pass in the direction, and if those are not all,
// what to close once the pipe has been cut.
func (p *Proxy) count(d Direction, n int) (may int, over chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.cuts[d]
	if c == nil {
		return n, nil
	}
	if n <= c.bytes {
		c.bytes -= n
		return n, nil
	}
	p.cuts[d] = nil
	return c.bytes, c.over
}

// Refuse makes the proxy hang up on new connections, or stop doing so.
func (p *Proxy) Refuse(refuse bool) { p.refuse.Store(refuse) }

// Redirect makes new connections lead to another server, as a name does that has come
// to mean another address. The connections there are stay.
func (p *Proxy) Redirect(s *Server) { p.server.Store(s) }

// Cut closes all connections there are, at both ends.
func (p *Proxy) Cut() {
	for _, pipe := range p.all() {
		pipe.Cut()
	}
}

// Freeze holds everything back, in both directions, on the connections there are and
// on new ones, while all of them stay open: what a network does that loses every packet.
func (p *Proxy) Freeze() {
	p.mu.Lock()
	p.frozen = true
	p.mu.Unlock()
	for _, pipe := range p.all() {
		pipe.Freeze(ToServer)
		pipe.Freeze(ToClient)
	}
}

// Thaw ends Freeze: what was held back goes on.
func (p *Proxy) Thaw() {
	p.mu.Lock()
	p.frozen = false
	p.mu.Unlock()
	for _, pipe := range p.all() {
		pipe.Thaw(ToServer)
		pipe.Thaw(ToClient)
	}
}

// Subscribers returns the connections on which a client has subscribed.
func (p *Proxy) Subscribers() []*Pipe {
	return slices.DeleteFunc(p.all(), func(pipe *Pipe) bool { return !pipe.subscriber.Load() })
}

// Others returns the connections on which no client has subscribed.
func (p *Proxy) Others() []*Pipe {
	return slices.DeleteFunc(p.all(), func(pipe *Pipe) bool { return pipe.subscriber.Load() })
}

// Publishers returns the connections on which a client has published.
func (p *Proxy) Publishers() []*Pipe {
	return slices.DeleteFunc(p.all(), func(pipe *Pipe) bool { return !pipe.publisher.Load() })
}

func (p *Proxy) all() []*Pipe {
	p.mu.Lock()
	defer p.mu.Unlock()
	pipes := make([]*Pipe, 0, len(p.pipes))
	for pipe := range p.pipes {
		pipes = append(pipes, pipe)
	}
	return pipes
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		if p.refuse.Load() {
			client.Close()
			continue
		}
		server, err := net.Dial("tcp", p.server.Load().Addr())
		if err != nil {
			client.Close()
			continue
		}
		p.open(client.(*net.TCPConn), server.(*net.TCPConn))
	}
}

func (p *Proxy) open(client, server *net.TCPConn) {
	pipe := &Pipe{proxy: p, client: client, server: server, cut: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		client.Close()
		server.Close()
		return
	}
	p.pipes[pipe] = struct{}{}
	if p.frozen {
		pipe.Freeze(ToServer)
		pipe.Freeze(ToClient)
	}
	p.wg.Go(func() {
		pipe.run()
		p.mu.Lock()
		delete(p.pipes, pipe)
		p.mu.Unlock()
	})
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	p.Cut()
	p.wg.Wait()
}

// A Pipe is one connection through a [Proxy].
type Pipe struct {
	proxy          *Proxy
	client, server *net.TCPConn
	subscriber     atomic.Bool
	publisher      atomic.Bool
	gates          [2]gate       // by Direction
	cut            chan struct{} // closed by Cut
	cutOnce        sync.Once
}

// Cut closes the connection at both ends. What has been held back is lost.
func (p *Pipe) Cut() {
	p.cutOnce.Do(func() { close(p.cut) })
	p.client.Close()
	p.server.Close()
}

// Freeze holds back what is sent in the direction from now on. Even if the sender
// hangs up, it arrives after Thaw.
func (p *Pipe) Freeze(d Direction) { p.gates[d].shut() }

// Thaw ends Freeze.
func (p *Pipe) Thaw(d Direction) { p.gates[d].open() }

// run passes bytes on until both directions have ended.
func (p *Pipe) run() {
	var wg sync.WaitGroup
	wg.Go(func() { p.pass(ToServer, p.client, p.server) })
	wg.Go(func() { p.pass(ToClient, p.server, p.client) })
	wg.Wait()
	p.client.Close()
	p.server.Close()
}

// A chunk is what was read at once.
type chunk struct {
	due   time.Time
	bytes []byte
}

// maxHeld is how many chunks a direction holds back before it stops reading.
const maxHeld = 4096

// pass passes on what is sent in one direction.
func (p *Pipe) pass(d Direction, from, to *net.TCPConn) {
	held := make(chan chunk, maxHeld)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(held)
		p.read(d, from, held)
	})
	for c := range held {
		if !p.sleep(time.Until(c.due)) || !p.gates[d].pass(p.cut) {
			break
		}
		n, over := p.proxy.count(d, len(c.bytes))
		if _, err := to.Write(c.bytes[:n]); err != nil && over == nil {
			break
		}
		if over != nil {
			p.Cut()
			close(over)
			break
		}
	}
	to.CloseWrite()
	for range held { // the reader must come to its end
	}
}

func (p *Pipe) read(d Direction, from *net.TCPConn, held chan<- chunk) {
	buffer := make([]byte, 64<<10)
	var tail []byte // of what was read before: a command may come in parts
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			c := chunk{bytes: bytes.Clone(buffer[:n]), due: time.Now().Add(time.Duration(p.proxy.latency.Load()))}
			if d == ToServer {
				if !p.subscriber.Load() && !p.publisher.Load() {
					seen := append(tail, c.bytes...)
					p.subscriber.Store(contains(seen, subscribe))
					p.publisher.Store(contains(seen, publish))
					tail = bytes.Clone(seen[max(0, len(seen)-len(subscribe)):])
				}
				if p.subscriber.Load() {
					c.due = c.due.Add(time.Duration(p.proxy.delay.Load()))
				}
			}
			held <- c
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				p.Cut() // reset by the peer, or cut
			}
			return
		}
	}
}

var (
	subscribe = []byte("\r\nsubscribe\r\n")
	publish   = []byte("\r\npublish\r\n") // shorter
)

func contains(b, command []byte) bool { return bytes.Contains(bytes.ToLower(b), command) }

// sleep returns false if the pipe was cut meanwhile.
func (p *Pipe) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.cut:
		return false
	}
}

// A gate lets things pass or holds them. The zero gate is open.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed when the gate opens; nil while it is open
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.opened != nil {
		close(g.opened)
		g.opened = nil
	}
}

// pass returns true once the gate is open, or false if cut is closed before.
func (g *gate) pass(cut <-chan struct{}) bool {
	for {
		g.mu.Lock()
		opened := g.opened
		g.mu.Unlock()
		if opened == nil {
			return true
		}
		select {
		case <-opened:
		case <-cut:
			return false
		}
	}
}
