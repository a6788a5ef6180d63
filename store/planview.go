package store

import (
	"cmp"
	"maps"
	"slices"

	"github.com/gravenio/graven/placement"
	"github.com/gravenio/graven/planner"
)

// Brake says why no operators are begun although they are not paused, or is "".
func (v *View) Brake() string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return planner.Brake(v.t.planDaemons(), v.t.planner.Limits.planner(0))
}

// planView is the planner's picture.
func (t *tables) planView() *planner.View {
	v := &planner.View{Daemons: t.planDaemons()}
	for _, id := range slices.Sorted(maps.Keys(t.logs)) {
		v.Logs = append(v.Logs, t.planLog(id, t.logs[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(t.operators)) {
		o := t.operators[id].rec
		v.Operators = append(v.Operators, planner.Operator{
			ID: id, Kind: o.Kind, Reason: o.Reason, State: o.State, LogID: o.LogID, ReplicaID: o.ReplicaID, DaemonID: o.DaemonID,
			To: o.To, LearnerID: o.LearnerID, WaitsFor: o.WaitsFor, Attempts: o.Attempts,
		})
	}
	return v
}

// operatorMods are the revisions of the operators' records.
func (t *tables) operatorMods() map[string]int64 {
	mods := make(map[string]int64, len(t.operators))
	for id, o := range t.operators {
		mods[id] = o.mod
	}
	return mods
}

func (t *tables) planDaemons() []planner.Daemon {
	out := make([]planner.Daemon, 0, len(t.daemons))
	for id, d := range t.daemons {
		if d.known() {
			out = append(out, planner.Daemon{
				Daemon: d.placeable(id), Holds: len(d.replicas) > 0, Session: d.session,
			})
		}
	}
	slices.SortFunc(out, func(a, b planner.Daemon) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func (t *tables) planLog(id string, l *logRow) planner.Log {
	rec := l.rec
	out := planner.Log{
		ID: id, AckQuorum: rec.AckQuorum, ReplicaBytes: rec.ReplicaBytes,
		FailureDomain: placement.FailureDomain(rec.Placement.FailureDomain), Transport: rec.Placement.Transport,
		Media: rec.Placement.Media, Labels: rec.Placement.Labels,
		Written:  l.writer != nil && !l.writer.rec.Recovering,
		Vanished: rec.Epoch > 0 && rec.ClosedEpoch != rec.Epoch && (l.writer == nil || l.writer.rec.Recovering),
	}
	for _, r := range rec.Replicas {
		shown := t.replica(r)
		p := planner.Replica{
			ID: r.ReplicaID, DaemonID: r.DaemonID, Learner: r.State == ReplicaLearner, Operator: r.Operator, Missing: shown.Missing,
		}
		if s := shown.Reported; s != nil {
			p.Reported, p.Suspect, p.Epoch, p.DurableLSN = true, s.Suspect, s.Epoch, s.DurableLSN
		}
		out.Replicas = append(out.Replicas, p)
	}
	return out
}
