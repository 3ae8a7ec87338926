package redisplane

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Each case is a script. A line is a call, and what must come of it:
//
//	hold a, release a
//	connect             with node as the channel that is subscribed first
//	disconnect
//	next +a +b -c       the commands that come out are exactly these, in any order
//	confirm +a          taken; confirm! +a is out of step
//	wait a              somebody waits for a
//	done a, failed a    and has been answered, so or so; pending a: has not
//	force a             a wait would return at once; force! a: it would not
//	restored, restored! all that was held when the connection began is in force, or not
//	empty               nothing is left but node
var scripts = []struct{ name, script string }{
	{"subscribe", `
		connect; next; confirm +node; hold a; wait a; pending a; next +a; force! a
		confirm +a; done a; force a; next`},
	{"two holders, one command", `
		connect; hold a; hold a; next +a; confirm +a; release a; next; force a; release a; next -a
		confirm -a; confirm +node; empty`},
	{"taken back before it was sent", `
		connect; hold a; wait a; release a; failed a; next; hold a; release a; hold a; next +a`},
	{"taken back while on its way", `
		connect; hold a; wait a; next +a; release a; failed a; next; confirm +a; next -a
		confirm -a; confirm +node; empty`},
	{"wanted again while on its way", `
		connect; hold a; next +a; release a; hold a; wait a; next; pending a; confirm +a; done a; next`},
	{"wanted again before it was unsubscribed", `
		connect; hold a; next +a; confirm +a; release a; force! a; hold a; force a; next; force a`},
	{"wanted again while unsubscribing", `
		connect; hold a; next +a; confirm +a; release a; next -a; hold a; force! a; wait a; next
		confirm -a; pending a; next +a; pending a; confirm +a; done a`},
	{"flips while unsubscribing", `
		connect; hold a; next +a; confirm +a; release a; next -a; hold a; release a; hold a; release a
		next; confirm -a; next; confirm +node; empty`},
	{"held before there is a connection", `
		hold a; wait a; hold b; next; connect; next +a +b; restored!; confirm +node; confirm +a
		restored!; done a; confirm +b; restored`},
	{"released before there is a connection", `
		hold a; hold b; wait b; release a; release b; failed b; connect; next; confirm +node; restored; empty`},
	{"lost while subscribing", `
		connect; hold a; wait a; next +a; disconnect; pending a; force! a; next; connect; pending a
		next +a; confirm +a; done a`},
	{"lost while in force", `
		connect; hold a; next +a; confirm +a; disconnect; force! a; wait a; connect; force! a; next +a
		confirm +node; confirm +a; done a; restored`},
	{"lost while unsubscribing", `
		connect; hold a; next +a; confirm +a; release a; next -a; disconnect; connect; next; confirm +node
		restored; empty`},
	{"lost while unsubscribing, and wanted again", `
		connect; hold a; next +a; confirm +a; release a; next -a; hold a; disconnect; connect; next +a
		confirm +node; confirm +a; force a`},
	{"lost with commands to come", `
		connect; hold a; next +a; confirm +a; hold b; release a; disconnect; connect; next +b
		confirm +node; confirm +b; release b; next -b; confirm -b; empty`},
	{"lost, and wanted before the sweep comes to it", `
		hold a; connect; hold a; hold b; next +a +b; next; release a; next; confirm +a; confirm +node; restored!
		confirm +b; restored`},
	{"lost twice", `
		hold a; connect; next +a; disconnect; connect; disconnect; connect; next +a; confirm +node; confirm +a; restored`},
	{"restored, though some are wanted no more", `
		hold a; hold b; connect; release b; next +a; confirm +node; restored!; confirm +a; restored`},
	{"nobody waits for what nobody holds", `
		wait a; failed a; connect; wait a; failed a; confirm +node; empty`},
	{"released too often", `
		connect; release a; hold a; release a; release a; hold a; next +a; confirm +node`},
	{"confirmations out of step", `
		confirm! +node; connect; confirm! +a; confirm! -node; confirm +node; confirm! +node; hold a; confirm! +a
		next +a; confirm! -a; confirm +a; release a; confirm! -a; next -a; confirm! +a; disconnect; confirm! -a`},
	{"the first channel is swept over", `
		connect; next; next; confirm +node; next; restored; release node; next -node`},
}

