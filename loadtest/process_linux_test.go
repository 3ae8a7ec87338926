package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	fields := "S 1 2 3 4 5 6 7 8 9 10 150 25 13 14 15 16 17 18 19 20 1000 22"
	want := usage{cpu: 1750 * time.Millisecond, resident: 1000 * uint64(os.Getpagesize())}
	for _, name := range []string{"node", "a b", "a) S 9 (b"} {
		if got, err := parseStat([]byte("42 (" + name + ") " + fields + "\n")); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "42 node " + fields, "42 (node) S 1 2", "42 (node) " + strings.Replace(fields, "150", "x", 1)} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

func TestParseHostStat(t *testing.T) {
	got, err := parseHostStat([]byte("cpu  1 2 4 8 16 32 64 128 256 512\ncpu0 1 1 1 1 1 1 1 1 1 1\n"))
	if want := (hostTimes{total: 255, busy: 1 + 2 + 4 + 32 + 64, steal: 128}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8", "cpu 1 2 3 4 5 6 7 x"} {
		if got, err := parseHostStat([]byte(bad)); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

// This process has used some memory, and more CPU after it has used some.
func TestProcessUsage(t *testing.T) {
	before, err := processUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before.resident == 0 {
		t.Error("no memory")
	}
	if total, err := readHostTimes(); err != nil || total.total == 0 {
		t.Errorf("host times are %+v, %v", total, err)
	}
	for began := time.Now(); time.Since(began) < time.Minute; {
		after, err := processUsage(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after.cpu > before.cpu {
			return
		}
	}
	t.Error("a minute of work has used no CPU")
}
