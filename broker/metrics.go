package broker

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are what /metrics shows; names are the protocol's (section 9), the
// histograms ours.
type metrics struct {
	registry       *prometheus.Registry
	connections    prometheus.Counter
	rejected       *prometheus.CounterVec // by reason
	dropped        *prometheus.CounterVec // by reason
	turnedAway     *prometheus.CounterVec // by reason
	routed         *prometheus.CounterVec // by priority
	refused        *prometheus.CounterVec // by reason
	droppedByGrant *prometheus.CounterVec // by cap
	helloSeconds   prometheus.Histogram
	ackSeconds     prometheus.Histogram
	pruned         prometheus.Counter
}

// latency is 50 µs to 13 s in factors of two.
var latency = prometheus.ExponentialBuckets(50e-6, 2, 19)

func newMetrics(b *Broker) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		connections: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "broker_connections_total", Help: "Connections that said a valid hello."}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "broker_connections_rejected_total", Help: "Hellos that were refused, by reason."}, []string{"reason"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "broker_connections_dropped_total", Help: "Connections the broker ended, by reason."}, []string{"reason"}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "broker_requests_refused_total", Help: "Connections and requests that were refused unheard, by reason."}, []string{"reason"}),
		routed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "broker_messages_routed_total", Help: "Messages accepted and stored, by priority."}, []string{"priority"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "broker_messages_rejected_total", Help: "Sends that were refused, by reason."}, []string{"reason"}),
		droppedByGrant: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "broker_messages_dropped_by_grant_total", Help: "Copies of messages that their recipient's grants kept out, by capability."}, []string{"cap"}),
		pruned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "broker_messages_pruned_total", Help: "Delivered messages that were deleted after they were kept long enough."}),
		helloSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "broker_hello_seconds", Help: "From reading a hello to queueing its hello_ack.", Buckets: latency}),
		ackSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "broker_ack_seconds", Help: "From reading a send to queueing its ack, commit included.", Buckets: latency}),
	}
	active := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "broker_connections_active", Help: "Live connections that said a valid hello."}, b.countPresences)
	depth := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "broker_queue_depth", Help: "Deliveries that wait for their recipient; -1 if the database does not answer."}, b.queueDepth)
	m.registry.MustRegister(m.connections, m.rejected, m.dropped, m.turnedAway, m.routed, m.refused, m.droppedByGrant, m.pruned, m.helloSeconds, m.ackSeconds, active, depth,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (b *Broker) queueDepth() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	n, err := b.db.QueueDepth(ctx)
	if err != nil {
		return -1
	}
	return float64(n)
}
