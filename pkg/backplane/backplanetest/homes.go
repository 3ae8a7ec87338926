package backplanetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// Lives of home records: one that outlives any test, and one to wait for the end of.
const (
	long  = time.Hour
	short = 30 * time.Millisecond
)

// scoped is a directory in which the connections of other tests are not found.
type scoped struct {
	backplane.Homes
	scope string
}

func (s scoped) Claim(ctx context.Context, connection string, life time.Duration) (backplane.Home, bool, error) {
	return s.Homes.Claim(ctx, s.scope+connection, life)
}

func (s scoped) Locate(ctx context.Context, connection string) (backplane.Home, bool, error) {
	return s.Homes.Locate(ctx, s.scope+connection)
}

func (s scoped) Renew(ctx context.Context, life time.Duration, epochs map[string]uint64) (lost []string, err error) {
	inScope := make(map[string]uint64)
	for connection, epoch := range epochs {
		inScope[s.scope+connection] = epoch
	}
	lost, err = s.Homes.Renew(ctx, life, inScope)
	for i := range lost {
		lost[i] = strings.TrimPrefix(lost[i], s.scope)
	}
	return lost, err
}

func (s scoped) End(ctx context.Context, connection string, epoch uint64, life time.Duration) error {
	return s.Homes.End(ctx, s.scope+connection, epoch, life)
}

func (s scoped) Move(ctx context.Context, connection string, epoch uint64, to string, life time.Duration) (bool, error) {
	return s.Homes.Move(ctx, s.scope+connection, epoch, to, life)
}

// A keeper is a node with its directory of homes.
type keeper struct {
	id    string
	plane backplane.Backplane
	*node
	homes backplane.Homes
}

func keep(t *testing.T, cluster Cluster, prefix string) *keeper {
	t.Helper()
	plane := startPlane(t, cluster)
	n := attach(t, plane, prefix)
	return &keeper{plane.NodeID(), plane, n, scoped{n.Homes(), t.Name()}}
}

// home returns the keeper as one.
func (k *keeper) home(epoch uint64) backplane.Home { return backplane.Home{Node: k.id, Epoch: epoch} }

// claim fails the test if what comes of a claim is not this.
func (k *keeper) claim(t *testing.T, connection string, life time.Duration, want backplane.Home, wantWon bool) {
	t.Helper()
	h, won, err := k.homes.Claim(context.Background(), connection, life)
	if err != nil || h != want || won != wantWon {
		t.Fatalf("claim %s: %v, won %t, %v; want %v, won %t", connection, h, won, err, want, wantWon)
	}
}

// locate fails the test if the record is not this one.
func (k *keeper) locate(t *testing.T, connection string, want backplane.Home) {
	t.Helper()
	h, found, err := k.homes.Locate(context.Background(), connection)
	if err != nil || !found || h != want {
		t.Fatalf("locate %s: %v, found %t, %v; want %v", connection, h, found, err, want)
	}
}

// missing returns nil if the connection has no record.
func (k *keeper) missing(connection string) error {
	h, found, err := k.homes.Locate(context.Background(), connection)
	if err == nil && (found || h != backplane.Home{}) {
		err = fmt.Errorf("%s is %v, found %t", connection, h, found)
	}
	return err
}

// awaitMissing waits until the record's life has ended.
func (k *keeper) awaitMissing(t *testing.T, connection string) {
	t.Helper()
	await.Until(t, "the record of "+connection+" is gone", func() error { return k.missing(connection) })
}

// passed waits until a record made now with that life has ended, and so all that were
// made before with it.
func (k *keeper) passed(t *testing.T, life time.Duration) {
	t.Helper()
	connection := newMarker()
	k.claim(t, connection, life, k.home(1), true)
	k.awaitMissing(t, connection)
}

func (k *keeper) renew(t *testing.T, life time.Duration, epochs map[string]uint64, wantLost ...string) {
	t.Helper()
	lost, err := k.homes.Renew(context.Background(), life, epochs)
	slices.Sort(lost)
	if err != nil || !slices.Equal(lost, wantLost) {
		t.Fatalf("renew: lost %q, %v; want %q", lost, err, wantLost)
	}
}

