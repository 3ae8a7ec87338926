package redisplane

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	goredis "github.com/redis/go-redis/v9"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/internal/redistest"
	"github.com/heliograph/heliograph/pkg/backplane"
)

// operation is the body of one, as far as this package looks at it.
func operation(name string) []byte { return []byte("\x02" + name) }

func (n *node) keep(t *testing.T, name string) {
	t.Helper()
	if _, err := n.PublishKept(inTime(t), operation(name), backplane.All); err != nil {
		t.Fatal(err)
	}
}

// A deafening cuts a node off from what it hears, and lets it hear again.
func deafen(t *testing.T, n *node, proxy *redistest.Proxy) (end func()) {
	t.Helper()
	proxy.Refuse(true)
	for _, pipe := range proxy.Subscribers() {
		pipe.Cut()
	}
	await.Until(t, "the node is deaf", func() error {
		if n.Healthy() == nil {
			return errors.New("it hears")
		}
		return nil
	})
	return func() { proxy.Refuse(false) }
}

// What was missed comes before anything that has arrived since, each operation once and in
// order, and nothing is delivered for as long as it has not been read.
func TestMissedComesFirst(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	sender := start(t, redis.URL())
	n := start(t, proxy.URL(), func(o *Options) { o.PublishTimeout = time.Hour })
	n.join(t, "a")
	sender.keep(t, "heard")
	sender.send(t, "before", "a")
	n.awaitLast(t, "a before")
	n.awaitCommands(t, false, 0)

	end := deafen(t, n, proxy)
	want := []string{"all \x02heard", "a before"}
	for i := range 2*readBatch + 10 {
		name := fmt.Sprint("missed ", i)
		sender.keep(t, name)
		want = append(want, "all \x02"+name)
	}
	sender.send(t, "missed", "a")
	for _, pipe := range proxy.Others() {
		if !slices.Contains(proxy.Publishers(), pipe) {
			pipe.Freeze(redistest.ToClient) // what reads
		}
	}
	end()
	await.Until(t, "the node is subscribed again", func() error {
		if redis.Subscribers(t, "a") != 1 {
			return errors.New("it is not")
		}
		return nil
	})
	before := testutil.ToFloat64(n.metrics.received)
	sender.send(t, "held", "a")
	sender.keep(t, "held")
	await.Until(t, "both have arrived", func() error {
		if now := testutil.ToFloat64(n.metrics.received); now < before+2 {
			return fmt.Errorf("%v have", now-before)
		}
		return nil
	})
	if got := n.received(); len(got) != 2 {
		t.Errorf("%q was delivered before what was missed", got[2:])
	}
	if n.Healthy() == nil {
		t.Error("the node takes itself for hearing")
	}
	for _, pipe := range proxy.Others() {
		pipe.Thaw(redistest.ToClient)
	}
	n.awaitHealthy(t)
	sender.send(t, "after", "a")
	n.expect(t, append(want, "a held", "all \x02held", "a after")...)
	if missed := testutil.ToFloat64(n.metrics.missed); missed != 2*readBatch+10 {
		t.Errorf("%v missed operations counted", missed)
	}
}

// What is kept and then not published is read in time, once: if it is published late, that
// is not performed again.
func TestKeptAndNotPublished(t *testing.T) {
	redis := redistest.Start(t)
	sender, n := start(t, redis.URL()), start(t, redis.URL(), probing(100*time.Millisecond))
	if _, err := sender.keeper.keep(inTime(t), "", backplane.All, operation("lost")); err != nil {
		t.Fatal(err)
	}
	n.awaitLast(t, "all \x02lost")
	sender.send(t, "\x02lost", backplane.All)
	sender.keep(t, "kept")
	sender.send(t, "\x02not kept", backplane.All)
	sender.send(t, "\x02not kept", backplane.All) // as a lease that is renewed
	sender.send(t, "last", "all")
	n.expect(t, "all \x02lost", "all \x02kept", "all \x02not kept", "all \x02not kept", "all last")
	read := func() string {
		a := n.attachments.find("")
		a.ledger(n.partition).mu.Lock()
		defer a.ledger(n.partition).mu.Unlock()
		return a.ledger(n.partition).position
	}
	sender.keep(t, "end")
	end, err := redis.Client().XRevRangeN(inTime(t), operationsKey, "+", "-", 1).Result()
	if err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the node has read that", func() error {
		if at := read(); at != end[0].ID {
			return fmt.Errorf("it has read up to %s of %s", at, end[0].ID)
		}
		return nil
	})
	n.expect(t, "all \x02lost", "all \x02kept", "all \x02not kept", "all \x02not kept", "all last", "all \x02end")
}

