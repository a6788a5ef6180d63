package planner

import "slices"

// harm lets one thing happen.
func (w *world) harm() {
	if len(w.v.Logs) == 0 {
		w.addLog()
		return
	}
	l := &w.v.Logs[w.rnd.IntN(len(w.v.Logs))]
	switch w.rnd.IntN(33) {
	case 0, 1, 2, 3:
		w.harmReplica(l)
	case 4, 5, 6:
		w.harmWriter(l)
	case 7: // a host goes that writes to many
		for i := range w.v.Logs {
			if l := &w.v.Logs[i]; l.Written && w.oneIn(2) {
				w.harmWriter(l)
			}
		}
	case 8, 9, 10, 11, 12, 13:
		w.harmDaemon()
	case 14, 15, 16, 17:
		w.healDaemons()
	case 18:
		pick(w, where(w.v.Daemons, func(*Daemon) bool { return true })...).Session++ // a blip that nobody saw
	case 19, 20:
		w.lose()
	case 21, 22:
		w.label(pick(w, where(w.v.Daemons, func(*Daemon) bool { return true })...))
	case 23, 24:
		if len(w.v.Daemons) < 24 {
			w.addDaemon()
		}
	case 25:
		w.paused = !w.paused && w.oneIn(2)
	case 26:
		w.drawLimits()
	case 27:
		w.addLog()
	case 28:
		w.deleteLog(l)
	case 29:
		w.cancel()
	case 30:
		w.request(l)
	case 31:
		w.forgetOne()
	case 32:
		w.outage()
	}
}

func (w *world) harmReplica(l *Log) {
	r := &l.Replicas[w.rnd.IntN(len(l.Replicas))]
	switch {
	case r.Learner:
	case w.oneIn(2):
		r.Missing = true
	default:
		r.Suspect, r.Reported = true, true
	}
}

// harmWriter lets a writer come, close its log or vanish.
func (w *world) harmWriter(l *Log) {
	l.Written, l.Vanished = !l.Written, false
	if l.Written || w.oneIn(3) {
		return
	}
	l.Vanished = true
	r := &l.Replicas[w.rnd.IntN(len(l.Replicas))]
	r.Epoch, r.DurableLSN = r.Epoch+uint64(w.rnd.IntN(2)), r.DurableLSN+uint64(w.rnd.IntN(2))
}

func unwell(d *Daemon) bool { return !d.Up || d.Draining || d.ReadOnly }

func (w *world) harmDaemon() {
	d := pick(w, where(w.v.Daemons, func(*Daemon) bool { return true })...)
	switch {
	case len(where(w.v.Daemons, unwell)) > len(w.v.Daemons)/4:
	case w.oneIn(2):
		d.Up = false
	case w.oneIn(2):
		d.Draining = true
	default:
		d.ReadOnly = true
	}
}

// outage takes many daemons away at once.
func (w *world) outage() {
	for i := range w.v.Daemons {
		if d := &w.v.Daemons[i]; d.Up {
			d.Up = w.oneIn(2)
		}
	}
}

// healDaemons brings some daemons back, with what their pools hold.
func (w *world) healDaemons() {
	back := map[string]bool{}
	for _, d := range where(w.v.Daemons, unwell) {
		if w.oneIn(2) {
			d.Up, d.Draining, d.ReadOnly, back[d.ID] = true, false, false, true
			d.Session++
		}
	}
	for i := range w.v.Logs {
		for j := range w.v.Logs[i].Replicas {
			if r := &w.v.Logs[i].Replicas[j]; back[r.DaemonID] {
				r.Missing = false
			}
		}
	}
}

// lose gives a daemon up that is down, unless a log needs it.
func (w *world) lose() {
	down := where(w.v.Daemons, func(d *Daemon) bool { return !d.Up })
	if len(down) == 0 {
		return
	}
	id := pick(w, down...).ID
	for i := range w.v.Logs {
		l := &w.v.Logs[i]
		if slices.ContainsFunc(l.Replicas, func(r Replica) bool { return r.DaemonID == id && !r.Learner }) && w.lastCopies(l) {
			return
		}
	}
	w.v.Daemons = slices.DeleteFunc(w.v.Daemons, func(d Daemon) bool { return d.ID == id })
	w.condemned = slices.DeleteFunc(w.condemned, func(c condemned) bool { return c.daemon == id })
}

// deleteLog leaves the operators that work on it to the planner.
func (w *world) deleteLog(l *Log) {
	for len(l.Replicas) > 0 {
		w.drop(l, l.Replicas[0].ID)
	}
	id := l.ID
	w.v.Logs = slices.DeleteFunc(w.v.Logs, func(l Log) bool { return l.ID == id })
}

// cancel is a person's.
func (w *world) cancel() {
	if open := where(w.v.Operators, func(o *Operator) bool { return !o.State.Ended() }); len(open) > 0 {
		w.end(pick(w, open...), Cancelled)
	}
}

// request is a person's who has a replica replaced, whatever the limits.
func (w *world) request(l *Log) {
	old := &l.Replicas[w.rnd.IntN(len(l.Replicas))]
	id := string(Replace) + "-" + old.ID
	if l.learner() != nil || w.op(id) != nil && w.op(id).State == Running {
		return
	}
	w.account()
	m := newModel(w)
	for i := range w.v.Daemons {
		if d := &w.v.Daemons[i]; m.fits(l, old, d) {
			w.begin(&Step{ID: id, Kind: Replace, Reason: "requested", LogID: l.ID, ReplicaID: old.ID, DaemonID: old.DaemonID, To: d.ID})
			return
		}
	}
}

// forgetOne loses an operator's record: those that have ended are kept for a while
// only, longer than until the next plan, and what runs may have been begun before
// etcd was restored.
func (w *world) forgetOne() {
	old := where(w.v.Operators, func(o *Operator) bool { return o.State.Ended() && !w.begun[o.DaemonID] })
	if w.oneIn(2) {
		old = where(w.v.Operators, func(o *Operator) bool { return o.State == Running && o.LearnerID != "" })
	}
	if len(old) > 0 {
		w.forget(pick(w, old...).ID)
	}
}

// where are those that match.
func where[T any](all []T, matches func(*T) bool) (some []*T) {
	for i := range all {
		if matches(&all[i]) {
			some = append(some, &all[i])
		}
	}
	return some
}
