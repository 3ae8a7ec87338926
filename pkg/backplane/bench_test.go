package backplane_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/heliograph/heliograph/pkg/backplane"
)

var benchMessage = backplane.Message{Encodings: []backplane.Encoding{
	{Protocol: "json", Frame: bytes.Repeat([]byte{'j'}, 120)},
	{Protocol: "messagepack", Frame: bytes.Repeat([]byte{'m'}, 100)},
}}

func BenchmarkAppendMessage(b *testing.B) {
	var body []byte
	b.ReportAllocs()
	for b.Loop() {
		body = backplane.AppendMessage(body[:0], benchMessage)
	}
}

func BenchmarkParseMessage(b *testing.B) {
	body := backplane.AppendMessage(nil, benchMessage)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backplane.ParseMessage(body); err != nil {
			b.Fatal(err)
		}
	}
}

func benchEnvelope() backplane.Envelope {
	return backplane.Envelope{
		Publisher:   "01234567-89ab-cdef-0123-456789abcdef",
		Incarnation: 1_700_000_000_000_000,
		Sequence:    1_000_000,
		Body:        backplane.AppendMessage(nil, benchMessage),
	}
}

func BenchmarkAppendEnvelope(b *testing.B) {
	e := benchEnvelope()
	var data []byte
	b.ReportAllocs()
	for b.Loop() {
		data = backplane.AppendEnvelope(data[:0], e)
	}
}

func BenchmarkParseEnvelope(b *testing.B) {
	data := backplane.AppendEnvelope(nil, benchEnvelope())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := backplane.ParseEnvelope(data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignEnvelope is BenchmarkAppendEnvelope with a MAC.
func BenchmarkSignEnvelope(b *testing.B) {
	e, keys := benchEnvelope(), benchKeys()
	var data []byte
	b.ReportAllocs()
	for b.Loop() {
		data = keys.Append(data[:0], "group:benchmark", e)
	}
}

// BenchmarkVerifyEnvelope is BenchmarkParseEnvelope where a MAC is demanded.
func BenchmarkVerifyEnvelope(b *testing.B) {
	keys := benchKeys()
	data := keys.Append(nil, "group:benchmark", benchEnvelope())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.Parse(data, "group:benchmark"); err != nil {
			b.Fatal(err)
		}
	}
}

func benchKeys() *backplane.EnvelopeKeys {
	return backplane.NewEnvelopeKeys([][]byte{bytes.Repeat([]byte{'k'}, 32)})
}

// Envelopes come from 100 publishers in turn.
func BenchmarkWindowAccept(b *testing.B) {
	envelopes := make([]backplane.Envelope, 100)
	for i := range envelopes {
		envelopes[i] = benchEnvelope()
		envelopes[i].Publisher = fmt.Sprint(i, envelopes[i].Publisher)
	}
	var w backplane.Window
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		e := &envelopes[i%len(envelopes)]
		e.Sequence++
		if !w.Accept(e) {
			b.Fatal("not accepted")
		}
		i++
	}
}

// One operation is one body published on one channel, until all nodes have it.
func BenchmarkMemoryPublish(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprint("nodes=", nodes), func(b *testing.B) {
			var bus backplane.Bus
			var a backplane.Attachment
			delivered := make(chan struct{}, 1024)
			for range nodes {
				_, a = join(b, &bus, func(backplane.Channel, []byte) { delivered <- struct{}{} })
			}
			body := backplane.AppendMessage(nil, benchMessage)
			b.ReportAllocs()
			outstanding := 0
			for b.Loop() {
				if err := a.Publish(b.Context(), body, backplane.All); err != nil {
					b.Fatal(err)
				}
				for outstanding += nodes; outstanding > 512; outstanding-- {
					<-delivered
				}
			}
			for ; outstanding > 0; outstanding-- { // part of what was begun
				<-delivered
			}
		})
	}
}
