package agent

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gravenio/graven/rdmaio"
)

// metrics count what the agent does. What is counted for each write or flush is
// a plain integer that is only looked at when somebody asks.
type metrics struct {
	sessions atomic.Int64
	written  atomic.Uint64 // bytes
	flushes  atomic.Uint64
	lease    atomic.Bool

	badBlocks uint64 // bytes; never changes

	syncs            prometheus.Histogram
	fences           prometheus.Counter
	renewals         prometheus.Counter
	renewalFailures  prometheus.Counter
	registerFailures prometheus.Counter
	refusals         *prometheus.CounterVec
	recoveries       prometheus.Counter
	recovered        *prometheus.CounterVec
}

// The outcomes of a recovery.
const (
	recoveryDone    = "done"    // or there was nothing to do any more
	recoveryYielded = "yielded" // to a writer, or to the end of the agent
	recoveryFailed  = "failed"
)

// reasons are the labels of refused Hellos by kind of error; read-only.
var reasons = []struct {
	kind   error
	reason string
}{
	{rdmaio.ErrGrant, "grant"},
	{rdmaio.ErrFenced, "fenced"},
	{rdmaio.ErrUnknownLog, "unknown-log"},
	{rdmaio.ErrReplicaMissing, "replica-missing"},
	{rdmaio.ErrNoSpace, "no-space"},
	{rdmaio.ErrMedium, "medium"},
	{rdmaio.ErrLost, "leaving"},
}

func (m *metrics) refused(err error) {
	for _, row := range reasons {
		if errors.Is(err, row.kind) {
			m.refusals.WithLabelValues(row.reason).Inc()
			return
		}
	}
	m.refusals.WithLabelValues("other").Inc()
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: "graven_agent_" + name, Help: help})
}

func newMetrics() *metrics {
	return &metrics{
		syncs: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "graven_agent_sync_seconds", Help: "Time that a sync of the medium took; its count is the number of syncs.",
			Buckets: prometheus.ExponentialBuckets(10e-6, 2, 20), // 10 us to 5 s
		}),
		fences:           counter("fences_total", "Replicas fenced."),
		renewals:         counter("renewals_total", "Heartbeats that the control plane answered."),
		renewalFailures:  counter("renewal_failures_total", "Heartbeats without an answer."),
		registerFailures: counter("register_failures_total", "Registrations without success."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "graven_agent_refused_hellos_total", Help: "Sessions refused, by reason.",
		}, []string{"reason"}),
		recoveries: counter("recoveries_started_total", "Recoveries of a log without a writer that were begun."),
		recovered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "graven_agent_recoveries_ended_total", Help: "Recoveries that have ended, by outcome: done, yielded (to a writer, or to the end of the agent) or failed.",
		}, []string{"outcome"}),
	}
}

// register gives the metrics to a registry. It needs the agent's pool.
func (m *metrics) register(a *Agent) error {
	number := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_agent_" + name, Help: help}, f)
	}
	total := func(name, help string, v *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "graven_agent_" + name, Help: help},
			func() float64 { return float64(v.Load()) })
	}
	all := []prometheus.Collector{
		m.syncs, m.fences, m.renewals, m.renewalFailures, m.registerFailures, m.refusals, m.recoveries, m.recovered,
		total("written_bytes_total", "Bytes written into replicas.", &m.written),
		total("flushes_total", "Flushes acknowledged.", &m.flushes),
		number("sessions", "Sessions open.", func() float64 { return float64(m.sessions.Load()) }),
		number("lease", "1 while the control plane has registered the daemon.", func() float64 { return truth(m.lease.Load()) }),
		number("recovering", "1 while a log without a writer is being recovered.", func() float64 { return truth(a.lane.busy()) }),
		number("free_bytes", "Room in the pool.", func() float64 { return float64(free(a.pool.Free())) }),
		number("capacity_bytes", "Room in the pool when it is empty.", func() float64 { return float64(a.pool.Free().Total) }),
		number("replicas", "Replicas in the pool.", func() float64 { return float64(len(a.pool.Replicas())) }),
		number("damaged_replicas", "Replicas that are known to be damaged.", func() float64 { return float64(a.damaged()) }),
		number("bad_block_bytes", "Bytes that the kernel knew to be bad on the device under the pool when the agent was started.", func() float64 { return float64(m.badBlocks) }),
		total("scrub_read_bytes_total", "Bytes read by scrubs.", &a.scrubs.bytes),
		total("scrub_records_total", "Records that scrubs have found good.", &a.scrubs.records),
		total("scrub_runs_total", "Scrubs of the whole pool that have ended.", &a.scrubs.runs),
		total("scrub_damage_total", "Damaged replicas, headers and copies of the pool's structures that scrubs have found, each time.", &a.scrubs.damage),
		total("scrub_healed_total", "Headers and copies of the pool's structures that scrubs have rewritten.", &a.scrubs.healed),
		number("scrub_age_seconds", "Time since a scrub of the whole pool has ended, or since the agent was started.", func() float64 { return a.scrubs.age().Seconds() }),
		number("read_only", "1 when the medium has failed.", func() float64 { return truth(a.pool.Failure() != nil) }),
	}
	if expires := a.opts.CertificateExpires; expires != nil {
		all = append(all, number("certificate_expires_timestamp_seconds", "When this daemon's certificate expires, in seconds since 1970.",
			func() float64 { return float64(expires().Unix()) }))
	}
	for _, c := range all {
		if err := a.opts.Registry.Register(c); err != nil {
			return fmt.Errorf("agent: Registry: %w", err)
		}
	}
	return nil
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
