package agent

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/gravenio/graven/pmemlog"
)

// slowSync is for how long a sync may run before the daemon calls itself
// degraded.
const slowSync = 2 * time.Second

// observer watches what a medium does.
type observer struct {
	syncs   prometheus.Observer
	begun   time.Time
	running atomic.Int64 // when the sync that runs began, since begun; 0 for none
}

// sync carries out a sync and measures it. The pool has one run at a time.
func (o *observer) sync(m pmemlog.Medium) error {
	start := time.Now()
	o.running.Store(max(1, int64(start.Sub(o.begun))))
	err := m.Sync()
	o.running.Store(0)
	o.syncs.Observe(time.Since(start).Seconds())
	return err
}

// stuck says that a sync has been running for too long.
func (o *observer) stuck() bool {
	at := o.running.Load()
	return at != 0 && time.Since(o.begun)-time.Duration(at) > slowSync
}

// observed is a medium whose syncs are watched.
type observed struct {
	pmemlog.Medium
	*observer
}

// Sync implements [pmemlog.Medium].
func (m observed) Sync() error { return m.sync(m.Medium) }

// DropCache has a scrub read the disk rather than the system's cache, if the
// medium can.
func (m observed) DropCache(off, n int64) {
	if c, ok := m.Medium.(interface{ DropCache(off, n int64) }); ok {
		c.DropCache(off, n)
	}
}

// observedVolatile keeps what a volatile medium can do beside.
type observedVolatile struct {
	*pmemlog.Volatile
	*observer
}

// Sync implements [pmemlog.Medium].
func (m observedVolatile) Sync() error { return m.sync(m.Volatile) }

// watch returns the medium with its syncs watched. Those of persistent memory do
// nothing, so there is nothing to measure.
func (o *observer) watch(m pmemlog.Medium) pmemlog.Medium {
	switch m := m.(type) {
	case *pmemlog.Volatile:
		return observedVolatile{m, o}
	case *pmemlog.PMem:
		return m
	default:
		return observed{m, o}
	}
}
