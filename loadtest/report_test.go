package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// everything is a report in which nothing is missing.
func everything() *report {
	latency := func(scale int64) *latencySummary {
		return &latencySummary{
			Count: 100_000, Mean: 1500.5, Min: 80 * scale, P50: 1200 * scale,
			P90: 2100 * scale, P99: 4567 * scale, P999: 9000 * scale, Max: 12_345 * scale,
		}
	}
	r := &report{
		Scenario:    "fanout",
		Began:       time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC),
		Interrupted: true,
		Error:       "no connection could be opened",
		Settings: settings{
			Nodes: []string{"http://a/chat", "http://b/chat"}, Self: true, Protocol: "json", Negotiate: true,
			Connections: 1000, Groups: 10, Senders: 2, Rate: 100, Payload: 128,
			WarmupSeconds: 1, DurationSeconds: 10, RampUpSeconds: 2.5, Concurrency: 64,
		},
		Machine: machine{
			OS: "linux", Architecture: "amd64", Processors: 2, Go: "go1.26.0",
			BusyPercent: new(95.5), StealPercent: new(6.25),
		},
		Connects: connects{Opened: 1000, Failed: 2, Disconnected: 3, Seconds: 0.5, PerSecond: 2000, Duration: latency(10)},
		Messages: messages{
			Sent: 1095, SendErrors: 4, Unsent: 1, Unconfirmed: 7,
			Expected: 109_500, Delivered: 109_480, Lost: 20, LostEnded: 15, Duplicated: 6, OutOfOrder: 5,
			Stray: 8, Damaged: 9, Ignored: 51_000,
			WindowSeconds: 10, SendsPerSecond: 99.5, DeliveriesPerSecond: 9948,
		},
		Latency:          latency(1),
		LatencyCrossNode: latency(2),
		SendLag:          latency(3),
		Servers: &servers{
			Processes:  []process{{PID: 11, CPUPercent: 20, RSS: 50 << 20}, {PID: 12, CPUPercent: 22.5, RSS: 60 << 20}},
			CPUPercent: 42.5, CPUPerDelivery: 42.7, CPUPerSend: 4270, CPUPerConnect: 150,
			RSS: 110 << 20, RSSPerConnect: 9876,
		},
		LoadGenerator: &process{PID: 10, CPUPercent: 30, RSS: 40 << 20},
		Errors:        []counted{{"send: not today", 4}, {"disconnected: closed by the server", 3}},
	}
	r.Notes = append([]string{noUsage(13)}, notes(r)...)
	r.Failures = failures(r, &config{allowed: []failureKind{duplicates}})
	return r
}

func TestReportGolden(t *testing.T) {
	var asJSON, asText bytes.Buffer
	o := output{text: &asText, json: &asJSON}
	if err := o.write(everything()); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"report.json": asJSON.Bytes(), "report.txt": asText.Bytes()} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
	var again report
	d := json.NewDecoder(&asJSON)
	d.DisallowUnknownFields()
	if err := d.Decode(&again); err != nil {
		t.Error(err)
	}
}

func TestFailures(t *testing.T) {
	if got := failures(&report{}, &config{}); len(got) > 0 {
		t.Errorf("of nothing: %v", got)
	}
	r := everything()
	all := failures(r, &config{allowed: allowable})
	for _, k := range allowable {
		if !slices.ContainsFunc(all, func(f failure) bool { return f.Kind == k && f.Allowed && f.Count > 0 }) {
			t.Errorf("%s is not among %v", k, all)
		}
	}
	r.Error, r.Failures = "", all
	if r.failed() {
		t.Error("failed by what is allowed")
	}
	r.Failures = failures(r, &config{allowed: allowable[1:]})
	if !r.failed() {
		t.Error("not failed by what is not allowed")
	}
	if r = (&report{Error: "nothing works"}); !r.failed() {
		t.Error("not failed by an error")
	}
}

