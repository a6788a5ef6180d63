package planner

// Times that no person needs to change.
const (
	cancelHold = Hour   // a cancelled operator is not planned again
	firstRetry = Minute // after a failure, doubled with each
	lastRetry  = Hour
)

// seeEnded lets the rests of all that has ended run, wanted or not. A rest is over
// when the reason has gone away: when that comes back it is another one.
func (r *round) seeEnded() {
	for i := range r.v.Operators {
		o := &r.v.Operators[i]
		if !o.State.Ended() {
			continue
		}
		r.sights.held("ended/" + attempt(o))
		if over := "over/" + attempt(o); !r.stands(o) || r.sights.had(over) {
			r.sights.held(over)
		}
	}
}

// stands says whether what an operator was for is still so.
func (r *round) stands(o *Operator) bool {
	if o.Kind == Scrub {
		return true
	}
	l := r.logs[o.LogID]
	if l == nil {
		return false
	}
	if o.Kind == Recover {
		return !l.Written && r.differs(l)
	}
	rep := l.replica(o.ReplicaID)
	if rep == nil {
		return false
	}
	d := r.daemons[rep.DaemonID]
	if o.Kind == Drain {
		return d != nil && d.Draining
	}
	return d == nil || !d.Up || d.ReadOnly || rep.Missing || rep.Suspect || r.shares(l, rep)
}

// resting says whether an operator of this ID is under way, or has ended too
// short a time ago to be begun again.
func (r *round) resting(id string) bool {
	o := r.ops[id]
	switch {
	case o == nil || o.State == Planned:
		return false
	case o.State == Running:
		return true
	case r.sights.has("over/" + attempt(o)):
		return false
	}
	held := r.sights.held("ended/" + attempt(o))
	if o.State == Cancelled {
		return held < cancelHold
	}
	return held < min(lastRetry, firstRetry<<min(max(o.Attempts-1, 0), 10))
}
