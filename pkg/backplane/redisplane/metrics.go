package redisplane

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// metrics are those of one plane.
type metrics struct {
	published prometheus.Counter
	pipelines prometheus.Counter
	received  prometheus.Counter
	dropped   *prometheus.CounterVec
	errors    *prometheus.CounterVec
	subscribe prometheus.Histogram
	probe     prometheus.Histogram

	missed prometheus.Counter

	malformed, unknownVersion, unsigned, forged, late, unattached, gap prometheus.Counter // of dropped
}

func newMetrics() *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "heliograph_backplane_" + name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "heliograph_backplane_" + name, Help: help}, []string{label})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "heliograph_backplane_" + name, Help: help,
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		})
	}
	m := &metrics{
		published: counter("published_total", "Envelopes that Redis took from this node."),
		pipelines: counter("pipelines_total", "Pipelines of envelopes sent to Redis."),
		received:  counter("received_total", "Envelopes that came from Redis, this node's own included."),
		dropped:   vector("dropped_total", "Envelopes received and not delivered, by reason: malformed, version, unsigned, forged, late, unattached, gap.", "reason"),
		errors:    vector("publish_errors_total", "Publish calls that failed, by kind: not_sent, unknown.", "kind"),
		subscribe: seconds("subscribe_seconds", "How long subscriptions were waited for, where they were not in force already."),
		probe:     seconds("probe_seconds", "How long the node's own probe took through Redis."),
	}
	m.missed = counter("missed_operations_total", "Operations that were not heard, and performed once they had been read.")
	m.gap = m.dropped.WithLabelValues("gap")
	m.malformed = m.dropped.WithLabelValues("malformed")
	m.unknownVersion = m.dropped.WithLabelValues("version")
	m.unsigned = m.dropped.WithLabelValues("unsigned")
	m.forged = m.dropped.WithLabelValues("forged")
	m.late = m.dropped.WithLabelValues("late")
	m.unattached = m.dropped.WithLabelValues("unattached")
	for _, kind := range []string{"not_sent", "unknown"} {
		m.errors.WithLabelValues(kind)
	}
	return m
}

// publishError counts the error of a Publish call, if it is one.
func (m *metrics) publishError(err error) {
	switch {
	case err == nil:
	case errors.Is(err, backplane.ErrNotSent):
		m.errors.WithLabelValues("not_sent").Inc()
	default:
		m.errors.WithLabelValues("unknown").Inc()
	}
}

// collectors returns the metrics, and those that are read off the plane.
func (p *Plane) collectors() []prometheus.Collector {
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "heliograph_backplane_" + name, Help: help}, value)
	}
	counter := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "heliograph_backplane_" + name, Help: help}, value)
	}
	m := p.metrics
	return []prometheus.Collector{
		m.published, m.pipelines, m.received, m.dropped, m.errors, m.subscribe, m.probe, m.missed,
		gauge("subscriptions", "Channels whose subscription is in force.", func() float64 {
			return p.sum(func(q *partition) float64 {
				inForce, _ := q.subscriber.counts()
				return float64(inForce)
			})
		}),
		gauge("subscriptions_pending", "Channels to be subscribed or unsubscribed.", func() float64 {
			return p.sum(func(q *partition) float64 {
				_, pending := q.subscriber.counts()
				return float64(pending)
			})
		}),
		gauge("partitions", "Partitions of the channels in use, each with connections of its own.", func() float64 {
			return p.sum(func(*partition) float64 { return 1 })
		}),
		gauge("healthy", "1 while the node hears what is published, 0 otherwise.", func() float64 {
			if p.Healthy() != nil {
				return 0
			}
			return 1
		}),
		gauge("receive_lag_seconds", "Age of the oldest own probe that has not been heard yet, or else how long the last one took.", func() float64 {
			longest := 0.0
			for _, q := range p.partitions.all() {
				longest = max(longest, q.prober.lag.now().Seconds())
			}
			return longest
		}),
		gauge("publish_queue_messages", "Messages that wait to be published.", func() float64 {
			return p.sum(func(q *partition) float64 {
				messages, _ := q.lane.waiting()
				return float64(messages)
			})
		}),
		gauge("publish_queue_bytes", "What they are counted as, in bytes: channel, body and 128 more each.", func() float64 {
			return p.sum(func(q *partition) float64 {
				_, bytes := q.lane.waiting()
				return float64(bytes)
			})
		}),
		counter("gaps_total", "Times in which the node was deaf after it had heard, those of all partitions.", func() float64 {
			return p.sum(func(q *partition) float64 {
				gaps, _ := q.health.gaps()
				return float64(gaps)
			})
		}),
		counter("gap_seconds_total", "How long gaps lasted, the present one included.", func() float64 {
			return p.sum(func(q *partition) float64 {
				_, total := q.health.gaps()
				return total.Seconds()
			})
		}),
	}
}

// sum adds up what there is of each partition in use.
func (p *Plane) sum(of func(q *partition) float64) (total float64) {
	for _, q := range p.partitions.all() {
		total += of(q)
	}
	return total
}

// register registers the collectors, all or none, and returns those that it has.
func register(r prometheus.Registerer, collectors ...prometheus.Collector) (registered []prometheus.Collector, err error) {
	if r == nil {
		return nil, nil
	}
	for i, c := range collectors {
		if err := r.Register(c); err != nil {
			unregister(r, collectors[:i])
			return nil, err
		}
	}
	return collectors, nil
}

func unregister(r prometheus.Registerer, registered []prometheus.Collector) {
	for _, c := range registered {
		r.Unregister(c)
	}
}
