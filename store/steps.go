package store

import (
	"maps"
	"slices"
)

// Bounds of one heartbeat's answer; what is over them comes once these are
// done. They are handed out in the replicas' order.
const (
	stepsPerAnswer      = 32
	recoveriesPerAnswer = 16
)

// steps are what the daemon shall do next. They follow from the records alone:
// nothing is written when one is handed out.
func (t *tables) steps(daemonID string) []Step {
	d := t.daemons[daemonID]
	if d == nil {
		return nil
	}
	return append(d.removals(), t.recoveries(d)...)
}

func (d *daemonRow) removals() []Step {
	ids := slices.Sorted(maps.Keys(d.condemned))
	if len(ids) > stepsPerAnswer {
		ids = ids[:stepsPerAnswer]
	}
	var steps []Step
	for _, id := range ids {
		steps = append(steps, Step{
			OperatorID: StepRemoveReplica + "-" + id,
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
// an open refuses a second one anyway.
func (t *tables) recoveries(d *daemonRow) []Step {
	var steps []Step
	for _, id := range slices.Sorted(maps.Keys(d.learners)) {
		logID := d.learners[id]
		if w := t.logs[logID].writer; w != nil && !w.rec.Recovering {
			continue
		}
		if len(steps) == recoveriesPerAnswer {
			break
		}
		steps = append(steps, Step{
			OperatorID: "recover-" + logID, Kind: StepRecoverLog, LogID: logID, ReplicaID: id,
		})
	}
	return steps
}
