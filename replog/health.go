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
// a time. It is the control plane that decides, and chooses where. A learner that
// is away for as long is given up, so that another one can be tried. It takes no
// longer than the limit, for the lease has to be renewed.
func (w *Writer) reportHealth(ctx context.Context, limit time.Duration) {
	w.mu.Lock()
	status, forced := w.core.Status(), w.core.Forced()
	_, busy := w.core.Replacing()
	ready := w.core.Phase() == core.Open || forced && w.core.Phase() == core.Aligning
	g := w.grant
	w.mu.Unlock()
	worst, learner := w.health.look(status, w.opts.ReplaceLag*float64(g.Capacity))
	if !ready {
		return
	}
	call, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	switch {
	case busy && w.health.overdue(learner, w.opts.ReplaceAfter):
		w.abandon(call, g, learner)
	case !busy && (forced && lost(worst) || w.health.overdue(worst, w.opts.ReplaceAfter)):
		w.askForReplacement(call, g, worst)
	}
}

// lost says whether a replica of a log whose loss was accepted is one of those
// that the log goes on without. One that answers is not: it may be the one that
// all others are filled from, and is about to be sealed.
func lost(s *core.ReplicaStatus) bool { return s != nil && s.Stage == "away" }

// overdue says whether something is to be done about a replica now: never if
// after is negative.
func (h *health) overdue(s *core.ReplicaStatus, after time.Duration) bool {
	return s != nil && after >= 0 && time.Since(h.since[s.ID]) >= after
}

// mayAsk keeps requests apart.
func (h *health) mayAsk() bool {
	if time.Since(h.asked) < askAgain {
		return false
	}
	h.asked = time.Now()
	return true
}

func (w *Writer) askForReplacement(ctx context.Context, g Grant, s *core.ReplicaStatus) {
	if !w.health.mayAsk() {
		return
	}
	unwell := time.Since(w.health.since[s.ID]).Round(time.Second)
	if err := w.control.Replace(ctx, g, s.ID); err != nil {
		w.opts.Log.Warn("a replica should be replaced, and is not", "log", g.Name, "replica", s.ID,
			"unwell_for", unwell, "stage", s.Stage, "lag_bytes", s.Lag, "err", err)
		return
	}
	w.opts.Log.Info("asked for a replacement", "log", g.Name, "replica", s.ID, "unwell_for", unwell)
	wakeUp(w.renewNow)
}

func (w *Writer) abandon(ctx context.Context, g Grant, s *core.ReplicaStatus) {
	if !w.health.mayAsk() {
		return
	}
	if err := w.control.Abandon(ctx, g, s.ID); err != nil {
		w.opts.Log.Warn("a learner that is away should be given up, and is not", "log", g.Name, "learner", s.ID, "err", err)
		return
	}
	w.opts.Log.Info("gave a learner up that was away", "log", g.Name, "learner", s.ID, "why", s.Reason)
	w.event(func(c *core.Core) { c.Abandoned(s.ID) })
}

// look takes note of how the replicas are, and returns the one of the set that
// has been unwell for longest, or nil, and the learner if that is away.
func (h *health) look(status []core.ReplicaStatus, lag float64) (worst, learner *core.ReplicaStatus) {
	now := time.Now()
	since := make(map[format.ID]time.Time, len(status))
	for i := range status {
		s := &status[i]
		if well := s.Counts && float64(s.Lag) <= lag || s.State == core.Learner && s.Stage != "away"; well {
			continue
		}
		begun, known := h.since[s.ID]
		if !known {
			begun = now
		}
		since[s.ID] = begun
		switch {
		case s.State == core.Learner:
			learner = s
		case worst == nil || begun.Before(since[worst.ID]):
			worst = s
		}
	}
	h.since = since
	return worst, learner
}