func (k *keeper) end(t *testing.T, connection string, epoch uint64, life time.Duration) {
	t.Helper()
	if err := k.homes.End(context.Background(), connection, epoch, life); err != nil {
		t.Fatal(err)
	}
}

func (k *keeper) move(t *testing.T, connection string, epoch uint64, to *keeper, life time.Duration, want bool) {
	t.Helper()
	moved, err := k.homes.Move(context.Background(), connection, epoch, to.id, life)
	if err != nil || moved != want {
		t.Fatalf("move %s to %s: %t, %v; want %t", connection, to.id, moved, err, want)
	}
}

// A connection is claimed once, for as long as the record lives.
func testClaim(t *testing.T, cluster Cluster) {
	one, two := keep(t, cluster, ""), keep(t, cluster, "")
	if err := one.missing("c"); err != nil {
		t.Error(err)
	}
	one.claim(t, "c", long, one.home(1), true)
	one.claim(t, "c", long, one.home(1), false)
	two.claim(t, "c", long, one.home(1), false)
	one.locate(t, "c", one.home(1))
	two.locate(t, "c", one.home(1))
	two.claim(t, "other", long, two.home(1), true)
	one.locate(t, "other", two.home(1))

	one.claim(t, "mortal", short, one.home(1), true)
	two.awaitMissing(t, "mortal")
	two.claim(t, "mortal", long, two.home(1), true)
	one.locate(t, "mortal", two.home(1))
	one.locate(t, "c", one.home(1))
}

// A lost claim does not lengthen the life of the record.
func testLostClaim(t *testing.T, cluster Cluster) {
	one, two := keep(t, cluster, ""), keep(t, cluster, "")
	for life := short; ; life *= 2 { // until the test is quick enough
		connection := newMarker()
		one.claim(t, connection, life, one.home(1), true)
		if _, won, err := two.homes.Claim(t.Context(), connection, long); err != nil {
			t.Fatal(err)
		} else if !won {
			two.awaitMissing(t, connection)
			return
		}
	}
}

// Each prefix has a directory of its own.
func testHomesIsolate(t *testing.T, cluster Cluster) {
	for _, prefix := range []string{"", "a/", "b/"} {
		k := keep(t, cluster, prefix)
		k.claim(t, "c", long, k.home(1), true)
		k.locate(t, "c", k.home(1))
	}
}

// Connection ids are taken as they are.
func testConnectionIDs(t *testing.T, cluster Cluster) {
	k := keep(t, cluster, "")
	ids := []string{"c", "C", "c ", "c*", "?", "{c}", "\x00", "\xff\r\n", "é", "1 1 c"}
	for i, id := range ids {
		k.claim(t, id, long, k.home(1), true)
		for range i {
			k.locate(t, id, k.home(1))
		}
	}
}

// Among concurrent claims, one wins, and all are told who.
func testClaimRace(t *testing.T, cluster Cluster) {
	const connections, claimsPerNode = 20, 5
	keepers := []*keeper{keep(t, cluster, ""), keep(t, cluster, ""), keep(t, cluster, "")}
	for i := range connections {
		connection := fmt.Sprint("c", i)
		var group sync.WaitGroup
		var mu sync.Mutex
		winners, told := 0, make(map[backplane.Home]bool)
		for _, k := range keepers {
			for range claimsPerNode {
				group.Go(func() {
					h, won, err := k.homes.Claim(context.Background(), connection, long)
					mu.Lock()
					defer mu.Unlock()
					told[h] = true
					if won {
						winners++
					}
					if err != nil || won && h != k.home(1) {
						t.Errorf("claim: %v, won %t, %v", h, won, err)
					}
				})
			}
		}
		group.Wait()
		if winners != 1 || len(told) != 1 {
			t.Errorf("%s: %d claims have won, and the home is %v", connection, winners, slices.Collect(maps.Keys(told)))
		}
	}
}

