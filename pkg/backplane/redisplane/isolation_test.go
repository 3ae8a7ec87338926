package redisplane

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/backplane/backplanetest"
)

var (
	firstKey  = bytes.Repeat([]byte{'1'}, 32)
	secondKey = bytes.Repeat([]byte{'2'}, 32)
)

func keyed(keys ...[]byte) func(*Options) { return func(o *Options) { o.Keys = keys } }

func demanding(o *Options) { o.RequireSigned = true }

// The contract holds where every second node demands signatures.
func TestContractSigned(t *testing.T) {
	redis := redistest.Start(t)
	backplanetest.Run(t, func(*testing.T) backplanetest.Cluster {
		nodes := 0
		return backplanetest.Cluster{
			Node: func(t *testing.T) backplane.Backplane {
				nodes++
				p, err := New(Options{
					URL: redis.URL(), Keys: [][]byte{firstKey}, RequireSigned: nodes%2 == 1, Logger: slog.New(slog.DiscardHandler),
				})
				if err != nil {
					t.Fatal(err)
				}
				return p
			},
		}
	})
}

func TestRequireSignedNeedsKeys(t *testing.T) {
	if _, err := New(Options{URL: "redis://localhost", RequireSigned: true}); err == nil || !strings.Contains(err.Error(), "RequireSigned") {
		t.Errorf("error is %v", err)
	}
}

// A tapped envelope is one that somebody else has read off Redis.
type tapped struct{ channel, payload string }

// tap returns what the sender publishes on the channel.
func tap(t *testing.T, redis *redistest.Server, sender *node, body string, ch backplane.Channel) tapped {
	t.Helper()
	pubsub := redis.Client().Subscribe(inTime(t), string(ch))
	defer pubsub.Close()
	if _, err := pubsub.Receive(inTime(t)); err != nil {
		t.Fatal(err)
	}
	sender.send(t, body, ch)
	m, err := pubsub.ReceiveMessage(inTime(t))
	if err != nil {
		t.Fatal(err)
	}
	return tapped{m.Channel, m.Payload}
}

