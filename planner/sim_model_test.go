package planner

import (
	"fmt"
	"slices"

	"github.com/gravenio/graven/placement"
)

// model is what one plan is held to: what the view says, told again in another way.
type model struct {
	w       *world
	next    map[string]Duration // times that run on
	causes  map[string]*cause   // what there is a reason for, and is not under way
	runs    map[string]bool     // operators
	rests   map[string]bool     // operators that may not be begun again yet
	worked  map[string]bool     // logs
	busy    map[string]int      // operators of daemons
	all     int
	scrubs  int
	taken   map[string]int64 // by this plan
	overdue map[string]bool  // operators that have been under way for too long
}

// cause is what a step is for.
type cause struct {
	id     string
	reason Reason
	log    *Log
	rep    *Replica
	daemon string
}

func newModel(w *world) *model {
	m := &model{
		w: w, next: map[string]Duration{}, causes: map[string]*cause{}, runs: map[string]bool{}, rests: map[string]bool{}, worked: map[string]bool{},
		busy: map[string]int{}, taken: map[string]int64{}, overdue: map[string]bool{},
	}
	learners := map[string]bool{}
	for i := range w.v.Operators {
		if o := &w.v.Operators[i]; o.State == Running {
			m.runs[o.ID], learners[o.LearnerID] = true, true
			m.count(o.Kind, o.LogID, o.DaemonID, o.To)
		}
	}
	for i := range w.v.Logs {
		l := &w.v.Logs[i]
		if r := l.learner(); r != nil && !learners[r.ID] {
			m.count(Replace, l.ID, "", r.DaemonID)
		}
	}
	return m
}

// count counts what runs.
func (m *model) count(k Kind, log, from, to string) {
	if k == Scrub {
		m.scrubs++
		return
	}
	m.all++
	m.worked[log] = true
	for _, id := range []string{from, to} {
		if d := m.w.daemon(id); d != nil && d.Up {
			m.busy[id]++
		}
	}
}

// look reads the times, and what is wanted at this time.
func (m *model) look() {
	for i := range m.w.v.Operators {
		m.lookAtOperator(&m.w.v.Operators[i])
	}
	for i := range m.w.v.Logs {
		l := &m.w.v.Logs[i]
		for j := range l.Replicas {
			m.lookAtReplica(l, &l.Replicas[j])
		}
		if !m.worked[l.ID] && !l.Written && m.differs(l) && m.held("differs "+l.ID) >= m.w.l.RecoverAfter {
			m.want(&cause{id: "recover-" + l.ID, reason: NoWriter, log: l})
		}
	}
	for i := range m.w.v.Daemons {
		m.lookAtScrub(&m.w.v.Daemons[i])
	}
	clear(m.w.begun)
	m.w.times = m.next
}

// held is for how long a condition has lasted, over all plans since.
func (m *model) held(condition string) Duration {
	if _, twice := m.next[condition]; !twice {
		since, known := m.w.times[condition]
		if !known {
			since = m.w.now
		}
		m.next[condition] = since
	}
	return m.w.now - m.next[condition]
}

func (m *model) want(c *cause) {
	if !m.runs[c.id] && !m.rests[c.id] {
		m.causes[c.id] = c
	} else if m.rests[c.id] {
		m.w.saw["what it rests for"]++
	}
}

func (m *model) lookAtOperator(o *Operator) {
	key := fmt.Sprintf(" %s %d", o.ID, o.Attempts)
	switch o.State {
	case Planned:
	case Running:
		at, limit := key, m.w.l.Timeout
		if l := m.w.log(o.LogID); l != nil && l.replica(o.LearnerID) != nil {
			r := l.replica(o.LearnerID)
			at = fmt.Sprint(key, r.Epoch, r.DurableLSN)
		}
		if o.Kind == Scrub {
			next := m.w.l.ScrubEvery
			if next == 0 { // none
				next = 24 * Hour
			}
			limit = max(limit, next)
		}
		m.overdue[o.ID] = m.held("stands still"+at) >= limit
	default:
		rest := Hour
		if o.State != Cancelled {
			rest = min(rest, Minute<<min(max(o.Attempts-1, 0), 6))
		}
		_, over := m.w.times["no reason"+key]
		if over = over || !m.stands(o); over {
			m.held("no reason" + key)
		}
		m.rests[o.ID] = m.held("ended"+key) < rest && !over
	}
}

// stands says whether what an operator was for is still so.
func (m *model) stands(o *Operator) bool {
	l := m.w.log(o.LogID)
	switch {
	case o.Kind == Scrub:
		return true
	case l == nil:
		return false
	case o.Kind == Recover:
		return !l.Written && m.differs(l)
	}
	r := l.replica(o.ReplicaID)
	if r == nil {
		return false
	}
	troubles := m.troubles(l, r)
	if o.Kind == Drain {
		return slices.Contains(troubles, Draining)
	}
	return slices.ContainsFunc(troubles, func(t Reason) bool { return t != Draining })
}

// troubles are all that is wrong with a replica now, the most urgent first.
func (m *model) troubles(l *Log, r *Replica) (all []Reason) {
	d := m.w.daemon(r.DaemonID)
	if d == nil {
		return []Reason{Lost}
	}
	for _, c := range []struct {
		is bool
		of Reason
	}{
		{!d.Up, Down},
		{d.Up && r.Missing, Missing},
		{d.Up && r.Suspect, Damaged},
		{d.Up && d.ReadOnly, ReadOnly},
		{d.Draining, Draining},
		{m.shares(l, r), FailureDomain},
	} {
		if c.is {
			all = append(all, c.of)
		}
	}
	return all
}