// A record that is renewed lives on; one that is missing is made again; others stay.
func testRenew(t *testing.T, cluster Cluster) {
	one, two := keep(t, cluster, ""), keep(t, cluster, "")
	one.claim(t, "own", short, one.home(1), true)
	one.claim(t, "ended", long, one.home(1), true)
	one.end(t, "ended", 1, long)
	one.claim(t, "moved", long, one.home(1), true)
	one.move(t, "moved", 1, one, long, true)
	two.claim(t, "theirs", long, two.home(1), true)
	epochs := map[string]uint64{"own": 1, "ended": 1, "moved": 1, "theirs": 1, "missing": 7}
	one.renew(t, long, epochs, "ended", "moved", "theirs")
	one.passed(t, short)
	two.locate(t, "own", one.home(1))
	two.locate(t, "ended", backplane.Home{Epoch: 1})
	two.locate(t, "moved", one.home(2))
	two.locate(t, "theirs", two.home(1))
	two.locate(t, "missing", one.home(7))
	two.claim(t, "missing", long, one.home(7), false)

	one.renew(t, short, map[string]uint64{"own": 1})
	two.awaitMissing(t, "own")
	one.renew(t, long, nil)
	one.renew(t, long, map[string]uint64{})
}

// Many records are renewed as well as few.
func testRenewMany(t *testing.T, cluster Cluster) {
	const connections = 3000
	one, two := keep(t, cluster, ""), keep(t, cluster, "")
	epochs := make(map[string]uint64)
	var taken []string
	for i := range connections {
		connection := fmt.Sprintf("c%04d", i)
		epochs[connection] = uint64(i)
		if i%1000 == 999 {
			two.claim(t, connection, long, two.home(1), true)
			taken = append(taken, connection)
		}
	}
	for range 2 {
		one.renew(t, long, epochs, taken...)
	}
	for connection, epoch := range epochs {
		want := one.home(epoch)
		if slices.Contains(taken, connection) {
			want = two.home(1)
		}
		two.locate(t, connection, want)
	}
}

// A connection that has ended does not come back while its tombstone lives.
func testEnd(t *testing.T, cluster Cluster) {
	one, two := keep(t, cluster, ""), keep(t, cluster, "")
	one.claim(t, "c", long, one.home(1), true)
	two.end(t, "c", 1, long)
	one.end(t, "c", 2, long)
	two.end(t, "c", 1, 0)
	one.locate(t, "c", one.home(1))
	one.renew(t, short, map[string]uint64{"c": 1})
	one.end(t, "c", 1, long)
	one.passed(t, short)
	tombstone := backplane.Home{Epoch: 1}
	if !tombstone.Ended() || one.home(1).Ended() {
		t.Error("a tombstone is not one, or a home is")
	}
	two.locate(t, "c", tombstone)
	two.claim(t, "c", long, tombstone, false)
	one.claim(t, "c", long, tombstone, false)
	one.renew(t, long, map[string]uint64{"c": 1}, "c")
	one.move(t, "c", 1, two, long, false)
	two.locate(t, "c", tombstone)

	one.end(t, "missing", 3, long)
	two.locate(t, "missing", backplane.Home{Epoch: 3})

	one.claim(t, "forgotten", long, one.home(1), true)
	one.end(t, "forgotten", 1, short)
	two.awaitMissing(t, "forgotten")

	one.claim(t, "removed", long, one.home(1), true)
	for range 2 {
		one.end(t, "removed", 1, 0)
		if err := two.missing("removed"); err != nil {
			t.Error(err)
		}
	}
	two.claim(t, "removed", long, two.home(1), true)
}

// A home moves from where it is, once, and belongs there afterwards.
func testMove(t *testing.T, cluster Cluster) {
	one, two, three := keep(t, cluster, ""), keep(t, cluster, ""), keep(t, cluster, "")
	one.claim(t, "c", long, one.home(1), true)
	two.move(t, "c", 1, two, long, false)
	one.move(t, "c", 2, two, long, false)
	one.move(t, "missing", 1, two, long, false)
	if err := one.missing("missing"); err != nil {
		t.Error(err)
	}
	one.locate(t, "c", one.home(1))

	one.move(t, "c", 1, two, long, true)
	three.locate(t, "c", two.home(2))
	one.move(t, "c", 1, two, long, false)
	one.renew(t, long, map[string]uint64{"c": 1}, "c")
	one.end(t, "c", 1, long)
	three.locate(t, "c", two.home(2))
	two.renew(t, long, map[string]uint64{"c": 2})
	two.move(t, "c", 2, one, long, true)
	three.locate(t, "c", one.home(3))
	one.move(t, "c", 3, three, short, true)
	one.awaitMissing(t, "c")
}

