package backplanetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// What one node publishes on one channel reaches each subscribed node, the publishing
// one included, in the order of the Publish calls and at most once. (And all of it,
// where nothing fails.)
func testOrder(t *testing.T, cluster Cluster) {
	sender, receiver := start(t, cluster), start(t, cluster)
	for _, channels := range []int{1, 7} {
		t.Run(fmt.Sprint("channels=", channels), func(t *testing.T) {
			want := make([]message, 10_000)
			for i := range want {
				want[i] = message{backplane.Group(fmt.Sprint(channels, " ", i%channels)), strconv.Itoa(i)}
			}
			before := receiver.calls()
			for _, m := range want[:channels] {
				sender.subscribe(t, m.channel)
				receiver.subscribe(t, m.channel)
			}
			for _, m := range want {
				sender.publish(t, m.body, m.channel)
			}
			for _, n := range []*node{sender, receiver} {
				n.awaitCount(t, before+len(want))
				for _, m := range want[:channels] {
					n.Unsubscribe(m.channel)
				}
				n.expectOn(t, want...)
			}
		})
	}
}

func testOrderOfManyPublishers(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	const publishers, messages = 4, 250 // of each node
	nodes := []*node{start(t, cluster), start(t, cluster), start(t, cluster)}
	for _, n := range nodes {
		n.subscribe(t, ch)
	}
	var group sync.WaitGroup
	for i, n := range nodes {
		for p := range publishers {
			group.Go(func() {
				for m := range messages {
					n.publish(t, fmt.Sprint(i, " ", p, " ", m), ch)
				}
			})
		}
	}
	group.Wait()
	for _, n := range nodes {
		n.awaitCount(t, len(nodes)*publishers*messages)
		n.flush(t, n)
		next := make(map[string]int) // by publisher
		for _, body := range n.bodiesOn(ch) {
			at := strings.LastIndexByte(body, ' ')
			publisher, number := body[:at], body[at+1:]
			if number != strconv.Itoa(next[publisher]) {
				t.Fatalf("received %s of publisher %s, want %d", number, publisher, next[publisher])
			}
			next[publisher]++
		}
		for publisher, n := range next {
			if n != messages {
				t.Errorf("received %d of publisher %s, want %d", n, publisher, messages)
			}
		}
	}
}

// Channels are compared byte by byte and may hold any bytes.
func testChannelNames(t *testing.T, cluster Cluster) {
	long := strings.Repeat("ä", 4000)
	names := []string{
		"", " ", "  ", "a:b", ":", "*", "a*", "?", "[", "[a-z]", "[^", `\`, `\*`, "\n", "a\r\nb", "\x00", "a\x00", "\x00a", "a/b", "test/",
		"{", "{a}b", "'", `"`, "%s", "ü", "u\u0308", "\xff\xfe", "日本", "A", "1", "-1", long, long + "1", long + "2",
	}
	heard := []backplane.Channel{"", "user", "*", "\x00"}
	for _, name := range names {
		heard = append(heard, backplane.User(name), backplane.Connection(name), backplane.Node(name))
	}
	// Names that only a pattern, folding, trimming or cutting would take for one above.
	unheard := []backplane.Channel{
		"user:a", "user:ab", "group:", "user:a\x00b", "user:Ü", "user:\n ", "use", "User:A",
		"user:\xff", "user:\ufffd", "user:\ufffd\ufffd", backplane.User(long + "3"),
	}
	for _, name := range names {
		unheard = append(unheard, backplane.Group(name))
	}
	sender, receiver := start(t, cluster), start(t, cluster)
	receiver.subscribe(t, heard...)
	var want []message
	for i, ch := range heard {
		m := message{ch, strconv.Itoa(i)}
		sender.publish(t, m.body, m.channel)
		want = append(want, m)
	}
	for _, ch := range unheard {
		sender.publish(t, "to nobody", ch)
	}
	sender.flush(t, receiver)
	receiver.awaitCount(t, len(want))
	receiver.expect(t, want...)

	receiver.Unsubscribe(heard...)
	sender.untilUnheard(t, receiver, heard...)
}

