package main

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// A trial is one run of a scenario: what the scenario is given, and what it has found
// so far.
type trial struct {
	config   config
	scenario scenario
	id       trialID
	epoch    time.Time // what the times within messages count from
	fleet    *fleet

	// Set when the scenario is through.
	err         error
	interrupted bool

	// What the processes had used when connecting began, when all connections had been
	// open for a while, and around the window in which is measured. Zero: it did not
	// come to that.
	beginning, settled, windowBegin, windowEnd mark

	mu    sync.Mutex // guards what follows
	phase phase
	load  *load // nil until there is one
}

// A phase is what the scenario is doing.
type phase struct {
	name  string
	began time.Time
	takes time.Duration // if known
}

// A mark is what has been used and done by a moment.
type mark struct {
	at        time.Time
	servers   []usage // in the order of their ids; those not to be had are zero
	own       usage
	host      hostTimes
	sent      uint64
	delivered uint64
}

// newTrial prepares a trial at the nodes. It is to be closed.
func newTrial(c config, s scenario, nodes []*url.URL) *trial {
	return &trial{
		config:   c,
		scenario: s,
		id:       trialID(strings.ToLower(rand.Text()[:trialIDBytes])),
		epoch:    time.Now(),
		fleet:    newFleet(c, nodes),
	}
}

// run runs the scenario.
func (t *trial) run(ctx context.Context) {
	t.err = t.scenario.run(ctx, t)
	t.interrupted = ctx.Err() != nil
}

// close ends the trial's connections. What was found does not change any more.
func (t *trial) close() { t.fleet.close() }

func (t *trial) enter(name string, takes time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = phase{name, time.Now(), takes}
}

// watch makes the load's figures known to progress and report.
func (t *trial) watch(l *load) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load = l
}

// mark sets one of the trial's marks.
func (t *trial) mark(m *mark) {
	m.at = time.Now()
	for _, pid := range t.config.serverPIDs {
		u, _ := processUsage(pid) // what is missing is seen to be zero
		m.servers = append(m.servers, u)
	}
	m.own, _ = processUsage(os.Getpid())
	m.host, _ = readHostTimes()
	if t.load != nil {
		m.sent, m.delivered = t.load.sent().Sent, t.load.recorder.tally().delivered
	}
}
