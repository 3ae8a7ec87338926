package redisplane

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

var clusterKey = []byte("a key of the cluster")

// announced is how n1 is announced; the MAC is of another implementation of HMAC.
const announced = `vB+EpvPpWv+Nox26Jab/FRKuG7TBtnwmy0SmmtkeSwc {"id":"n1","incarnation":1767225600,"prefixes":["","chat/"],"hearing":true}`

func TestAnnouncement(t *testing.T) {
	a := announcement{ID: "n1", Incarnation: 1767225600, Prefixes: []string{"", "chat/"}, Hearing: true}
	got, err := a.sign(clusterKey)
	if diff := cmp.Diff(announced, got); err != nil || diff != "" {
		t.Errorf("(-want +got)\n%s %v", diff, err)
	}
	for _, keys := range [][][]byte{{clusterKey}, {[]byte("new"), clusterKey}} {
		verified, ok := verifyAnnouncement(announced, keys)
		if diff := cmp.Diff(a, verified); !ok || diff != "" {
			t.Errorf("verified %t (-want +got)\n%s", ok, diff)
		}
	}
	for _, keys := range [][][]byte{nil, {nil}, {[]byte("new")}} {
		if a, ok := verifyAnnouncement(announced, keys); ok {
			t.Errorf("with the keys %q, it says %v", keys, a)
		}
	}
}

// No change of a byte, and no cut, says anything.
func TestChangedAnnouncement(t *testing.T) {
	for i := range announced {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			changed := []byte(announced)
			changed[i] ^= flip
			if a, ok := verifyAnnouncement(string(changed), [][]byte{clusterKey}); ok {
				t.Errorf("%q says %v", changed, a)
			}
		}
		if a, ok := verifyAnnouncement(announced[:i], [][]byte{clusterKey}); ok {
			t.Errorf("%q says %v", announced[:i], a)
		}
	}
}

// What is signed is not thereby an announcement.
func FuzzAnnouncement(f *testing.F) {
	f.Add(announced)
	f.Add(" {}")
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		a, ok := verifyAnnouncement(value, [][]byte{clusterKey})
		if !ok {
			if diff := cmp.Diff(announcement{}, a); diff != "" {
				t.Error(diff)
			}
			return
		}
		again, err := a.sign(clusterKey)
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := verifyAnnouncement(again, [][]byte{clusterKey}); !ok || !cmp.Equal(a, b) {
			t.Errorf("%v becomes %v", a, b)
		}
	})
}
