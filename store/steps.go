package store

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Bounds of one heartbeat's answer; what is over them comes once these are
// done. They are handed out in the replicas' order.
const (
	stepsPerAnswer      = 32
	recoveriesPerAnswer = 16
)

// steps are what the daemon shall do next. They follow from the records alone:
// nothing is written when one is handed out.
func (t *tables) steps(daemonID string, recoverAfter time.Duration) []Step {
	d := t.daemons[daemonID]
	if d == nil {
		return nil
	}
	return append(append(d.removals(), t.recoveries(d, recoverAfter)...), t.tasks(d, recoverAfter)...)
}

func (d *daemonRow) removals() []Step {
	ids := slices.Sorted(maps.Keys(d.condemned))
	if len(ids) > stepsPerAnswer {
		ids = ids[:stepsPerAnswer]
	}
	var steps []Step
	for _, id := range ids {
		steps = append(steps, Step{
			OperatorID: removalID(id),
			Kind:       StepRemoveReplica,
			LogID:      d.condemned[id].LogID,
			ReplicaID:  id,
			SetVersion: d.condemned[id].SetVersion,
		})
	}
	return steps
}

// recoveries are the logs that have a learner here and no writer to fill it. An
// agent that recovers does not count as one: it may be this daemon's own, and
// an open refuses a second one anyway. Which come first is left to chance, so
// that those that can't be opened don't keep the others waiting.
func (t *tables) recoveries(d *daemonRow, after time.Duration) []Step {
	ids := slices.Sorted(maps.Keys(d.learners))
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	var steps []Step
	for _, id := range ids {
		logID := d.learners[id]
		if len(steps) == recoveriesPerAnswer {
			break
		}
		if t.recoverable(t.logs[logID], after) {
			learner := t.logs[logID].rec.replica(id)
			steps = append(steps, Step{OperatorID: learner.operatorID(logID), Kind: StepRecoverLog, LogID: logID, ReplicaID: id})
		}
	}
	return steps
}

// recoverable says whether nobody can be expected to write the log. A writer
// that is cut off from the control plane loses its lease and goes on writing: it
// is given time to come back, since a recovery would fence it. That time is this
// server's own; it begins anew with its view.
func (t *tables) recoverable(l *logRow, after time.Duration) bool {
	switch {
	case l.writer != nil:
		return l.writer.rec.Recovering
	case l.rec.Epoch == 0 || l.rec.ClosedEpoch == l.rec.Epoch:
		return true
	case l.rec.Writer != nil && l.rec.Writer.Recovering:
		return true
	}
	return time.Since(latest(l.lost, t.made)) >= after
}
