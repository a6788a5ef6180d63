package planner

import "testing"

// Scrubs come one after the other, and each daemon's in its time.
func TestScrubs(t *testing.T) {
	t.Parallel()
	v, l, p := cluster(3), limits(), New(1)
	l.ScrubEvery, l.Cluster = Hour, 4
	if plan := p.Plan(v, l, false, 0); plan.text() != "" {
		t.Errorf("a new planner begins with %q", plan.text())
	}
	plan := p.Plan(v, l, false, Hour)
	if plan.text() != "scrub-d0 due; scrub-d1 waits; scrub-d2 waits" {
		t.Fatalf("when they are due: %q", plan.text())
	}
	v.Operators = []Operator{{ID: "scrub-d0", Kind: Scrub, State: Running, DaemonID: "d0", Attempts: 1}}
	if plan = p.Plan(v, l, false, Hour+1); plan.text() != "scrub-d1 waits; scrub-d2 waits" {
		t.Errorf("while one runs: %q", plan.text())
	}
	v.Operators[0].State = Done
	if plan = p.Plan(v, l, false, Hour+2); plan.text() != "scrub-d1 due; scrub-d2 waits" {
		t.Errorf("when it is done: %q", plan.text())
	}
}

// Where scrubs take longer than the time between them leaves for all, each daemon
// has its turn all the same: the one that has waited longest is next.
func TestScrubsTakeTurns(t *testing.T) {
	t.Parallel()
	v, l, p := cluster(5), limits(), New(1)
	l.ScrubEvery, l.Cluster = Hour, 4 // one at a time
	turns := map[string]int{}
	at := Duration(0)
	for range 25 {
		at += 50 * Minute
		for i := range v.Operators {
			v.Operators[i].State = Done
		}
		plan := p.Plan(v, l, false, at)
		for _, s := range plan.Start {
			turns[s.DaemonID]++
			begin(v, &s)
		}
	}
	for i := range v.Daemons {
		if n := turns[v.Daemons[i].ID]; n < 4 {
			t.Errorf("daemon %s was scrubbed %d times: %v", v.Daemons[i].ID, n, turns)
		}
	}
}

// begin records a scrub as one that runs.
func begin(v *View, s *Step) {
	for i := range v.Operators {
		if o := &v.Operators[i]; o.ID == s.ID {
			o.State, o.Attempts = Running, o.Attempts+1
			return
		}
	}
	v.Operators = append(v.Operators, Operator{ID: s.ID, Kind: Scrub, Reason: Due, State: Running, DaemonID: s.DaemonID, Attempts: 1})
}

// A scrub is due until it was begun, not until it was asked for: who carries plans
// out may have to ask again.
func TestAScrubThatWasNotBegunIsStillDue(t *testing.T) {
	t.Parallel()
	v, l, p := cluster(1), limits(), New(1)
	l.ScrubEvery = Hour
	p.Plan(v, l, false, 0)
	for i := range 3 {
		plan := p.Plan(v, l, false, Hour+Duration(i))
		if plan.text() != "scrub-d0 due" {
			t.Fatalf("asked for %d times: %q", i, plan.text())
		}
		if i == 2 {
			begin(v, &plan.Start[0])
		}
	}
	v.Operators[0].State = Done // before anybody has seen it run
	for _, at := range []Duration{Hour + 3, 2 * Hour} {
		if plan := p.Plan(v, l, false, at); plan.text() != "" {
			t.Errorf("after %v: %q", at, plan.text())
		}
	}
	if plan := p.Plan(v, l, false, 2*Hour+3); plan.text() != "scrub-d0 due" {
		t.Errorf("the next one: %q", plan.text())
	}
}

// Daemons that are down are not scrubbed, and what they were owed begins anew.
func TestNoScrubOfADaemonThatIsDown(t *testing.T) {
	t.Parallel()
	v, l, p := cluster(2), limits(), New(1)
	l.ScrubEvery, v.Daemons[1].Up = Hour, false
	p.Plan(v, l, false, 0)
	if plan := p.Plan(v, l, false, Hour); plan.text() != "scrub-d0 due" {
		t.Errorf("%q", plan.text())
	}
	v.Daemons[0].Up, v.Daemons[1].Up = false, true
	for _, at := range []Duration{Hour, 2*Hour - 1} {
		if plan := p.Plan(v, l, false, at); plan.text() != "" {
			t.Errorf("back for %v: %q", at-Hour, plan.text())
		}
	}
	if plan := p.Plan(v, l, false, 2*Hour); plan.text() != "scrub-d1 due" {
		t.Errorf("back for an hour: %q", plan.text())
	}
}

// A scrub that a person has cancelled before it began stays due, and has its rest.
func TestACancelledScrubRests(t *testing.T) {
	t.Parallel()
	v, l, p := cluster(1), limits(), New(1)
	l.ScrubEvery = Minute
	p.Plan(v, l, false, 0)
	v.Operators = []Operator{{ID: "scrub-d0", Kind: Scrub, State: Cancelled, DaemonID: "d0"}}
	for _, at := range []Duration{Minute, Minute + Hour - 1} {
		if plan := p.Plan(v, l, false, at); plan.text() != "" {
			t.Errorf("after %v: %q", at, plan.text())
		}
	}
	if plan := p.Plan(v, l, false, Minute+Hour); plan.text() != "scrub-d0 due" {
		t.Errorf("an hour later: %q", plan.text())
	}
}

func TestNoScrubs(t *testing.T) {
	t.Parallel()
	v, l, p := cluster(1), limits(), New(1)
	l.ScrubEvery = 0
	for _, at := range []Duration{0, Hour, 1000 * Hour} {
		if plan := p.Plan(v, l, false, at); plan.text() != "" {
			t.Errorf("after %v: %q", at, plan.text())
		}
	}
}