func TestSubscriptions(t *testing.T) {
	for _, test := range scripts {
		t.Run(test.name, func(t *testing.T) {
			s := newSubscriptions()
			s.hold("node")
			defer s.disconnect()
			waiting := make(map[string]*pending)
			for line := range strings.FieldsFuncSeq(test.script, func(r rune) bool { return r == ';' || r == '\n' }) {
				words := strings.Fields(line)
				if len(words) == 0 {
					continue
				}
				if err := play(s, waiting, words[0], words[1:]); err != nil {
					t.Fatalf("%s: %v", strings.TrimSpace(line), err)
				}
			}
		})
	}
}

func play(s *subscriptions, waiting map[string]*pending, verb string, words []string) error {
	verb, not := strings.CutSuffix(verb, "!")
	channel := ""
	if len(words) > 0 {
		channel = words[0]
	}
	is := true
	switch verb {
	case "hold":
		s.hold(channel)
	case "release":
		s.release(channel)
	case "connect":
		s.connect("node")
	case "disconnect":
		s.disconnect()
	case "next":
		subscribe, unsubscribe := s.next()
		var got []string
		for _, ch := range subscribe {
			got = append(got, "+"+ch)
		}
		for _, ch := range unsubscribe {
			got = append(got, "-"+ch)
		}
		if slices.Sort(got); !slices.Equal(got, words) {
			return fmt.Errorf("got %q", got)
		}
	case "confirm":
		err := s.confirm(channel[0] == '+', channel[1:])
		if is = err == nil; !is && !errors.Is(err, errOutOfStep) {
			return err
		}
	case "wait":
		if waiting[channel] = s.wait(channel); waiting[channel] == nil {
			return errors.New("is in force already")
		}
	case "force":
		is = s.wait(channel) == nil
	case "done", "failed", "pending":
		state := "pending"
		select {
		case <-waiting[channel].done:
			if state = "done"; waiting[channel].err != nil {
				state = "failed"
			}
		default:
		}
		if state != verb {
			return fmt.Errorf("is %s", state)
		}
	case "restored":
		is = s.restored()
	case "empty":
		if len(s.channels) != 1 || len(s.pending) != 0 {
			return fmt.Errorf("left are %v, waited for %v", s.channels, s.pending)
		}
	default:
		return errors.New("unknown step")
	}
	if is == not {
		return fmt.Errorf("is %t", is)
	}
	return nil
}

func TestSubscriptionsBatches(t *testing.T) {
	const channels = 10*maxUnconfirmed + 1
	s := newSubscriptions()
	defer s.disconnect()
	s.hold("node")
	for i := range channels {
		s.hold(strconv.Itoa(i))
	}
	s.wait("5") // is to be the first
	s.connect("node")
	var sent []string
	for round := 0; ; round++ {
		subscribe, unsubscribe := s.next()
		if len(subscribe) > maxBatch || len(unsubscribe) > 0 {
			t.Fatalf("%d to subscribe, %d to unsubscribe", len(subscribe), len(unsubscribe))
		}
		if round == 0 && subscribe[0] != "5" {
			t.Errorf("the first is %q, want the one that is waited for", subscribe[0])
		}
		sent = append(sent, subscribe...)
		if len(subscribe) == 0 {
			break
		}
	}
	if n := len(sent) + 1; n > maxUnconfirmed || n <= maxUnconfirmed-maxBatch {
		t.Errorf("%d are on their way, bound is %d", n, maxUnconfirmed)
	}

	// What is wanted now does not wait for the rest of the sweep, and no command is
	// sent for less than a batch.
	s.hold("new")
	for sent = append([]string{"node"}, sent...); len(sent) > 0; {
		if s.restored() {
			t.Fatalf("restored with %d on their way", len(sent))
		}
		if err := s.confirm(true, sent[0]); err != nil {
			t.Fatal(err)
		}
		subscribe, _ := s.next()
		if n := len(subscribe); n != 0 && n != maxBatch && s.nextToSweep != nil {
			t.Fatalf("a command for %d channels while there are more", n)
		}
		if e := s.entry("new"); len(subscribe) > 0 && e.state != subscribing && e.state != subscribed {
			t.Fatalf("others go before what is wanted now: %q", subscribe)
		}
		sent = append(sent[1:], subscribe...)
	}
	if !s.restored() || s.inForce != channels+2 {
		t.Errorf("restored is %t with %d in force", s.restored(), s.inForce)
	}
}

