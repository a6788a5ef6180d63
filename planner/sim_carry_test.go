package planner

// step lets some time go by, plans, holds the plan to what was promised and carries
// it out, as the store does: what has changed meanwhile is left for the next plan.
func (w *world) step() Plan {
	longest := 5 * Minute
	if !w.calm {
		longest = pick(w, 2*Second, Minute, 5*Minute)
	}
	w.now += Duration(w.rnd.Int64N(int64(longest)))
	plan := w.plan()
	for _, e := range plan.Ends {
		if o := w.op(e.ID); !w.meanwhile() {
			w.saw["ended: "+string(e.State)]++
			w.end(o, e.State)
		}
	}
	for i := range plan.Start {
		if !w.meanwhile() {
			w.saw["begun: "+string(plan.Start[i].Reason)]++
			w.begin(&plan.Start[i])
		}
	}
	for i := range plan.Queue {
		if !w.meanwhile() {
			w.queue(&plan.Queue[i])
		}
	}
	for _, id := range plan.Drop {
		if !w.meanwhile() {
			w.saw["dropped"]++
			w.forget(id)
		}
	}
	return plan
}

// plan plans, and checks it.
func (w *world) plan() Plan {
	w.account()
	w.m = newModel(w)
	w.m.look()
	w.saw["plans"]++
	plan := w.p.Plan(w.v, w.l, w.paused, w.now)
	w.m.check(&plan)
	return plan
}

// meanwhile says whether a transaction finds that something else has changed.
func (w *world) meanwhile() bool { return w.oneIn(12) }

// begin records an operator that runs.
func (w *world) begin(s *Step) {
	o := Operator{
		ID: s.ID, Kind: s.Kind, Reason: s.Reason, State: Running, LogID: s.LogID, ReplicaID: s.ReplicaID, DaemonID: s.DaemonID, To: s.To, Attempts: 1,
	}
	if before := w.op(s.ID); before != nil {
		o.Attempts += before.Attempts
		w.forget(s.ID)
	}
	if s.To != "" {
		o.LearnerID = w.name("r")
		l := w.log(s.LogID)
		l.Replicas = append(l.Replicas, Replica{ID: o.LearnerID, DaemonID: s.To, Learner: true, Operator: s.ID})
		w.replaces[o.LearnerID] = s.ReplicaID
	}
	if s.Kind == Scrub {
		w.begun[s.DaemonID] = true
	}
	w.hangs[attempt(&o)] = !w.calm && w.oneIn(8)
	w.v.Operators = append(w.v.Operators, o)
}

// end ends an operator and takes its learner out.
func (w *world) end(o *Operator, s State) {
	l := w.log(o.LogID)
	if l != nil && s != Done {
		if r := l.replica(o.LearnerID); r != nil && r.Learner {
			w.drop(l, r.ID)
		}
	}
	o.State = s
}

// queue records an operator that waits.
func (w *world) queue(s *Step) {
	o := Operator{
		ID: s.ID, Kind: s.Kind, Reason: s.Reason, State: Planned, LogID: s.LogID, ReplicaID: s.ReplicaID, DaemonID: s.DaemonID, WaitsFor: s.WaitsFor,
	}
	if before := w.op(s.ID); before != nil {
		o.Attempts = before.Attempts
		w.forget(s.ID)
	}
	w.v.Operators = append(w.v.Operators, o)
}

// work brings some of what runs further, or to its end.
func (w *world) work() {
	for i := range w.v.Operators {
		o := &w.v.Operators[i]
		if o.State != Running || w.hangs[attempt(o)] || !w.oneIn(3) {
			continue
		}
		l := w.log(o.LogID)
		switch {
		case o.Kind == Scrub:
			if d := w.daemon(o.DaemonID); d != nil && d.Up {
				o.State = Done
			}
		case l == nil || !newModel(w).ends(l, o):
		case o.Kind == Recover:
			w.repair(l)
			if !w.oneIn(3) { // or the planner finds out by itself
				o.State = Done
			}
		default:
			w.fill(l, o)
		}
	}
	for i := range w.v.Logs {
		w.workOn(&w.v.Logs[i])
	}
	for len(w.condemned) > 0 && w.oneIn(2) {
		if d := w.daemon(w.condemned[0].daemon); d != nil && !d.Up {
			break
		}
		w.condemned = w.condemned[1:]
	}
}

// fill brings a learner further.
func (w *world) fill(l *Log, o *Operator) {
	learner := l.replica(o.LearnerID)
	if learner == nil || !learner.Learner {
		return
	}
	if learner.DurableLSN++; w.oneIn(3) {
		return
	}
	w.promote(l, learner)
	o.State = Done
}

// promote gives a learner the place of the replica that it replaces. Whoever opened
// the log for that has repaired it.
func (w *world) promote(l *Log, learner *Replica) {
	learner.Learner, learner.Reported, learner.Epoch, learner.DurableLSN = false, true, 1, 10
	w.drop(l, w.replaces[learner.ID])
	if !l.Written {
		w.repair(l)
	}
}

// repair is what opening and closing a log does to those of its replicas that are
// here.
func (w *world) repair(l *Log) {
	l.Vanished = false
	m := newModel(w)
	for i := range l.Replicas {
		if r := &l.Replicas[i]; m.takes(r) {
			r.Suspect, r.Reported, r.Epoch, r.DurableLSN = false, true, 1, 10
		}
	}
}

// workOn is the work of a log's writer, and of those whose operators are not known.
func (w *world) workOn(l *Log) {
	if l.Written && w.oneIn(20) {
		for i := range l.Replicas {
			l.Replicas[i].Suspect = false
		}
	}
	learner := l.learner()
	if learner == nil || !w.oneIn(4) {
		return
	}
	o := w.op(learner.Operator)
	switch {
	case o != nil && o.State == Running && o.LearnerID == learner.ID:
	case newModel(w).ends(l, &Operator{Kind: Replace, ReplicaID: w.replaces[learner.ID], LearnerID: learner.ID, To: learner.DaemonID}):
		w.promote(l, learner)
	default:
		w.drop(l, learner.ID)
	}
	if o == nil {
		w.saw["a learner without an operator"]++
	}
}
