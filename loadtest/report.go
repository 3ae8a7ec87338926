package main

import (
	"maps"
	"runtime"
	"slices"
	"time"
)

// A report is the outcome of a trial, as it is written in JSON. Members that are
// missing could not be measured. Names end in their unit; CPU is user and system time.
type report struct {
	Scenario    string    `json:"scenario"`
	Began       time.Time `json:"began"`
	Interrupted bool      `json:"interrupted"`
	Error       string    `json:"error,omitempty"` // why there was no load to speak of
	Settings    settings  `json:"settings"`
	Machine     machine   `json:"machine"`

	Connects         connects        `json:"connects"`
	Messages         messages        `json:"messages"`
	Latency          *latencySummary `json:"latency,omitempty"`            // from due to received
	LatencyCrossNode *latencySummary `json:"latency_cross_node,omitempty"` // of which the sender is on another node
	SendLag          *latencySummary `json:"send_lag,omitempty"`           // from due to sent, contained in latency

	Servers       *servers  `json:"servers,omitempty"`
	LoadGenerator *process  `json:"load_generator,omitempty"` // with -self, the server too
	Notes         []string  `json:"notes"`
	Errors        []counted `json:"errors"`   // most frequent first
	Failures      []failure `json:"failures"` // none: all is well
}

// settings repeats what was asked for.
type settings struct {
	Nodes           []string `json:"nodes"`
	Self            bool     `json:"self"` // the node was in the load generator's process
	Protocol        string   `json:"protocol"`
	Negotiate       bool     `json:"negotiate"`
	Connections     int      `json:"connections"`
	Groups          int      `json:"groups"`
	Senders         int      `json:"senders"`
	Rate            float64  `json:"rate_per_second"`
	Payload         int      `json:"payload_bytes"`
	WarmupSeconds   float64  `json:"warmup_seconds"`
	DurationSeconds float64  `json:"duration_seconds"`
	RampUpSeconds   float64  `json:"ramp_up_seconds"`
	Concurrency     int      `json:"concurrency"`
}

// machine is where the load generator ran.
type machine struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Processors   int    `json:"processors"`
	Go           string `json:"go"`
	// Of all processors in the window: used by anybody, and withheld by the hypervisor.
	BusyPercent  *float64 `json:"busy_percent,omitempty"`
	StealPercent *float64 `json:"steal_percent,omitempty"`
}

// connects is what became of connections; senders' are among them.
type connects struct {
	Opened       int             `json:"opened"`
	Failed       int             `json:"failed"`
	Disconnected int             `json:"disconnected"` // ended by themselves, or by the server
	Seconds      float64         `json:"seconds"`
	PerSecond    float64         `json:"per_second"`
	Duration     *latencySummary `json:"duration,omitempty"` // from dialing to joined
}

// messages counts sends and deliveries: what one message is for each member of its
// group. The counts are of the whole trial, the rates of the window.
type messages struct {
	Sent        uint64 `json:"sent"`
	SendErrors  uint64 `json:"send_errors"`
	Unsent      uint64 `json:"unsent"`      // due, but the sender was too far behind
	Unconfirmed uint64 `json:"unconfirmed"` // sent, but never completed by the server

	Expected   uint64 `json:"expected"`
	Delivered  uint64 `json:"delivered"` // each once
	Lost       uint64 `json:"lost"`
	LostEnded  uint64 `json:"lost_on_ended_connections"` // of the lost
	Duplicated uint64 `json:"duplicated"`
	OutOfOrder uint64 `json:"out_of_order"`
	Stray      uint64 `json:"stray"`   // for another group
	Damaged    uint64 `json:"damaged"` // not as they were sent
	Ignored    uint64 `json:"ignored"` // other messages, not of this trial

	WindowSeconds       float64 `json:"window_seconds"`
	SendsPerSecond      float64 `json:"sends_per_second"`
	DeliveriesPerSecond float64 `json:"deliveries_per_second"`
}