// A new node has nothing to perform of what was before it.
func TestNewNodeBeginsAtTheEnd(t *testing.T) {
	redis := redistest.Start(t)
	sender := start(t, redis.URL())
	sender.keep(t, "before")
	n := start(t, redis.URL())
	sender.keep(t, "after")
	n.expect(t, "all \x02after")
	redis.Stop() // and one that has been waiting for Redis begins when it was started
	late := startDeaf(t, redis.URL())
	redis.Restart()
	sender.awaitHealthy(t)
	await.Until(t, "the stream is back", func() error {
		_, err := sender.PublishKept(inTime(t), operation("meanwhile"), backplane.All)
		return err
	})
	late.awaitHealthy(t)
	sender.send(t, "end", backplane.All)
	late.awaitLast(t, "all end")
	if got := late.received(); got[0] != "all \x02meanwhile" {
		t.Errorf("received %q", got)
	}
}

// A catcher is told of what it has missed.
type catcher struct {
	*recorder
	mu      sync.Mutex
	unknown int
	ages    []time.Duration
}

// Missed implements [backplane.MissedReceiver].
func (c *catcher) Missed(ch backplane.Channel, body []byte, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ages = append(c.ages, age)
	c.Deliver(ch, body)
}

// MissedUnknown implements [backplane.MissedReceiver].
func (c *catcher) MissedUnknown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unknown++
	c.Deliver("unknown", nil)
}

// Each prefix has a stream of its own. Where one does not reach back, that hub is told,
// before anything is delivered; and so where Redis refuses to say.
func TestMissedUnknown(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, redis *redistest.Server, key string){
		"trimmed": func(t *testing.T, redis *redistest.Server, key string) {
			p := redis.Client().Pipeline()
			for range maxKept {
				p.XAdd(inTime(t), &goredis.XAddArgs{Stream: key, Values: []string{nodeField, "busy"}})
			}
			p.XTrimMaxLen(inTime(t), key, maxKept)
			if _, err := p.Exec(inTime(t)); err != nil {
				t.Fatal(err)
			}
		},
		"not a stream": func(t *testing.T, redis *redistest.Server, key string) {
			if err := redis.Client().Set(inTime(t), key, "nonsense", time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			redis := redistest.Start(t)
			proxy := redistest.NewProxy(t, redis)
			sender, n := start(t, redis.URL()), start(t, proxy.URL(), probing(100*time.Millisecond))
			lost, whole := &catcher{recorder: newRecorder()}, &catcher{recorder: newRecorder()}
			var speakers []backplane.Attachment
			for prefix, c := range map[string]*catcher{"lost/": lost, "whole/": whole} {
				if _, err := n.Attach(prefix, c); err != nil {
					t.Fatal(err)
				}
				speaker, err := sender.Attach(prefix, newRecorder())
				if err != nil {
					t.Fatal(err)
				}
				speakers = append(speakers, speaker)
				await.Until(t, "the node has begun", func() error {
					if n.attachments.find(prefix).ledger(n.partition).isNew() {
						return errors.New("it has not")
					}
					return nil
				})
			}
			end := deafen(t, n, proxy)
			for _, s := range speakers {
				for i := range 2 {
					if _, err := s.PublishKept(inTime(t), operation(fmt.Sprint(i)), backplane.All); err != nil {
						t.Fatal(err)
					}
				}
			}
			lose(t, redis, operationsKey+"lost/")
			end()
			n.awaitHealthy(t)
			for _, s := range speakers {
				if err := s.Publish(inTime(t), []byte("end"), backplane.All); err != nil {
					t.Fatal(err)
				}
			}
			lost.expect(t, "unknown ", "all end")
			whole.expect(t, "all \x020", "all \x021", "all end")
			for _, age := range whole.ages {
				if age <= 0 || age > await.Deadline {
					t.Errorf("an operation was taken for %v old", age)
				}
			}
		})
	}
}

