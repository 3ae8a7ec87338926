package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the largest latency told from larger ones.
const longest = 10 * time.Minute

// latencies is a histogram of durations, of microseconds in three significant digits.
// It may not be used concurrently.
type latencies struct{ histogram *hdrhistogram.Histogram }

func newLatencies() *latencies {
	return &latencies{hdrhistogram.New(1, longest.Microseconds(), 3)}
}

func (l *latencies) record(d time.Duration) {
	// In range, so there is no error.
	_ = l.histogram.RecordValue(min(max(d, 0), longest).Microseconds())
}

// merge adds what is in other.
func (l *latencies) merge(other *latencies) { l.histogram.Merge(other.histogram) }

// summary returns nil if nothing was recorded.
func (l *latencies) summary() *latencySummary {
	h := l.histogram
	if h.TotalCount() == 0 {
		return nil
	}
	return &latencySummary{
		Count: h.TotalCount(),
		Mean:  h.Mean(),
		Min:   h.Min(),
		P50:   h.ValueAtPercentile(50),
		P90:   h.ValueAtPercentile(90),
		P99:   h.ValueAtPercentile(99),
		P999:  h.ValueAtPercentile(99.9),
		Max:   h.Max(),
	}
}

// A latencySummary says how durations are distributed, in microseconds.
type latencySummary struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	Min   int64   `json:"min_us"`
	P50   int64   `json:"p50_us"`
	P90   int64   `json:"p90_us"`
	P99   int64   `json:"p99_us"`
	P999  int64   `json:"p99_9_us"`
	Max   int64   `json:"max_us"`
}
