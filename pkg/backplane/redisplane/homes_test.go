package redisplane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// methods calls every method of homes for a connection that the node has with the epoch,
// and returns the errors.
func methods(ctx context.Context, n *node, connection string, epoch uint64) map[string]error {
	h := n.Homes()
	errs := make(map[string]error)
	_, _, errs["locate"] = h.Locate(ctx, connection)
	_, _, errs["claim"] = h.Claim(ctx, connection, time.Hour)
	_, errs["renew"] = h.Renew(ctx, time.Hour, map[string]uint64{connection: epoch})
	_, errs["move"] = h.Move(ctx, connection, epoch, "other", time.Hour)
	errs["end"] = h.End(ctx, connection, epoch, time.Hour)
	return errs
}

func claim(t testing.TB, n *node, connection string) {
	t.Helper()
	if h, won, err := n.Homes().Claim(inTime(t), connection, time.Hour); err != nil || !won {
		t.Fatalf("claim: %v, won %t, %v", h, won, err)
	}
}

// awaitCommands waits until a pipeline of commands is in flight, or none, and so many
// commands wait behind it.
func (n *node) awaitCommands(t *testing.T, inFlight bool, waiting int) {
	t.Helper()
	await.Until(t, fmt.Sprintf("commands are in flight: %t, and %d wait", inFlight, waiting), func() error {
		n.commands.mu.Lock()
		defer n.commands.mu.Unlock()
		if n.commands.active != inFlight || n.commands.waiting != waiting {
			return fmt.Errorf("%t, and %d do", n.commands.active, n.commands.waiting)
		}
		return nil
	})
}

// Every record has the time to live that was asked for.
func TestHomesAreForgotten(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL())
	h := n.Homes()
	ttl := func(want time.Duration) {
		t.Helper()
		switch got, err := server.Client().PTTL(inTime(t), homeKey+"c").Result(); {
		case err != nil:
			t.Fatal(err)
		case got <= want-time.Hour/2 || got > want:
			t.Errorf("the record has %v to live, want %v", got, want)
		}
	}
	claim(t, n, "c")
	ttl(time.Hour)
	if _, err := h.Renew(inTime(t), 2*time.Hour, map[string]uint64{"c": 1}); err != nil {
		t.Fatal(err)
	}
	ttl(2 * time.Hour)
	if _, err := h.Move(inTime(t), "c", 1, n.NodeID(), 3*time.Hour); err != nil {
		t.Fatal(err)
	}
	ttl(3 * time.Hour)
	if err := h.End(inTime(t), "c", 2, 4*time.Hour); err != nil {
		t.Fatal(err)
	}
	ttl(4 * time.Hour)
}

// Records that Redis has lost are made again.
func TestHomesAreLost(t *testing.T) {
	server := redistest.Start(t)
	one, two := start(t, server.URL()), start(t, server.URL())
	claim(t, one, "c")
	for name, lose := range map[string]func(){
		"emptied":      func() { server.Client().FlushAll(inTime(t)) },
		"started anew": func() { server.Kill(); server.Restart() },
	} {
		lose()
		await.Until(t, "the home is there again, after Redis was "+name, func() error {
			lost, err := one.Homes().Renew(inTime(t), time.Hour, map[string]uint64{"c": 1})
			if len(lost) > 0 {
				t.Fatalf("lost %q", lost)
			}
			return err
		})
		var h backplane.Home
		await.Until(t, "the other node can ask", func() (err error) {
			h, _, err = two.Homes().Claim(inTime(t), "c", time.Hour)
			return err
		})
		if want := (backplane.Home{Node: one.NodeID(), Epoch: 1}); h != want {
			t.Errorf("the home is %v after Redis was %s, want %v", h, name, want)
		}
	}
}

