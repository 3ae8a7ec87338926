package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A fleet is the connections of a trial. It opens them, keeps them alive and takes
// down which of them end.
type fleet struct {
	dialer         *dialer
	protocol       protocol.Protocol
	nodes          []*url.URL
	concurrency    int
	rampUp         time.Duration
	connectTimeout time.Duration

	readers sync.WaitGroup // one for each open connection, which ends with it
	keeper  sync.WaitGroup // keepAlive, which stop ends
	stop    context.CancelFunc
	closing atomic.Bool

	mu           sync.Mutex // guards what follows
	connections  []*connection
	failed       int
	disconnected int
	connects     *latencies
	errors       errorCounts
	opening      time.Duration // from the first attempt to the end of the last
}

// A client describes a connection to be opened.
type client struct {
	node   int
	join   *protocol.Invocation // invoked before it counts as open; may be nil
	handle func(protocol.Message)
}

// newFleet makes a fleet that is ended with close.
func newFleet(c config, nodes []*url.URL) *fleet {
	ctx, stop := context.WithCancel(context.Background())
	f := &fleet{
		dialer:         newDialer(c),
		protocol:       c.protocol,
		nodes:          nodes,
		concurrency:    c.concurrency,
		rampUp:         c.rampUp,
		connectTimeout: c.connectTimeout,
		stop:           stop,
		connects:       newLatencies(),
		errors:         make(errorCounts),
	}
	f.keeper.Go(func() { f.keepAlive(ctx) })
	return f
}

var errNobody = errors.New("no connection could be opened")

// open opens a connection for each client, so many at a time, and spreads their
// beginnings evenly over the ramp-up. In the result, which has the order of clients,
// those that failed, or that ctx came before, are nil. It is an error if none could be
// opened; it gives up early if it looks like that.
func (f *fleet) open(ctx context.Context, clients []client) ([]*connection, error) {
	opened := make([]*connection, len(clients))
	began := time.Now()
	var next, succeeded, failed atomic.Int64
	var workers sync.WaitGroup
	for range min(f.concurrency, len(clients)) {
		workers.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				hopeless := succeeded.Load() == 0 && failed.Load() >= int64(f.concurrency)
				if i >= len(clients) || hopeless {
					return
				}
				due := began.Add(time.Duration(float64(f.rampUp) * float64(i) / float64(len(clients))))
				if wait(ctx, due) != nil {
					return
				}
				if opened[i] = f.openOne(ctx, clients[i]); opened[i] != nil {
					succeeded.Add(1)
				} else {
					failed.Add(1)
				}
			}
		})
	}
	workers.Wait()
	f.mu.Lock()
	f.opening += time.Since(began)
	f.mu.Unlock()
	if succeeded.Load() == 0 && ctx.Err() == nil {
		return opened, errNobody
	}
	return opened, nil
}

// openOne returns nil if it fails, once that is taken down.
func (f *fleet) openOne(ctx context.Context, client client) *connection {
	began := time.Now()
	connecting, cancel := context.WithTimeoutCause(ctx, f.connectTimeout,
		fmt.Errorf("not done within %v", f.connectTimeout))
	defer cancel()
	c := &connection{node: client.node, protocol: f.protocol, handle: client.handle}
	var err error
	if c.carrier, err = f.dialer.dial(connecting, f.nodes[client.node]); err == nil {
		err = c.open(connecting, client.join)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && ctx.Err() != nil: // given up, not failed
		return nil
	case err != nil:
		f.failed++
		f.errors.add("connect: " + reason(err))
		return nil
	}
	f.connects.record(time.Since(began))
	f.connections = append(f.connections, c)
	f.readers.Go(func() { f.ended(c.read()) })
	return c
}

// ended takes down that a connection is over.
func (f *fleet) ended(cause error) {
	if f.closing.Load() {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disconnected++
	f.errors.add("disconnected: " + reason(cause))
}

const (
	// pingInterval is how often a client pings, and serverTimeout how long it bears a
	// silent server: the intervals of the official clients.
	pingInterval  = 15 * time.Second
	serverTimeout = 30 * time.Second
	// pingTicks is how many parts of the fleet take turns in pinging.
	pingTicks = 100
)

// keepAlive pings on each connection once in an interval, and ends those on which the
// server has gone silent. One goroutine does it for all.
func (f *fleet) keepAlive(ctx context.Context) {
	ping, err := f.protocol.Append(nil, &protocol.Ping{})
	if err != nil {
		panic("encode ping: " + err.Error()) // it has no values
	}
	ticker := time.NewTicker(pingInterval / pingTicks)
	defer ticker.Stop()
	for tick := 0; ; tick++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f.mu.Lock()
		all := f.connections // only ever grows
		f.mu.Unlock()
		now := time.Now()
		for i := tick % pingTicks; i < len(all); i += pingTicks {
			if all[i].silentFor(now) > serverTimeout {
				all[i].end(fmt.Errorf("the server was silent for %v", serverTimeout))
				continue
			}
			all[i].ping(ping)
		}
	}
}

// close ends all connections and all goroutines of the fleet before it returns.
// Connections that end from then on are not taken for disconnected. No open may be in
// progress.
func (f *fleet) close() {
	f.closing.Store(true)
	f.stop()
	f.keeper.Wait()
	deadline := time.Now().Add(closeTimeout)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(f.concurrency, len(f.connections)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(f.connections)); i = next.Add(1) - 1 {
				f.connections[i].endBy(errors.New("closed"), deadline)
			}
		})
	}
	workers.Wait()
	f.readers.Wait()
	f.dialer.close()
}

// fleetCounts is what has become of a fleet's connections so far.
type fleetCounts struct{ opened, failed, disconnected int }

func (f *fleet) counts() fleetCounts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fleetCounts{len(f.connections), f.failed, f.disconnected}
}
