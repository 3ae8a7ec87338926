package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/backplane"
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

type emptyHub struct{}

// deaf is a backplane that does not hear.
type deaf struct{ backplane.Backplane }

func (deaf) Healthy() error { return errors.New("deaf since noon") }

// running is a node in this process.
type running struct {
	t             *testing.T
	public, admin string // addresses
	stop          func()
	ended         chan error
}

func start(t *testing.T, c Config) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	n := &running{t: t, stop: stop, ended: make(chan error, 1)}
	listening := make(chan struct{})
	c.Listen, c.AdminListen = "127.0.0.1:0", "127.0.0.1:0"
	c.Logger = slog.New(slog.DiscardHandler)
	c.Listening = func(public, admin net.Addr) {
		n.public, n.admin = public.String(), admin.String()
		close(listening)
	}
	go func() { n.ended <- Run(ctx, c) }() // ends with stop, which the cleanup calls
	t.Cleanup(stop)
	select {
	case <-listening:
	case err := <-n.ended:
		t.Fatal(err)
	}
	return n
}

func newHub(t *testing.T, plane backplane.Backplane, metrics prometheus.Registerer) *hub.Hub {
	t.Helper()
	h, err := hub.New(emptyHub{}, hub.WithBackplane(plane), hub.WithMetrics(metrics), hub.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (n *running) get(address, path string) (status int, body string) {
	n.t.Helper()
	r, err := http.Get("http://" + address + path)
	if err != nil {
		n.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestAdmin(t *testing.T) {
	metrics := prometheus.NewRegistry()
	plane := backplane.NewMemory()
	h := newHub(t, plane, metrics)
	n := start(t, Config{Handler: h, Hubs: []*hub.Hub{h}, Backplane: deaf{plane}, Gatherer: metrics})
	for _, tt := range []struct {
		path   string
		status int
		body   string // is contained
	}{
		{"/livez", 200, "ok"},
		{"/readyz", 200, "ok"},
		{"/readyz?verbose", 200, "[+] serving: ok\n[-] backplane: deaf since noon\n"},
		{"/metrics", 200, `heliograph_hub_connections{hub="emptyHub"} 0`},
		{"/debug/pprof/", 200, "goroutine"},
		{"/debug/pprof/goroutine?debug=1", 200, "goroutine profile:"},
		{"/", 404, ""},
	} {
		status, body := n.get(n.admin, tt.path)
		if status != tt.status || !strings.Contains(body, tt.body) {
			t.Errorf("%s: got %d %q, want %d %q", tt.path, status, body, tt.status, tt.body)
		}
		if status, body := n.get(n.public, tt.path); status != 400 || body != "Connection ID required" {
			t.Errorf("%s on the public port: got %d %q, want the hub", tt.path, status, body)
		}
	}
	n.stop()
	if err := <-n.ended; err != nil {
		t.Error(err)
	}
}

func TestLeavesInOrder(t *testing.T) {
	plane := backplane.NewMemory()
	h := newHub(t, plane, prometheus.NewRegistry())
	n := start(t, Config{Handler: h, Hubs: []*hub.Hub{h}, Backplane: plane})
	client, answer, err := websocket.DefaultDialer.Dial("ws://"+n.public+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	defer client.Close()
	if err := client.WriteMessage(1, []byte(`{"protocol":"json","version":1}`+"\x1e")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"{}\x1e", `{"type":7,"allowReconnect":true}` + "\x1e"} {
		client.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, got, err := client.ReadMessage()
		if err != nil || string(got) != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
		if want == "{}\x1e" {
			n.stop()
		}
	}
	// The client has not answered the close frame, so the node has not ended.
	await.Until(t, "the node is not ready", func() error {
		if status, body := n.get(n.admin, "/readyz"); status != 503 || !strings.Contains(body, "[-] serving: leaving") {
			return fmt.Errorf("got %d %q", status, body)
		}
		return nil
	})
	if status, _ := n.get(n.admin, "/livez"); status != 200 {
		t.Errorf("/livez while leaving: %d", status)
	}
	if _, _, err := client.ReadMessage(); !websocket.IsCloseError(err, 1000) { // answers it
		t.Errorf("got %v", err)
	}
	if err := <-n.ended; err != nil {
		t.Error(err)
	}
	if err := plane.Healthy(); err == nil {
		t.Error("backplane is not closed")
	}
}

// While load balancers have not noticed yet, a node that is leaving takes what they
// send it.
func TestDrainDelay(t *testing.T) {
	plane := backplane.NewMemory()
	h := newHub(t, plane, prometheus.NewRegistry())
	n := start(t, Config{Handler: h, Hubs: []*hub.Hub{h}, Backplane: plane, DrainDelay: 2 * time.Second})
	n.stop()
	await.Until(t, "the node is not ready", func() error {
		if status, _ := n.get(n.admin, "/readyz"); status != 503 {
			return fmt.Errorf("got %d", status)
		}
		return nil
	})
	client, answer, err := websocket.DefaultDialer.Dial("ws://"+n.public+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	client.Close()
	if err := <-n.ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownTimeout(t *testing.T) {
	plane := backplane.NewMemory()
	h := newHub(t, plane, prometheus.NewRegistry())
	n := start(t, Config{Handler: h, Hubs: []*hub.Hub{h}, Backplane: plane, ShutdownTimeout: 50 * time.Millisecond})
	client, answer, err := websocket.DefaultDialer.Dial("ws://"+n.public+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	defer client.Close()
	n.stop() // the client never answers the close frame
	if err := <-n.ended; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestListenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, c := range []Config{
		{Listen: taken.Addr().String()},
		{Listen: "127.0.0.1:0", AdminListen: taken.Addr().String()},
	} {
		c.Handler, c.Logger = http.NotFoundHandler(), slog.New(slog.DiscardHandler)
		if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
			t.Errorf("got %v", err)
		}
	}
}

func TestDefaultMuxIsRefused(t *testing.T) {
	if err := Run(t.Context(), Config{Listen: "127.0.0.1:0", Handler: http.DefaultServeMux}); err == nil {
		t.Error("it is served, with the profiles on it")
	}
}
