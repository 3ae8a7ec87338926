package hub

import (
	"context"
	"io"
	"net"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/protocol"
)

type benchHub struct{}

func (benchHub) Echo(_ context.Context, _ *Caller, text string) string { return text }

func (benchHub) SendToUser(ctx context.Context, c *Caller, user, text string) error {
	return c.Clients().User(user).Send(ctx, "message", text)
}

const benchText = "the quick brown fox jumps over the lazy dog"

// A benchClient writes the same invocation again and again, and counts the bytes of what
// the hub sends. It allocates nothing.
type benchClient struct {
	conn    net.Conn
	request []byte
	reply   []byte
}

// newBenchClient shakes hands, and invokes once: so the length of what comes is known.
func newBenchClient(b *testing.B, address string, p protocol.Protocol, m *protocol.Invocation) *benchClient {
	b.Helper()
	ws := dial(b, address, "ada").conn
	kind := websocket.TextMessage
	if p.TransferFormat() == protocol.Binary {
		kind = websocket.BinaryMessage
	}
	invocation, err := p.Append(nil, m)
	if err != nil {
		b.Fatal(err)
	}
	ask := func(frame []byte) (answer []byte) {
		if err := ws.WriteMessage(kind, frame); err != nil {
			b.Fatal(err)
		}
		if _, answer, err = ws.ReadMessage(); err != nil {
			b.Fatal(err)
		}
		return answer
	}
	ask([]byte(`{"protocol":"` + p.Name() + `","version":1}` + "\x1e"))
	first := ask(invocation)
	if len(invocation) > 125 || len(first) > 125 {
		b.Fatal("the frames are longer than one byte can say")
	}
	head := []byte{0x80 | byte(kind), 0x80 | byte(len(invocation)), 0, 0, 0, 0} // masked with zeros
	return &benchClient{ws.NetConn(), append(head, invocation...), make([]byte, 2+len(first))}
}

func (c *benchClient) roundTrip(b *testing.B) {
	if _, err := c.conn.Write(c.request); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c.conn, c.reply); err != nil {
		b.Fatal(err)
	}
}

// One operation is one invocation and its result, over a socket.
func BenchmarkEcho(b *testing.B) {
	benchmarkRoundTrip(b, &protocol.Invocation{InvocationID: "12", Target: "Echo", Arguments: []any{benchText}})
}

// One operation is one message to the user that the sender is, over a socket.
func BenchmarkUserSend(b *testing.B) {
	benchmarkRoundTrip(b, &protocol.Invocation{Target: "SendToUser", Arguments: []any{"ada", benchText}})
}

func benchmarkRoundTrip(b *testing.B, m *protocol.Invocation) {
	for _, p := range []protocol.Protocol{protocol.JSON, protocol.MessagePack} {
		b.Run(p.Name(), func(b *testing.B) {
			_, address := serve(b, benchHub{})
			c := newBenchClient(b, address, p, m)
			b.ReportAllocs()
			for b.Loop() {
				c.roundTrip(b)
			}
		})
	}
}
