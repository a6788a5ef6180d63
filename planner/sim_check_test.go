package planner

import (
	"slices"
	"strings"
)

// check holds a plan to what is promised.
func (m *model) check(p *Plan) {
	m.w.t.Helper()
	if (p.Brake != "") != m.w.braked() {
		m.w.fatalf("the brake is %q, and should be on: %v", p.Brake, m.w.braked())
	}
	m.checkEnds(p)
	steps := map[string]bool{} // operators and logs
	for i := range p.Start {
		m.once(steps, &p.Start[i])
		m.checkStart(p, &p.Start[i])
	}
	for i := range p.Queue {
		m.once(steps, &p.Queue[i])
		m.checkQueued(p, &p.Queue[i])
	}
	if len(p.Queue) > MaxQueue {
		m.w.fatalf("%d wait", len(p.Queue))
	}
	m.checkDrop(p, steps)
	m.checkNothingIsLeftOut(p, steps)
}

// once says that a log has one step, and that it is one that there is a reason for.
func (m *model) once(steps map[string]bool, s *Step) {
	m.w.t.Helper()
	if steps[s.ID] || s.LogID != "" && (steps[s.LogID] || m.worked[s.LogID]) {
		m.w.fatalf("%+v is not the only step", *s)
	}
	steps[s.ID], steps[s.LogID] = true, true
	c := m.causes[s.ID]
	if c == nil || c.reason != s.Reason {
		m.w.fatalf("%+v has no reason; rests: %v", *s, m.rests[s.ID])
	}
	if c.rep != nil && (c.rep.ID != s.ReplicaID || c.log.ID != s.LogID) || s.Kind != Recover && s.DaemonID != c.daemon {
		m.w.fatalf("%+v is not for %+v", *s, *c)
	}
}

// checkStart says that a step may begin, and counts it.
func (m *model) checkStart(p *Plan, s *Step) {
	m.w.t.Helper()
	if m.w.paused || p.Brake != "" {
		m.w.fatalf("%+v begins, paused %v, brake %q", *s, m.w.paused, p.Brake)
	}
	c := m.causes[s.ID]
	if m.full(c, s.DaemonID) {
		m.w.fatalf("%+v begins beyond the limits: %d run, %d with its daemon, %d scrubs", *s, m.all, m.busy[s.DaemonID], m.scrubs)
	}
	switch s.Kind {
	case Replace, Drain:
		to := m.w.daemon(s.To)
		if to == nil || !m.fits(c.log, c.rep, to) {
			m.w.fatalf("%+v: the daemon %+v does not fit for log %+v; taken: %d", *s, to, *c.log, m.taken[s.To])
		}
		if m.busy[s.To] >= m.w.l.PerDaemon {
			m.w.fatalf("%+v begins with %d operators on the new daemon", *s, m.busy[s.To])
		}
		m.taken[s.To] += c.log.ReplicaBytes
	case Recover:
		r := c.log.replica(s.ReplicaID)
		if r == nil || r.DaemonID != s.DaemonID || !m.takes(r) {
			m.w.fatalf("%+v: replica %+v can't recover the log", *s, r)
		}
	}
	if c.log != nil && (m.w.lastCopies(c.log) || !m.ends(c.log, &Operator{Kind: s.Kind, ReplicaID: s.ReplicaID})) {
		m.w.fatalf("%+v can't end, last copies: %v; log %+v", *s, m.w.lastCopies(c.log), *c.log)
	}
	m.count(s.Kind, s.LogID, s.DaemonID, s.To)
}

// full says whether the limits leave no room for a step.
func (m *model) full(c *cause, daemon string) bool {
	if c.reason == Due {
		return m.scrubs >= max(1, m.w.l.Cluster/4)
	}
	return m.all >= m.w.l.Cluster || m.busy[daemon] >= m.w.l.PerDaemon
}

// why says what keeps a step from being begun beside all that has been, or "".
func (m *model) why(c *cause) string {
	switch {
	case c.reason == Due && m.full(c, c.daemon):
		return "limits"
	case c.reason == Due:
		return ""
	case c.reason == NoWriter:
		return m.whyNotRecovered(c)
	case m.w.lastCopies(c.log) || !m.ends(c.log, &Operator{Kind: Replace, ReplicaID: c.rep.ID}):
		return "more replicas"
	}
	fit, free := 0, 0
	for i := range m.w.v.Daemons {
		if d := &m.w.v.Daemons[i]; m.fits(c.log, c.rep, d) {
			fit++
			if m.busy[d.ID] < m.w.l.PerDaemon {
				free++
			}
		}
	}
	switch {
	case fit == 0 && !m.full(c, c.daemon):
		return "no daemon fits"
	case free == 0 || m.full(c, c.daemon):
		return "limits"
	}
	return ""
}

