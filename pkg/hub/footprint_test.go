package hub

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"net"
	"reflect"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/internal/await"
)

type wide struct{ A, B, C, D, E, F, G, H string }

// blocked is a hub whose methods do not return until they are released.
type blocked struct{ release chan struct{} }

func (b *blocked) Plain(context.Context, *Caller)                           { <-b.release }
func (b *blocked) Take(context.Context, *Caller, []wide)                    { <-b.release }
func (b *blocked) Any(context.Context, *Caller, any)                        { <-b.release }
func (b *blocked) Upload(context.Context, *Caller, iter.Seq2[wide, error])  { <-b.release }
func (b *blocked) Small(context.Context, *Caller, iter.Seq2[uint8, error])  { <-b.release }
func (b *blocked) Lists(context.Context, *Caller, iter.Seq2[[]wide, error]) { <-b.release }

// framed puts its length before a message of less than 16 KiB, as MessagePack has it.
func framed(m ...byte) []byte {
	if len(m) < 0x80 {
		return append([]byte{byte(len(m))}, m...)
	}
	return append([]byte{byte(len(m))&0x7f | 0x80, byte(len(m) >> 7)}, m...)
}

// What waits of a client's input takes about the memory that it may, however small the
// messages are.
func TestWaitingInputInMemory(t *testing.T) {
	const limit = 1 << 20
	upload := func(method string) []byte {
		m := append([]byte{0x96, 1, 0x80, 0xc0, 0xa0 | byte(len(method))}, method...)
		return framed(append(m, 0x90, 0x91, 0xa1, 's')...)
	}
	many := func(n int, element byte) []byte {
		return append([]byte{0xdc, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{element}, n)...)
	}
	for _, tt := range []struct {
		name   string
		before []byte
		next   func(n int) []byte
	}{
		{"invocations", nil, func(int) []byte {
			return framed(append([]byte{0x95, 1, 0x80, 0xc0, 0xa5}, "Plain\x90"...)...)
		}},
		{"invocations with ids", nil, func(n int) []byte {
			return framed(append([]byte{0x95, 1, 0x80, 0xa8}, fmt.Sprintf("%08d\xa5Plain\x90", n)...)...)
		}},
		{"large values", nil, func(int) []byte {
			return framed(append([]byte{0x95, 1, 0x80, 0xc0, 0xa4, 'T', 'a', 'k', 'e', 0x91}, many(1000, 0x80)...)...)
		}},
		{"values of any type", nil, func(int) []byte {
			return framed(append([]byte{0x95, 1, 0x80, 0xc0, 0xa3, 'A', 'n', 'y', 0x91}, many(1000, 0x80)...)...)
		}},
		{"items", upload("Small"), func(int) []byte { return framed(0x94, 2, 0x80, 0xa1, 's', 1) }},
		{"wide items", upload("Upload"), func(int) []byte { return framed(0x94, 2, 0x80, 0xa1, 's', 0x80) }},
		{"lists of wide items", upload("Lists"), func(int) []byte {
			return framed(append([]byte{0x94, 2, 0x80, 0xa1, 's'}, many(1000, 0x80)...)...)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := &blocked{make(chan struct{})}
			h, address := serve(t, b)
			defer close(b.release)
			c := dial(t, address, "")
			c.write(`{"protocol":"messagepack","version":1}`)
			if _, _, err := c.conn.ReadMessage(); err != nil {
				t.Fatal(err)
			}
			before := heap()
			c.conn.WriteMessage(websocket.BinaryMessage, append(tt.before, tt.next(0)...))
			go func() { // ends with the socket
				for n := 1; ; n++ {
					if c.conn.WriteMessage(websocket.BinaryMessage, tt.next(n)) != nil {
						return
					}
				}
			}()
			await.Until(t, "the reader waits", func() error { return h.reading(false) })
			await.Until(t, "little is held", func() error { // once the garbage is gone
				if grown := heap() - before; grown > 2*limit {
					return fmt.Errorf("%d bytes where %d may wait", grown, limit)
				}
				return nil
			})
		})
	}
}

// reading reports an error unless the readers of all connections are, or are not, reading.
func (h *Hub) reading(want bool) (err error) {
	h.registry.each(func(c *connection) {
		c.waiting.mu.Lock()
		defer c.waiting.mu.Unlock()
		if (c.waiting.room == nil) != want {
			err = fmt.Errorf("a reader is reading: %v, want %v", !want, want)
		}
	})
	return err
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int(s.HeapAlloc)
}

// A client that has gone while the reader waits for room is noticed by the pings.
func TestEndWhileTheReaderWaits(t *testing.T) {
	b := &blocked{make(chan struct{})}
	h, address := serve(t, b, WithWaitingInput(1), WithKeepAliveInterval(100*time.Millisecond))
	defer close(b.release)
	c := connect(t, address, "")
	c.write(call("1", "Plain", ""), call("2", "Plain", ""), call("3", "Plain", ""))
	await.Until(t, "the reader waits", func() error { return h.reading(false) })
	var connections []*connection
	h.registry.each(func(c *connection) { connections = append(connections, c) })
	c.conn.NetConn().(*net.TCPConn).SetLinger(-1)
	c.conn.Close()
	select {
	case <-connections[0].ctx.Done():
	case <-time.After(4 * deadline): // what the client invoked is waited for
		t.Error("the connection goes on")
	}
}

func TestFootprint(t *testing.T) {
	const word = int(unsafe.Sizeof(uintptr(0)))
	for _, tt := range []struct {
		value any
		want  int
	}{
		{7, word},
		{"seven", 2*word + 5},
		{[]byte("seven"), 3*word + 5},
		{[2]string{"a", "bc"}, 4*word + 3},
		{[]string{"a", "bc"}, 3*word + 4*word + 3},
		{wide{A: "abc"}, 16*word + 3},
		{&wide{}, word + 16*word},
		{(*wide)(nil), word},
		{map[string]int8{"a": 1}, word + mapOverhead + entryOverhead + 2*word + 1 + 1},
		{map[string]int8(nil), word},
		{[]any{nil, "ab"}, 3*word + 4*word + 2*word + 2},
		{time.Now(), int(unsafe.Sizeof(time.Time{}))},
	} {
		if got := footprint(reflect.ValueOf(tt.value)); got != tt.want {
			t.Errorf("%#v: got %d, want %d", tt.value, got, tt.want)
		}
	}
}
