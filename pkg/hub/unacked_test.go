package hub

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A reader is the client's end of a connection with stateful reconnect: what it takes
// from the carriers it has had, one after the other.
type reader struct {
	t *testing.T

	mu       sync.Mutex
	from     *wire // frames of any other are not looked at
	next     int64 // number of the next message
	known    int64 // highest number that was taken
	sequence bool  // what comes before the Sequence message is not looked at
	messages []string
}

func (r *reader) attach(w *wire) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.from, r.sequence = w, false
}

func (r *reader) take(w *wire, frame string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from != w {
		return
	}
	number, isSequence := strings.CutPrefix(frame, "sequence ")
	switch {
	case isSequence:
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n > r.known+1 {
			r.t.Errorf("got %q, after message %d", frame, r.known)
		}
		r.next, r.sequence = n, true
	case !r.sequence || !strings.HasPrefix(frame, "m"):
	case r.next <= r.known:
		if r.messages[r.next-1] != frame {
			r.t.Errorf("message %d is %q at first, and %q when it comes again", r.next, r.messages[r.next-1], frame)
		}
		r.next++
	default:
		r.messages = append(r.messages, frame)
		r.known = r.next
		r.next++
	}
}

// knows returns the highest number of a message that the client has.
func (r *reader) knows() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}

// check fails unless the client has the messages m1 to mn, each once and in order.
func (r *reader) check(n int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.messages) != n {
		r.t.Errorf("%d messages arrived of %d", len(r.messages), n)
	}
	for i, m := range r.messages {
		if m != fmt.Sprint("m", i+1) {
			r.t.Fatalf("message %d is %q", i+1, m)
		}
	}
}

// A wire is a carrier that breaks.
type wire struct {
	to   *reader
	mu   sync.Mutex
	left int // how many frames go through; negative: all
}

var errCut = errors.New("cut")

func (w *wire) Write(frames [][]byte, _ protocol.TransferFormat) error {
	for _, f := range frames {
		w.mu.Lock()
		left := w.left
		w.left = max(left-1, min(left, 0))
		w.mu.Unlock()
		if left == 0 {
			return errCut
		}
		w.to.take(w, string(f))
	}
	return nil
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = 0
}

func (w *wire) Close() { w.cut() }
func (w *wire) Abort() { w.cut() }

func sequenceText(n int64) []byte { return fmt.Append(nil, "sequence ", n) }

// statefulOutbound is an outbound whose handshake has been answered.
func statefulOutbound(l link, maxUnacked int, spawn func(func())) *outbound {
	o := &outbound{
		link: l, maxBytes: 1 << 20, maxFrames: 1 << 20, spawn: spawn, held: true,
		failed: func(err error) { panic(err) },
	}
	o.release([]byte("{}"), protocol.Text, &unacked{max: maxUnacked, pauses: prometheus.NewCounter(prometheus.CounterOpts{})})
	return o
}