// Who gets at Redis, and has no key, is ignored by nodes that demand signatures: he can
// neither say anything, nor say again what was said, nor have a publisher ignored.
func TestHostilePublisher(t *testing.T) {
	redis := redistest.Start(t)
	sender := start(t, redis.URL(), keyed(firstKey))
	logged := new(logs)
	victim := start(t, redis.URL(), keyed(firstKey), demanding, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	victim.join(t, "user:ada", "user:bob", "group:a")
	publish := func(channel, payload string) {
		t.Helper()
		if err := redis.Client().Publish(inTime(t), channel, payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	said := tap(t, redis, sender, "genuine", "user:ada")
	parsed, err := backplane.ParseEnvelope([]byte(said.payload))
	if err != nil {
		t.Fatal(err)
	}
	next := parsed
	next.Sequence += 1000
	other := backplane.NewEnvelopeKeys([][]byte{secondKey})

	const plain = `{"target":"ReceiveMessage","arguments":["hi"]}`
	unsigned := []tapped{
		{"user:ada", plain},
		{"user:ada", string(backplane.AppendEnvelope(nil, next))},
		{"user:ada", string(backplane.AppendEnvelope(nil, backplane.Envelope{Publisher: "hostile", Sequence: 1, Body: []byte(plain)}))},
		{"node:" + victim.NodeID(), string(backplane.AppendEnvelope(nil, backplane.Envelope{
			Publisher: victim.NodeID(), Incarnation: 1 << 63, Sequence: 1, Body: []byte("probe 12345678"),
		}))},
	}
	forged := []tapped{
		{"user:ada", string(backplane.AppendUnsigned(nil, next))},
		{"user:ada", string(other.Append(nil, "user:ada", next))},
		{"user:bob", said.payload}, // moved
		{"group:a", said.payload},
		{"user:ada", said.payload + "!"},
		{"user:ada", strings.Replace(said.payload, "genuine", "hostile", 1)},
	}
	for _, e := range unsigned {
		publish(e.channel, e.payload)
	}
	for _, e := range forged {
		publish(e.channel, e.payload)
	}
	publish(said.channel, said.payload) // replayed
	publish("user:ada", said.payload[:20])
	publish("user:ada", "\x02"+said.payload[1:])
	sender.send(t, "still heard", "user:ada")
	victim.expect(t, "user:ada genuine", "user:ada still heard")
	for reason, want := range map[string]int{
		"unsigned": len(unsigned), "forged": len(forged), "late": 1, "malformed": 1, "version": 1, "unattached": 0,
	} {
		if got := testutil.ToFloat64(victim.metrics.dropped.WithLabelValues(reason)); got != float64(want) {
			t.Errorf("%v counted as %s, want %d", got, reason, want)
		}
	}
	if err := victim.Healthy(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{backplane.ErrUnsigned.Error(), backplane.ErrForged.Error(), "channel=user:bob"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("%q is not in the log", want)
		}
	}
	if strings.Contains(logged.String(), "level=WARN") {
		t.Errorf("warned: %s", logged)
	}
}

// While the switch, and then another key, is rolled out, every node hears every other.
func TestRollout(t *testing.T) {
	redis := redistest.Start(t)
	for _, test := range []struct {
		name     string
		one, two []func(*Options)
	}{
		{"demanding", []func(*Options){keyed(firstKey)}, []func(*Options){keyed(firstKey), demanding}},
		{"accepting another key", []func(*Options){keyed(firstKey), demanding}, []func(*Options){keyed(firstKey, secondKey), demanding}},
		{"signing with it", []func(*Options){keyed(firstKey, secondKey), demanding}, []func(*Options){keyed(secondKey, firstKey), demanding}},
		{"giving up the first", []func(*Options){keyed(secondKey, firstKey), demanding}, []func(*Options){keyed(secondKey), demanding}},
		{"from no keys at all", nil, []func(*Options){keyed(firstKey)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := start(t, redis.URL(), test.one...), start(t, redis.URL(), test.two...)
			var want []string
			one.join(t, "a")
			two.join(t, "a")
			for i := range 5 {
				one.send(t, fmt.Sprint("one ", i), "a")
				two.send(t, fmt.Sprint("two ", i), "a")
				want = append(want, fmt.Sprint("a one ", i), fmt.Sprint("a two ", i))
			}
			one.expect(t, want...)
			two.expect(t, want...)
		})
	}
}

// What cannot be read is counted by why, and what comes next is delivered.
func TestUnreadable(t *testing.T) {
	redis := redistest.Start(t)
	registry := prometheus.NewRegistry()
	n := start(t, redis.URL(), func(o *Options) { o.Registerer = registry })
	n.join(t, "a")
	good := backplane.AppendEnvelope(nil, backplane.Envelope{Publisher: "p", Incarnation: 1, Sequence: 1, Body: []byte("good")})
	header := len(good) - len("good")
	malformed, version := 1, 0
	payloads := []string{""}
	for i := 1; i < header; i++ {
		payloads = append(payloads, string(good[:i]))
		malformed++
	}
	for first := range 256 {
		if first != '{' && first != int(good[0]) {
			payloads = append(payloads, string([]byte{byte(first)})+string(good[1:]))
			version++
		}
	}
	for _, payload := range payloads {
		if err := redis.Client().Publish(inTime(t), "a", payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := redis.Client().Publish(inTime(t), "a", good).Err(); err != nil {
			t.Fatal(err)
		}
	}
	n.send(t, "end", "a")
	n.expect(t, "a good", "a end")
	want := fmt.Sprintf(`# HELP heliograph_backplane_dropped_total Envelopes received and not delivered, by reason: malformed, version, unsigned, forged, late, unattached, gap.
# TYPE heliograph_backplane_dropped_total counter
heliograph_backplane_dropped_total{reason="forged"} 0
heliograph_backplane_dropped_total{reason="gap"} 0
heliograph_backplane_dropped_total{reason="late"} 1
heliograph_backplane_dropped_total{reason="malformed"} %d
heliograph_backplane_dropped_total{reason="unattached"} 0
heliograph_backplane_dropped_total{reason="unsigned"} 0
heliograph_backplane_dropped_total{reason="version"} %d
`, malformed, version)
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "heliograph_backplane_dropped_total"); err != nil {
		t.Error(err)
	}
}

// logs are what has been logged.
type logs struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes.String()
}
