package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// remote is a hub whose methods concern other connections.
type remote struct{ asker }

func (*remote) OnConnected(context.Context, *Caller) error { return nil }

func (*remote) Join(ctx context.Context, c *Caller, group string) error {
	return c.Groups().Add(ctx, c.ConnectionID(), group)
}

func (*remote) Admit(ctx context.Context, c *Caller, connection, group string) error {
	return c.Groups().Add(ctx, connection, group)
}

func (*remote) AdmitUser(ctx context.Context, c *Caller, user, group string) error {
	return c.Groups().AddUser(ctx, user, group)
}

// cluster is two nodes on one bus, with a client on each.
type cluster struct {
	t        *testing.T
	hubs     [2]*Hub
	planes   [2]backplane.Backplane
	ada, ben *client // on the first and the second
	adaID    string
	benID    string
}

func newCluster(t *testing.T, options ...Option) *cluster {
	t.Helper()
	bus := new(backplane.Bus)
	return newClusterOn(t, func() backplane.Backplane { return bus.Join() }, options...)
}

// newTapped is newCluster, with a tap of all that is published.
func newTapped(t *testing.T, tap func(backplane.Channel, []byte) error, options ...Option) *cluster {
	t.Helper()
	bus := new(backplane.Bus)
	return newClusterOn(t, func() backplane.Backplane { return tapped{bus.Join(), tap} }, options...)
}

func newClusterOn(t *testing.T, join func() backplane.Backplane, options ...Option) *cluster {
	t.Helper()
	c := &cluster{t: t}
	key := WithClusterKeys(make([]byte, 32))
	var addresses [2]string
	for i := range c.hubs {
		plane := join()
		t.Cleanup(func() { plane.Close() })
		c.planes[i] = plane
		c.hubs[i], addresses[i] = serve(t, &remote{}, append([]Option{WithBackplane(plane), key}, options...)...)
	}
	c.ada, c.ben = connect(t, addresses[0], "ada"), connect(t, addresses[1], "ben")
	c.adaID, c.benID = c.ada.id(), c.ben.id()
	return c
}

func (c *client) id() string {
	return strings.Trim(strings.TrimPrefix(c.invoke("ID"), `"result":`), `"`)
}

// A tapped plane tells a test of what its node publishes, before it does.
type tapped struct {
	backplane.Backplane
	tap func(ch backplane.Channel, body []byte) error // an error is what Publish returns
}

type tappedAttachment struct {
	backplane.Attachment
	tap func(ch backplane.Channel, body []byte) error
}

func (p tapped) Attach(prefix string, r backplane.Receiver) (backplane.Attachment, error) {
	a, err := p.Backplane.Attach(prefix, r)
	return tappedAttachment{a, p.tap}, err
}

func (a tappedAttachment) Publish(ctx context.Context, body []byte, channels ...backplane.Channel) error {
	for _, ch := range channels {
		if err := a.tap(ch, body); err != nil {
			return err
		}
	}
	return a.Attachment.Publish(ctx, body, channels...)
}

func (a tappedAttachment) PublishCounted(ctx context.Context, body []byte, ch backplane.Channel) (int, error) {
	if err := a.tap(ch, body); err != nil {
		return 0, err
	}
	return a.Attachment.PublishCounted(ctx, body, ch)
}

func (a tappedAttachment) PublishKept(ctx context.Context, body []byte, ch backplane.Channel) (int, error) {
	if err := a.tap(ch, body); err != nil {
		return 0, err
	}
	return a.Attachment.PublishKept(ctx, body, ch)
}

// A counter counts the operations that are asked for, by kind.
type counter struct {
	mu     sync.Mutex
	counts map[backplane.OperationKind]int
}

func (k *counter) tap(ch backplane.Channel, body []byte) error {
	if o, err := backplane.ParseOperation(body, [][]byte{make([]byte, 32)}, ch); err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.counts == nil {
			k.counts = make(map[backplane.OperationKind]int)
		}
		k.counts[o.Kind]++
	}
	return nil
}

// awaitMore waits until n more operations of the kind have been asked for.
func (k *counter) awaitMore(t *testing.T, kind backplane.OperationKind, n int) {
	t.Helper()
	count := func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.counts[kind]
	}
	before := count()
	await.Until(t, fmt.Sprintf("operation %d is asked for %d times", kind, n), func() error {
		if more := count() - before; more < n {
			return fmt.Errorf("%d times", more)
		}
		return nil
	})
}

// gets sends to the group from the first node and reports whether ben gets it.
func (c *cluster) gets(group string) (got bool) {
	c.t.Helper()
	clients := c.hubs[0].Clients()
	if err := errors.Join(
		clients.Group(group).Send(c.t.Context(), "InGroup"),
		clients.User("ben").Send(c.t.Context(), "Mark"), // comes in any case, and last
	); err != nil {
		c.t.Fatal(err)
	}
	for frame := c.ben.read(); frame != `{"type":1,"target":"Mark","arguments":[]}`; frame = c.ben.read() {
		if frame != `{"type":1,"target":"InGroup","arguments":[]}` {
			c.t.Fatalf("got %s", frame)
		}
		got = true
	}
	return got
}