// A record that has moved has the life that it was given then.
func testMovedLife(t *testing.T, cluster Cluster) {
	one, two := keep(t, cluster, ""), keep(t, cluster, "")
	for life := short; ; life *= 2 { // until the test is quick enough
		connection := newMarker()
		one.claim(t, connection, life, one.home(1), true)
		if moved, err := one.homes.Move(t.Context(), connection, 1, two.id, long); err != nil {
			t.Fatal(err)
		} else if moved {
			one.passed(t, life)
			two.locate(t, connection, two.home(2))
			return
		}
	}
}

// Among concurrent moves, one succeeds.
func testMoveRace(t *testing.T, cluster Cluster) {
	one, two, three := keep(t, cluster, ""), keep(t, cluster, ""), keep(t, cluster, "")
	one.claim(t, "c", long, one.home(1), true)
	var group sync.WaitGroup
	var moves atomic.Int64
	var winner atomic.Value
	for _, to := range []*keeper{two, three, two, three} {
		group.Go(func() {
			moved, err := one.homes.Move(context.Background(), "c", 1, to.id, long)
			if err != nil {
				t.Error(err)
			}
			if moved {
				moves.Add(1)
				winner.Store(to)
			}
		})
	}
	group.Wait()
	if n := moves.Load(); n != 1 {
		t.Fatalf("%d moves have succeeded, want 1", n)
	}
	one.locate(t, "c", winner.Load().(*keeper).home(2))
}

// Records outlive their nodes, and an attachment that is made anew finds its own.
func testHomesOutliveNodes(t *testing.T, cluster Cluster) {
	one, two := keep(t, cluster, ""), keep(t, cluster, "")
	one.claim(t, "c", long, one.home(1), true)
	one.Detach()
	again := attach(t, one.plane, "")
	if moved, err := (scoped{again.Homes(), t.Name()}).Move(t.Context(), "c", 1, two.id, long); !moved || err != nil {
		t.Errorf("moved %t, %v", moved, err)
	}
	if err := one.plane.Close(); err != nil {
		t.Fatal(err)
	}
	two.claim(t, "c", long, two.home(2), false)
}