// Whenever it breaks and whatever is acknowledged when, each message arrives once, in
// order. Everything runs in one goroutine, as the dice say.
func TestStatefulOutboundSteps(t *testing.T) {
	for seed := range uint64(2000) {
		dice := rand.New(rand.NewPCG(seed, 1))
		var drains []func()
		run := func() {
			for len(drains) > 0 {
				i := dice.IntN(len(drains)) // that of a carrier that is replaced may come late
				f := drains[i]
				drains = append(drains[:i], drains[i+1:]...)
				f()
			}
		}
		r := &reader{t: t, sequence: true, next: 1}
		w := &wire{to: r, left: dice.IntN(5) - 1}
		r.from = w
		o := statefulOutbound(w, dice.IntN(30), func(f func()) { drains = append(drains, f) })
		sent := 0
		for range 60 {
			switch dice.IntN(8) {
			case 0, 1, 2:
				sent++
				if err := o.enqueue(fmt.Append(nil, "m", sent)); err != nil {
					t.Fatal(err)
				}
			case 3:
				run()
			case 4:
				o.ack(int64(dice.IntN(int(r.knows()) + 1)))
			case 5:
				o.ack(r.knows())
			case 6:
				o.ping([]byte("ping"))
			case 7:
				if dice.IntN(2) == 0 {
					o.interrupted(w)
				}
				old := w
				w = &wire{to: r, left: dice.IntN(12) - 1}
				if dice.IntN(2) == 0 {
					r.attach(w)
					o.resume(w, sequenceText)
				} else { // seen by the client only once the old one's frames, which come late, are dropped
					o.resume(w, sequenceText)
					r.attach(w)
				}
				if dice.IntN(2) == 0 {
					o.interrupted(old)
				}
			}
		}
		w = &wire{to: r, left: -1}
		r.attach(w)
		o.resume(w, sequenceText)
		for range sent + 1 { // each run and acknowledgement gets at least one further
			run()
			o.ack(r.knows())
		}
		if r.check(sent); t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if u := o.unacked; u.bytes != 0 || len(u.frames) != 0 || u.last() != int64(sent) || o.bytes != 0 {
			t.Fatalf("seed %d: left %d bytes of %d frames, %d waiting, last is %d of %d", seed, u.bytes, len(u.frames), o.bytes, u.last(), sent)
		}
	}
}

// The same with all at once.
func TestStatefulOutboundStorm(t *testing.T) {
	const messages = 20000
	var drains sync.WaitGroup
	r := &reader{t: t, sequence: true, next: 1}
	w := &wire{to: r, left: -1}
	r.from = w
	o := statefulOutbound(w, 500, func(f func()) { drains.Go(f) })
	var sending, breaking sync.WaitGroup
	done := make(chan struct{})
	sending.Go(func() {
		for i := range messages {
			for o.enqueueWhenRoom(t.Context(), fmt.Append(nil, "m", i+1)) != nil {
				t.Error("refused")
				return
			}
		}
	})
	breaking.Go(func() {
		for n := range 1 << 30 {
			select {
			case <-done:
				return
			default:
			}
			next := &wire{to: r, left: rand.IntN(200)}
			if n%3 == 0 {
				o.interrupted(w)
			}
			r.attach(next)
			o.resume(next, sequenceText)
			w.cut()
			o.interrupted(w)
			w = next
			for range rand.IntN(300) {
				o.ack(r.knows())
			}
		}
	})
	sending.Wait()
	close(done)
	breaking.Wait()
	w = &wire{to: r, left: -1}
	r.attach(w)
	o.resume(w, sequenceText)
	for r.knows() < messages && !t.Failed() {
		o.ack(r.knows())
	}
	drains.Wait()
	r.check(messages)
}