func TestOperationsOnAnotherNode(t *testing.T) {
	c := newCluster(t)
	groups, ctx := c.hubs[0].Groups(), t.Context()
	for _, step := range []struct {
		name   string
		do     func() error
		member bool // of "room", afterwards
	}{
		{"add", func() error { return groups.Add(ctx, c.benID, "room") }, true},
		{"add again", func() error { return groups.Add(ctx, c.benID, "room") }, true},
		{"remove from another", func() error { return groups.Remove(ctx, c.benID, "other") }, true},
		{"remove", func() error { return groups.Remove(ctx, c.benID, "room") }, false},
		{"add user", func() error { return groups.AddUser(ctx, "ben", "room") }, true},
		{"remove another user", func() error { return groups.RemoveUser(ctx, "ada", "room") }, true},
		{"remove user", func() error { return groups.RemoveUser(ctx, "ben", "room") }, false},
		{"add for a time", func() error {
			return groups.Add(ctx, c.benID, "room", Until(time.Now().Add(time.Hour)))
		}, true},
		{"remove from all", func() error { return groups.RemoveFromAll(ctx, c.benID) }, false},
		{"add user anew", func() error { return groups.AddUser(ctx, "ben", "room") }, true},
		{"remove user from all", func() error { return groups.RemoveUserFromAll(ctx, "ben") }, false},
		{"add a user who is not there", func() error { return groups.AddUser(ctx, "nobody", "room") }, false},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		if got := c.gets("room"); got != step.member {
			t.Errorf("after %s, membership is %v", step.name, got)
		}
	}
	for name, err := range map[string]error{
		"add":             groups.Add(ctx, "nobody", "room"),
		"remove":          groups.Remove(ctx, "nobody", "room"),
		"remove from all": groups.RemoveFromAll(ctx, "nobody"),
		"close":           c.hubs[0].CloseConnection(ctx, "nobody"),
	} {
		if !errors.Is(err, ErrNoConnection) {
			t.Errorf("%s of no connection: %v", name, err)
		}
	}
}

func TestExists(t *testing.T) {
	c := newCluster(t)
	if err := c.hubs[1].Groups().Add(t.Context(), c.benID, "room"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		ask  func(context.Context, string) (bool, error)
		of   string
		want bool
	}{
		{"connection", c.hubs[0].ConnectionExists, c.benID, true}, {"connection here", c.hubs[0].ConnectionExists, c.adaID, true}, {"no connection", c.hubs[0].ConnectionExists, "nobody", false},
		{"user", c.hubs[0].UserExists, "ben", true}, {"no user", c.hubs[0].UserExists, "Ben", false},
		{"group", c.hubs[0].GroupExists, "room", true}, {"no group", c.hubs[0].GroupExists, "Room", false},
	} {
		if got, err := tt.ask(t.Context(), tt.of); err != nil || got != tt.want {
			t.Errorf("%s: %v, %v", tt.name, got, err)
		}
	}
}

