package planner

import "testing"

// Times run while a log is worked on for something else: what is wrong with its
// other replicas does not go away by that.
func TestTimesRunWhileALogIsWorkedOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm func(v *View, l *Log)
		want string
	}{
		"down":      {func(v *View, _ *Log) { v.Daemons[1].Up = false }, "replace-l.1 down to d4"},
		"read-only": {func(v *View, _ *Log) { v.Daemons[1].ReadOnly = true }, "replace-l.1 read-only to d4"},
		"damaged":   {func(_ *View, l *Log) { l.Replicas[1].Suspect = true }, "replace-l.1 damaged to d4"},
		"one host": {func(v *View, _ *Log) {
			v.Daemons[1].Labels["host"], v.Daemons[2].Labels["host"] = "h", "h"
		}, "replace-l.2 failure-domain to d4"},
		"damaged and read-only": {func(v *View, l *Log) {
			v.Daemons[1].ReadOnly, l.Replicas[1].Suspect = true, true
		}, "replace-l.1 damaged to d4"},
		"without a writer": { // what works on it opens it, and so repairs it
			func(_ *View, l *Log) { l.Written, l.Vanished, l.Replicas[1].DurableLSN = false, true, 8 }, "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p := cluster(5), New(1)
			l := v.log("l", 0, 1, 2)
			l.Written = true
			l.Replicas = append(l.Replicas, Replica{ID: "new", DaemonID: "d3", Learner: true, Operator: "op"})
			v.Operators = []Operator{{
				ID: "op", Kind: Replace, Reason: "requested", State: Running, LogID: "l", ReplicaID: "l.0", DaemonID: "d0", To: "d3", LearnerID: "new", Attempts: 1,
			}}
			c.harm(v, l)
			for _, at := range []Duration{0, 9 * Minute} {
				if plan := p.Plan(v, limits(), false, at); plan.text() != "" {
					t.Fatalf("while it is worked on: %q", plan.text())
				}
			}
			l.Replicas = append(l.Replicas[1:3:3], Replica{ID: "new", DaemonID: "d3", Reported: true, Epoch: 1, DurableLSN: 10})
			v.Operators[0].State = Done
			v.Daemons[0].FreeBytes = 0
			if plan := p.Plan(v, limits(), false, 10*Minute); plan.text() != c.want {
				t.Errorf("after the grace time: %q, want %q", plan.text(), c.want)
			}
		})
	}
}

// A time that would come second runs, too.
func TestTimesRunBesideEachOther(t *testing.T) {
	t.Parallel()
	v, p := cluster(4), New(1)
	l := v.log("l", 0, 1, 2)
	l.Written, l.Replicas[1].Suspect, v.Daemons[1].ReadOnly = true, true, true
	p.Plan(v, limits(), true, 0)
	p.Plan(v, limits(), true, 10*Minute)
	l.Replicas[1].Suspect = false // its writer has repaired it
	if plan := p.Plan(v, limits(), false, 10*Minute+1); plan.text() != "replace-l.1 read-only to d3" {
		t.Errorf("it is read-only all the while: %q", plan.text())
	}
}

// What a daemon says of itself counts for as long as it is there to say it: while
// it is down nobody repairs anything.
func TestTimesOfWhatADaemonSays(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(*View, *Log){
		"damaged":   func(_ *View, l *Log) { l.Replicas[1].Suspect = true },
		"read-only": func(v *View, _ *Log) { v.Daemons[1].ReadOnly = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p := cluster(4), New(1)
			l := v.log("l", 0, 1, 2)
			l.Written = true
			harm(v, l)
			v.Daemons[1].Up = false
			p.Plan(v, limits(), false, 0)
			v.Daemons[1].Up = true
			for _, at := range []Duration{9 * Minute, 19*Minute - 1} {
				if plan := p.Plan(v, limits(), false, at); plan.text() != "" {
					t.Errorf("%v, it is back since 540 s: %q", at, plan.text())
				}
			}
			if plan := p.Plan(v, limits(), false, 19*Minute); len(plan.Start) != 1 {
				t.Errorf("after the grace time: %q", plan.text())
			}
		})
	}
}
