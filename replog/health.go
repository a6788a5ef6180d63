package replog

import (
	"context"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// health remembers since when replicas have been away or behind. It belongs to
// the goroutine that renews, and forgets a replica that is well or gone, so it
// is never larger than the set.
type health struct {
	since map[format.ID]time.Time
	asked time.Time // when a replacement was asked for last
}

// askAgain is the least time between two requests for a replacement.
const askAgain = 5 * time.Second

// reportHealth asks the control plane to replace a replica that has been away,
// or far behind, for too long: the one that has been so for longest, and one at
// a time. It is the control plane that decides, and chooses where.
func (w *Writer) reportHealth(ctx context.Context) {
	w.mu.Lock()
	status, forced := w.core.Status(), w.core.Forced()
	_, busy := w.core.Replacing()
	ready := w.core.Phase() == core.Open || forced && w.core.Phase() == core.Aligning
	g := w.grant
	w.mu.Unlock()
	worst := w.health.look(status, w.opts.ReplaceLag*float64(g.Capacity))
	if worst == nil || busy || !ready || w.opts.ReplaceAfter < 0 && !forced {
		return
	}
	since := time.Since(w.health.since[worst.ID])
	if since < w.opts.ReplaceAfter && !forced || time.Since(w.health.asked) < askAgain {
		return
	}
	w.health.asked = time.Now()
	call, cancel := context.WithTimeout(ctx, w.opts.DialTimeout)
	defer cancel()
	if err := w.control.Replace(call, g, worst.ID); err != nil {
		w.opts.Log.Warn("a replica should be replaced, and is not", "log", g.Name, "replica", worst.ID,
			"unwell_for", since.Round(time.Second), "stage", worst.Stage, "lag_bytes", worst.Lag, "err", err)
		return
	}
	w.opts.Log.Info("asked for a replacement", "log", g.Name, "replica", worst.ID, "unwell_for", since.Round(time.Second))
	wakeUp(w.renewNow)
}

// look takes note of how the replicas of the set are, and returns the one that
// has been unwell for longest, or nil.
func (h *health) look(status []core.ReplicaStatus, lag float64) *core.ReplicaStatus {
	now := time.Now()
	since := make(map[format.ID]time.Time, len(status))
	var worst *core.ReplicaStatus
	for i := range status {
		s := &status[i]
		if s.State == core.Learner || s.Counts && float64(s.Lag) <= lag {
			continue
		}
		begun, known := h.since[s.ID]
		if !known {
			begun = now
		}
		since[s.ID] = begun
		if worst == nil || begun.Before(since[worst.ID]) {
			worst = s
		}
	}
	h.since = since
	return worst
}