// TestSubscriptionsModel plays at random, against a model of the holders and of a Redis
// at the other end of a connection that may break at any time.
func TestSubscriptionsModel(t *testing.T) {
	for seed := range 200 {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			newModel(t, uint64(seed)).run(2000)
		})
	}
}

type model struct {
	*rand.Rand
	t       *testing.T
	table   *subscriptions
	holders map[string]int
	waiting map[*pending]string

	connected  bool
	commands   []string        // on their way to Redis, such as "+a"
	subscribed map[string]bool // by Redis
	replies    []string        // on their way back
	atConnect  map[string]bool // held then, and since
}

func newModel(t *testing.T, seed uint64) *model {
	m := &model{
		Rand:       rand.New(rand.NewPCG(seed, 0)),
		t:          t,
		table:      newSubscriptions(),
		holders:    map[string]int{"node": 1},
		waiting:    make(map[*pending]string),
		subscribed: make(map[string]bool),
	}
	m.table.hold("node")
	return m
}

func (m *model) run(steps int) {
	defer m.table.disconnect()
	for range steps {
		m.step()
		m.check()
	}
	if !m.connected {
		m.connect()
	}
	for m.next() || len(m.commands)+len(m.replies) > 0 {
		m.execute()
		m.receive()
		m.check()
	}
	if held := slices.Sorted(maps.Keys(m.holders)); !slices.Equal(slices.Sorted(maps.Keys(m.subscribed)), held) {
		m.t.Fatalf("in the end subscribed to %v, held are %v", m.subscribed, held)
	}
	if !m.table.restored() || m.table.inForce != len(m.holders) || len(m.table.channels) != len(m.holders) {
		m.t.Fatalf("in the end restored is %t, %d in force, %d known, of %d", m.table.restored(), m.table.inForce, len(m.table.channels), len(m.holders))
	}
	if len(m.waiting)+len(m.table.pending) > 0 {
		m.t.Fatalf("in the end %d wait for %v", len(m.waiting), m.table.pending)
	}
}

func (m *model) step() {
	channel := string(rune('a' + m.IntN(8)))
	switch n := m.IntN(100); {
	case n < 25:
		m.holders[channel]++
		m.table.hold(channel)
		if m.IntN(2) == 0 {
			if p := m.table.wait(channel); p != nil {
				m.waiting[p] = channel
			}
		}
	case n < 50:
		if m.holders[channel] > 0 {
			if m.holders[channel]--; m.holders[channel] == 0 {
				delete(m.holders, channel)
				delete(m.atConnect, channel)
			}
		}
		m.table.release(channel)
	case n < 65:
		m.next()
	case n < 80:
		m.execute()
	case n < 95:
		m.receive()
	case n < 97:
		if m.connected {
			m.connected = false
			m.commands, m.replies = nil, nil
			clear(m.subscribed)
			m.table.disconnect()
		}
	default:
		if !m.connected {
			m.connect()
		}
	}
}

