package main

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestStream(t *testing.T) {
	for _, tt := range []struct {
		name      string
		sequences []uint64
		want      []verdict
		delivered uint64
	}{
		{"in order", []uint64{1, 2, 3}, []verdict{inOrder, inOrder, inOrder}, 3},
		{"first is lost", []uint64{2, 3}, []verdict{inOrder, inOrder}, 2},
		{"gap is no disorder", []uint64{1, 4, 5}, []verdict{inOrder, inOrder, inOrder}, 3},
		{"swapped", []uint64{2, 1, 3}, []verdict{inOrder, outOfOrder, inOrder}, 3},
		{"twice", []uint64{1, 1}, []verdict{inOrder, duplicate}, 1},
		{"twice, later", []uint64{1, 2, 3, 1}, []verdict{inOrder, inOrder, inOrder, duplicate}, 3},
		{"late and twice", []uint64{2, 1, 1}, []verdict{inOrder, outOfOrder, duplicate}, 2},
		{"last of the window", []uint64{64, 1}, []verdict{inOrder, outOfOrder}, 2},
		{"beyond the window", []uint64{65, 1}, []verdict{inOrder, tooOld}, 1},
		{"remembered to the end of the window", []uint64{1, 64, 1}, []verdict{inOrder, inOrder, duplicate}, 2},
		{"forgotten beyond it", []uint64{1, 65, 1}, []verdict{inOrder, inOrder, tooOld}, 2},
		{"leap over the window", []uint64{1, 1000, 999, 1000}, []verdict{inOrder, inOrder, outOfOrder, duplicate}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s stream
			var got []verdict
			for _, n := range tt.sequences {
				got = append(got, s.receive(n))
			}
			if !slices.Equal(got, tt.want) || s.delivered != tt.delivered {
				t.Errorf("got %v and %d delivered, want %v and %d", got, s.delivered, tt.want, tt.delivered)
			}
		})
	}
}

// The stream says of any sequence of numbers what a memory of all of them would, as
// far as its window reaches.
func TestStreamAgainstModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var s stream
		had := make(map[uint64]bool)
		var highest, next uint64
		for range 500 {
			next += random.Uint64N(3)
			n := max(next, 1)
			if back := random.Uint64N(100); random.IntN(3) == 0 && back < n {
				n -= back
			}
			want := inOrder
			switch {
			case n > highest:
			case highest-n >= window:
				want = tooOld
			case had[n]:
				want = duplicate
			default:
				want = outOfOrder
			}
			if got := s.receive(n); got != want {
				t.Fatalf("%d, after the highest %d: got %v, want %v", n, highest, got, want)
			}
			if want != tooOld {
				had[n] = true
			}
			highest = max(highest, n)
		}
		if s.delivered != uint64(len(had)) {
			t.Fatalf("%d delivered, want %d", s.delivered, len(had))
		}
	}
}

func TestStreamLost(t *testing.T) {
	s := stream{delivered: 3}
	for expected, want := range map[uint64]uint64{2: 0, 3: 0, 5: 2} {
		if got := s.lost(expected); got != want {
			t.Errorf("%d expected: %d lost, want %d", expected, got, want)
		}
	}
}

func TestTally(t *testing.T) {
	var got tally
	for _, v := range []verdict{inOrder, inOrder, outOfOrder, duplicate, tooOld} {
		got.count(v)
	}
	got.add(tally{stray: 1, damaged: 2, ignored: 3})
	if want := (tally{delivered: 3, duplicated: 1, outOfOrder: 2, stray: 1, damaged: 2, ignored: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
