package hub

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heliograph/heliograph/pkg/backplane"
)

// metrics are the hub's, labelled with its name.
type metrics struct {
	connections   prometheus.Gauge
	received      prometheus.Counter
	sent          prometheus.Counter
	slowConsumers prometheus.Counter
	interrupted   prometheus.Gauge
	reconnects    prometheus.Counter
	ackPauses     prometheus.Counter
	handedOver    prometheus.Counter
	notHandedOver prometheus.Counter
	takenOver     prometheus.Counter
	malformed     *prometheus.CounterVec
	invocations   *prometheus.CounterVec

	succeeded, failed, unknownMethod, badArguments, unauthorized prometheus.Counter // of invocations
}

func newMetrics(hub string) *metrics {
	labels := prometheus.Labels{"hub": hub}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "heliograph_hub_" + name, Help: help, ConstLabels: labels})
	}
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heliograph_hub_connections", Help: "Connections that this node holds.", ConstLabels: labels,
		}),
		received:      counter("messages_received_total", "Hub messages received from clients."),
		sent:          counter("messages_sent_total", "Hub messages put into the queues of clients, pings aside."),
		slowConsumers: counter("slow_consumers_total", "Connections closed because the client read, or acknowledged, too slowly."),
		interrupted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heliograph_hub_interrupted_connections", Help: "Connections with stateful reconnect whose client is away.", ConstLabels: labels,
		}),
		reconnects:    counter("reconnects_total", "Stateful reconnects: transports that took over a connection."),
		handedOver:    counter("handed_over_total", "Connections handed over to another node."),
		notHandedOver: counter("not_handed_over_total", "Connections closed because they could not be handed over to another node."),
		takenOver:     counter("taken_over_total", "Connections taken over from another node."),
		ackPauses:     counter("unacknowledged_pauses_total", "Times that nothing more was sent to a client until it acknowledged what it had been sent."),
		malformed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heliograph_hub_malformed_envelopes_total", Help: "Bodies from the backplane that could not be read, by reason: malformed, version, forged.", ConstLabels: labels,
		}, []string{"reason"}),
		invocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heliograph_hub_invocations_total", Help: "Invocations by clients, by result: ok, error, unknown_method, bad_arguments, unauthorized.", ConstLabels: labels,
		}, []string{"result"}),
	}
	for _, err := range []error{backplane.ErrMalformed, backplane.ErrVersion, backplane.ErrForged} {
		m.unread(err) // so that they are there from the beginning
	}
	m.succeeded = m.invocations.WithLabelValues("ok")
	m.failed = m.invocations.WithLabelValues("error")
	m.unknownMethod = m.invocations.WithLabelValues("unknown_method")
	m.badArguments = m.invocations.WithLabelValues("bad_arguments")
	m.unauthorized = m.invocations.WithLabelValues("unauthorized")
	return m
}

// unread returns the counter of bodies that could not be read for that reason.
func (m *metrics) unread(err error) prometheus.Counter {
	reason := "malformed"
	switch {
	case errors.Is(err, backplane.ErrVersion):
		reason = "version"
	case errors.Is(err, backplane.ErrForged):
		reason = "forged"
	}
	return m.malformed.WithLabelValues(reason)
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.connections, m.received, m.sent, m.slowConsumers, m.malformed, m.invocations,
		m.interrupted, m.reconnects, m.ackPauses, m.handedOver, m.notHandedOver, m.takenOver,
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range m.all() {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.all() {
		r.Unregister(c)
	}
}