// A node subscribed to several of the channels gets the body on each.
func testSeveralChannels(t *testing.T, cluster Cluster) {
	sender, both, one := start(t, cluster), start(t, cluster), start(t, cluster)
	both.subscribe(t, "x", "y")
	one.subscribe(t, "y")
	var wantBoth, wantOne []message
	for i := range 20 {
		body := strconv.Itoa(i)
		sender.publish(t, body, "x", "y", "z")
		wantBoth = append(wantBoth, message{"x", body}, message{"y", body})
		wantOne = append(wantOne, message{"y", body})
	}
	sender.flush(t, both, one)
	both.awaitCount(t, len(wantBoth))
	one.awaitCount(t, len(wantOne))
	both.expect(t, wantBoth...)
	one.expect(t, wantOne...)
	sender.expect(t)
}

// That nobody is subscribed is no error.
func testNobody(t *testing.T, cluster Cluster) {
	sender := start(t, cluster)
	sender.publish(t, "hi", "nobody")
	sender.publish(t, "hi")
	sender.flush(t, sender)
	sender.expect(t)
}

func testBodies(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, receiver := start(t, cluster), start(t, cluster)
	sender.subscribe(t, ch)
	receiver.subscribe(t, ch)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	large := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(large)
	bodies := [][]byte{
		nil, {}, {0}, []byte(`{"target":"T"}`), []byte("{"), []byte("\x01\x05\x01n\x05\x00\x07body"), []byte("\r\n"), every, large, nil, []byte("last"),
	}
	var want []message
	for _, body := range bodies {
		if err := sender.Publish(t.Context(), body, ch); err != nil {
			t.Fatalf("publish %d bytes: %v", len(body), err)
		}
		want = append(want, message{ch, string(body)})
	}
	for _, n := range []*node{sender, receiver} {
		n.awaitCount(t, len(want))
		n.expect(t, want...)
	}
}

// The body may be reused after Publish, and nobody changes what Deliver was given.
func testBodyMayBeReused(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, receiver := start(t, cluster), start(t, cluster)
	sender.subscribe(t, ch)
	receiver.subscribe(t, ch)
	body := make([]byte, 1000)
	var want []message
	for i := range 500 {
		body = body[:1+i%cap(body)]
		copy(body, bytes.Repeat([]byte{byte(i)}, len(body)))
		want = append(want, message{ch, string(body)})
		if err := sender.Publish(t.Context(), body, ch); err != nil {
			t.Fatal(err)
		}
		clear(body)
	}
	for _, n := range []*node{sender, receiver} {
		n.awaitCount(t, len(want))
		n.expect(t, want...)
	}
}

// Whatever becomes of a Publish whose context ends, the error tells.
func testPublishUnderEndingContext(t *testing.T, cluster Cluster) {
	const ch = backplane.Channel("channel")
	sender, receiver := start(t, cluster), start(t, cluster)
	receiver.subscribe(t, ch)
	const rounds = 2000
	var must, may []string
	for i := range rounds {
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan struct{})
		if i%10 == 0 {
			cancel() // in any case before
		}
		go func() {
			cancel()
			close(cancelled)
		}()
		body := strconv.Itoa(i)
		err := sender.Publish(ctx, []byte(body), ch)
		switch {
		case err == nil:
			must = append(must, body)
		case !errors.Is(err, context.Canceled):
			t.Errorf("publish %s: error %v does not say that the context has ended", body, err)
		case errors.Is(err, backplane.ErrUnknown) && !errors.Is(err, backplane.ErrNotSent):
			may = append(may, body)
		case errors.Is(err, backplane.ErrNotSent) && !errors.Is(err, backplane.ErrUnknown):
		default:
			t.Errorf("publish %s: error %v does not say whether it was sent", body, err)
		}
		<-cancelled
	}
	sender.flush(t, receiver)
	times := make(map[string]int)
	for _, body := range receiver.bodiesOn(ch) {
		times[body]++
	}
	for _, body := range must {
		if times[body] != 1 {
			t.Errorf("%s was sent and arrived %d times", body, times[body])
		}
		delete(times, body)
	}
	for _, body := range may {
		if times[body] > 1 {
			t.Errorf("%s may have been sent and arrived %d times", body, times[body])
		}
		delete(times, body)
	}
	for body, n := range times {
		t.Errorf("%s was not sent and arrived %d times", body, n)
	}
}