// servers is what the given server processes used together.
type servers struct {
	Processes      []process `json:"processes"`
	CPUPercent     float64   `json:"cpu_percent"` // of one processor
	CPUPerDelivery float64   `json:"cpu_us_per_delivery"`
	CPUPerSend     float64   `json:"cpu_us_per_send"`
	CPUPerConnect  float64   `json:"cpu_us_per_connect"`
	RSS            uint64    `json:"rss_bytes"` // at the end
	// Missing where the servers' memory did not grow: they had held connections before.
	RSSPerConnect float64 `json:"rss_bytes_per_connection,omitempty"`
}

// process is what one process used.
type process struct {
	PID        int     `json:"pid"`
	CPUPercent float64 `json:"cpu_percent"`
	RSS        uint64  `json:"rss_bytes"`
}

// counted is an error and how often it happened.
type counted struct {
	Text  string `json:"text"`
	Count int    `json:"count"`
}

// report makes the report of a trial that is not closed yet. It fits any scenario:
// what one does not have is left empty.
func (t *trial) report() *report {
	r := &report{
		Scenario:    t.scenario.name,
		Began:       t.epoch.UTC().Truncate(time.Second),
		Interrupted: t.interrupted,
		Settings:    t.settings(),
		Machine:     thisMachine(),
		Connects:    t.fleet.report(),
		Notes:       []string{},
		Errors:      []counted{},
		Failures:    []failure{},
	}
	if t.err != nil {
		r.Error = t.err.Error()
	}
	errors := t.fleet.errorCounts()
	if t.load != nil {
		t.load.report(r, errors)
	}
	t.reportWindow(r)
	t.reportProcesses(r)
	r.Notes = append(r.Notes, notes(r)...)
	r.Errors = append(r.Errors, errors.sorted()...)
	r.Failures = append(r.Failures, failures(r, &t.config)...)
	return r
}

// failed reports whether the exit status is to say so.
func (r *report) failed() bool {
	return r.Error != "" || slices.ContainsFunc(r.Failures, func(f failure) bool { return !f.Allowed })
}

func (t *trial) settings() settings {
	c := t.config
	s := settings{
		Self:            c.self,
		Protocol:        c.protocol.Name(),
		Negotiate:       c.negotiate,
		Connections:     c.connections,
		Groups:          c.groups,
		Senders:         c.senders,
		Rate:            c.rate,
		Payload:         c.payload,
		WarmupSeconds:   c.warmup.Seconds(),
		DurationSeconds: c.duration.Seconds(),
		RampUpSeconds:   c.rampUp.Seconds(),
		Concurrency:     c.concurrency,
	}
	for _, n := range t.fleet.nodes {
		s.Nodes = append(s.Nodes, n.Redacted())
	}
	return s
}

func thisMachine() machine {
	return machine{OS: runtime.GOOS, Architecture: runtime.GOARCH, Processors: runtime.NumCPU(), Go: runtime.Version()}
}

func (f *fleet) report() connects {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := connects{
		Opened:       len(f.connections),
		Failed:       f.failed,
		Disconnected: f.disconnected,
		Seconds:      f.opening.Seconds(),
		Duration:     f.connects.summary(),
	}
	c.PerSecond = ratio(float64(c.Opened), c.Seconds)
	return c
}

func (f *fleet) errorCounts() errorCounts {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.errors)
}

// report adds what the load found, and its errors to those given.
func (l *load) report(r *report, errors errorCounts) {
	got, sent := l.recorder.tally(), l.sent()
	lost, ended := l.lost()
	r.Messages = messages{
		Sent:        sent.Sent,
		SendErrors:  sent.Failed,
		Unsent:      sent.Unsent,
		Unconfirmed: sent.Sent - sent.Confirmed,
		Expected:    sent.Expected,
		Delivered:   got.delivered,
		Lost:        lost,
		LostEnded:   ended,
		Duplicated:  got.duplicated,
		OutOfOrder:  got.outOfOrder,
		Stray:       got.stray,
		Damaged:     got.damaged,
		Ignored:     got.ignored,
	}
	all, crossNode := l.recorder.latencies()
	r.Latency, r.LatencyCrossNode = all.summary(), crossNode.summary()
	lag := newLatencies()
	for _, s := range l.senders {
		s.mu.Lock()
		lag.merge(s.lag)
		for text, n := range s.errors {
			errors.addN(text, n)
		}
		s.mu.Unlock()
	}
	r.SendLag = lag.summary()
}