// What no node has put there is neither believed nor replaced.
func TestForeignRecords(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), withKeys(clusterKey))
	self := backplane.Home{Node: n.NodeID(), Epoch: 2}
	for name, value := range map[string]string{
		"text":               "hello",
		"empty":              "",
		"unsigned":           "1 1 other ",
		"another key's":      signHome([]byte("other"), homeKey+"c", backplane.Home{Node: "other", Epoch: 1}),
		"no key's":           signHome(nil, homeKey+"c", backplane.Home{Node: "other", Epoch: 1}),
		"another connection": signHome(clusterKey, homeKey+"d", self),
		"another tombstone":  signHome(clusterKey, homeKey+"d", backplane.Home{Epoch: 1}),
		"another version":    strings.Replace(signHome(clusterKey, homeKey+"c", self), "1", "2", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := server.Client().Set(inTime(t), homeKey+"c", value, 0).Err(); err != nil {
				t.Fatal(err)
			}
			for method, err := range methods(inTime(t), n, "c", 1) {
				if method == "move" && value == "" {
					continue // as if there were none
				}
				expectError(t, method, err, backplane.ErrForeign)
				if errors.Is(err, backplane.ErrUnavailable) {
					t.Errorf("%s: %v is of Redis", method, err)
				}
			}
			if got, err := server.Client().Get(inTime(t), homeKey+"c").Result(); got != value || err != nil {
				t.Errorf("it has become %q, %v", got, err)
			}
		})
	}
	t.Run("list", func(t *testing.T) {
		server.Client().Del(inTime(t), homeKey+"c")
		if err := server.Client().LPush(inTime(t), homeKey+"c", "x").Err(); err != nil {
			t.Fatal(err)
		}
		for method, err := range methods(inTime(t), n, "c", 1) {
			expectError(t, method, err, backplane.ErrForeign)
		}
	})
	t.Run("others are renewed", func(t *testing.T) {
		epochs := map[string]uint64{"c": 1, "taken": 1}
		for i := range 2 * maxCommands {
			epochs[fmt.Sprint("own", i)] = 1
		}
		if err := server.Client().Set(inTime(t), homeKey+"taken", signHome(clusterKey, homeKey+"taken", backplane.Home{}), 0).Err(); err != nil {
			t.Fatal(err)
		}
		lost, err := n.Homes().Renew(inTime(t), time.Hour, epochs)
		expectError(t, "renew", err, backplane.ErrForeign)
		if !slices.Equal(lost, []string{"taken"}) {
			t.Errorf("lost %q", lost)
		}
		if keys, err := server.Client().Keys(inTime(t), homeKey+"own*").Result(); err != nil || len(keys) != 2*maxCommands {
			t.Errorf("%d records, %v", len(keys), err)
		}
	})
}

// While nodes get a new key, one after the other, they believe each other.
func TestHomesWhileKeysAreRotated(t *testing.T) {
	server := redistest.Start(t)
	before := start(t, server.URL(), withKeys(clusterKey, []byte("new")))
	after := start(t, server.URL(), withKeys([]byte("new"), clusterKey))
	claim(t, before, "c")
	if moved, err := before.Homes().Move(inTime(t), "c", 1, after.NodeID(), time.Hour); !moved || err != nil {
		t.Fatalf("moved %t, %v", moved, err)
	}
	if lost, err := after.Homes().Renew(inTime(t), time.Hour, map[string]uint64{"c": 2}); len(lost) > 0 || err != nil {
		t.Fatalf("lost %q, %v", lost, err)
	}
	h, found, err := before.Homes().Locate(inTime(t), "c")
	if want := (backplane.Home{Node: after.NodeID(), Epoch: 2}); err != nil || !found || h != want {
		t.Errorf("the home is %v, %t, %v; want %v", h, found, err, want)
	}
}

// Without an answer, everything fails in time and says so; and works when Redis is back.
func TestHomesWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), func(o *Options) { o.PublishTimeout, o.DialTimeout = 200*time.Millisecond, 200*time.Millisecond })
	claim(t, n, "c")
	server.Pause()
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for method, err := range methods(soon, n, "c", 1) {
		expectError(t, method+" under a context that ends", err, context.DeadlineExceeded)
	}
	for method, err := range methods(inTime(t), n, "c", 1) {
		expectError(t, method+" without an answer", err, backplane.ErrUnavailable)
	}
	server.Resume()
	server.Stop()
	for method, err := range methods(inTime(t), n, "c", 1) {
		expectError(t, method+" without a server", err, backplane.ErrUnavailable)
	}
	server.Restart()
	await.Until(t, "homes are back", func() error {
		lost, err := n.Homes().Renew(inTime(t), time.Hour, map[string]uint64{"c": 1})
		if len(lost) > 0 {
			t.Fatalf("lost %q", lost)
		}
		return err
	})
}

