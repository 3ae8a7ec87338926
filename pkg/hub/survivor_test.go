package hub

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/pkg/protocol"
)

// A survivor is a client with stateful reconnect whose sockets break. It comes back for
// as long as it is let.
type survivor struct {
	t        testing.TB
	protocol protocol.Protocol
	nodes    []string // addresses, one of which each socket goes to
	query    string   // of the WebSocket, with the connection's token
	id       string   // of the connection

	// fuse returns the bytes that the next socket carries from client to server, and
	// back, before it breaks: counted from the protocol's handshake on. Negative: all.
	fuse     func() (out, in int64)
	messages chan protocol.Message // what arrived that is numbered, in order; and Close
	ended    chan struct{}         // closed when run has returned
	err      error                 // why; set before ended is closed
	cuts     atomic.Int64

	mu       sync.Mutex // held to write
	conn     *websocket.Conn
	up       bool     // conn may be written to
	unacked  [][]byte // what was sent and not acknowledged
	acked    int64
	received int64 // highest number
	next     int64 // number of the next message; owned by run
	closed   bool
}

var noFuse = func() (int64, int64) { return -1, -1 }

// survive connects. The query is added to that of the negotiation and the WebSocket.
func survive(t testing.TB, address, query string, p protocol.Protocol, fuse func() (out, in int64)) *survivor {
	t.Helper()
	s := &survivor{t: t, protocol: p, fuse: fuse, messages: make(chan protocol.Message, 100_000), ended: make(chan struct{}), next: 1}
	answer, err := http.Post("http"+strings.TrimPrefix(address, "ws")+"/negotiate?negotiateVersion=1&useStatefulReconnect=true&"+query, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var negotiated struct {
		ConnectionID, ConnectionToken string
		UseStatefulReconnect          bool
	}
	if err := json.NewDecoder(answer.Body).Decode(&negotiated); err != nil {
		t.Fatal(err)
	}
	if !negotiated.UseStatefulReconnect {
		t.Fatal("stateful reconnect was not granted")
	}
	s.id = negotiated.ConnectionID
	s.nodes, s.query = []string{address}, query+"&id="+url.QueryEscape(negotiated.ConnectionToken)
	fuseConn, err := s.dial()
	if err != nil {
		t.Fatal(err)
	}
	s.up = true
	s.write(protocol.AppendHandshakeRequest(nil, protocol.HandshakeRequest{Protocol: p.Name(), Version: 2}))
	_, data, err := s.conn.ReadMessage()
	if err != nil {
		t.Fatal(err)
	}
	refusal, n, err := protocol.ParseHandshakeResponse(data, 0)
	if err != nil || refusal != "" {
		t.Fatal(refusal, err)
	}
	fuseConn.arm(s.fuse())
	go s.run(data[n:])
	t.Cleanup(s.close)
	return s
}

// close cuts the present socket and makes no other.
func (s *survivor) close() {
	s.mu.Lock()
	s.closed = true
	s.conn.Close()
	s.mu.Unlock()
	<-s.ended
}

// dial makes another socket.
func (s *survivor) dial() (*fusedConn, error) {
	var fused *fusedConn
	dialer := websocket.Dialer{NetDial: func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		fused = &fusedConn{Conn: conn}
		fused.arm(-1, -1)
		return fused, err
	}}
	to := s.nodes[rand.IntN(len(s.nodes))] + "?" + s.query
	conn, answer, err := dialer.Dial(to, nil)
	for ; answer != nil && answer.StatusCode == http.StatusConflict; conn, answer, err = dialer.Dial(to, nil) {
		// The node has not done with the sockets before. A client that tries but once is
		// not as quick.
	}
	if err != nil {
		if answer != nil {
			err = errors.New(answer.Status)
		}
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = conn
	if s.closed {
		conn.Close()
	}
	return fused, nil
}

// run reads until the connection ends: by a Close message, or because it could not be
// resumed.
func (s *survivor) run(input []byte) {
	defer close(s.ended)
	for ended := false; !ended; input = nil {
		ended = s.read(input)
		s.mu.Lock()
		s.up = false
		closed := s.closed
		s.mu.Unlock()
		if ended || closed {
			s.conn.Close()
			return
		}
		s.cuts.Add(1)
		s.conn.Close()
		if s.err = s.resume(); s.err != nil {
			return
		}
	}
}

// resume makes another socket and sends what has to be sent again.
func (s *survivor) resume() error {
	fused, err := s.dial()
	if err != nil {
		return err
	}
	fused.arm(s.fuse())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = true
	s.write(encode(s.t, s.protocol, &protocol.Sequence{SequenceID: s.acked + 1}))
	s.write(encode(s.t, s.protocol, &protocol.Ack{SequenceID: s.received})) // else sockets that soon break never get further
	for _, frame := range s.unacked {
		s.write(frame)
	}
	return nil
}

// read takes what comes from the socket until it ends. It reports whether the
// connection did.
func (s *survivor) read(input []byte) (ended bool) {
	sequence := s.cuts.Load() == 0 // what comes before it is not looked at
	for {
		for len(input) > 0 {
			m, n, err := s.protocol.Parse(input, 0)
			if err != nil {
				s.t.Errorf("the hub sent %q: %v", input, err)
				return true
			}
			input = input[n:]
			switch m := m.(type) {
			case *protocol.Sequence:
				if m.SequenceID > s.received+1 {
					s.t.Errorf("the hub goes on with message %d, after %d", m.SequenceID, s.received)
				}
				s.next, sequence = m.SequenceID, true
			case *protocol.Close:
				s.messages <- m
				return true
			case *protocol.Ack:
				s.acknowledged(m.SequenceID)
			default:
				if !sequence || !numbered(m) {
					continue
				}
				if s.next++; s.next-1 > s.received {
					s.mu.Lock()
					s.received = s.next - 1
					s.mu.Unlock()
					s.messages <- m
				}
			}
		}
		_, data, err := s.conn.ReadMessage()
		if err != nil {
			return websocket.IsCloseError(err, websocket.CloseNormalClosure)
		}
		input = data
	}
}

func (s *survivor) acknowledged(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n > s.acked+int64(len(s.unacked)) {
		s.t.Errorf("the hub acknowledges message %d of %d", n, s.acked+int64(len(s.unacked)))
		return
	}
	for ; s.acked < n; s.acked++ {
		s.unacked = s.unacked[1:]
	}
}

// send sends a numbered message, once there is a socket to.
func (s *survivor) send(m protocol.Message) {
	frame := encode(s.t, s.protocol, m)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unacked = append(s.unacked, frame)
	s.write(frame)
}

// acknowledge sends an Ack of all that came, if it can.
func (s *survivor) acknowledge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(encode(s.t, s.protocol, &protocol.Ack{SequenceID: s.received}))
}