// Redis may lose a stream, as when it is started anew. That is not taken for a sign that
// operations were missed; those in the new one are performed.
func TestStreamIsLost(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	sender, n := start(t, redis.URL()), start(t, proxy.URL(), probing(100*time.Millisecond))
	c := &catcher{recorder: newRecorder()}
	if _, err := n.Attach("lost/", c); err != nil {
		t.Fatal(err)
	}
	speaker, err := sender.Attach("lost/", newRecorder())
	if err != nil {
		t.Fatal(err)
	}
	await.Until(t, "the node has begun", func() error {
		if n.attachments.find("lost/").ledger(n.partition).isNew() {
			return errors.New("it has not")
		}
		return nil
	})
	end := deafen(t, n, proxy)
	for _, name := range []string{"lost", "kept"} {
		if err := redis.Client().Del(inTime(t), operationsKey+"lost/").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := speaker.PublishKept(inTime(t), operation(name), backplane.All); err != nil {
			t.Fatal(err)
		}
	}
	end()
	n.awaitHealthy(t)
	if err := speaker.Publish(inTime(t), []byte("end"), backplane.All); err != nil {
		t.Fatal(err)
	}
	c.expect(t, "all \x02kept", "all end")
	if c.unknown > 0 {
		t.Error("operations are said to have been missed")
	}
}

// Of an operation that was not published, it is known whether nodes may read it.
func TestPublishKeptFails(t *testing.T) {
	redis := redistest.Start(t)
	proxy := redistest.NewProxy(t, redis)
	n := start(t, proxy.URL(), func(o *Options) {
		o.PublishTimeout, o.DialTimeout = 300*time.Millisecond, 300*time.Millisecond
	})
	if err := redis.Client().Set(inTime(t), operationsKey, "nonsense", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	_, err := n.PublishKept(inTime(t), operation("not kept"), backplane.All)
	expectError(t, "publish what is not kept", err, backplane.ErrUnknown)
	if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("the error is %v", err)
	}
	n.awaitLast(t, "all \x02not kept")
	proxy.Freeze()
	_, err = n.PublishKept(inTime(t), operation("no answer"), backplane.All)
	expectError(t, "publish without an answer", err, backplane.ErrUnknown)
	proxy.Thaw()
	redis.Stop()
	await.Until(t, "the node knows that there is no server", func() error {
		if _, err = n.PublishKept(inTime(t), operation("no server"), backplane.All); !errors.Is(err, backplane.ErrNotSent) {
			return err
		}
		return nil
	})
	n.Detach()
	_, err = n.PublishKept(inTime(t), operation("detached"), backplane.All)
	expectError(t, "publish when detached", err, backplane.ErrNotSent, backplane.ErrClosed)
}

// A ledger that cannot tell any more what was heard says so, and goes on.
func TestLedgerOverrun(t *testing.T) {
	l := newLedger(time.Now())
	l.take(part{end: "1-0"})
	for i := range maxHeard + 1 {
		l.hears(digestOf("a", fmt.Append(nil, i)))
	}
	if position, lost := l.begin(); position != "" || !lost {
		t.Errorf("it reads from %q, lost %t", position, lost)
	}
	if missed := l.take(part{entries: []entry{{id: "2-0", body: operation("x")}}, end: "2-0"}); len(missed) != 0 {
		t.Errorf("%d are performed that may have been heard", len(missed))
	}
	if position, lost := l.begin(); position != "2-0" || lost {
		t.Errorf("it reads from %q, lost %t", position, lost)
	}
}

// A ledger remembers what it has read as long as the stream has it.
func TestLedgerRemembers(t *testing.T) {
	l := newLedger(time.Now())
	for i := range maxKept + 1 {
		l.take(part{entries: []entry{{id: fmt.Sprint(i), body: operation(fmt.Sprint(i))}}, end: fmt.Sprint(i)})
	}
	if !l.hears(digestOf("", operation("0"))) || l.hears(digestOf("", operation("1"))) {
		t.Error("it has forgotten the wrong one")
	}
	if n := len(l.read); n != maxKept {
		t.Errorf("it remembers %d", n)
	}
}
