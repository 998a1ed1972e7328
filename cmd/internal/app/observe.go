package app

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tasterhq/taster/cmd/internal/app/pipeline"
	"github.com/tasterhq/taster/schema/finding"
	"github.com/tasterhq/taster/schema/record"
	"github.com/tasterhq/taster/sink/envelope"
)

// observer turns the pipeline's events into log lines and metrics. Neither ever holds record content: topics,
// partitions, offsets, counts and reason codes only.
type observer struct {
	log      *slog.Logger
	registry *prometheus.Registry
	ready    atomic.Bool

	records  *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	reasons  *prometheus.CounterVec
	segments *prometheus.HistogramVec
	stages   *prometheus.HistogramVec
	latency  *prometheus.HistogramVec
	risk     *prometheus.GaugeVec
	lag      *prometheus.GaugeVec
	retries  *prometheus.CounterVec
	keyCalls *prometheus.HistogramVec
	lost     *prometheus.CounterVec

	state      *prometheus.GaugeVec
	others     *prometheus.GaugeVec
	unreadable *prometheus.CounterVec
	recalls    *prometheus.CounterVec
	forgotten  *prometheus.CounterVec

	device    *prometheus.GaugeVec
	fallbacks *prometheus.CounterVec

	told sync.Map // what was forgotten and logged, by topic and name
}

func newObserver(log *slog.Logger) *observer {
	o := &observer{log: log, registry: prometheus.NewRegistry()}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "taster", Name: name, Help: help}, labels)
		o.registry.MustRegister(v)
		return v
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "taster", Name: name, Help: help}, labels)
		o.registry.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "taster", Name: name, Help: help, Buckets: buckets}, labels)
		o.registry.MustRegister(v)
		return v
	}
	seconds := prometheus.ExponentialBuckets(0.001, 2, 16)
	o.records = counter("records_total", "Records committed, by verdict.", "topic", "verdict")
	o.bytes = counter("bytes_total", "Bytes of keys and values committed.", "topic")
	o.reasons = counter("reasons_total", "Records that were not accepted, or were changed, by reason code.", "topic", "code")
	o.segments = histogram("segment_records", "Records in a segment.", prometheus.ExponentialBuckets(1, 4, 10), "topic")
	o.stages = histogram("stage_seconds", "Time that a segment spent in a stage: build, score or land.", seconds, "topic", "stage")
	o.latency = histogram("latency_seconds", "From the broker's timestamp of a segment's oldest record to its commit.", prometheus.ExponentialBuckets(0.1, 2, 14), "topic")
	o.risk = gauge("segment_risk", "Risk of the newest segment.", "topic", "partition")
	o.lag = gauge("lag_records", "Offsets between the end of the partition and what was taken in.", "topic", "partition")
	o.retries = counter("retries_total", "Attempts that failed and are repeated, by step (commit, manifest, audit, publish, reload, state) and by what failed (keys, storage, kafka).", "topic", "step", "cause")
	o.lost = counter("lost_commits_total", "Segments that another writer committed first.", "topic")
	o.keyCalls = histogram("key_call_seconds", "Calls of key services, by operation (wrap, unwrap) and result (ok, failed).", seconds, "op", "result")
	o.state = gauge("state_bytes", "What a partition has taught so far, as of its newest segment.", "topic", "partition")
	o.others = gauge("other_states", "States of the topic's other sources by which segments are judged.", "topic")
	o.unreadable = counter("states_unreadable_total", "States that can never be read again, by whose they are (own, other). What they held is forgotten.", "topic", "of")
	o.recalls = counter("recalls_total", "Recalls of accepted records that were committed, by reason code.", "topic", "code")
	o.forgotten = counter("forgotten_total", "Segments that were judged without a part of a state, which another version wrote, by detector/version.", "topic", "what")
	o.device = gauge("accelerator", "1 for the device that does matrix work; none while the CPU does.", "device")
	o.fallbacks = counter("accelerator_fallbacks_total", "Questions that the CPU answered because the device could not, by cause (lost, memory).", "cause")
	o.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return o
}