func (m *model) whyNotRecovered(c *cause) string {
	workers := 0
	for i := range c.log.Replicas {
		if r := &c.log.Replicas[i]; m.takes(r) && !m.full(c, r.DaemonID) {
			workers++
		}
	}
	switch {
	case m.w.lastCopies(c.log) || !m.ends(c.log, &Operator{Kind: Recover}):
		return "more replicas"
	case workers == 0:
		return "limits"
	}
	return ""
}

// checkQueued says that a step waits for what it says.
func (m *model) checkQueued(p *Plan, s *Step) {
	m.w.t.Helper()
	why := m.why(m.causes[s.ID])
	says := map[string]string{ // of the limits all, for they may have been reached after its turn
		"more replicas": "more replicas", "no daemon fits": "a daemon that fits",
	}[why]
	switch {
	case why == "more replicas":
	case m.w.paused:
		why, says = "paused", "operators are paused"
	case p.Brake != "":
		why, says = "brake", p.Brake
	case why == "":
		m.w.fatalf("%+v could begin", *s)
	}
	m.w.saw["waits: "+why]++
	if !strings.HasPrefix(s.WaitsFor, says) {
		m.w.fatalf("%+v waits for %s", *s, why)
	}
}

// checkDrop says that what is recorded as waiting and not listed any more goes.
func (m *model) checkDrop(p *Plan, steps map[string]bool) {
	m.w.t.Helper()
	var want []string
	for i := range m.w.v.Operators {
		if o := &m.w.v.Operators[i]; o.State == Planned && !steps[o.ID] {
			want = append(want, o.ID)
		}
	}
	if !slices.Equal(p.Drop, want) {
		m.w.fatalf("%q are dropped, want %q", p.Drop, want)
	}
}

// checkNothingIsLeftOut says that each log that nobody works on and that needs a
// step has one, and so has each daemon that is to be scrubbed, unless more wait than
// are listed; and that what can begin does. A log's less urgent steps wait for those
// that wait for the limits.
func (m *model) checkNothingIsLeftOut(p *Plan, steps map[string]bool) {
	m.w.t.Helper()
	limits := map[string]bool{}
	for _, c := range m.causes {
		if c.log != nil && m.why(c) == "limits" {
			limits[c.log.ID] = true
		}
	}
	for _, c := range m.causes {
		switch {
		case c.log != nil && m.worked[c.log.ID]:
		case !steps[c.id] && (c.log == nil || !steps[c.log.ID]):
			if m.w.saw["more than is listed"]++; len(p.Queue) < MaxQueue {
				m.w.fatalf("nothing is done about %+v", *c)
			}
		case c.log != nil && !limits[c.log.ID] && m.why(c) == "" && !m.w.paused && p.Brake == "":
			m.w.fatalf("%+v could begin", *c)
		}
	}
}

// checkEnds says that what stands still for too long ends, and what is over, and
// nothing else.
func (m *model) checkEnds(p *Plan) {
	m.w.t.Helper()
	ends := map[string]State{}
	for _, e := range p.Ends {
		ends[e.ID] = e.State
		if o := m.w.op(e.ID); o == nil || o.State != Running {
			m.w.fatalf("%+v ends, and does not run", e)
		}
	}
	for i := range m.w.v.Operators {
		o := &m.w.v.Operators[i]
		if o.State != Running {
			continue
		}
		state, over, overdue := ends[o.ID], m.over(o), m.overdue[o.ID]
		switch {
		case (state != "") != (over || overdue):
			m.w.fatalf("%+v ends as %q; it is over: %v, and stands still for too long: %v", *o, state, over, overdue)
		case !over && overdue:
			if m.w.saw["no progress"]++; state != Failed {
				m.w.fatalf("%+v ends as %s, and stands still for too long", *o, state)
			}
		}
	}
}

// over says whether an operator has lost what it needs, or what it is for.
func (m *model) over(o *Operator) bool {
	l, d := m.w.log(o.LogID), m.w.daemon(o.DaemonID)
	switch {
	case o.Kind == Scrub:
		return d == nil || !d.Up
	case l == nil:
		return true
	case o.Kind == Recover:
		return l.Written || !m.differs(l) || d == nil || !d.Up
	}
	learner, old, to := l.replica(o.LearnerID), l.replica(o.ReplicaID), m.w.daemon(o.To)
	switch {
	case learner == nil || !learner.Learner || old == nil || to == nil || to.Draining:
		return true
	case o.Reason == Draining:
		return d != nil && !d.Draining
	case o.Reason == Down:
		return m.here(old)
	}
	return false
}
