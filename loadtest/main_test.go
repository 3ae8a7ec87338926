package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/hub"
)

func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// testHub is a hub like the node's own, which tells a group of everyone who joins it.
type testHub struct{}

func (testHub) AddToGroup(ctx context.Context, c *hub.Caller, group string) error {
	if err := c.Groups().Add(ctx, c.ConnectionID(), group); err != nil {
		return err
	}
	return c.Clients().Group(group).Send(ctx, "Send", c.ConnectionID()+" has joined the group "+group+".")
}

func (testHub) SendToGroup(ctx context.Context, c *hub.Caller, group, message string) error {
	return c.Clients().Group(group).Send(ctx, "Send", message)
}

// crookedHub does to messages what a hub must not, by turns: of ten it loses the
// third, sends the fifth twice, holds the seventh back until after the next, and
// refuses the ninth.
type crookedHub struct {
	testHub
	mu   sync.Mutex
	sent int
	held string
}

func (h *crookedHub) SendToGroup(ctx context.Context, c *hub.Caller, group, message string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent++
	var now []string
	switch h.sent % 10 {
	case 3:
	case 5:
		now = []string{message, message}
	case 7:
		h.held = message
	case 8:
		now = []string{message, h.held}
	case 9:
		return &hub.Error{Message: "not today"}
	default:
		now = []string{message}
	}
	for _, m := range now {
		if err := c.Clients().Group(group).Send(ctx, "Send", m); err != nil {
			return err
		}
	}
	return nil
}

// meddlingHub changes messages and sends them to groups that they are not for.
type meddlingHub struct {
	testHub
	mu   sync.Mutex
	last string // group
	sent int
}

func (h *meddlingHub) AddToGroup(ctx context.Context, c *hub.Caller, group string) error {
	h.mu.Lock()
	h.last = group
	h.mu.Unlock()
	return h.testHub.AddToGroup(ctx, c, group)
}

func (h *meddlingHub) SendToGroup(ctx context.Context, c *hub.Caller, _, message string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent++
	if h.sent%2 == 0 {
		message += "y"
	}
	return c.Clients().Group(h.last).Send(ctx, "Send", message)
}

func serve(t *testing.T, nodes int, value any) *cluster {
	t.Helper()
	c, err := startCluster(nodes, value)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// brief are flags for a load of 100 messages in half a second.
var brief = []string{"-rate", "200", "-duration", "500ms", "-warmup", "0", "-settle", "0", "-drain", "20s", "-quiet", "-json", "-"}

// loadtest runs the program against the cluster and returns its report.
func loadtest(t *testing.T, ctx context.Context, c *cluster, flags ...string) (r report, status int) {
	t.Helper()
	flags = slices.Concat(brief, flags)
	for _, n := range c.nodes {
		flags = append(flags, "-url", n.String())
	}
	var stdout, stderr bytes.Buffer
	status = run(ctx, flags, &stdout, &stderr)
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		t.Fatalf("%v\nin %s\nafter %s", err, &stdout, &stderr)
	}
	t.Logf("status %d\n%s", status, &stderr)
	return r, status
}

func TestFanout(t *testing.T) {
	t.Parallel()
	h := new(countingHub)
	c := serve(t, 2, h)
	t.Run("each", func(t *testing.T) { testFanout(t, c) })
	if len(h.senders) != 4*3 {
		t.Errorf("4 loads of 3 senders were sent by %d connections", len(h.senders))
	}
}

func testFanout(t *testing.T, c *cluster) {
	for _, tt := range []struct {
		name  string
		flags []string
	}{
		{"json", []string{"-protocol", "json"}},
		{"messagepack", []string{"-protocol", "messagepack"}},
		{"negotiate", []string{"-negotiate"}},
		{"ramp-up", []string{"-ramp-up", "100ms", "-concurrency", "3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, status := loadtest(t, t.Context(), c, append(tt.flags, "-connections", "40", "-groups", "4", "-senders", "3")...)
			if status != exitOK || len(r.Failures) > 0 || len(r.Errors) > 0 {
				t.Errorf("status %d, failures %v, errors %v", status, r.Failures, r.Errors)
			}
			m := r.Messages
			if m.Sent != 100 || m.Unconfirmed != 0 || m.Expected != 1000 || m.Delivered != 1000 || m.Ignored == 0 {
				t.Errorf("messages are %+v", m)
			}
			if r.Connects.Opened != 43 || r.Connects.Duration.Count != 43 || r.Connects.PerSecond == 0 {
				t.Errorf("connects are %+v", r.Connects)
			}
			// Half of a group is on the other node, whichever the sender's is.
			if r.Latency.Count != 1000 || r.LatencyCrossNode.Count != 500 || r.SendLag.Count != 100 {
				t.Errorf("latencies are %+v, across nodes %+v, send lag %+v", r.Latency, r.LatencyCrossNode, r.SendLag)
			}
		})
	}
}