func TestClose(t *testing.T) {
	for _, tt := range []struct {
		name  string
		close func(*cluster) error
		want  string
	}{
		{"connection", func(c *cluster) error { return c.hubs[0].CloseConnection(t.Context(), c.benID) }, `{"type":7}`},
		{"with reason", func(c *cluster) error { return c.hubs[0].CloseConnection(t.Context(), c.benID, Reason("out")) }, `{"type":7,"error":"out"}`},
		{"user", func(c *cluster) error { return c.hubs[0].CloseUser(t.Context(), "ben", AllowReconnect()) }, `{"type":7,"allowReconnect":true}`},
		{"group", func(c *cluster) error {
			if err := c.hubs[0].Groups().Add(t.Context(), c.benID, "room"); err != nil {
				return err
			}
			return c.hubs[0].CloseGroup(t.Context(), "room", Reason("closed"))
		}, `{"type":7,"error":"closed"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCluster(t)
			if err := tt.close(c); err != nil {
				t.Fatal(err)
			}
			c.ben.expect(tt.want, "closed 1000")
			c.ada.invoke("ID") // is still there
		})
	}
}

func TestAskElsewhere(t *testing.T) {
	c := newCluster(t, WithDetailedErrors())
	asked := func() (id string) {
		t.Helper()
		frame := c.ben.read()
		rest, ok := strings.CutPrefix(frame, `{"type":1,"invocationId":"`)
		id, arguments, _ := strings.Cut(rest, `"`)
		if !ok || arguments != `,"target":"Answer","arguments":[]}` {
			t.Fatalf("asked %s", frame)
		}
		return id
	}
	id := c.ada.start("Ask", c.benID)
	c.ben.write(result(asked(), "7"))
	c.ada.expect(result(id, "7"))

	id = c.ada.start("Ask", c.benID)
	c.ben.write(failure(asked(), "no idea"))
	c.ada.expect(failure(id, askFailed+"'Ask' on the server. HubException: no idea"))

	id = c.ada.start("Ask", c.benID)
	asked()
	c.ben.conn.Close()
	c.ada.expect(`{"type":3,"invocationId":"` + id + `","error":"` + askFailed + `'Ask' on the server. invoke \"Answer\": Connection '` + c.benID + `' disconnected."}`)

	id = c.ada.start("Ask", "nobody")
	c.ada.expect(`{"type":3,"invocationId":"` + id + `","error":"` + askFailed + `'Ask' on the server. invoke \"Answer\": Connection 'nobody' does not exist."}`)
	c.awaitIdle()
}

// awaitIdle waits until connections are all that the nodes have.
func (c *cluster) awaitIdle() {
	c.t.Helper()
	for _, h := range c.hubs {
		await.Until(c.t, "nothing is left", func() error {
			var all []*connection
			h.registry.each(func(c *connection) { all = append(all, c) })
			return h.left(all)
		})
	}
}

// dumb is an attachment that takes operations and performs none, as a node that is deaf.
type dumb struct{}

func (dumb) Deliver(backplane.Channel, []byte) {}

func TestUnansweredOperation(t *testing.T) {
	var bus backplane.Bus
	one, two := bus.Join(), bus.Join()
	defer one.Close()
	defer two.Close()
	h, _ := serve(t, &remote{}, WithBackplane(one), WithOperationTimeout(100*time.Millisecond))
	if _, err := two.Attach("", dumb{}); err != nil {
		t.Fatal(err)
	}
	err := h.Groups().RemoveUser(t.Context(), "ada", "room")
	unanswered, ok := errors.AsType[*UnansweredError](err)
	if !ok || !slices.Equal(unanswered.Nodes, []string{two.NodeID()}) || !errors.Is(err, backplane.ErrUnavailable) {
		t.Errorf("got %v", err)
	}

	// A node that dies is not waited for.
	ended := make(chan error)
	h.operationTimeout = time.Hour
	go func() { ended <- h.Groups().RemoveUser(t.Context(), "ada", "room") }()
	await.Until(t, "the operation waits for the other node", func() error {
		h.operations.mu.Lock()
		defer h.operations.mu.Unlock()
		for _, p := range h.operations.pending {
			if len(p.waiting) == 1 {
				return nil
			}
		}
		return errors.New("it does not")
	})
	receiver{h}.NodeDied(two.NodeID())
	if err := <-ended; err != nil {
		t.Errorf("got %v", err)
	}
}

// Nobody without the cluster key can have an operation performed.
func TestForgedOperation(t *testing.T) {
	c := newCluster(t, WithChannelPrefix("chat/"))
	o := backplane.Operation{Asker: "x", Kind: backplane.OpClose, TargetKind: backplane.TargetUser, Target: "ben"}
	keys := c.hubs[0].connections.Keys
	for _, body := range [][]byte{
		backplane.AppendOperation(nil, [][]byte{[]byte("another key of thirty-two bytes!")}, "chat/"+backplane.All, o),
		backplane.AppendOperation(nil, keys, "chat/"+backplane.User("ben"), o), // signed for another channel
		backplane.AppendOperation(nil, keys, "other/"+backplane.All, o),        // signed for another hub
		backplane.AppendOperation(nil, keys, backplane.All, o),
	} {
		if err := c.hubs[0].attachment.Publish(t.Context(), body, backplane.All); err != nil {
			t.Fatal(err)
		}
	}
	await.Until(t, "all are refused", func() error {
		if n := testutil.ToFloat64(c.hubs[1].metrics.unread(backplane.ErrForged)); n != 4 {
			return fmt.Errorf("%v are", n)
		}
		return nil
	})
	c.ben.invoke("ID") // is still there
}

// Bodies that cannot be read are counted by why.
func TestUnreadBodies(t *testing.T) {
	c := newCluster(t)
	for body, reason := range map[string]error{
		"\x09of a later node": backplane.ErrVersion,
		"\x01\xff":            backplane.ErrMalformed,
		"{":                   backplane.ErrMalformed,
	} {
		before := testutil.ToFloat64(c.hubs[1].metrics.unread(reason))
		if err := c.hubs[0].attachment.Publish(t.Context(), []byte(body), backplane.All); err != nil {
			t.Fatal(err)
		}
		await.Until(t, fmt.Sprintf("%q is counted", body), func() error {
			if n := testutil.ToFloat64(c.hubs[1].metrics.unread(reason)) - before; n != 1 {
				return fmt.Errorf("%v times", n)
			}
			return nil
		})
	}
}
