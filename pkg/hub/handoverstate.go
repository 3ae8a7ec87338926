package hub

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
	"github.com/heliograph/heliograph/pkg/protocol"
	"github.com/heliograph/heliograph/pkg/transport"
)

// What the nodes of a hand-over tell each other, by calls ([peer.Peers.Call]): JSON, in
// which names and frames are base64, since they may have any bytes. A node of another
// version refuses what it cannot read, and the connection is closed in place of handed
// over. See handover.go for the order.

// handoverVersion is the version of all of them.
const handoverVersion = 1

// The names of the calls, before which stands whose they are ([Hub.callName]).
const (
	callPrepare  = "prepare"
	callComplete = "complete"
	callAdmit    = "admit"
	callDrop     = "drop"
)

// A handoverID is in each of the calls.
type handoverID struct {
	Version    int
	Handover   backplane.OperationID // the fence's id too
	Connection string
}

// A preparation makes the successor hold a connection in readiness.
type preparation struct {
	handoverID
	User          []byte
	Subject       []byte
	Claims        auth.Claims
	Authenticated bool
	Expires       time.Time
	CloseOnExpiry bool
	Spent         time.Time
	Opened        time.Time
	Protocol      string
	Groups        []groupState
}

type groupState struct {
	Name    []byte
	Expires time.Time // zero: never
}

// A completion is what the successor goes on from.
type completion struct {
	handoverID
	Received int64        // highest number of a message from the client
	Acked    int64        // highest number that the client has acknowledged
	Sent     [][]byte     // frames that it may have, numbers Acked+1 and on
	Waiting  [][]byte     // frames that it does not have
	Groups   []groupState // those of the preparation that are left, at most
	Pinged   bool         // the client sends pings, and may be timed out
}

// An admission says that the home record has been moved, and lets the client come.
type admission struct {
	handoverID
	Epoch uint64
}

var errHandoverVersion = errors.New("hand-over of another version")

// encodeHandover returns the body of a call.
func encodeHandover(call any) ([]byte, error) {
	body, err := json.Marshal(call)
	if err != nil {
		return nil, fmt.Errorf("encode hand-over: %w", err)
	}
	return body, nil
}

// decodeHandover reads the body of a call, and checks what every call has.
func decodeHandover(body []byte, call interface{ header() handoverID }) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber() // as the claims of tokens have it
	if err := d.Decode(call); err != nil {
		return fmt.Errorf("decode hand-over: %w", err)
	}
	switch id := call.header(); {
	case id.Version != handoverVersion:
		return fmt.Errorf("%w: %d", errHandoverVersion, id.Version)
	case id.Connection == "":
		return errors.New("decode hand-over: no connection")
	}
	return nil
}

func (id *handoverID) header() handoverID { return *id }

// identity is who the connection belongs to.
func (p *preparation) identity() *auth.Identity {
	return &auth.Identity{Subject: string(p.Subject), Claims: p.Claims, Expires: p.Expires, Authenticated: p.Authenticated}
}

func (p *preparation) handover() transport.Handover {
	return transport.Handover{ID: p.Connection, Identity: p.identity(), CloseOnExpiry: p.CloseOnExpiry, Spent: p.Spent}
}

// unacked returns what the completion says of the server's messages.
func (s *completion) unacked() (*unacked, error) {
	const most = 1 << 62 // so that counting on from there does not overflow
	if min(s.Received, s.Acked) < 0 || max(s.Received, s.Acked) > most {
		return nil, errors.New("no count of messages")
	}
	u := &unacked{frames: slices.Clip(s.Sent), released: s.Acked, acked: s.Acked, sent: s.Acked}
	for _, f := range s.Sent {
		u.bytes += len(f)
	}
	return u, nil
}

// encodingNamed returns the index of the hub protocol of that name.
func encodingNamed(protocols []protocol.Protocol, name string) (int, error) {
	i := slices.IndexFunc(protocols, func(p protocol.Protocol) bool { return p.Name() == name })
	if i < 0 {
		return 0, fmt.Errorf("hub protocol %q is not spoken here", name)
	}
	return i, nil
}
