package planner

import "fmt"

// ends are the running operators that have come to nothing, or have no reason
// any more. Those whose replica has its place end in that very transaction.
func (r *round) ends() []End {
	var out []End
	for i := range r.v.Operators {
		o := &r.v.Operators[i]
		if o.State != Running {
			continue
		}
		e := End{ID: o.ID}
		switch o.Kind {
		case Replace, Drain:
			e.State, e.Why = r.endOfReplacement(o)
		case Recover:
			e.State, e.Why = r.endOfRecovery(o)
		case Scrub:
			e.State, e.Why = r.endOfScrub(o)
		}
		if e.State != "" {
			out = append(out, e)
		}
	}
	return out
}

func (r *round) endOfReplacement(o *Operator) (State, string) {
	l := r.logs[o.LogID]
	if l == nil {
		return Cancelled, "the log was deleted"
	}
	learner, old := l.replica(o.LearnerID), l.replica(o.ReplicaID)
	switch {
	case learner == nil:
		return Failed, "the new replica is not the log's any more"
	case !learner.Learner || old == nil:
		return Done, ""
	}
	stuck := r.stuck(fmt.Sprintf("%s/%d/%d", o.LearnerID, learner.Epoch, learner.DurableLSN))
	d := r.daemons[o.To]
	switch {
	case d == nil:
		return Failed, "the new replica's daemon was given up"
	case d.Draining:
		return Failed, "the new replica's daemon drains"
	case o.Reason == Draining && r.daemons[old.DaemonID] != nil && !r.daemons[old.DaemonID].Draining:
		return Cancelled, "the daemon does not drain any more"
	case o.Reason == Down && r.here(old):
		return Cancelled, "the replica's daemon is back"
	case stuck:
		return Failed, fmt.Sprintf("no progress for %v", r.limits.Timeout)
	}
	return "", ""
}

// stuck says whether an operator has stayed where it is for too long. It is asked
// in every plan, so that the time runs while there is another reason to end it.
func (r *round) stuck(at string) bool { return r.sights.held("stuck/"+at) >= r.limits.Timeout }

func attempt(o *Operator) string { return fmt.Sprintf("%s/%d", o.ID, o.Attempts) }

func (r *round) endOfRecovery(o *Operator) (State, string) {
	l, stuck := r.logs[o.LogID], r.stuck(attempt(o))
	switch {
	case l == nil:
		return Cancelled, "the log was deleted"
	case l.Written:
		return Done, "a writer has the log"
	case !r.differs(l):
		return Done, ""
	}
	if d := r.daemons[o.DaemonID]; d == nil || !d.Up {
		return Failed, "the daemon that was to recover the log is down"
	}
	if stuck {
		return Failed, fmt.Sprintf("not done within %v", r.limits.Timeout)
	}
	return "", ""
}

// scrubPatience is for how long a scrub may go on if no interval says when the next one
// is due: at an agent's usual rate, 64 MiB/s, it has read 5 TiB by then.
const scrubPatience = 24 * Hour

func (r *round) endOfScrub(o *Operator) (State, string) {
	limit := r.limits.ScrubEvery // a scrub is slow, and tells nothing on its way
	if limit <= 0 {              // no more are asked for since it was begun
		limit = scrubPatience
	}
	limit = max(limit, r.limits.Timeout)
	scrubbed := r.sights.held("scrubbed/" + attempt(o))
	switch d := r.daemons[o.DaemonID]; {
	case d == nil:
		return Cancelled, "the daemon was removed"
	case !d.Up:
		return Failed, "the daemon is down"
	case scrubbed >= limit:
		return Failed, fmt.Sprintf("not done within %v", limit)
	}
	return "", ""
}
