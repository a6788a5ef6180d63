package planner

import (
	"fmt"
	"slices"

	"github.com/gravenio/graven/placement"
)

// Urgencies, the most urgent first.
const (
	urgentGone   = iota // a copy is lacking
	urgentRepair        // copies differ
	urgentUnfit         // a copy takes no writes
	urgentDomain        // copies may fail together
	urgentDrain
	urgentScrub
	urgentNever // and what comes after it
)

// urgency of a replacement.
func (r Reason) urgency() int {
	switch r {
	case Lost, Missing, Damaged, Down:
		return urgentGone
	case ReadOnly:
		return urgentUnfit
	case FailureDomain:
		return urgentDomain
	}
	return urgentDrain
}

// wantsForLog are the steps that a log needs, if none is under way. While one is,
// times run all the same, but that of a recovery: what works on a log without a
// writer opens it, and so repairs it.
func (r *round) wantsForLog(l *Log) []want {
	var ws []want
	for i := range l.Replicas {
		if w, ok := r.wantReplacement(l, &l.Replicas[i]); ok {
			ws = append(ws, w)
		}
	}
	if r.room.logs[l.ID] {
		return nil
	}
	if w, ok := r.wantRecovery(l); ok {
		ws = append(ws, w)
	}
	ws = slices.DeleteFunc(ws, func(w want) bool { return r.resting(w.ID) })
	for i := range ws {
		ws[i].log, ws[i].spare = l, r.readable(l)-l.needed()
	}
	return ws
}

// order is the step's place: what could not come to its end is last.
func (w *want) order() int {
	if w.lacks != "" {
		return urgentNever + w.urgent
	}
	return w.urgent
}

// wantReplacement is the step for a replica that is to be replaced.
func (r *round) wantReplacement(l *Log, rep *Replica) (want, bool) {
	if rep.Learner {
		return want{}, false
	}
	reason := r.reason(l, rep)
	if reason == "" {
		return want{}, false
	}
	kind := Replace
	if reason == Draining {
		kind = Drain
	}
	return want{Step: Step{
		ID: string(kind) + "-" + rep.ID, Kind: kind, Reason: reason, LogID: l.ID, ReplicaID: rep.ID, DaemonID: rep.DaemonID,
	}, urgent: reason.urgency(), lacks: r.lacks(l, rep)}, true
}

// reason is why the replica is to be replaced, or "". All times run, whichever
// reason comes first.
func (r *round) reason(l *Log, rep *Replica) Reason {
	d := r.daemons[rep.DaemonID]
	if d == nil {
		return Lost
	}
	down := !d.Up && r.brake == "" && r.after(fmt.Sprintf("down/%s/%d", d.ID, d.Session))
	damaged := d.Up && rep.Suspect && r.after("suspect/"+rep.ID)
	readOnly := d.Up && d.ReadOnly && r.after("read-only/"+d.ID)
	shares := r.shares(l, rep) && r.after("domain/"+rep.ID)
	switch {
	case down:
		return Down
	case !d.Up && d.Draining:
		return Draining
	case !d.Up:
		return ""
	case rep.Missing:
		return Missing
	case damaged:
		return Damaged
	case readOnly:
		return ReadOnly
	case d.Draining:
		return Draining
	case shares:
		return FailureDomain
	}
	return ""
}

// after says whether a condition that holds has done so for the grace time.
func (r *round) after(condition string) bool { return r.sights.held(condition) >= r.limits.Grace }

// shares says whether a replica before this one is in the same failure domain:
// of two that share one, one stays.
func (r *round) shares(l *Log, rep *Replica) bool {
	d := r.daemons[rep.DaemonID]
	for i := range l.Replicas {
		other := &l.Replicas[i]
		if other.ID == rep.ID {
			return false
		}
		if o := r.daemons[other.DaemonID]; o != nil && !other.Learner && placement.Share(&d.Daemon, &o.Daemon, l.FailureDomain) {
			return true
		}
	}
	return false
}

// wantRecovery is the step for a log that nobody writes and whose replicas do
// not agree.
func (r *round) wantRecovery(l *Log) (want, bool) {
	if l.Written || !r.differs(l) || r.sights.held("differs/"+l.ID) < r.limits.RecoverAfter {
		return want{}, false
	}
	w := want{Step: Step{ID: string(Recover) + "-" + l.ID, Kind: Recover, Reason: NoWriter, LogID: l.ID}, urgent: urgentRepair, lacks: r.lacks(l, nil)}
	r.assign(l, &w.Step)
	return w, true
}

// assign gives a recovery to a daemon.
func (r *round) assign(l *Log, s *Step) {
	rep := r.worker(l)
	s.ReplicaID, s.DaemonID = rep.ID, rep.DaemonID
}

// worker is the replica whose daemon is to recover the log: one that takes writes,
// and has room, if there is any. One that differs is here.
func (r *round) worker(l *Log) (found *Replica) {
	for i := range l.Replicas {
		switch rep := &l.Replicas[i]; {
		case r.serves(rep) && !r.room.full(rep.DaemonID):
			return rep
		case r.here(rep) && (found == nil || r.serves(rep) && !r.serves(found)):
			found = rep
		}
	}
	return found
}

// differs says whether an open would repair something: a replica has lost
// something, or the last writer went away while they had not the same.
func (r *round) differs(l *Log) bool {
	var first *Replica
	for i := range l.Replicas {
		rep := &l.Replicas[i]
		d := r.daemons[rep.DaemonID]
		if d == nil || !d.Up || rep.Learner || rep.Missing || !rep.Reported {
			continue
		}
		switch {
		case rep.Suspect:
			return true
		case !l.Vanished:
		case first == nil:
			first = rep
		case rep.Epoch != first.Epoch || rep.DurableLSN != first.DurableLSN:
			return true
		}
	}
	return false
}

func (l *Log) learner() *Replica {
	for i := range l.Replicas {
		if l.Replicas[i].Learner {
			return &l.Replicas[i]
		}
	}
	return nil
}

func (l *Log) replica(id string) *Replica {
	for i := range l.Replicas {
		if l.Replicas[i].ID == id {
			return &l.Replicas[i]
		}
	}
	return nil
}
