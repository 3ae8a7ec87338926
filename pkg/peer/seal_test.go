package peer

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func sealForTest() seal {
	return seal{
		kind: kindForward, time: 1_700_000_000, nonce: nonce{1, 2, 3}, from: "node one", to: "näde+two&=%",
		client: "[fe80::1%eth0]:5000", body: digest{4}, mac: digest{5},
	}
}

func TestSealText(t *testing.T) {
	const want = "1 forward 1700000000 AQIDAAAAAAAAAAAAAAAAAA -node+one -n%C3%A4de%2Btwo%26%3D%25 -%5Bfe80%3A%3A1%25eth0%5D%3A5000 " +
		"BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	s := sealForTest()
	if got := s.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, err := parseSeal(want); err != nil || got != s {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"another version", "1 forward", "2 forward"},
		{"another kind", "forward", "backward"},
		{"no time", "1700000000", ""},
		{"time is no number", "1700000000", "noon"},
		{"time too large", "1700000000", "99999999999999999999"},
		{"nonce too short", "AQIDAAAAAAAAAAAAAAAAAA", "AQID"},
		{"nonce too long", "AQIDAAAAAAAAAAAAAAAAAA", "AQIDAAAAAAAAAAAAAAAAAAAA"},
		{"nonce with stray bits", "AQIDAAAAAAAAAAAAAAAAAA", "AQIDAAAAAAAAAAAAAAAAAB"},
		{"name without a mark", "-node+one", "node+one"},
		{"name with a bad escape", "-node+one", "-node%zzone"},
		{"one field less", " -node+one", ""},
		{"one field more", " -node+one", " -node+one -x"},
		{"mac of another alphabet", "BQAAAAAAAAAAAA", "BQAAAAAAAA++++"},
		{"too long", "-node+one", "-" + strings.Repeat("n", maxSeal)},
	} {
		text := strings.Replace(want, tt.old, tt.new, 1)
		if text == want {
			t.Fatalf("%s: nothing replaced", tt.name)
		}
		if got, err := parseSeal(text); err == nil {
			t.Errorf("%s: taken, as %+v", tt.name, got)
		}
	}
}

// Whatever a seal says is sealed, and so is what it is on.
func TestSealCovers(t *testing.T) {
	k := key('k')
	base := sealForTest()
	before := base.sum(k, "GET", "/hub?id=1", "host")
	for name, change := range map[string]func(s *seal){
		"kind":   func(s *seal) { s.kind = kindCall },
		"time":   func(s *seal) { s.time++ },
		"nonce":  func(s *seal) { s.nonce[15]++ },
		"from":   func(s *seal) { s.from += "x" },
		"to":     func(s *seal) { s.to += "x" },
		"client": func(s *seal) { s.client += "x" },
		"body":   func(s *seal) { s.body[31]++ },
		// What stands at the end of one field is not the beginning of the next.
		"border": func(s *seal) { s.from, s.to = s.from+s.to[:1], s.to[1:] },
	} {
		s := sealForTest()
		change(&s)
		if s.sum(k, "GET", "/hub?id=1", "host") == before {
			t.Errorf("%s is not sealed", name)
		}
	}
	for name, other := range map[string]digest{
		"method": base.sum(k, "PUT", "/hub?id=1", "host"),
		"uri":    base.sum(k, "GET", "/hub?id=2", "host"),
		"host":   base.sum(k, "GET", "/hub?id=1", "hos"),
		"key":    base.sum(key('l'), "GET", "/hub?id=1", "host"),
	} {
		if other == before {
			t.Errorf("%s is not sealed", name)
		}
	}
}

func TestSealAge(t *testing.T) {
	s := sealForTest()
	made := time.Unix(s.time, 0)
	for age, want := range map[time.Duration]bool{
		0: true, Tolerance: true, -Tolerance: true, Tolerance + time.Second: false, -Tolerance - time.Second: false,
		100 * 365 * 24 * time.Hour: false,
	} {
		if got := s.fresh(made.Add(age)); got != want {
			t.Errorf("age %v: fresh is %v", age, got)
		}
	}
	for _, extreme := range []int64{-1 << 63, 1<<63 - 1, 0} {
		s.time = extreme
		if s.fresh(made) {
			t.Errorf("time %d is fresh", extreme)
		}
	}
}

func TestOneSealOnly(t *testing.T) {
	s := sealForTest()
	for n, want := range map[int]bool{0: false, 1: true, 2: false} {
		r := &http.Request{Header: http.Header{}}
		for range n {
			r.Header.Add(sealHeader, s.String())
		}
		if _, err := sealOf(r); (err == nil) != want {
			t.Errorf("%d seals: %v", n, err)
		}
	}
}

// What is taken for a seal has one meaning: written again, it is read as the same.
func FuzzSeal(f *testing.F) {
	s := sealForTest()
	f.Add(s.String())
	f.Add("1 call 0      ")
	f.Add(strings.Replace(s.String(), "-node+one", "-%", 1))
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSeal(text)
		if err != nil {
			return
		}
		again, err := parseSeal(s.String())
		if len(s.String()) <= maxSeal && (err != nil || again != s) {
			t.Fatalf("%q is %+v, which is written %q and read as %+v, %v", text, s, s.String(), again, err)
		}
		s.fresh(time.Unix(1_700_000_000, 0))
	})
}
