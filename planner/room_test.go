package planner

import (
	"strings"
	"testing"

	"github.com/gravenio/graven/placement"
)

// A new replica goes where the log's own rules allow it: of d3 and d4, which would
// both do for a log without rules, only to one.
func TestPlacesByTheLogsRules(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]func(l *Log, wrong, right *Daemon){
		"transport": func(l *Log, _, right *Daemon) { l.Transport, right.Transports = "verbs", []string{"tcp", "verbs"} },
		"media":     func(l *Log, wrong, _ *Daemon) { l.Media, wrong.Media = "file", "pmem" },
		"volatile":  func(_ *Log, wrong, _ *Daemon) { wrong.Media = placement.MediaVolatile },
		"labels": func(l *Log, _, right *Daemon) {
			l.Labels, right.Labels["disk"] = map[string]string{"disk": "fast"}, "fast"
		},
		"space":           func(l *Log, wrong, _ *Daemon) { wrong.FreeBytes = l.ReplicaBytes - 1 },
		"failure domain":  func(l *Log, wrong, _ *Daemon) { l.FailureDomain, wrong.Labels["rack"] = placement.Rack, "r1" },
		"its own domain":  func(l *Log, wrong, right *Daemon) { wrong.Labels["host"], right.Labels["host"] = "d1", "d0" },
		"a domain at all": func(l *Log, wrong, _ *Daemon) { l.FailureDomain = placement.Zone; delete(wrong.Labels, "zone") },
		"up":              func(_ *Log, wrong, _ *Daemon) { wrong.Up = false },
		"not draining":    func(_ *Log, wrong, _ *Daemon) { wrong.Draining = true },
		"takes writes":    func(_ *Log, wrong, _ *Daemon) { wrong.ReadOnly = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(8) {
				v := cluster(5)
				for i := range v.Daemons {
					v.Daemons[i].Labels["zone"] = v.Daemons[i].ID
				}
				l := v.log("l", 0, 1, 2)
				l.Replicas[0].Missing = true
				for _, id := range []int{0, 1, 2} { // these have what is asked for
					v.Daemons[id].Transports, v.Daemons[id].Labels["disk"], v.Daemons[id].Labels["host"] = []string{"tcp", "verbs"}, "fast", v.Daemons[id].ID
				}
				rule(l, &v.Daemons[3], &v.Daemons[4])
				if plan := New(seed).Plan(v, limits(), false, 0); plan.text() != "replace-l.0 missing to d4" {
					t.Fatalf("seed %d: %q", seed, plan.text())
				}
			}
		})
	}
}

// What is begun in a plan takes its room from what comes after it, and the view is
// left as it is.
func TestRoomIsTakenWithinAPlan(t *testing.T) {
	t.Parallel()
	v, l := cluster(4), limits()
	l.PerDaemon = 16
	for _, id := range []string{"a", "b", "c", "d"} {
		v.log(id, 0, 1, 2).Replicas[0].Missing = true
	}
	v.Daemons[3].FreeBytes = 2<<20 + 1
	plan := New(1).Plan(v, l, false, 0)
	if plan.text() != "replace-a.0 missing to d3; replace-b.0 missing to d3; replace-c.0 waits; replace-d.0 waits" ||
		!strings.Contains(plan.Queue[0].WaitsFor, "space removed 1") {
		t.Errorf("with room for two: %q, %+v", plan.text(), plan.Queue)
	}
	if v.Daemons[3].FreeBytes != 2<<20+1 {
		t.Errorf("the view was changed: %+v", v.Daemons[3])
	}
}

// A learner counts, although the operator that it was made by is not known.
func TestALearnerWithoutAnOperatorCounts(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit func(l *Limits)
		op    Operator // that is known
		want  string
	}{
		"in all":             {func(l *Limits) { l.Cluster = 1 }, Operator{}, "other operators: the cluster's limit"},
		"on its daemon":      {func(l *Limits) { l.PerDaemon = 1 }, Operator{}, "the limits of all daemons that fit"},
		"beside an end":      {func(l *Limits) { l.Cluster = 1 }, Operator{ID: "op", Kind: Replace, State: Failed, LearnerID: "new"}, "other operators: the cluster's limit"},
		"beside another one": {func(l *Limits) { l.Cluster = 2 }, Operator{ID: "op", Kind: "of another version", State: Running, LogID: "x", LearnerID: "old"}, "other operators: the cluster's limit"},
		"once":               {func(l *Limits) { l.Cluster = 2 }, Operator{ID: "op", Kind: "of another version", State: Running, LogID: "a", To: "d3", LearnerID: "new"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, l := cluster(4), limits()
			a := v.log("a", 0, 1, 2)
			a.Replicas = append(a.Replicas, Replica{ID: "new", DaemonID: "d3", Learner: true, Operator: "op"})
			v.log("b", 0, 1, 2).Replicas[0].Missing = true
			if c.op.ID != "" {
				v.Operators = []Operator{c.op}
			}
			c.limit(&l)
			plan := New(1).Plan(v, l, false, 0)
			switch {
			case c.want == "" && plan.text() != "replace-b.0 missing to d3",
				c.want != "" && (len(plan.Queue) != 1 || !strings.Contains(plan.Queue[0].WaitsFor, c.want)):
				t.Errorf("%q, %+v, want one that waits for %q", plan.text(), plan.Queue, c.want)
			}
		})
	}
}
