package transport

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/heliograph/heliograph/internal/await"
	"github.com/heliograph/heliograph/pkg/auth"
)

// twoNodes returns what stateful does, and a second manager that has the same keys.
func twoNodes(t *testing.T) (one *httptest.Server, token string, sessions chan *diary, two *Manager, other *httptest.Server) {
	t.Helper()
	m, s, token, sessions := stateful(t, Config{})
	two, other = serve(t, Config{Keys: m.Keys}, AllowStatefulReconnects())
	return s, token, sessions, two, other
}

// adopting is an accept function for Adopt.
func adopting(d **diary) func(*Connection) Session {
	return func(c *Connection) Session {
		*d = &diary{c: c}
		return *d
	}
}

func TestHandOver(t *testing.T) {
	s, token, sessions, two, other := twoNodes(t)
	one, _ := dial(t, s, "id="+token)
	before := <-sessions
	send(t, one, "1")
	before.expect(t, "received:1")

	h, epoch := before.c.HandOver()
	if epoch != 0 {
		t.Errorf("epoch %d without a cluster", epoch)
	}
	var after *diary
	adopted, err := two.Adopt(h, adopting(&after))
	if err != nil {
		t.Fatal(err)
	}
	if adopted.ID() != before.c.ID() || adopted.Identity() != before.c.Identity() || !adopted.Stateful() || adopted.Carrier() != nil {
		t.Error("another connection has been adopted")
	}
	if _, err := two.Adopt(h, adopting(new(*diary))); err == nil {
		t.Error("adopted twice")
	}
	early := make(chan int, 1)
	go func() {
		conn, answer, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(other.URL, "http")+"/hub?id="+token, nil)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		early <- answer.StatusCode
	}()
	send(t, one, "2") // it is still served where it was
	before.expect(t, "received:1 received:2")

	before.c.Release()
	if _, _, err := one.ReadMessage(); websocket.IsCloseError(err, websocket.CloseNormalClosure) || err == nil {
		t.Errorf("client reads %v", err)
	}
	select {
	case status := <-early:
		t.Fatalf("answered %d before the connection was admitted", status)
	default:
	}
	if !adopted.Admit(epoch) {
		t.Fatal("not admitted")
	}
	if status := <-early; status != http.StatusSwitchingProtocols {
		t.Fatalf("then answered %d", status)
	}
	after.expect(t, "resumed")
	three, _ := dial(t, other, "id="+token)
	send(t, three, "3")
	await.Until(t, "the session receives", func() error {
		if got := after.String(); !strings.HasSuffix(got, "received:3") {
			return fmt.Errorf("diary: %s", got)
		}
		return nil
	})
	if got := before.String(); got != "received:1 received:2" {
		t.Errorf("the session that was released was told %q", got)
	}
	if _, answer := dial(t, s, "id="+token); answer.StatusCode != http.StatusNotFound {
		t.Errorf("where it was: %d", answer.StatusCode)
	}
}

// What is adopted and not admitted goes without a word when it is released, and ends
// when it is forgotten.
func TestAdoptedInVain(t *testing.T) {
	for _, forgotten := range []bool{false, true} {
		s, token, sessions, two, other := twoNodes(t)
		dial(t, s, "id="+token)
		before := <-sessions
		h, epoch := before.c.HandOver()
		var after *diary
		adopted, err := two.Adopt(h, adopting(&after))
		if err != nil {
			t.Fatal(err)
		}
		early := make(chan int, 1)
		go func() {
			status, _ := request(t, other, "DELETE", "id="+token, "")
			early <- status
		}()
		if forgotten {
			two.Sweep(time.Now().Add(two.DisconnectTimeout + time.Second))
			after.expect(t, "disconnected")
		} else {
			adopted.Release()
		}
		before.c.TakeBack(epoch)
		if status := <-early; status != http.StatusNotFound && status != http.StatusBadRequest {
			t.Errorf("a request that waited was answered %d", status)
		}
		await.Until(t, "the connection is forgotten", func() error { return two.forgotten(h.ID) })
		if adopted.Admit(epoch) {
			t.Error("admitted after all")
		}
		if got := after.String(); !forgotten && got != "" {
			t.Errorf("the session was told %q", got)
		}
		dial(t, s, "id="+token)
		await.Until(t, "the connection is resumed where it was", func() error {
			if !strings.Contains(before.String(), "resumed") {
				return errors.New(before.String())
			}
			return nil
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	m := NewManager(Config{})
	for _, id := range []string{"", "x", "0.x", strings.Repeat("A", 23)} {
		if _, err := m.Adopt(Handover{ID: id, Identity: auth.Anonymous}, nil); err == nil {
			t.Errorf("%q is adopted", id)
		}
	}
	m.Refuse()
	if _, err := m.Adopt(Handover{ID: idString(newConnectionID()), Identity: auth.Anonymous}, nil); err == nil {
		t.Error("adopted by a node that leaves")
	}
}

// A session that is busy when its connection is released is told nothing afterwards.
func TestReleaseDuringReceive(t *testing.T) {
	s, token, sessions, _, _ := twoNodes(t)
	conn, _ := dial(t, s, "id="+token)
	d := <-sessions
	d.block = make(chan struct{})
	send(t, conn, "1")
	d.expect(t, "received:1")
	d.c.Release()
	close(d.block)
	await.Until(t, "the connection is forgotten", func() error { return d.c.manager.forgotten(d.c.id) })
	d.expect(t, "received:1")
}