// What Redis may have done is not done again, and what it has done is found.
func TestHomesAreNotRepeated(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server)
	n := start(t, proxy.URL(), probing(time.Hour))
	n.join(t, "a")
	before := proxy.Others()
	n.commands.renew()
	claim(t, n, "first")
	after := slices.DeleteFunc(proxy.Others(), func(p *redistest.Pipe) bool { return slices.Contains(before, p) })
	if len(after) != 1 {
		t.Fatalf("%d connections for homes, want 1", len(after))
	}
	after[0].Freeze(redistest.ToClient)
	result := make(chan error, 1)
	go func() {
		_, _, err := n.Homes().Claim(context.Background(), "c", time.Hour)
		result <- err
	}()
	await.Until(t, "redis has it", func() error { return server.Client().Get(inTime(t), homeKey+"c").Err() })
	if err := server.Client().Del(inTime(t), homeKey+"c").Err(); err != nil {
		t.Fatal(err)
	}
	after[0].Cut()
	expectError(t, "claim without a reply", <-result, backplane.ErrUnavailable)
	await.Until(t, "another is made", func() error {
		_, _, err := n.Homes().Claim(inTime(t), "last", time.Hour)
		return err
	})
	if err := server.Client().Get(inTime(t), homeKey+"c").Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("the claim was made again: %v", err)
	}
}

// Calls end with the attachment, whatever Redis does.
func TestHomesDuringClose(t *testing.T) {
	server := redistest.Start(t)
	for name, end := range map[string]func(n *node){
		"close":  func(n *node) { n.Close() },
		"detach": func(n *node) { n.Detach() },
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, server.URL(), func(o *Options) { o.PublishTimeout, o.DialTimeout = time.Hour, time.Hour })
			claim(t, n, name)
			n.awaitCommands(t, false, 0)
			server.Pause()
			defer server.Resume()
			result := make(chan error)
			ask := func() {
				_, _, err := n.Homes().Claim(context.Background(), "c", time.Hour)
				result <- err
			}
			go ask()
			n.awaitCommands(t, true, 0)
			go ask()
			go ask()
			n.awaitCommands(t, true, 2)
			end(n)
			for range 3 {
				select {
				case err := <-result:
					expectError(t, "claim", err, backplane.ErrClosed)
				case <-time.After(await.Deadline):
					t.Fatal("a claim waits")
				}
			}
		})
	}
}

// What waits for Redis is bounded, and what nobody waits for any more is not sent.
func TestWaitingCommandsAreBounded(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), func(o *Options) { o.PublishTimeout = time.Hour })
	claim(t, n, "first")
	n.awaitCommands(t, false, 0)
	server.Pause()
	defer server.Resume()
	go n.Homes().Claim(inTime(t), "in flight", time.Hour)
	n.awaitCommands(t, true, 0)
	leaving, leave := context.WithCancel(t.Context())
	left := make(chan error)
	orders := maxWaitingCommands / maxCommands
	for i := range orders {
		epochs := make(map[string]uint64)
		for c := range maxCommands {
			epochs[fmt.Sprint(i, " ", c)] = 1
		}
		go func() {
			_, err := n.Homes().Renew(leaving, time.Hour, epochs)
			left <- err
		}()
	}
	n.awaitCommands(t, true, maxWaitingCommands)
	_, _, err := n.Homes().Claim(inTime(t), "c", time.Hour)
	expectError(t, "claim beyond the bound", err, backplane.ErrUnavailable)
	leave()
	for range orders {
		expectError(t, "renew", <-left, context.Canceled)
	}
	server.Resume()
	await.Until(t, "there is room", func() error {
		_, _, err := n.Homes().Claim(inTime(t), "last", time.Hour)
		return err
	})
	keys, err := server.Client().Keys(inTime(t), homeKey+"*").Result()
	slices.Sort(keys)
	if want := []string{homeKey + "first", homeKey + "in flight", homeKey + "last"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("there are %d records, such as %q; %v", len(keys), keys[:min(4, len(keys))], err)
	}
}

// The rights of docs/redis.md are enough, and without them the node says so.
func TestHomesWithPermissions(t *testing.T) {
	server := redistest.Start(t)
	documentedUser(t, server, "server")
	n := start(t, "redis://node:the-password@"+server.Addr())
	claim(t, n, "c")
	for method, err := range methods(inTime(t), n, "c", 1) {
		if err != nil {
			t.Errorf("%s: %v", method, err)
		}
	}
	if err := n.Homes().End(inTime(t), "new", 1, 0); err != nil {
		t.Error(err)
	}
	if err := server.Client().Do(inTime(t), "acl", "setuser", "node", "-eval", "-get").Err(); err != nil {
		t.Fatal(err)
	}
	for method, err := range methods(inTime(t), n, "c", 1) {
		expectError(t, method, err, backplane.ErrUnavailable)
		if err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%s: the error %v does not say what was wrong", method, err)
		}
	}
}