func TestStatefulOutbound(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*outbound, *pipe)
		want string // of the first carrier, and of those that follow
	}{
		{"what is not acknowledged is sent again, in as few messages", func(o *outbound, _ *pipe) {
			enqueueAll(o, "1", "2", "3")
			synctest.Wait()
			o.ack(1)
			o.interrupted(o.link)
			enqueueAll(o, "4")
			resume(o)
		}, "{}|123 ; [2]23|4 "},
		{"nothing to send again", func(o *outbound, _ *pipe) {
			enqueueAll(o, "1")
			synctest.Wait()
			o.ack(1)
			resume(o)
		}, "{}|1 ; [2] "},
		{"acknowledged once the client has been told that it comes again", func(o *outbound, _ *pipe) {
			enqueueAll(o, "1", "2")
			synctest.Wait()
			second := &pipe{pending: make(chan struct{})}
			o.resume(second, bracketed)
			synctest.Wait()
			o.ack(2) // of the first carrier
			enqueueAll(o, "3")
			close(second.pending)
		}, "{}|12 ; [1]12|3 "},
		{"a write that fails is no end", func(o *outbound, p *pipe) {
			synctest.Wait()
			p.err = errCut
			enqueueAll(o, "1")
			synctest.Wait()
			enqueueAll(o, "2")
			if !o.away() {
				panic("not away")
			}
			resume(o)
		}, "{}|1 aborted; [1]1|2 "},
		{"pings do not wait, messages do", func(o *outbound, _ *pipe) {
			enqueueAll(o, strings.Repeat("x", 12), "2")
			synctest.Wait()
			enqueueAll(o, "3")
			synctest.Wait()
			o.ping([]byte("ping"))
			synctest.Wait()
			o.urgent([]byte("ack"))
			synctest.Wait()
			o.ack(1)
		}, "{}|xxxxxxxxxxxx|ping|ack|23 "},
		{"the end does not wait for the client", func(o *outbound, _ *pipe) {
			enqueueAll(o, strings.Repeat("x", 12), "2", "3")
			synctest.Wait()
			o.finish([]byte("bye"), false)
		}, "{}|xxxxxxxxxxxx|23bye closed"},
		{"the end while messages are sent again", func(o *outbound, _ *pipe) {
			enqueueAll(o, "1", "2")
			synctest.Wait()
			resume(o)
			o.finish([]byte("bye"), false)
		}, "{}|12 ; [1]12|bye closed"},
		{"the end while there is no carrier", func(o *outbound, _ *pipe) {
			enqueueAll(o, "1")
			synctest.Wait()
			o.interrupted(o.link)
			o.finish([]byte("bye"), false)
			if err := o.enqueue([]byte("2")); !errors.Is(err, errOutboundClosed) {
				panic(err)
			}
			if o.resume(&pipe{}, bracketed) {
				panic("resumed")
			}
		}, "{}|1 "},
		{"a carrier that was replaced before", func(o *outbound, p *pipe) {
			synctest.Wait()
			resume(o)
			o.interrupted(p)
			enqueueAll(o, "1")
		}, "{} ; [1]|1 "},
		{"acknowledging nothing, too much, less than before", func(o *outbound, _ *pipe) {
			enqueueAll(o, "1", "2")
			synctest.Wait()
			o.ack(0)
			o.ack(-1)
			o.ack(1)
			o.ack(0)
			resume(o)
			synctest.Wait()
			o.ack(1 << 60)
			enqueueAll(o, "3")
			synctest.Wait()
			resume(o)
		}, "{}|12 ; [2]2|3 ; [3]3 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := new(pipe)
				o := statefulOutbound(p, 10, func(f func()) { go f() })
				synctest.Wait()
				resumed = nil
				tt.do(o, p)
				synctest.Wait()
				got := p.String()
				for _, p := range resumed {
					got += "; " + p.String()
				}
				if second, ok := o.link.(*pipe); ok && second != p && resumed == nil {
					got += "; " + second.String()
				}
				if got != tt.want {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
			})
		})
	}
}

var resumed []*pipe // by the running test

func resume(o *outbound) {
	p := new(pipe)
	resumed = append(resumed, p)
	o.resume(p, bracketed)
	synctest.Wait()
}

func bracketed(n int64) []byte { return fmt.Append(nil, "[", n, "]") }

// A client that acknowledges nothing is given up, but not while it is away.
func TestStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := statefulOutbound(new(pipe), 10, func(f func()) { go f() })
		starves := func(after time.Duration, want bool) {
			t.Helper()
			time.Sleep(after)
			if got := o.starved(time.Now()); got != want {
				t.Errorf("starved is %v", got)
			}
		}
		enqueueAll(o, strings.Repeat("x", 6), strings.Repeat("x", 6))
		starves(ackWait, false) // nothing waits
		enqueueAll(o, "y")
		starves(ackWait-1, false)
		o.ack(0)
		starves(1, true)
		o.interrupted(o.link)
		starves(time.Hour, false)
		resume(o)
		starves(ackWait-1, false)
		starves(1, true)
		if n := testutil.ToFloat64(o.unacked.pauses); n != 2 {
			t.Errorf("%v pauses", n)
		}
		o.ack(2)
		synctest.Wait()
		starves(time.Hour, false)
		if o.waiting() {
			t.Error("still waits")
		}
	})
}