// pipeline takes the pipeline's events.
func (o *observer) pipeline(event pipeline.Event) {
	switch e := event.(type) {
	case pipeline.Scored:
		o.stages.WithLabelValues(e.Source.Topic, "build").Observe(e.Built.Seconds())
		o.stages.WithLabelValues(e.Source.Topic, "score").Observe(e.Took.Seconds())
	case pipeline.Landed:
		topic := e.Source.Topic
		total := 0
		for _, v := range finding.Verdicts {
			o.records.WithLabelValues(topic, v.String()).Add(float64(e.Verdicts[v]))
			total += e.Verdicts[v]
		}
		for code, n := range e.Reasons {
			o.reasons.WithLabelValues(topic, string(code)).Add(float64(n))
		}
		o.bytes.WithLabelValues(topic).Add(float64(e.Bytes))
		o.segments.WithLabelValues(topic).Observe(float64(total))
		o.stages.WithLabelValues(topic, "land").Observe(e.Took.Seconds())
		o.risk.WithLabelValues(topic, strconv.Itoa(int(e.Source.Partition))).Set(e.Risk)
		o.state.WithLabelValues(topic, strconv.Itoa(int(e.Source.Partition))).Set(float64(e.State))
		recalled := 0
		for code, n := range e.Recalls {
			o.recalls.WithLabelValues(topic, string(code)).Add(float64(n))
			recalled += n
		}
		if recalled > 0 {
			o.log.Warn("records that were accepted are recalled; taster report --recalls lists them", "topic", topic, "partition", e.Source.Partition, "first", e.First, "recalls", recalled)
		}
		for _, what := range e.Forgotten {
			o.forgotten.WithLabelValues(topic, what).Inc()
			if _, again := o.told.LoadOrStore(topic+"\x00"+what, true); !again {
				o.log.Warn("what another version of a detector has learned cannot be read; records are judged without it", "topic", topic, "detector", what)
			}
		}
		if e.Oldest > 0 {
			o.latency.WithLabelValues(topic).Observe(time.Since(time.UnixMilli(e.Oldest)).Seconds())
		}
		o.log.Info("segment committed", "topic", topic, "partition", e.Source.Partition, "first", e.First, "next", e.Next,
			"accepted", e.Verdicts[finding.Accepted], "quarantined", e.Verdicts[finding.Quarantined], "rejected", e.Verdicts[finding.Rejected],
			"risk", e.Risk, "took", e.Took.Round(time.Millisecond))
	case pipeline.Lost:
		o.lost.WithLabelValues(e.Source.Topic).Inc()
		o.log.Warn("another writer committed these offsets first; going on behind it", "topic", e.Source.Topic, "partition", e.Source.Partition, "first", e.First, "next", e.Next)
	case pipeline.Retrying:
		o.retries.WithLabelValues(e.Source.Topic, e.Step, causeOf(e.Step, e.Err)).Inc()
		o.log.Error("a step failed and is repeated; nothing is lost meanwhile", "step", e.Step, "topic", e.Source.Topic, "partition", e.Source.Partition, "attempt", e.Attempt, "error", e.Err)
	case pipeline.HintFailed:
		o.log.Warn("the group's offset could not be committed; it is only a hint", "topic", e.Source.Topic, "partition", e.Source.Partition, "error", e.Err)
	}
}

// serve answers /metrics, /healthz and /readyz on address until stop is called. It returns once the address is bound.
func (o *observer) serve(address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !o.ready.Load() {
			http.Error(w, "not consuming", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			o.log.Error("the metrics listener ended", "error", err)
		}
	}()
	o.log.Info("listening", "address", listener.Addr().String())
	return func() { _ = server.Close() }, nil
}

func (o *observer) setLag(src record.Source, lag int64) {
	o.lag.WithLabelValues(src.Topic, strconv.Itoa(int(src.Partition))).Set(float64(lag))
}

func (o *observer) stateLost(topic, name string, own bool, err error) {
	whose := "other"
	if own {
		whose = "own"
	}
	o.unreadable.WithLabelValues(topic, whose).Inc()
	o.log.Error("what was learned cannot be read any more and is forgotten; records are judged without it", "topic", topic, "state", name, "of", whose, "error", err)
}

func (o *observer) othersAway(topic string, err error) {
	o.log.Warn("what other sources have taught cannot be read for now; going on with what is known", "topic", topic, "error", err)
}

func (o *observer) othersKnown(topic string, known, left int) {
	o.others.WithLabelValues(topic).Set(float64(known))
	if left > 0 {
		o.log.Debug("there are states of more sources than are taken; the newest are", "topic", topic, "taken", known, "left", left)
	}
}

func (o *observer) storeFailed(manifest string, attempt int, err error) {
	o.retries.WithLabelValues("", "manifest", causeOf("manifest", err)).Inc()
	o.log.Error("it is not known whether a commit succeeded; trying until it is", "manifest", manifest, "attempt", attempt, "error", err)
}

func (o *observer) keyCalled(op string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	o.keyCalls.WithLabelValues(op, result).Observe(took.Seconds())
}

func (o *observer) keysAway(masterKeyID string, attempt int, wait time.Duration, err error) {
	o.retries.WithLabelValues("", "keys", "keys").Inc()
	o.log.Error("the key service does not answer; nothing is lost meanwhile", "key", masterKeyID, "attempt", attempt, "wait", wait.Round(time.Millisecond), "error", err)
}

// keyFaults are what can be wrong with keys and key services.
var keyFaults = []error{
	envelope.ErrNoKey, envelope.ErrWrongKey, envelope.ErrConfig, envelope.ErrDenied, envelope.ErrDisabled, envelope.ErrExternal, envelope.ErrUnavailable,
}

// causeOf says what is to be looked at when a step failed.
func causeOf(step string, err error) string {
	switch {
	case slices.ContainsFunc(keyFaults, func(fault error) bool { return errors.Is(err, fault) }):
		return "keys"
	case step == "publish":
		return "kafka"
	}
	return "storage"
}