// write is called with mu held. What the socket does not take is sent again.
func (s *survivor) write(frame []byte) {
	if s.up {
		s.conn.WriteMessage(websocket.BinaryMessage, frame)
	}
}

// cut breaks the present socket.
func (s *survivor) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.NetConn().Close()
}

func encode(t testing.TB, p protocol.Protocol, m protocol.Message) []byte {
	frame, err := p.Append(nil, m)
	if err != nil {
		t.Error(err)
	}
	return frame
}

// A fusedConn breaks once it has carried so many bytes.
type fusedConn struct {
	net.Conn
	out, in atomic.Int64
}

func (c *fusedConn) arm(out, in int64) {
	c.out.Store(out)
	c.in.Store(in)
}

func (c *fusedConn) Read(p []byte) (int, error) { return c.through(&c.in, p, c.Conn.Read) }

func (c *fusedConn) Write(p []byte) (int, error) { return c.through(&c.out, p, c.Conn.Write) }

func (c *fusedConn) through(fuse *atomic.Int64, p []byte, f func([]byte) (int, error)) (int, error) {
	left := fuse.Load()
	if left < 0 {
		return f(p)
	}
	n := 0
	if left > 0 {
		var err error
		if n, err = f(p[:min(left, int64(len(p)))]); err != nil {
			return n, err
		}
		fuse.Store(left - int64(n))
	}
	if n < len(p) && left == int64(n) {
		c.Conn.Close()
		return n, errCut
	}
	return n, nil
}
