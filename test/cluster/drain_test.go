package cluster

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/client"
)

// A node that holds all clients is told to end, while senders at the other nodes go on.
func TestDrain(t *testing.T) {
	const (
		size     = 500
		delay    = 3 * time.Second
		duration = 6 * time.Second
		timeout  = 10 * time.Second
	)
	redis := redistest.Start(t)
	var nodes []*node
	for range 3 {
		nodes = append(nodes, startNode(t, "--redis", redis.URL(), "--jwt-secret", jwtSecret, "--allow-anonymous",
			"--drain-delay", delay.String(), "--drain-duration", duration.String(), "--shutdown-timeout", timeout.String()))
	}
	ending, others := nodes[0], nodes[1:]

	balancer := startBalancer(t)
	balancer.add(ending)
	c := &crowd{groups: names("group", 10), users: names("user", 50)}
	c.start(t, balancer.address(), size)
	for _, n := range others {
		balancer.add(n)
	}
	senders, stop := startSenders(t, c, others)

	told := time.Now()
	ending.signal(syscall.SIGTERM)
	ending.awaitNotReady()
	if n := c.closed(); n > 0 {
		t.Errorf("%d connections were closed before the node said that it is not ready", n)
	}
	if late, err := connect(t, ending.address, "late"); err != nil {
		t.Errorf("a connection within the delay, %v after the signal: %v", time.Since(told), err)
	} else if err := late.Invoke(t.Context(), "SendToGroup", "nobody", "hello"); err != nil {
		t.Errorf("an invocation within the delay, %v after the signal: %v", time.Since(told), err)
	}
	await.Until(t, "a quarter of the connections are closed", func() error {
		if n := c.closed(); n < size/4 {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	if err := ending.ready(t.Context()); !errors.Is(err, errNotReady) {
		t.Errorf("while it closes connections, the node is asked whether it is ready: %v", err)
	}
	ending.awaitEnd()
	if took := time.Since(told); took > delay+duration+timeout {
		t.Errorf("the node took %v to end", took)
	}
	if ending.err != nil {
		t.Errorf("the node ended with %v, want exit code 0", ending.err)
	}

	await.Until(t, "all clients are back in their groups", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.returns < size {
			return fmt.Errorf("%d of %d are; %w", c.returns, size, errors.Join(c.faults...))
		}
		return nil
	})
	stop()
	if err := senders[0].bid(t.Context()); err != nil {
		t.Error(err)
	}
	await.Until(t, "all clients have got the last message to their group, and the one to their user", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.finals < 2*size {
			return fmt.Errorf("%d of %d have arrived", c.finals, 2*size)
		}
		return nil
	})

	if err := c.fault(nil); err != nil {
		t.Error(err)
	}
	for i, m := range c.members {
		if s := m.client.State(); s != client.Connected {
			t.Errorf("client %d is %v: %v", i, s, m.client.Err())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.closes) != size {
		t.Errorf("%d connections were closed, want one of each of %d clients", len(c.closes), size)
	}
	checkSpread(t, c.closes, told.Add(delay), duration)
	t.Logf("the balancer gave the nodes %v connections, two for each client and return", balancer.taken())
	t.Logf("the longest absence from a group was %v", c.absence.Round(time.Millisecond))
	for _, s := range senders {
		t.Logf("%s sent %d messages to groups and as many to users", s.name, s.sent)
	}
	t.Logf("%d of these have been delivered", c.delivered)
}

// startSenders starts a sender at each of the nodes. The function stops them, and
// reports what has failed.
func startSenders(t *testing.T, c *crowd, nodes []*node) ([]*sender, func()) {
	t.Helper()
	var senders []*sender
	for i, n := range nodes {
		s := &sender{name: fmt.Sprintf("sender%d", i), crowd: c}
		var err error
		if s.client, err = connect(t, n.address, s.name); err != nil {
			t.Fatal(err)
		}
		senders = append(senders, s)
	}
	var sending sync.WaitGroup
	stop := make(chan struct{})
	for _, s := range senders {
		sending.Go(func() {
			if err := s.run(t.Context(), stop); err != nil {
				t.Error(err)
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(stop)
		sending.Wait()
	})
	t.Cleanup(end)
	return senders, end
}

// checkSpread prints how many connections were closed in each second since from, from
// which the node was to close them over d, and holds their number to an even spread,
// generously.
func checkSpread(t *testing.T, closes []time.Time, from time.Time, d time.Duration) {
	t.Helper()
	if len(closes) == 0 {
		return
	}
	slices.SortFunc(closes, time.Time.Compare)
	if early := from.Sub(closes[0]); early > 0 {
		t.Errorf("the first connection was closed %v before the delay was over", early)
	}
	seconds := make([]int, 1)
	for _, at := range closes {
		second := max(0, int(at.Sub(from)/time.Second))
		for len(seconds) <= second {
			seconds = append(seconds, 0)
		}
		seconds[second]++
	}
	largest := slices.Max(seconds)
	t.Logf("connections closed in each second after the delay: %v; the largest second: %d", seconds, largest)
	if even := len(closes) * int(time.Second) / int(d); largest > 3*even {
		t.Errorf("%d connections were closed in one second; evenly spread it would be %d", largest, even)
	}
}

// A second signal ends a node that drains, at once.
func TestSecondSignal(t *testing.T) {
	for _, second := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(second.String(), func(t *testing.T) {
			n := startNode(t, "--allow-anonymous", "--jwt-secret", jwtSecret, "--drain-delay", "1h")
			c, err := connect(t, n.address, "ada")
			if err != nil {
				t.Fatal(err)
			}
			n.signal(syscall.SIGTERM)
			n.awaitNotReady()
			if s := c.State(); s != client.Connected {
				t.Fatalf("while the node waits, the client is %v", s)
			}
			n.signal(second)
			n.awaitEnd()
			if n.err == nil {
				t.Error("the node ended with exit code 0, as if it had drained")
			}
			<-c.Done()
		})
	}
}

func names(prefix string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%s %d", prefix, i))
	}
	return all
}
