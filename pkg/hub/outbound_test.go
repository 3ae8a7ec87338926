package hub

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// pipe is a link whose writes take as long as the test wants.
type pipe struct {
	mu      sync.Mutex
	writes  []string
	ended   string // how
	err     error
	pending chan struct{} // each write takes one; nil: no waiting
	took    time.Duration // by each write
}

func (p *pipe) Write(frames [][]byte, _ protocol.TransferFormat) error {
	if p.pending != nil {
		<-p.pending
	}
	time.Sleep(p.took)
	p.mu.Lock()
	defer p.mu.Unlock()
	var all strings.Builder
	for _, f := range frames {
		all.Write(f)
	}
	p.writes = append(p.writes, all.String())
	return p.err
}

func (p *pipe) Close() { p.end("closed") }
func (p *pipe) Abort() { p.end("aborted") }

func (p *pipe) end(how string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == "" {
		p.ended = how
	}
}

func (p *pipe) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.writes, "|") + " " + p.ended
}

// queue is an outbound on a pipe, released unless it is to be held.
func queue(p *pipe, failed func(error)) *outbound {
	o := &outbound{link: p, maxBytes: 100, maxFrames: 4, spawn: func(f func()) { go f() }, failed: failed, held: true}
	return o
}

func TestOutbound(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*outbound, *pipe)
		want string
	}{
		{"what waits is written together", func(o *outbound, p *pipe) {
			o.release([]byte("{}"), protocol.Text, nil)
			synctest.Wait() // the first write is stuck
			enqueueAll(o, "a", "b", "c")
			close(p.pending)
		}, "{}|abc "},
		{"nothing goes before the handshake's answer", func(o *outbound, p *pipe) {
			close(p.pending)
			enqueueAll(o, "a", "b")
			synctest.Wait()
			o.release([]byte("{}"), protocol.Text, nil)
		}, "{}ab "},
		{"the last frame comes last, then the link is closed", func(o *outbound, p *pipe) {
			o.release([]byte("{}"), protocol.Text, nil)
			synctest.Wait()
			enqueueAll(o, "a")
			o.finish([]byte("bye"), false)
			o.finish([]byte("again"), false)
			if err := o.enqueue([]byte("late")); !errors.Is(err, errOutboundClosed) {
				panic(fmt.Sprint("enqueue after finish: ", err))
			}
			close(p.pending)
		}, "{}|abye closed"},
		{"what waits can be dropped", func(o *outbound, p *pipe) {
			o.release([]byte("{}"), protocol.Text, nil)
			synctest.Wait()
			enqueueAll(o, "a", "b")
			o.finish([]byte("bye"), true)
			close(p.pending)
		}, "{}|bye closed"},
		{"without an answer nothing is sent but a refusal", func(o *outbound, p *pipe) {
			close(p.pending)
			enqueueAll(o, "a")
			o.finish([]byte("refused"), false)
			o.release([]byte("{}"), protocol.Text, nil)
		}, "refused closed"},
		{"ended without a word", func(o *outbound, p *pipe) {
			close(p.pending)
			o.finish(nil, false)
		}, " closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pipe{pending: make(chan struct{})}
				o := queue(p, func(err error) { t.Errorf("failed: %v", err) })
				tt.do(o, p)
				synctest.Wait()
				if got := p.String(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if o.waiting() || o.bytes != 0 || o.writing {
					t.Errorf("left: %d bytes, writing %v", o.bytes, o.writing)
				}
			})
		})
	}
}

func TestOutboundBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pipe{pending: make(chan struct{})}
		o := queue(p, nil)
		o.release([]byte("{}"), protocol.Text, nil)
		p.pending <- struct{}{}
		synctest.Wait()
		enqueueAll(o, strings.Repeat("x", 1000)) // alone, so it fits
		synctest.Wait()
		if err := o.enqueue([]byte("y")); !errors.Is(err, errSlowConsumer) {
			t.Errorf("above the bytes: %v", err)
		}
		p.pending <- struct{}{}
		synctest.Wait()
		enqueueAll(o, "1")
		synctest.Wait() // "1" is being written
		enqueueAll(o, "2", "3", "4", "5")
		if err := o.enqueue([]byte("6")); !errors.Is(err, errSlowConsumer) {
			t.Errorf("above the frames: %v", err)
		}
		close(p.pending)
		synctest.Wait()
		enqueueAll(o, "7")
		synctest.Wait()
		if got := p.String(); !strings.HasSuffix(got, "|1|2345|7 ") {
			t.Errorf("got %q", got)
		}
	})
}

func TestOutboundWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var told []error
		p := &pipe{err: broken}
		o := queue(p, func(err error) { told = append(told, err) })
		o.release([]byte("{}"), protocol.Text, nil)
		synctest.Wait()
		if err := o.enqueue([]byte("a")); !errors.Is(err, errOutboundClosed) {
			t.Errorf("enqueue afterwards: %v", err)
		}
		o.finish([]byte("bye"), false)
		synctest.Wait()
		if got := p.String(); got != "{} aborted" || len(told) != 1 || !errors.Is(told[0], broken) {
			t.Errorf("got %q, told %v", got, told)
		}
	})
}

// A client that takes what is left slowly cannot hold the connection's end up.
func TestOutboundLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []error
		p := &pipe{took: 6 * time.Second}
		o := queue(p, func(err error) { told = append(told, err) })
		o.maxBytes = 1 << 30
		o.release(make([]byte, coalesceBytes), protocol.Text, nil)
		for range 3 {
			if err := o.enqueue(make([]byte, coalesceBytes)); err != nil {
				t.Fatal(err)
			}
		}
		o.finish([]byte("bye"), false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(p.writes) != 2 || p.ended != "aborted" || len(told) != 1 || !errors.Is(told[0], errLingered) {
			t.Errorf("%d writes, %s, told %v", len(p.writes), p.ended, told)
		}
	})
}

func enqueueAll(o *outbound, frames ...string) {
	for _, f := range frames {
		if err := o.enqueue([]byte(f)); err != nil {
			panic(fmt.Sprintf("enqueue %q: %v", f, err))
		}
	}
}
