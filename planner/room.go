package planner

import (
	"slices"

	"github.com/gravenio/graven/placement"
)

// room is what the limits leave.
type room struct {
	limits Limits
	busy   map[string]int  // operators by daemon
	logs   map[string]bool // that an operator works on
	all    int
	scrubs int
}

func newRoom(r *round) room {
	m := room{limits: r.limits, busy: make(map[string]int), logs: make(map[string]bool)}
	known := make(map[string]bool)
	for i := range r.v.Operators {
		o := &r.v.Operators[i]
		if o.State != Running {
			continue
		}
		m.take(r, &Step{Kind: o.Kind, LogID: o.LogID, DaemonID: o.DaemonID, To: o.To})
		known[o.LearnerID] = true
	}
	for i := range r.v.Logs { // one whose operator is not known counts, too
		l := &r.v.Logs[i]
		if learner := l.learner(); learner != nil && !known[learner.ID] {
			m.take(r, &Step{Kind: Replace, LogID: l.ID, To: learner.DaemonID})
		}
	}
	return m
}

// take counts a step that runs. A daemon that is down has no work with it.
// Scrubs have a lane of their own.
func (m *room) take(r *round, s *Step) {
	if s.Kind == Scrub {
		m.scrubs++
		return
	}
	for _, id := range []string{s.DaemonID, s.To} {
		if d := r.daemons[id]; d != nil && d.Up {
			m.busy[id]++
		}
	}
	m.all++
	if s.LogID != "" {
		m.logs[s.LogID] = true
	}
}

func (m *room) full(daemon string) bool { return m.busy[daemon] >= m.limits.PerDaemon }

// refuses says which limit a step has to wait for, or "".
func (m *room) refuses(s *Step) string {
	switch {
	case s.Kind == Scrub && m.scrubs >= max(1, m.limits.Cluster/4):
		return "other scrubs: the cluster's limit is reached"
	case s.Kind == Scrub:
	case m.all >= m.limits.Cluster:
		return "other operators: the cluster's limit is reached"
	case m.full(s.DaemonID):
		return "other operators: the limit of daemon " + s.DaemonID + " is reached"
	}
	return ""
}

// admit gives a step its room, and a replacement its daemon, or says what it
// waits for, and whether a daemon fits.
func (r *round) admit(w want) (s Step, fits bool) {
	s = w.Step
	if s.Kind == Recover {
		r.assign(w.log, &s) // what has been begun since may have filled the first one
	}
	if s.WaitsFor = r.room.refuses(&s); s.WaitsFor != "" {
		return s, true
	}
	if s.Kind == Replace || s.Kind == Drain {
		if s.WaitsFor, fits = r.place(w.log, &s); s.WaitsFor != "" {
			return s, fits
		}
	}
	r.room.take(r, &s)
	return s, true
}

// place chooses the new replica's daemon, or says what that waits for, and whether
// one fits but for the limits. The old one's failure domain is free again, its
// daemon is not.
func (r *round) place(l *Log, s *Step) (waitsFor string, fits bool) {
	req := placement.Request{
		Replicas: 1, ReplicaBytes: l.ReplicaBytes, FailureDomain: l.FailureDomain,
		Transport: l.Transport, Media: l.Media, Labels: l.Labels, Exclude: []string{s.DaemonID},
	}
	for i := range l.Replicas {
		if rep := &l.Replicas[i]; rep.ID != s.ReplicaID {
			req.Beside = append(req.Beside, rep.DaemonID)
		}
	}
	if _, err := r.index.Place(req, r.seed); err != nil {
		return "a daemon that fits: " + err.Error(), false
	}
	for i := range r.all {
		if d := &r.all[i]; r.room.full(d.ID) && !slices.Contains(req.Exclude, d.ID) {
			req.Exclude = append(req.Exclude, d.ID)
		}
	}
	to, err := r.index.Place(req, r.seed)
	if err != nil {
		return "other operators: the limits of all daemons that fit are reached", true
	}
	s.To = to[0]
	d := r.daemons[s.To]
	d.FreeBytes = max(0, d.FreeBytes-l.ReplicaBytes)
	r.index.Put(d.Daemon)
	return "", true
}