func TestCrookedHub(t *testing.T) {
	t.Parallel()
	c := serve(t, 1, new(crookedHub))
	r, status := loadtest(t, t.Context(), c, "-connections", "5", "-groups", "1", "-drain", "5s")
	if status != exitFailed {
		t.Errorf("status is %d", status)
	}
	want := messages{
		Sent: 90, SendErrors: 10,
		Expected: 90 * 5, Delivered: 80 * 5, Lost: 10 * 5, Duplicated: 10 * 5, OutOfOrder: 10 * 5,
	}
	got := r.Messages
	got.WindowSeconds, got.SendsPerSecond, got.DeliveriesPerSecond, got.Ignored = 0, 0, 0, 0
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	var kinds []failureKind
	for _, f := range r.Failures {
		kinds = append(kinds, f.Kind)
	}
	if want := []failureKind{failedSends, lostMessages, duplicates, disorder}; !slices.Equal(kinds, want) {
		t.Errorf("failures are %v, want %v", kinds, want)
	}
	if len(r.Errors) != 1 || r.Errors[0].Count != 10 || !strings.HasSuffix(r.Errors[0].Text, "HubException: not today") {
		t.Errorf("errors are %+v", r.Errors)
	}

	for _, tt := range []struct {
		allow string
		want  int
	}{
		{"all", exitOK},
		{"sends,lost,duplicated,out-of-order", exitOK},
		{"sends,lost,duplicated", exitFailed},
	} {
		if _, status := loadtest(t, t.Context(), c, "-connections", "1", "-groups", "1", "-drain", "1s", "-allow", tt.allow); status != tt.want {
			t.Errorf("with -allow %s the status is %d, want %d", tt.allow, status, tt.want)
		}
	}
}

func TestMeddlingHub(t *testing.T) {
	t.Parallel()
	c := serve(t, 1, new(meddlingHub))
	r, status := loadtest(t, t.Context(), c, "-connections", "2", "-groups", "2", "-concurrency", "1", "-drain", "5s")
	// Message n, from 0, is for the group n modulo 2. Those for the first arrive whole,
	// those for the second, where all go, do not.
	m := r.Messages
	if status != exitFailed || m.Stray != 50 || m.Damaged != 50 || m.Delivered != 0 || m.Lost != 100 {
		t.Errorf("status %d, messages %+v", status, m)
	}
}

// Whatever was on its way when it was interrupted is waited for and accounted for.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	h := &countingHub{at: 20, reached: interrupt}
	r, status := loadtest(t, ctx, serve(t, 1, h), "-connections", "5", "-groups", "1", "-duration", "1h")
	m := r.Messages
	if status != exitInterrupted || !r.Interrupted || len(r.Failures) > 0 {
		t.Errorf("status %d, interrupted %v, failures %v", status, r.Interrupted, r.Failures)
	}
	if m.Sent < 20 || m.Delivered != 5*m.Sent || m.Unconfirmed != 0 || m.WindowSeconds == 0 {
		t.Errorf("messages are %+v", m)
	}
}

// countingHub counts messages and who sent them, and calls reached with the message
// that brings their number to at.
type countingHub struct {
	testHub
	mu      sync.Mutex
	senders map[string]bool // by connection id
	count   int
	at      int
	reached func()
}

func (h *countingHub) SendToGroup(ctx context.Context, c *hub.Caller, group, message string) error {
	h.mu.Lock()
	if h.senders == nil {
		h.senders = make(map[string]bool)
	}
	h.senders[c.ConnectionID()] = true
	if h.count++; h.count == h.at {
		h.reached()
	}
	h.mu.Unlock()
	return h.testHub.SendToGroup(ctx, c, group, message)
}

// It may be interrupted before there is anything to report, too. What was being opened
// has not failed.
func TestInterruptWhileConnecting(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	r, status := loadtest(t, ctx, serve(t, 1, closedHub{interrupt}))
	if status != exitInterrupted || r.Connects.Failed != 0 || r.Messages.Sent != 0 || r.Latency != nil {
		t.Errorf("status %d, report %+v", status, r)
	}
}

// closedHub lets nobody into a group, and calls tried when someone asks.
type closedHub struct{ tried func() }

func (h closedHub) AddToGroup(ctx context.Context, _ *hub.Caller, _ string) error {
	h.tried()
	<-ctx.Done()
	return ctx.Err()
}

