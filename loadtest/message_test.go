package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestMessage(t *testing.T) {
	const id = trialID("abcdefgh")
	for _, m := range []message{
		{sequence: 1},
		{sender: 3, target: 17, sequence: 12345, due: 5 * time.Second},
		{sender: math.MaxInt32, target: math.MaxInt32, sequence: math.MaxInt64, due: math.MaxInt64},
	} {
		for _, size := range []int{minimumPayload, 500} {
			text := string(appendMessage(nil, id, m, size))
			if len(text) != size {
				t.Errorf("%q has %d bytes, want %d", text, len(text), size)
			}
			if !isOf(id, text) || isOf("abcdefg", text) || isOf("stranger", text) {
				t.Errorf("%q is not told from others", text)
			}
			if got, ok := parseMessage(id, text); !ok || got != m {
				t.Errorf("%q is read as %+v, %v, want %+v", text, got, ok, m)
			}
		}
	}
}

func TestParseMessageRefuses(t *testing.T) {
	const id = trialID("abcdefgh")
	whole := string(appendMessage(nil, id, message{1, 2, 3, 4}, minimumPayload))
	for name, text := range map[string]string{
		"cut before the last field": whole[:strings.LastIndex(whole, " ")],
		"no number":                 strings.Replace(whole, " 2 ", " two ", 1),
		"negative":                  strings.Replace(whole, " 2 ", " -2 ", 1),
		"sequence 0":                strings.Replace(whole, " 3 ", " 0 ", 1),
		"filling changed":           whole[:len(whole)-1] + "y",
		"empty":                     "load abcdefgh ",
	} {
		if m, ok := parseMessage(id, text); ok {
			t.Errorf("%s: %q is read as %+v", name, text, m)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	const id = trialID("abcdefgh")
	f.Add(string(appendMessage(nil, id, message{1, 2, 3, 4}, minimumPayload)))
	f.Fuzz(func(t *testing.T, text string) {
		if !isOf(id, text) {
			return
		}
		m, ok := parseMessage(id, text)
		if !ok || len(text) < minimumPayload {
			return
		}
		if again, ok := parseMessage(id, string(appendMessage(nil, id, m, len(text)))); !ok || again != m {
			t.Errorf("%q is read as %+v, and that as %+v", text, m, again)
		}
	})
}