func (m *model) connect() {
	m.connected = true
	m.atConnect = make(map[string]bool)
	for channel := range m.holders {
		m.atConnect[channel] = true
	}
	m.table.connect("node")
	m.commands = append(m.commands, "+node")
}

func (m *model) next() bool {
	subscribe, unsubscribe := m.table.next()
	if !m.connected && len(subscribe)+len(unsubscribe) > 0 {
		m.t.Fatal("commands without a connection")
	}
	before := len(m.commands)
	for _, channel := range subscribe {
		m.commands = append(m.commands, "+"+channel)
	}
	for _, channel := range unsubscribe {
		m.commands = append(m.commands, "-"+channel)
	}
	return len(m.commands) > before
}

// execute lets Redis do one command.
func (m *model) execute() {
	if len(m.commands) == 0 {
		return
	}
	command := m.commands[0]
	m.commands = m.commands[1:]
	if channel := command[1:]; command[0] == '+' {
		m.subscribed[channel] = true
	} else {
		delete(m.subscribed, channel)
	}
	m.replies = append(m.replies, command)
}

func (m *model) receive() {
	if len(m.replies) == 0 {
		return
	}
	reply := m.replies[0]
	m.replies = m.replies[1:]
	if err := m.table.confirm(reply[0] == '+', reply[1:]); err != nil {
		m.t.Fatalf("confirm %s: %v", reply, err)
	}
}

func (m *model) check() {
	inFlight := make(map[string]int)
	for _, command := range slices.Concat(m.commands, m.replies) {
		if inFlight[command[1:]]++; inFlight[command[1:]] > 1 {
			m.t.Fatalf("two commands for %s are on their way", command[1:])
		}
	}
	inForce := func(channel string) bool {
		return m.subscribed[channel] && inFlight[channel] == 0
	}
	for channel := range m.holders {
		if e := m.table.entry(channel); int(e.holders) != m.holders[channel] {
			m.t.Fatalf("%s has %d holders, want %d", channel, e.holders, m.holders[channel])
		} else if (e.state == subscribed) != inForce(channel) {
			m.t.Fatalf("%s is in state %d, in force is %t", channel, e.state, inForce(channel))
		}
	}
	for p, channel := range m.waiting {
		select {
		case <-p.done:
			if p.err == nil && !inForce(channel) || p.err != nil && m.holders[channel] > 0 {
				m.t.Fatalf("who waited for %s got %v; it has %d holders, in force is %t", channel, p.err, m.holders[channel], inForce(channel))
			}
			delete(m.waiting, p)
		default:
			if m.holders[channel] == 0 || inForce(channel) {
				m.t.Fatalf("who waits for %s was not answered; it has %d holders, in force is %t", channel, m.holders[channel], inForce(channel))
			}
		}
	}
	if m.table.restored() {
		for channel := range m.atConnect {
			if e := m.table.entry(channel); e.state != subscribed && e.state != unsubscribing {
				m.t.Fatalf("restored, but %s is in state %d", channel, e.state)
			}
		}
	}
}

// BenchmarkSubscriptions is one channel that comes and goes, with all commands and
// confirmations, beside a million that stay.
func BenchmarkSubscriptions(b *testing.B) {
	const channels = 1_000_000
	names := make([]string, channels)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := newSubscriptions()
	defer s.disconnect()
	for _, name := range names {
		s.hold(name)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)

	s.hold("node")
	s.connect("node")
	confirm := func() {
		for subscribe, unsubscribe := s.next(); len(subscribe)+len(unsubscribe) > 0; subscribe, unsubscribe = s.next() {
			for _, name := range subscribe {
				s.confirm(true, name)
			}
			for _, name := range unsubscribe {
				s.confirm(false, name)
			}
		}
	}
	s.confirm(true, "node")
	confirm()
	b.ReportAllocs()
	for b.Loop() {
		s.hold("channel")
		confirm()
		s.release("channel")
		confirm()
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/channels, "bytes/channel")
	runtime.KeepAlive(names)
}
