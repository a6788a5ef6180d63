package planner

import (
	"strings"
	"testing"

	"github.com/gravenio/graven/placement"
)

// Where no daemon fits in the place of one replica, nothing keeps the log's other
// replicas from being moved: they would wait for as long as there is none. While it
// is the limits that a step waits for, its turn comes, and the others wait for it.
func TestALogsOtherStepsHaveTheirTurn(t *testing.T) {
	t.Parallel()
	type made struct {
		v *View
		l *Limits
	}
	for name, c := range map[string]struct {
		harm  func(m made, a *Log)
		want  string
		waits string // a part of what the first one says that waits
	}{
		"a drain": {
			func(m made, _ *Log) { m.v.Daemons[1].Draining = true },
			"drain-a.1 draining to d3", "",
		},
		"a recovery": {
			func(_ made, a *Log) { a.Vanished, a.Replicas[1].DurableLSN = true, 8 },
			"recover-a no-writer", "",
		},
		"the next in its order": {
			func(m made, a *Log) { m.v.Daemons[1].Draining, m.v.Daemons[1].ReadOnly, a.Written = true, true, true },
			"replace-a.1 read-only to d3", "",
		},
		"none that fits": {
			func(m made, _ *Log) { m.v.Daemons[2].Draining = true },
			"replace-a.0 waits", "a daemon that fits",
		},
		"one that must wait for the limits": {
			func(m made, _ *Log) {
				m.v.Daemons[1].Draining, m.l.PerDaemon = true, 1
				m.v.Operators = []Operator{{ID: "op", Kind: Recover, Reason: NoWriter, State: Running, LogID: "b", ReplicaID: "b.4", DaemonID: "d1"}}
				m.v.log("b", 4, 5, 6).Replicas[0].Suspect = true
			},
			"replace-a.0 waits", "a daemon that fits",
		},
		"the limits before it": {
			func(m made, _ *Log) {
				m.v.Daemons[1].Draining, m.v.Daemons[0].ReadOnly, m.l.PerDaemon = true, false, 1
				m.v.Operators = []Operator{{ID: "op", Kind: Recover, Reason: NoWriter, State: Running, LogID: "b", ReplicaID: "b.4", DaemonID: "d0"}}
				m.v.log("b", 4, 5, 6).Replicas[0].Suspect = true
			},
			"replace-a.0 waits", "the limit of daemon d0",
		},
		"the limits of all that fit before it": {
			func(m made, _ *Log) {
				m.v.Daemons[1].Draining, m.l.PerDaemon = true, 1
				m.v.Daemons[4].Labels["disk"], m.v.Daemons[4].Labels["rack"] = "fast", "r0"
				m.v.Operators = []Operator{{ID: "op", Kind: Recover, Reason: NoWriter, State: Running, LogID: "b", ReplicaID: "b.4", DaemonID: "d4"}}
				m.v.log("b", 4, 5, 6).Replicas[0].Suspect = true
			},
			"replace-a.0 waits", "the limits of all daemons that fit",
		},
		"after other logs' more urgent ones": {
			func(m made, _ *Log) {
				m.v.Daemons[1].Draining, m.l.Cluster = true, 1
				m.v.log("b", 4, 5, 6).Replicas[0].Missing = true
			},
			"replace-b.4 missing; replace-a.0 waits", "a daemon that fits",
		},
		"one that could not end": {
			func(m made, a *Log) {
				a.AckQuorum, a.Written = 3, true // the missing one may go, the other one only after it
				m.v.Daemons[1].Draining = true
			},
			"replace-a.0 waits", "a daemon that fits",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, l := cluster(7), limits()
			a := v.log("a", 0, 1, 2)
			a.FailureDomain, a.Replicas[0].Missing = placement.Rack, true
			v.Daemons[3].Labels["rack"] = "r1"
			a.Labels = map[string]string{"disk": "fast"} // of d0 to d3
			for i := range v.Daemons[:4] {
				v.Daemons[i].Labels["disk"] = "fast"
			}
			c.harm(made{v, &l}, a)
			p := New(1)
			var plan Plan
			for _, at := range []Duration{0, 10*Minute - 1, 10 * Minute} {
				plan = p.Plan(v, l, at < 10*Minute, at)
			}
			for i := range plan.Start {
				if plan.Start[i].LogID == "b" {
					plan.Start[i].To = ""
				}
			}
			if plan.text() != c.want {
				t.Errorf("%q, want %q", plan.text(), c.want)
			}
			if len(plan.Queue) > 0 && !strings.Contains(plan.Queue[0].WaitsFor, c.waits) {
				t.Errorf("it waits for %q, want %q", plan.Queue[0].WaitsFor, c.waits)
			}
		})
	}
}

// A step that was listed as one that waits is no more when another one of its log
// has begun.
func TestOneStepOfALogIsListed(t *testing.T) {
	t.Parallel()
	v := cluster(4)
	l := v.log("l", 0, 1, 2)
	l.FailureDomain, l.Replicas[0].Missing = placement.Rack, true
	v.Daemons[3].Labels["rack"] = "r1"
	v.Operators = []Operator{{ID: "replace-l.0", Kind: Replace, State: Planned}, {ID: "drain-l.1", Kind: Drain, State: Planned}}
	p := New(1)
	if plan := p.Plan(v, limits(), false, 0); plan.text() != "replace-l.0 waits; drain-l.1 dropped" {
		t.Errorf("at first: %q", plan.text())
	}
	v.Daemons[1].Draining = true
	if plan := p.Plan(v, limits(), false, 1); plan.text() != "drain-l.1 draining to d3; replace-l.0 dropped" {
		t.Errorf("when it drains: %q", plan.text())
	}
	if plan := p.Plan(v, limits(), true, 2); plan.text() != "replace-l.0 waits; drain-l.1 dropped" {
		t.Errorf("when it is paused: %q", plan.text())
	}
}