// A node that is looked for in vain is not looked for in Redis each time, and one that is
// known is known without Redis.
func TestNodeIsLookedUp(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.NewProxy(t, server)
	n := start(t, proxy.URL(), withKeys(clusterKey), probing(time.Hour), func(o *Options) { o.DialTimeout = 500 * time.Millisecond })
	n.join(t, "a")
	looks := func() int {
		t.Helper()
		stats, err := server.Client().InfoMap(inTime(t), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		var calls int
		fmt.Sscanf(stats["Commandstats"]["cmdstat_smembers"], "calls=%d", &calls)
		return calls
	}
	expect := func(id string, want bool) {
		t.Helper()
		state, known, err := n.Node(inTime(t), id)
		if err != nil || known != want || known && state.ID != id {
			t.Errorf("%s is %v, known %t, %v; want %t", id, state, known, err, want)
		}
	}
	expect("dead", false)
	before := looks()
	for range 100 {
		expect("dead", false)
		expect(n.NodeID(), true)
	}
	if after := looks(); after-before > 10 { // the node's own looks are some
		t.Errorf("the roster was read %d times", after-before)
	}
	announce(t, server, "new", signed(t, clusterKey, announcement{ID: "new", Prefixes: []string{""}, Address: "http://new"}))
	announce(t, server, "left", signed(t, clusterKey, announcement{ID: "left", Prefixes: []string{""}, Left: true}))
	announce(t, server, "forged", signed(t, []byte("other"), announcement{ID: "forged", Prefixes: []string{""}}))
	expect("new", true)
	expect("left", false)
	expect("forged", false)
	if state, _, err := n.Node(inTime(t), "new"); state.Address != "http://new" || err != nil {
		t.Errorf("the node is %v, %v", state, err)
	}
	proxy.Refuse(true)
	proxy.Cut()
	expect("new", true)
	expect("dead", false)
	_, _, err := n.Node(inTime(t), "another")
	expectError(t, "node, without Redis", err, backplane.ErrUnavailable)
}

// A node is known while its announcement may have been lost with Redis, and unknown when
// it is dead.
func TestNodeIsKnownWhileRosterIsLost(t *testing.T) {
	server := redistest.Start(t)
	n := start(t, server.URL(), withKeys(clusterKey), probing(200*time.Millisecond))
	n.join(t, "a")
	announce(t, server, "other", signed(t, clusterKey, announcement{ID: "other", Prefixes: []string{""}}))
	n.looked(t, server)
	if err := server.Client().FlushAll(inTime(t)).Err(); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the node is announced again", func() error {
		return server.Client().Get(inTime(t), announcementKey+n.NodeID()).Err()
	})
	if _, known, err := n.Node(inTime(t), "other"); !known || err != nil {
		t.Errorf("known %t, %v", known, err)
	}
	await.Until(t, "the node is dead", func() error {
		if _, known, err := n.Node(inTime(t), "other"); known || err != nil {
			return fmt.Errorf("known %t, %v", known, err)
		}
		return nil
	})
}

// What is missing is remembered of so many nodes and no more.
func TestDirectoryIsBounded(t *testing.T) {
	var d directory
	for i := range 3 * maxMissing {
		d.miss("", fmt.Sprint(i))
	}
	if n := len(d.missing); n > maxMissing {
		t.Errorf("%d are remembered", n)
	}
}

// BenchmarkClaim is one claim, with 32 goroutines that claim.
func BenchmarkClaim(b *testing.B) {
	const claimants = 32
	n := start(b, redistest.Start(b).URL(), withKeys(clusterKey))
	h := n.Homes()
	b.ReportAllocs()
	b.ResetTimer()
	done := make(chan struct{})
	for c := range claimants {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := range (b.N + c) / claimants {
				if _, won, err := h.Claim(context.Background(), fmt.Sprint(c, " ", i), time.Minute); err != nil || !won {
					b.Errorf("won %t, %v", won, err)
					return
				}
			}
		}()
	}
	for range claimants {
		<-done
	}
}

// BenchmarkRenew is one call of Renew for 10,000 connections.
func BenchmarkRenew(b *testing.B) {
	const connections = 10_000
	n := start(b, redistest.Start(b).URL(), withKeys(clusterKey))
	h := n.Homes()
	epochs := make(map[string]uint64)
	for i := range connections {
		epochs[fmt.Sprintf("%022d", i)] = 1
	}
	b.ReportAllocs()
	for b.Loop() {
		if lost, err := h.Renew(context.Background(), time.Minute, epochs); err != nil || len(lost) > 0 {
			b.Fatalf("%d lost, %v", len(lost), err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*connections), "ns/connection")
}