// What the window's marks say is turned into rates and costs.
func TestWindow(t *testing.T) {
	at := time.Unix(1000, 0)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	tr := &trial{
		config:    config{serverPIDs: []int{7, 8, 9}},
		beginning: mark{servers: []usage{{ms(10), 1000}, {ms(20), 2000}, {}}},
		settled:   mark{servers: []usage{{ms(110), 5000}, {ms(220), 6000}, {}}},
		windowBegin: mark{
			at: at, sent: 100, delivered: 1000, own: usage{ms(500), 1},
			servers: []usage{{ms(200), 5000}, {ms(300), 6000}, {}}, host: hostTimes{total: 1000, busy: 100, steal: 10},
		},
		windowEnd: mark{
			at: at.Add(2 * time.Second), sent: 300, delivered: 3000, own: usage{ms(1500), 77},
			servers: []usage{{ms(1200), 5500}, {ms(800), 6600}, {}}, host: hostTimes{total: 1400, busy: 300, steal: 14},
		},
	}
	r := &report{Connects: connects{Opened: 100}}
	tr.reportWindow(r)
	tr.reportProcesses(r)
	if m := r.Messages; m.WindowSeconds != 2 || m.SendsPerSecond != 100 || m.DeliveriesPerSecond != 1000 {
		t.Errorf("messages are %+v", m)
	}
	if m := r.Machine; *m.BusyPercent != 50 || *m.StealPercent != 1 {
		t.Errorf("machine is %v busy, %v steal", *m.BusyPercent, *m.StealPercent)
	}
	if p := r.LoadGenerator; p.PID != os.Getpid() || p.CPUPercent != 50 || p.RSS != 77 {
		t.Errorf("load generator is %+v", p)
	}
	s := r.Servers
	if s.CPUPercent != 75 || s.CPUPerDelivery != 750 || s.CPUPerSend != 7500 || s.CPUPerConnect != 3000 || s.RSS != 12_100 || s.RSSPerConnect != 80 {
		t.Errorf("servers are %+v", s)
	}
	if !slices.Equal(s.Processes, []process{{7, 50, 5500}, {8, 25, 6600}}) {
		t.Errorf("processes are %+v", s.Processes)
	}
	if !slices.Equal(r.Notes, []string{noUsage(9)}) {
		t.Errorf("notes are %q", r.Notes)
	}

	tr.beginning.servers[0].resident = 1 << 20
	tr.reportProcesses(r)
	if r.Servers.RSSPerConnect != 0 {
		t.Errorf("%v bytes per connection, though memory shrank", r.Servers.RSSPerConnect)
	}

	r = &report{}
	tr.windowEnd = mark{}
	tr.windowBegin = mark{}
	tr.reportWindow(r)
	tr.reportProcesses(r)
	if r.Messages != (messages{}) || r.Servers != nil || r.LoadGenerator != nil {
		t.Errorf("without a window: %+v", r)
	}
}

func TestLatencies(t *testing.T) {
	l := newLatencies()
	if l.summary() != nil {
		t.Error("nothing has a summary")
	}
	for i := range 1000 {
		l.record(time.Duration(i+1) * time.Millisecond)
	}
	more := newLatencies()
	more.record(-time.Second)
	more.record(24 * time.Hour)
	l.merge(more)
	s := l.summary()
	for name, q := range map[string]struct{ got, want int64 }{
		"p50": {s.P50, 500_000}, "p90": {s.P90, 900_000}, "p99": {s.P99, 991_000}, "p99.9": {s.P999, 1_000_000}, "max": {s.Max, longest.Microseconds()},
	} {
		if off := float64(q.got-q.want) / float64(q.want); off < -0.002 || off > 0.002 {
			t.Errorf("%s is %d µs, want %d", name, q.got, q.want)
		}
	}
	if s.Count != 1002 || s.Min != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 12: "12", 123: "123", 1234: "1,234", 123456: "123,456", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is written %s, want %s", n, got, want)
		}
	}
}

func TestSettingsHideCredentials(t *testing.T) {
	c := config{protocol: protocol.JSON, token: "secret token", concurrency: 1}
	tr := newTrial(c, fanout, nil)
	defer tr.close()
	tr.fleet.nodes = append(tr.fleet.nodes, parseURL(t, "http://ada:lovelace@a/chat"))
	data, err := json.Marshal(tr.report())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte("secret")) || bytes.Contains(data, []byte("lovelace")) {
		t.Errorf("credentials are in %s", data)
	}
}