// lookAtReplica finds the most urgent of a replica's troubles that has lasted.
func (m *model) lookAtReplica(l *Log, r *Replica) {
	if r.Learner {
		return
	}
	var due Reason
	d := m.w.daemon(r.DaemonID)
	for _, t := range m.troubles(l, r) {
		after := m.w.l.Grace
		at := string(t) + " " + r.ID
		switch t {
		case Lost, Missing, Draining:
			after = 0
		case Down:
			if m.w.braked() {
				continue
			}
			at = fmt.Sprint("down ", d.ID, d.Session)
		case ReadOnly:
			at = "read-only " + d.ID
		case FailureDomain:
		}
		if held := m.held(at); held >= after && due == "" && (t != FailureDomain || d.Up) {
			due = t
		}
	}
	if due == "" {
		return
	}
	id := "replace-" + r.ID
	if due == Draining {
		id = "drain-" + r.ID
	}
	m.want(&cause{id: id, reason: due, log: l, rep: r, daemon: r.DaemonID})
}

func (m *model) lookAtScrub(d *Daemon) {
	if m.w.l.ScrubEvery == 0 || !d.Up {
		return
	}
	if m.w.begun[d.ID] {
		delete(m.w.times, "scrub "+d.ID)
	}
	if m.held("scrub "+d.ID) >= m.w.l.ScrubEvery {
		m.want(&cause{id: "scrub-" + d.ID, reason: Due, daemon: d.ID})
	}
}

// braked says whether more daemons with replicas are down than may be.
func (w *world) braked() bool {
	down, all := 0, 0
	for i := range w.v.Daemons {
		d := &w.v.Daemons[i]
		if d.Up || d.Holds {
			all++
		}
		if !d.Up && d.Holds {
			down++
		}
	}
	return down > 1 && 100*down > all*w.l.MaxDownPercent
}

// differs says whether opening the log would repair something.
func (m *model) differs(l *Log) bool {
	holds := map[string]bool{}
	for i := range l.Replicas {
		r := &l.Replicas[i]
		if !m.here(r) || !r.Reported {
			continue
		}
		if r.Suspect {
			return true
		}
		if l.Vanished {
			holds[fmt.Sprint(r.Epoch, " ", r.DurableLSN)] = true
		}
	}
	return len(holds) > 1
}

// here says whether a replica of the log's set can be read, takes whether it takes
// writes.
func (m *model) here(r *Replica) bool {
	d := m.w.daemon(r.DaemonID)
	return d != nil && d.Up && !r.Missing && !r.Learner
}

func (m *model) takes(r *Replica) bool { return m.here(r) && !m.w.daemon(r.DaemonID).ReadOnly }

// lastCopies says whether as many replicas are unknown as an acknowledged record
// may be on.
func (w *world) lastCopies(l *Log) bool {
	m, unknown := &model{w: w}, 0
	for i := range l.Replicas {
		if r := &l.Replicas[i]; !r.Learner && !m.here(r) {
			unknown++
		}
	}
	return unknown >= l.AckQuorum
}

// ends says whether the protocol brings an operator to its end, with the daemons
// as they are: the log has to be opened by an ack quorum of its set unless a writer
// has done that, and then one of the set to come has to hold what there is. The
// daemon of a learner that is not there yet is one that takes writes.
func (m *model) ends(l *Log, o *Operator) bool {
	set, fenced, next := 0, 0, 0
	for i := range l.Replicas {
		r := &l.Replicas[i]
		if r.Learner {
			continue
		}
		set++
		if m.takes(r) {
			fenced++
			if r.ID != o.ReplicaID {
				next++
			}
		}
	}
	to := m.w.daemon(o.To)
	if o.LearnerID == "" || to != nil && to.Up && !to.ReadOnly {
		next++
	}
	opened := l.Written && o.Kind != Recover || set-fenced < l.AckQuorum && fenced >= l.AckQuorum
	return opened && (o.Kind == Recover || next >= l.AckQuorum)
}

// shares says whether a replica before this one lies in its failure domain.
func (m *model) shares(l *Log, r *Replica) bool {
	i := slices.IndexFunc(l.Replicas, func(other Replica) bool { return other.ID == r.ID })
	return slices.ContainsFunc(l.Replicas[:i], func(other Replica) bool {
		return !other.Learner && m.together(l, r.DaemonID, other.DaemonID)
	})
}

// together says whether two daemons may fail together, as the log sees it.
func (m *model) together(l *Log, a, b string) bool {
	x, y := m.w.daemon(a), m.w.daemon(b)
	if x == nil || y == nil {
		return false
	}
	of := func(d *Daemon) string {
		fd := string(l.FailureDomain)
		if fd == "" {
			fd = string(placement.Host)
		}
		if label := d.Labels[fd]; label != "" || fd != string(placement.Host) {
			return label
		}
		return "alone: " + d.ID
	}
	return of(x) != "" && of(x) == of(y)
}

// fits says whether a daemon can take the place of a log's replica, whatever the
// limits.
func (m *model) fits(l *Log, old *Replica, d *Daemon) bool {
	switch {
	case !d.Up || d.Draining || d.ReadOnly || d.ID == old.DaemonID,
		l.Media != d.Media && (l.Media != "" || d.Media == placement.MediaVolatile),
		l.Transport != "" && !slices.Contains(d.Transports, l.Transport),
		l.FailureDomain != "" && l.FailureDomain != placement.Host && d.Labels[string(l.FailureDomain)] == "",
		d.FreeBytes-m.taken[d.ID] < l.ReplicaBytes:
		return false
	}
	for k, v := range l.Labels {
		if d.Labels[k] != v {
			return false
		}
	}
	return !slices.ContainsFunc(l.Replicas, func(r Replica) bool { return r.ID != old.ID && m.together(l, d.ID, r.DaemonID) })
}
