package model

import (
	"strings"
	"testing"
	"time"
)

func TestVerdict(t *testing.T) {
	always := Stay{0, 0, Never, Never}
	for _, test := range []struct {
		name    string
		stay    Stay
		outcome Outcome
		gap     Span
		want    Verdict
	}{
		{"member", always, Sent, Span{}, Must},
		{"not sent", always, NotSent, Span{}, MustNot},
		{"outcome unknown", always, Unknown, Span{}, May},
		{"joined just before", Stay{40, 50, Never, Never}, Sent, Span{}, Must},
		{"joining", Stay{40, 51, Never, Never}, Sent, Span{}, May},
		{"joining later", Stay{60, 70, Never, Never}, Sent, Span{}, May},
		{"joined in the next round", Stay{100, 110, Never, Never}, Sent, Span{}, MustNot},
		{"join failed before", Stay{10, Never, 20, 30}, Sent, Span{}, MustNot},
		{"join failed meanwhile", Stay{10, Never, 20, 60}, Sent, Span{}, May},
		{"left before", Stay{0, 0, 40, 50}, Sent, Span{}, MustNot},
		{"leaving", Stay{0, 0, 40, 60}, Sent, Span{}, May},
		{"left in the round", Stay{0, 0, 60, 70}, Sent, Span{}, May},
		{"left after the round", Stay{0, 0, 100, 110}, Sent, Span{}, Must},
		{"gap before", always, Sent, Span{10, 50}, Must},
		{"gap when sent", always, Sent, Span{10, 51}, May},
		{"gap before it may have arrived", always, Sent, Span{99, Never}, May},
		{"gap after the round", always, Sent, Span{100, Never}, Must},
		{"not sent in a gap", always, NotSent, Span{0, Never}, MustNot},
		{"no member in a gap", Stay{0, 0, 20, 30}, Sent, Span{0, Never}, MustNot},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := Round{Gaps: [][]Span{{}, {test.gap}}, Settled: 100}
			to := &Receiver{Node: 1, Stays: map[string][]Stay{"c": {{1, 2, 3, 4}, test.stay}}}
			if got := r.Verdict(&Message{Channel: "c", Begun: 50, Outcome: test.outcome}, to); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
			if got := r.Verdict(&Message{Channel: "another", Begun: 50}, to); got != MustNot {
				t.Errorf("of another channel: %d", got)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		heard  string
		faults []string // nil: none
	}{
		{"a#1 a#2 b#1", nil},
		{"b#1 a#1 a#2", nil},
		{"a#1 a#2 b#1 u#1", nil},
		{"a#2 a#3 a#1 b#1", []string{"a#3: heard; sent to other", "a#1: heard after later ones"}},
		{"a#1 b#1", []string{"a#2: not heard"}},
		{"a#1 a#2 a#1 b#1", []string{"a#1: heard twice"}},
		{"a#1 a#2 b#1 n#1", []string{"n#1: heard; sent to c"}},
		{"a#1 a#2 b#1 old#1", []string{"old#1: heard in another round"}},
		{"", []string{"a#1: not", "a#2: not", "b#1: not"}},
	} {
		t.Run(test.heard, func(t *testing.T) {
			r := Round{
				Messages: []*Message{
					{"a", 1, "c", 10, Sent}, {"a", 2, "c", 20, Sent}, {"b", 1, "c", 10, Sent},
					{"a", 3, "other", 10, Sent}, {"n", 1, "c", 10, NotSent}, {"u", 1, "c", 10, Unknown},
				},
				Receivers: []*Receiver{{
					Name: "r", Stays: map[string][]Stay{"c": {{0, 0, Never, Never}}}, Heard: strings.Fields(test.heard),
				}},
				Gaps:    [][]Span{nil},
				Settled: time.Second,
			}
			counts, err := r.Judge()
			if want := (Counts{MustNot: 2, May: 1, Must: 3}); counts != want {
				t.Errorf("counts %v, want %v", counts, want)
			}
			if (err == nil) != (test.faults == nil) {
				t.Fatalf("faults: %v", err)
			}
			for _, want := range test.faults {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not among %v", want, err)
				}
			}
			if err != nil && len(strings.Split(err.Error(), "\n")) != len(test.faults) {
				t.Errorf("more faults: %v", err)
			}
		})
	}
}
