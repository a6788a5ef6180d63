package server

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gravenio/graven/store"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the server's own and those of its view.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge

	audits    *prometheus.CounterVec
	unaudited prometheus.Counter
}

func newMetrics(reg *prometheus.Registry, st *store.Store) (*metrics, error) {
	m := &metrics{
		registry: reg,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "graven_http_requests_total",
			Help: "Requests answered, by the contract's path, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "graven_http_request_seconds",
			Help:    "Time to answer a request; event streams are not counted.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}, []string{"route", "method"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "graven_event_streams",
			Help: "Event streams that are open.",
		}),
		audits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "graven_audit_records_total",
			Help: "Records of the audit log, by the contract's operation and outcome.",
		}, []string{"operation", "outcome"}),
		unaudited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "graven_audit_refusals_left_out_total",
			Help: "Refusals that got no record of their own because one host had too many.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.streams, m.audits, m.unaudited, newViewCollector(st), collectors.NewGoCollector()} {
		if err := reg.Register(c); err != nil && !is[prometheus.AlreadyRegisteredError](err) {
			return nil, fmt.Errorf("server: register metrics: %w", err)
		}
	}
	return m, nil
}

// watchCertificate shows when the server's own certificate must have been renewed.
func (s *Server) watchCertificate(reg *prometheus.Registry) error {
	if s.o.Identities == nil || s.o.Identities.TLS == nil {
		return nil
	}
	expires := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "graven_certificate_expires_timestamp_seconds",
		Help: "When this server's certificate expires, in seconds since 1970.",
	}, func() float64 { return float64(s.o.Identities.TLS.Expiry().At.Unix()) })
	if err := reg.Register(expires); err != nil && !is[prometheus.AlreadyRegisteredError](err) {
		return fmt.Errorf("server: register metrics: %w", err)
	}
	return nil
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// observe keeps the number of series bounded: a path or method that the
// contract does not have shares one.
func (m *metrics) observe(method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete:
	default:
		method = "other"
	}
	if route == "" {
		route = "none"
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if route != eventsPath {
		m.seconds.WithLabelValues(route, method).Observe(took.Seconds())
	}
}

// viewCollector counts what the view holds, when it is asked.
type viewCollector struct {
	store                        *store.Store
	lag, revision, daemons, logs *prometheus.Desc
	operators, paused, braked    *prometheus.Desc
	journal, coalesced, trimmed  *prometheus.Desc
}

func newViewCollector(st *store.Store) *viewCollector {
	return &viewCollector{
		store:    st,
		lag:      prometheus.NewDesc("graven_view_lag_seconds", "How old the view may be.", nil, nil),
		revision: prometheus.NewDesc("graven_view_revision", "Revision of the view.", nil, nil),
		daemons:  prometheus.NewDesc("graven_daemons", "Daemons by state.", []string{"state"}, nil),
		logs:     prometheus.NewDesc("graven_logs", "Logs by state.", []string{"state"}, nil),

		operators: prometheus.NewDesc("graven_operators", "Operators that are listed, by kind and state.", []string{"kind", "state"}, nil),
		paused:    prometheus.NewDesc("graven_operators_paused", "1 while a person has paused the operators.", nil, nil),
		braked:    prometheus.NewDesc("graven_operators_braked", "1 while too many daemons are down for operators to begin.", nil, nil),
		journal:   prometheus.NewDesc("graven_journal_entries", "Entries of the journal that are kept, by kind.", []string{"kind"}, nil),
		coalesced: prometheus.NewDesc("graven_journal_refusals_coalesced_total",
			"Refusals that were counted into another one's entry, by this server.", nil, nil),
		trimmed: prometheus.NewDesc("graven_journal_trimmed_total",
			"Entries that this server removed because there were too many of their sort.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *viewCollector) Describe(out chan<- *prometheus.Desc) {
	out <- c.lag
	out <- c.revision
	out <- c.daemons
	out <- c.logs
	out <- c.operators
	out <- c.paused
	out <- c.braked
	out <- c.journal
	out <- c.coalesced
	out <- c.trimmed
}

// Collect implements prometheus.Collector.
func (c *viewCollector) Collect(out chan<- prometheus.Metric) {
	view := c.store.View()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(c.lag, view.Lag().Seconds())
	gauge(c.revision, float64(view.Revision()))
	ds, _ := view.Daemons()
	for state, n := range countDaemons(ds) {
		gauge(c.daemons, float64(n), string(state))
	}
	ls, _ := view.Logs()
	for state, n := range countLogs(ls) {
		gauge(c.logs, float64(n), string(state))
	}
	type row struct{ kind, state string }
	rows := make(map[row]int)
	ops, _ := view.Operators()
	for i := range ops {
		rows[row{string(ops[i].Kind), string(ops[i].State)}]++
	}
	for r, n := range rows {
		gauge(c.operators, float64(n), r.kind, r.state)
	}
	set, _ := view.OperatorSettings()
	gauge(c.paused, oneIf(set.Paused))
	gauge(c.braked, oneIf(view.Brake() != ""))
	for kind, n := range view.JournalCounts() {
		gauge(c.journal, float64(n), string(kind))
	}
	stats := c.store.JournalStats()
	out <- prometheus.MustNewConstMetric(c.coalesced, prometheus.CounterValue, float64(stats.Coalesced))
	out <- prometheus.MustNewConstMetric(c.trimmed, prometheus.CounterValue, float64(stats.Trimmed))
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
