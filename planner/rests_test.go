package planner

import (
	"strings"
	"testing"
)

// Operators that have ended are not begun again at once.
func TestRests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state    State
		attempts int
		rests    Duration
	}{
		{Failed, 1, Minute}, {Failed, 3, 4 * Minute}, {Failed, 50, Hour}, {Cancelled, 1, Hour}, {Running, 1, 100 * Hour},
	} {
		v := cluster(4)
		v.log("l", 0, 1, 2).Replicas[0].Missing = true
		v.Operators = []Operator{{ID: "replace-l.0", Kind: Replace, State: c.state, Attempts: c.attempts, LogID: "l", ReplicaID: "l.0"}}
		if c.state == Running {
			v.Operators[0].Kind, v.Operators[0].LogID = "of another version", "other"
		}
		p := New(1)
		for _, at := range []Duration{0, c.rests - 1} {
			if plan := p.Plan(v, limits(), false, at); len(plan.Start) != 0 {
				t.Errorf("%s, attempt %d, after %v: %q", c.state, c.attempts, at, plan.text())
			}
		}
		if plan := p.Plan(v, limits(), false, c.rests); (len(plan.Start) == 0) != (c.state == Running) {
			t.Errorf("%s, attempt %d, after %v: %q", c.state, c.attempts, c.rests, plan.text())
		}
	}
}

// A rest runs from the end of what has it, whatever goes on meanwhile.
func TestRestsRunWhileALogIsWorkedOn(t *testing.T) {
	t.Parallel()
	v, p := cluster(5), New(1)
	l := v.log("l", 0, 1, 2)
	l.Replicas[1].Missing = true
	l.Replicas = append(l.Replicas, Replica{ID: "new", DaemonID: "d3", Learner: true, Operator: "op"})
	v.Operators = []Operator{
		{ID: "op", Kind: Replace, Reason: "requested", State: Running, LogID: "l", ReplicaID: "l.0", DaemonID: "d0", To: "d3", LearnerID: "new", Attempts: 1},
		{ID: "replace-l.1", Kind: Replace, Reason: Missing, State: Failed, LogID: "l", ReplicaID: "l.1", DaemonID: "d1", Attempts: 4},
	}
	p.Plan(v, limits(), false, 0)
	p.Plan(v, limits(), false, 7*Minute)
	l.Replicas = append(l.Replicas[1:3:3], Replica{ID: "new", DaemonID: "d3"})
	v.Operators[0].State = Done
	if plan := p.Plan(v, limits(), false, 8*Minute-1); plan.text() != "" {
		t.Errorf("it does not rest: %q", plan.text())
	}
	if plan := p.Plan(v, limits(), false, 8*Minute); len(plan.Start) != 1 {
		t.Errorf("it rests for more than 8 minutes: %q", plan.text())
	}
}

// Each attempt has its own rest, even if none was seen to run.
func TestEachAttemptRests(t *testing.T) {
	t.Parallel()
	v, p := cluster(4), New(1)
	v.log("l", 0, 1, 2).Replicas[0].Missing = true
	v.Operators = []Operator{{ID: "replace-l.0", Kind: Replace, Reason: Missing, State: Failed, LogID: "l", ReplicaID: "l.0", DaemonID: "d0", Attempts: 1}}
	p.Plan(v, limits(), false, 0)
	if plan := p.Plan(v, limits(), false, Minute); len(plan.Start) != 1 {
		t.Fatalf("after its rest: %q", plan.text())
	}
	v.Operators[0].Attempts = 2
	for _, at := range []Duration{2 * Minute, 4*Minute - 1} {
		if plan := p.Plan(v, limits(), false, at); plan.text() != "" {
			t.Errorf("it has failed again: %q", plan.text())
		}
	}
	if plan := p.Plan(v, limits(), false, 4*Minute); len(plan.Start) != 1 {
		t.Errorf("after its second rest: %q", plan.text())
	}
}

// What has ended rests for as long as its reason lasts: when that comes back it is
// a new one.
func TestAReasonThatComesBackIsANewOne(t *testing.T) {
	t.Parallel()
	drain := func(v *View, on bool) { v.Daemons[0].Draining = on }
	down := func(v *View, on bool) { v.Daemons[0].Up = !on }
	for name, c := range map[string]struct {
		kind  Kind
		harm  func(v *View, on bool)
		grace Duration
		want  string
	}{
		"drained again":   {Drain, drain, 0, "drain-l.0 draining to d3"},
		"down again":      {Replace, down, 10 * Minute, "replace-l.0 down to d3"},
		"gone and back":   {Replace, func(v *View, on bool) { v.Logs[0].Replicas[0].Missing = on }, 0, "replace-l.0 missing to d3"},
		"damaged again":   {Replace, func(v *View, on bool) { v.Logs[0].Replicas[0].Suspect = on }, 10 * Minute, "replace-l.0 damaged to d3"},
		"read-only again": {Replace, func(v *View, on bool) { v.Daemons[0].ReadOnly = on }, 10 * Minute, "replace-l.0 read-only to d3"},
		"its domain again": {Replace, func(v *View, on bool) {
			for i := range v.Daemons[:2] {
				v.Daemons[i].Labels["host"] = map[bool]string{true: "h", false: v.Daemons[i].ID}[on]
			}
		}, 10 * Minute, "replace-l.1 failure-domain to d3"},
		"differs again": {Recover, func(v *View, on bool) {
			v.Logs[0].Written, v.Logs[0].Vanished, v.Logs[0].Replicas[0].DurableLSN = false, on, 8
		}, Minute, "recover-l no-writer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p := cluster(4), New(1)
			l := v.log("l", 0, 1, 2)
			l.Written = true
			c.harm(v, true)
			id, _, _ := strings.Cut(c.want, " ")
			o := Operator{ID: id, Kind: c.kind, State: Cancelled, LogID: "l", ReplicaID: "l.0", DaemonID: "d0", Attempts: 1}
			if strings.HasSuffix(id, ".1") {
				o.ReplicaID, o.DaemonID = "l.1", "d1"
			}
			v.Operators = []Operator{o}
			p.Plan(v, limits(), false, 0)
			if plan := p.Plan(v, limits(), false, 30*Minute); plan.text() != "" {
				t.Errorf("it was cancelled, and its reason lasts: %q", plan.text())
			}
			c.harm(v, false)
			if plan := p.Plan(v, limits(), false, 30*Minute); plan.text() != "" {
				t.Errorf("without a reason: %q", plan.text())
			}
			c.harm(v, true)
			if c.grace > 0 {
				p.Plan(v, limits(), false, 31*Minute)
			}
			if plan := p.Plan(v, limits(), false, 31*Minute+c.grace); plan.text() != c.want {
				t.Errorf("its reason is back: %q, want %q", plan.text(), c.want)
			}
		})
	}
}
