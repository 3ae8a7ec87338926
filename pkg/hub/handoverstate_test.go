package hub

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heliograph/heliograph/pkg/auth"
	"github.com/heliograph/heliograph/pkg/backplane"
)

func TestHandoverState(t *testing.T) {
	id := handoverID{Version: handoverVersion, Handover: backplane.OperationID{1, 2, 3}, Connection: "c1"}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	groups := []groupState{{Name: []byte("room"), Expires: at}, {Name: []byte{0, 0xff}}, {}}
	for _, tt := range []struct {
		call, into interface{ header() handoverID }
	}{
		{&preparation{
			handoverID: id, User: []byte("ad\xffa"), Subject: []byte("ada"), Authenticated: true, Expires: at,
			Claims:        auth.Claims{"sub": "ada", "level": json.Number("12345678901234567890"), "roles": []any{"a", "b"}, "none": nil},
			CloseOnExpiry: true, Spent: at, Opened: at, Protocol: "json", Groups: groups,
		}, new(preparation)},
		{&preparation{handoverID: id}, new(preparation)},
		{&completion{
			handoverID: id, Received: 1 << 60, Acked: 7, Pinged: true, Groups: groups,
			Sent: [][]byte{{1}, {}, []byte("frame\x1e")}, Waiting: [][]byte{{0xff}},
		}, new(completion)},
		{&admission{handoverID: id, Epoch: 1<<64 - 1}, new(admission)},
		{&id, new(handoverID)},
	} {
		body, err := encodeHandover(tt.call)
		if err == nil {
			err = decodeHandover(body, tt.into)
		}
		if diff := cmp.Diff(tt.call, tt.into, cmp.AllowUnexported(preparation{}, completion{}, admission{})); err != nil || diff != "" {
			t.Errorf("%T: %v (-want +got)\n%s", tt.call, err, diff)
		}
	}
}

func TestHandoverStateOfAnotherVersion(t *testing.T) {
	for body, want := range map[string]error{
		`{"Version":2,"Connection":"c"}`: errHandoverVersion,
		`{}`:                             errHandoverVersion,
		`{"Version":1}`:                  nil,
		`{"Version":1,"Connection":"c","Received":-1}`: nil,
		`{"Version":1,"Connection":"c","Acked":-1}`:    nil,
		`{"Version":1,"Connection":"c","Sent":"x"}`:    nil,
		``: nil,
	} {
		var s completion
		err := decodeHandover([]byte(body), &s)
		if err == nil {
			_, err = s.unacked()
		}
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, err := encodeHandover(&preparation{Claims: auth.Claims{"f": func() {}}}); err == nil {
		t.Error("claims that cannot be encoded were")
	}
}

// What another node says is refused, or else counts as it should.
func FuzzHandoverState(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Connection":"c1","Received":3,"Acked":2,"Sent":["YQ==",""],"Waiting":["YmM="],"Groups":[{"Name":"cm9vbQ==","Expires":"2026-01-02T03:04:05Z"}]}`))
	f.Add([]byte(`{"Version":1,"Connection":"c1","Subject":"YWRh","Claims":{"a":1e400,"b":[null]},"Protocol":"json","Spent":"0001-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"Version":1,"Handover":[1,2,3],"Epoch":5}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var p preparation
		if decodeHandover(body, &p) == nil {
			if p.Connection == "" || p.identity() == nil || p.handover().ID != p.Connection {
				t.Errorf("decoded %+v", p)
			}
			if _, err := encodeHandover(&p); err != nil {
				t.Error(err)
			}
		}
		var s completion
		if decodeHandover(body, &s) != nil {
			return
		}
		u, err := s.unacked()
		if err != nil {
			return
		}
		for u.max = 1 << 30; u.sent < u.last(); {
			u.again()
		}
		if u.ack(u.last(), time.Now()) != (len(s.Sent) > 0) || u.bytes != 0 || u.resume() != u.acked+1 {
			t.Errorf("of %d frames is left %+v", len(s.Sent), u)
		}
	})
}