// What cannot be is refused, and has no effect.
func testHomesFail(t *testing.T, cluster Cluster) {
	detached, k := keep(t, cluster, ""), keep(t, cluster, "")
	detached.claim(t, "c", long, detached.home(1), true)
	k.claim(t, "own", long, k.home(1), true)

	for _, life := range []time.Duration{0, -time.Second, time.Millisecond - 1} {
		for name, err := range calls(t.Context(), k, "own", life) {
			if err == nil && (name != "end" || life != 0) && name != "locate" {
				t.Errorf("%s with the life %v succeeds", name, life)
			}
		}
	}
	k.end(t, "own", 1, 0) // is what one of these has done
	k.claim(t, "own", long, k.home(1), true)
	if moved, err := k.homes.Move(t.Context(), "own", 1, "", long); moved || err == nil {
		t.Errorf("to no node: moved %t, %v", moved, err)
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range calls(cancelled, k, "own", long) {
		expectError(t, name, err, context.Canceled)
	}
	k.locate(t, "own", k.home(1))

	detached.Detach()
	for name, err := range calls(t.Context(), detached, "c", long) {
		expectError(t, name+" after Detach", err, backplane.ErrClosed)
	}
	k.locate(t, "c", detached.home(1))
	if err := k.plane.Close(); err != nil {
		t.Fatal(err)
	}
	for name, err := range calls(t.Context(), k, "own", long) {
		expectError(t, name+" after Close", err, backplane.ErrClosed)
	}
}

// calls calls every method, and fails the test if one that fails returns more than that.
func calls(ctx context.Context, k *keeper, connection string, life time.Duration) map[string]error {
	errs := make(map[string]error)
	note := func(name string, err error, more bool) {
		if errs[name] = err; err != nil && more {
			errs[name] = errors.New("it fails, and has a result")
		}
	}
	h, won, err := k.homes.Claim(ctx, connection, life)
	note("claim", err, won || h != backplane.Home{})
	h, found, err := k.homes.Locate(ctx, connection)
	note("locate", err, found || h != backplane.Home{})
	lost, err := k.homes.Renew(ctx, life, map[string]uint64{connection: 1})
	note("renew", err, lost != nil)
	moved, err := k.homes.Move(ctx, connection, 1, "other", life)
	note("move", err, moved)
	note("end", k.homes.End(ctx, connection, 1, life), false)
	return errs
}

// Nodes are found under the address that they advertise, whenever they do.
func testAdvertise(t *testing.T, cluster Cluster) {
	one, two := startPlane(t, cluster), startPlane(t, cluster)
	two.Advertise("https://10.0.0.2:7070")
	a, b := attach(t, one, ""), attach(t, two, "")
	awaitAddress := func(of backplane.Backplane, want string) {
		t.Helper()
		for _, n := range []*node{a, b} {
			await.Until(t, fmt.Sprintf("the address is %q", want), func() error {
				state, known, err := n.Node(t.Context(), of.NodeID())
				if err == nil && (!known || state.ID != of.NodeID() || state.Address != want) {
					err = fmt.Errorf("the node is %v, known %t", state, known)
				}
				return err
			})
			await.Until(t, fmt.Sprintf("the roster has the address %q", want), func() error {
				nodes, err := n.Nodes(t.Context())
				has := func(s backplane.NodeState) bool { return s.ID == of.NodeID() && s.Address == want }
				if err == nil && !slices.ContainsFunc(nodes, has) {
					err = fmt.Errorf("the roster is %v", nodes)
				}
				return err
			})
		}
	}
	awaitAddress(one, "")
	awaitAddress(two, "https://10.0.0.2:7070")
	one.Advertise("http://[::1]:7070")
	awaitAddress(one, "http://[::1]:7070")
	two.Advertise("")
	awaitAddress(two, "")
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	one.Advertise("late")
}

// Who serves the prefix is known, and who does not, or not any more, is not.
func testNode(t *testing.T, cluster Cluster) {
	one, two := startPlane(t, cluster), startPlane(t, cluster)
	a1, b1 := attach(t, one, "a/"), attach(t, one, "b/")
	is := func(n *node, id string, want bool) error {
		state, known, err := n.Node(t.Context(), id)
		switch {
		case err != nil:
			return err
		case known != want, known && state.ID != id, !known && state != (backplane.NodeState{}):
			return fmt.Errorf("%q is %v, known %t; want %t", id, state, known, want)
		}
		return nil
	}
	expect := func(n *node, id string, want bool) {
		t.Helper()
		if err := is(n, id, want); err != nil {
			t.Error(err)
		}
	}
	expect(a1, one.NodeID(), true)
	expect(a1, "nobody", false)
	expect(a1, "", false)
	a2 := attach(t, two, "a/")
	expect(a1, two.NodeID(), true)
	expect(a2, one.NodeID(), true)
	expect(b1, two.NodeID(), false)
	a2.Detach()
	await.Until(t, "the node is not known", func() error { return is(a1, two.NodeID(), false) })
	if _, _, err := a2.Node(t.Context(), one.NodeID()); !errors.Is(err, backplane.ErrClosed) {
		t.Errorf("after Detach: %v", err)
	}
	b2 := attach(t, two, "b/")
	await.Until(t, "the node is known", func() error { return is(b1, two.NodeID(), true) })
	if err := two.Close(); err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the node is not known", func() error { return is(b1, two.NodeID(), false) })
	if _, _, err := b2.Node(t.Context(), one.NodeID()); !errors.Is(err, backplane.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
