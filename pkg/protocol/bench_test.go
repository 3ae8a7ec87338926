package protocol

import (
	"strings"
	"testing"
	"time"
)

// Messages of the sizes that a chat has, and one with a structure.
var benchmarks = []struct {
	name      string
	arguments []any
	targets   func() []any
}{{
	name:      "text",
	arguments: []any{"room 17", "the quick brown fox jumps over the lazy dog"},
	targets:   func() []any { return []any{new(string), new(string)} },
}, {
	name: "item",
	arguments: []any{item{
		Name: "a name", Count: 12345, Data: make([]byte, 30), When: time.Unix(1_500_000_000, 0).UTC(), Tags: []string{"one", "two"},
	}},
	targets: func() []any { return []any{new(item)} },
}}

// What an invocation must cost: the message, its strings, and a frame.
func TestAllocations(t *testing.T) {
	for _, p := range []Protocol{JSON, MessagePack} {
		long := strings.Repeat("long ", 200)
		m := &Invocation{InvocationID: "12", Target: "SendToGroup", Arguments: []any{long, long, long, long, long, long}}
		frame, err := p.Append(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if got := testing.AllocsPerRun(100, func() { _, _ = p.Append(nil, m) }); got > 2 { // 1 without the race detector
			t.Errorf("%s: Append allocates %v times", p.Name(), got)
		}
		if got := testing.AllocsPerRun(100, func() { _, _, _ = p.Parse(frame, 0) }); got > 3 {
			t.Errorf("%s: Parse allocates %v times", p.Name(), got)
		}
	}
}

// One operation is one invocation found in what has been received.
func BenchmarkParse(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, p Protocol, m *Invocation, _ func() []any) {
		frame := mustAppend(b, p, m)
		b.SetBytes(int64(len(frame)))
		for b.Loop() {
			if _, _, err := p.Parse(frame, 32<<10); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One operation is the arguments of one invocation decoded into new values.
func BenchmarkBindArguments(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, p Protocol, m *Invocation, targets func() []any) {
		parsed, _, err := p.Parse(mustAppend(b, p, m), 0)
		if err != nil {
			b.Fatal(err)
		}
		raw := parsed.(*Invocation).RawArguments
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if err := p.BindArguments(raw, targets()...); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One operation is one invocation written into a frame of its own.
func BenchmarkAppend(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, p Protocol, m *Invocation, _ func() []any) {
		b.SetBytes(int64(len(mustAppend(b, p, m))))
		for b.Loop() {
			if _, err := p.Append(nil, m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One operation is one invocation whose arguments came in the other protocol.
func BenchmarkTranslate(b *testing.B) {
	eachBenchmark(b, func(b *testing.B, to Protocol, m *Invocation, _ func() []any) {
		from := map[Protocol]Protocol{JSON: MessagePack, MessagePack: JSON}[to]
		parsed, _, err := from.Parse(mustAppend(b, from, m), 0)
		if err != nil {
			b.Fatal(err)
		}
		raw := parsed.(*Invocation).RawArguments
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			arguments, err := Elements(Raw{from, raw})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := to.Append(nil, &Invocation{Target: m.Target, Arguments: arguments}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func eachBenchmark(b *testing.B, run func(b *testing.B, p Protocol, m *Invocation, targets func() []any)) {
	for _, p := range []Protocol{JSON, MessagePack} {
		for _, bb := range benchmarks {
			b.Run(p.Name()+"/"+bb.name, func(b *testing.B) {
				b.ReportAllocs()
				run(b, p, &Invocation{InvocationID: "12", Target: "SendToGroup", Arguments: bb.arguments}, bb.targets)
			})
		}
	}
}

func mustAppend(b *testing.B, p Protocol, m Message) []byte {
	b.Helper()
	frame, err := p.Append(nil, m)
	if err != nil {
		b.Fatal(err)
	}
	return frame
}
