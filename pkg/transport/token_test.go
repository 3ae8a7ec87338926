package transport

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heliograph/heliograph/pkg/auth"
)

func farAhead() time.Time { return time.Now().Add(time.Hour).Truncate(time.Millisecond) }

func key(b byte) []byte { return bytes.Repeat([]byte{b}, MinimumKeyBytes) }

func TestTokenRoundTrip(t *testing.T) {
	keys, err := NewKeys(key(1))
	if err != nil {
		t.Fatal(err)
	}
	want := connectionToken{id: newConnectionID(), before: farAhead(), user: tag("ada"), stateful: true}
	got, err := keys.open("chat", keys.mint("chat", want))
	if err != nil || got.id != want.id || !got.before.Equal(want.before) || got.user != want.user || !got.stateful {
		t.Fatalf("got %v, %v, want %v", got, err, want)
	}
}

func TestKeyRotation(t *testing.T) {
	content := connectionToken{id: newConnectionID(), before: farAhead()}
	before, during, after := Keys{key(1)}, Keys{key(2), key(1)}, Keys{key(2)}
	for _, tt := range []struct {
		name         string
		minted, seen Keys
		ok           bool
	}{
		{"old at new", before, during, true},
		{"new at new", during, after, true},
		{"new at old", during, before, false},
		{"old at the end", before, after, false},
	} {
		if _, err := tt.seen.open("chat", tt.minted.mint("chat", content)); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestForgedTokens(t *testing.T) {
	keys := Keys{key(1)}
	token := keys.mint("chat", connectionToken{id: newConnectionID(), before: farAhead()})
	if _, err := keys.open("other", token); err == nil {
		t.Error("token is valid for another hub")
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if _, err := keys.open("chat", base64.RawURLEncoding.EncodeToString(changed)); err == nil {
			t.Errorf("token with byte %d changed is valid", i)
		}
	}
	for _, s := range []string{"", "x", token[1:], token + "A", token + "=", strings.ToUpper(token), "\x00"} {
		if _, err := keys.open("chat", s); err == nil {
			t.Errorf("%q is valid", s)
		}
	}
}

func FuzzOpenToken(f *testing.F) {
	keys := Keys{key(1)}
	f.Add(keys.mint("chat", connectionToken{before: farAhead()}))
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if content, err := keys.open("chat", s); err == nil && keys.mint("chat", content) != s {
			t.Errorf("%q opens, and is not what would be minted", s)
		}
	})
}

func TestNewKeys(t *testing.T) {
	for _, tt := range []struct {
		keys [][]byte
		ok   bool
	}{
		{nil, false}, {[][]byte{key(1)}, true}, {[][]byte{key(1), key(2)}, true}, {[][]byte{key(1), key(2)[1:]}, false},
	} {
		if _, err := NewKeys(tt.keys...); (err == nil) != tt.ok {
			t.Errorf("%d keys: %v", len(tt.keys), err)
		}
	}
}

func TestDeriveKey(t *testing.T) {
	one, again, other := DeriveKey([]byte("one")), DeriveKey([]byte("one")), DeriveKey([]byte("other"))
	if !bytes.Equal(one, again) || bytes.Equal(one, other) || len(one) < MinimumKeyBytes {
		t.Errorf("got %x, %x, %x", one, again, other)
	}
}

// A token makes a connection until its time, with the leeway for clocks, and never
// twice, however long ago the first time was and however many others came between.
func TestTokenMakesOneConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewManager(Config{})
		fresh := func() *connectionToken {
			return &connectionToken{id: newConnectionID(), before: time.Now().Add(m.DisconnectTimeout)}
		}
		try := func(token *connectionToken) refusal {
			c, refused := m.findOrMake(idString(token.id), token, auth.Anonymous)
			if refused == granted {
				c.cut()
				synctest.Wait() // it is forgotten
			}
			return refused
		}

		late, tooLate := fresh(), fresh()
		time.Sleep(m.DisconnectTimeout + clockLeeway)
		if got := try(late); got != granted {
			t.Errorf("within the leeway: %v", got)
		}
		time.Sleep(time.Millisecond)
		if got := try(tooLate); got != unknownID {
			t.Errorf("after its time: %v", got)
		}

		for range 10 {
			c := fresh()
			if got := try(c); got != granted {
				t.Fatalf("fresh: %v", got)
			}
			for end := c.before.Add(2 * clockLeeway); time.Now().Before(end); time.Sleep(time.Second) {
				if got := try(c); got != unknownID {
					t.Fatalf("second time: %v", got)
				}
				try(fresh()) // makes the tables be swapped
			}
		}
		if n := len(m.used) + len(m.usedBefore); n > 100 {
			t.Errorf("%d used tokens are kept", n)
		}
		if n := len(m.live) + len(m.watched); n != 0 {
			t.Errorf("%d connections are kept", n)
		}
	})
}