func TestServerLeaves(t *testing.T) {
	t.Parallel()
	leaving := make(chan struct{})
	nodes := serve(t, 1, &countingHub{at: 20, reached: func() { close(leaving) }})
	c, err := parse(slices.Concat(brief, []string{"-connections", "5", "-groups", "1", "-duration", "1h", "-drain", "1s"}), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrial(c, fanout, nodes.nodes)
	defer tr.close()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var running sync.WaitGroup
	running.Go(func() { tr.run(ctx) })
	<-leaving
	nodes.stop()
	await.Until(t, "all connections have ended and sends fail", func() error {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if n, sent := tr.fleet.counts().disconnected, tr.load.sent(); n != 6 || sent.Failed == 0 {
			return fmt.Errorf("%d have ended, sends are %+v", n, sent)
		}
		return nil
	})
	interrupt()
	running.Wait()

	r := tr.report()
	m := r.Messages
	if m.Sent < 20 || m.SendErrors == 0 || m.Delivered == 0 || m.Lost != m.LostEnded || m.Lost != m.Expected-m.Delivered {
		t.Errorf("messages are %+v", m)
	}
	for _, text := range []string{"send: closed by the server", "disconnected: closed by the server"} {
		if !slices.ContainsFunc(r.Errors, func(e counted) bool { return e.Text == text }) {
			t.Errorf("%q is not among the errors %+v", text, r.Errors)
		}
	}
	if !r.failed() {
		t.Error("not failed")
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	c := serve(t, 1, testHub{})
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	r, status := loadtest(t, t.Context(), c, "-connections", "500", "-concurrency", "8")
	if status != exitFailed || r.Error != errNobody.Error() || r.Connects.Opened != 0 {
		t.Errorf("status %d, error %q, connects %+v", status, r.Error, r.Connects)
	}
	if n := r.Connects.Failed; n < 8 || n > 16 {
		t.Errorf("gave up after %d attempts of 8 at a time", n)
	}
	if len(r.Errors) != 1 || !strings.Contains(r.Errors[0].Text, "connection refused") {
		t.Errorf("errors are %+v", r.Errors)
	}
}

func TestUnknownMethods(t *testing.T) {
	t.Parallel()
	c := serve(t, 1, testHub{})
	r, status := loadtest(t, t.Context(), c, "-connections", "2", "-join-method", "Enter")
	if status != exitFailed || r.Connects.Failed != 2 || len(r.Errors) != 1 || !strings.HasPrefix(r.Errors[0].Text, "connect: Enter: ") {
		t.Errorf("status %d, connects %+v, errors %+v", status, r.Connects, r.Errors)
	}
	r, status = loadtest(t, t.Context(), c, "-connections", "2", "-send-method", "Shout")
	if status != exitFailed || r.Messages.SendErrors != 100 || r.Messages.Expected != 0 {
		t.Errorf("status %d, messages %+v", status, r.Messages)
	}
	r, status = loadtest(t, t.Context(), c, "-connections", "2", "-groups", "1", "-receive-method", "Hear", "-drain", "5s")
	if status != exitFailed || r.Messages.Lost != 200 || r.Messages.Ignored < 200 {
		t.Errorf("status %d, messages %+v", status, r.Messages)
	}
}

func TestSelf(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), slices.Concat(brief, []string{"-self", "-connections", "20", "-json", file}), &stdout, &stderr)
	if status != exitOK || !strings.Contains(stdout.String(), "cannot be told apart") || !strings.Contains(stdout.String(), "ok:") {
		t.Errorf("status %d, output %s%s", status, &stdout, &stderr)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	if !r.Settings.Self || r.Messages.Delivered != 200 || r.Messages.Ignored != 0 {
		t.Errorf("report is %+v", r)
	}
}

func TestBadUsage(t *testing.T) {
	for name, flags := range map[string][]string{
		"unknown flag":            {"-nope"},
		"bad value":               {"-rate", "0"},
		"output cannot be opened": {"-json", filepath.Join(t.TempDir(), "missing", "report.json")},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), flags, &stdout, &stderr); status != exitUsage || stderr.Len() == 0 || stdout.Len() > 0 {
			t.Errorf("%s: status %d, stdout %q, stderr %q", name, status, &stdout, &stderr)
		}
	}
}

func TestCheckProcesses(t *testing.T) {
	own := os.Getpid()
	if err := checkProcesses([]int{own}); err != nil {
		t.Error(err)
	}
	_, err := processUsage(own)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("not available on this system")
	}
	if err := checkProcesses([]int{own, 1 << 30}); err == nil {
		t.Error("a process that is not there is accepted")
	}
}

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if status := run(t.Context(), []string{"-help"}, &stdout, &stderr); status != exitOK || !strings.Contains(stderr.String(), "-ramp-up") {
		t.Errorf("status %d, %s", status, &stderr)
	}
}
