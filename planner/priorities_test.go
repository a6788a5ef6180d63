package planner

import (
	"slices"
	"testing"

	"github.com/gravenio/graven/placement"
)

// Where only one operator may run, the most urgent step is begun, and the others
// wait in their order. The logs' names say the contrary of what is to come first.
func TestTheMostUrgentComesFirst(t *testing.T) {
	t.Parallel()
	missing := func(at ...int) func(*View, *Log) {
		return func(_ *View, l *Log) {
			for _, i := range at {
				l.Replicas[i].Missing = true
			}
		}
	}
	drains := func(v *View, _ *Log) { v.Daemons[0].Draining = true } // the first replica's
	readOnly := func(v *View, _ *Log) { v.Daemons[1].ReadOnly = true }
	differs := func(_ *View, l *Log) { l.Vanished, l.Replicas[2].DurableLSN = true, 8 }
	suspect := func(at int) func(*View, *Log) { return func(_ *View, l *Log) { l.Replicas[at].Suspect = true } }
	oneRack := func(v *View, l *Log) {
		l.FailureDomain = placement.Rack
		v.Daemons[3].Labels["rack"] = v.Daemons[4].Labels["rack"]
	}
	type aLog struct {
		id   string
		on   []int
		harm []func(*View, *Log)
	}
	harm := func(fs ...func(*View, *Log)) []func(*View, *Log) { return fs }
	three, five := []int{5, 6, 7}, []int{5, 6, 7, 8, 9}
	for name, c := range map[string]struct {
		logs []aLog
		want string // but for the new replica's daemon
	}{
		"missing before a drain": {
			[]aLog{{"a", []int{0, 5, 6}, harm(drains)}, {"b", three, harm(missing(0))}},
			"replace-b.5 missing; drain-a.0 waits",
		},
		"missing before a recovery": {
			[]aLog{{"a", three, harm(differs)}, {"b", three, harm(missing(0))}},
			"replace-b.5 missing; recover-a waits",
		},
		"a recovery before what takes no writes": {
			[]aLog{{"a", []int{1, 5, 6}, harm(readOnly)}, {"b", five, harm(differs)}}, // b can lose more
			"recover-b no-writer; replace-a.1 waits",
		},
		"what takes no writes before a shared domain": {
			[]aLog{{"a", []int{3, 4, 5}, harm(oneRack)}, {"b", []int{1, 5, 6}, harm(readOnly)}},
			"replace-b.1 read-only; replace-a.4 waits",
		},
		"a shared domain before a drain": {
			[]aLog{{"a", []int{0, 5, 6}, harm(drains)}, {"b", []int{3, 4, 5}, harm(oneRack)}},
			"replace-b.4 failure-domain; drain-a.0 waits",
		},
		"a recovery before a drain": {
			[]aLog{{"a", []int{0, 5, 6}, harm(drains)}, {"b", five, harm(differs)}},
			"recover-b no-writer; drain-a.0 waits",
		},
		"damaged is as urgent as missing": {
			[]aLog{{"b", three, harm(missing(0))}, {"a", three, harm(missing(1), suspect(0))}},
			"replace-a.5 damaged; replace-b.5 waits",
		},
		"the fewest spare copies first": {
			[]aLog{{"a", five, harm(missing(0))}, {"b", five, harm(missing(0, 1))}, {"c", five, harm(missing(0))}},
			"replace-b.5 missing; replace-a.5 waits; replace-c.5 waits",
		},
		"spare is what can be lost, not what is here": { // four copies each, of which b needs all
			[]aLog{{"a", five, harm(missing(0))}, {"b", []int{5, 6, 7, 8, 9, 10, 11}, harm(missing(0, 1, 2))}},
			"replace-b.5 missing; replace-a.5 waits",
		},
		"urgency before spare copies": {
			[]aLog{{"a", []int{0, 5, 6}, harm(drains)}, {"b", []int{5, 6, 7, 8, 9, 1, 2}, harm(missing(0))}},
			"replace-b.5 missing; drain-a.0 waits",
		},
		"a drain of the fewest spare copies first": {
			[]aLog{{"a", []int{0, 5, 6, 7, 8}, harm(drains)}, {"b", []int{0, 5, 6}, harm(drains)}},
			"drain-b.0 draining; drain-a.0 waits",
		},
		"by name if there is no other difference": {
			[]aLog{{"c", three, harm(missing(0))}, {"b", three, harm(missing(0))}, {"a", three, harm(missing(0))}},
			"replace-a.5 missing; replace-b.5 waits; replace-c.5 waits",
		},
		"of two reasons in one log, the more urgent": {
			[]aLog{{"a", []int{0, 5, 6}, harm(drains, missing(1))}},
			"replace-a.5 missing",
		},
		"of two that are as urgent, the first": {
			[]aLog{{"a", five, harm(missing(1, 3))}},
			"replace-a.6 missing",
		},
		"of a recovery and a drain in one log, the recovery": {
			[]aLog{{"a", []int{0, 5, 6}, harm(drains, differs)}},
			"recover-a no-writer",
		},
		"of a recovery and a missing replica in one log, the replica": {
			[]aLog{{"a", five, harm(differs, missing(1))}},
			"replace-a.6 missing",
		},
		"a log's most urgent reason is its place in the queue": {
			[]aLog{{"a", []int{1, 5, 6}, harm(readOnly)}, {"b", []int{0, 5, 6}, harm(drains, missing(1))}},
			"replace-b.5 missing; replace-a.1 waits",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, l := cluster(12), limits()
			l.Cluster = 1
			for _, made := range c.logs {
				log := v.log(made.id, made.on...)
				for _, f := range made.harm {
					f(v, log)
				}
			}
			p := New(1)
			for _, at := range []Duration{0, l.Grace - 1, l.Grace} { // first with nothing begun, so that all conditions are old
				plan := p.Plan(v, l, at < l.Grace, at)
				for i := range plan.Start {
					plan.Start[i].To = ""
				}
				if got := plan.text(); at == l.Grace && got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			}
		})
	}
}

// Scrubs come last, in a lane of their own.
func TestScrubsComeLast(t *testing.T) {
	t.Parallel()
	v, l := cluster(4), limits()
	l.Cluster, l.ScrubEvery = 1, Minute
	v.log("z", 0, 1, 2)
	v.Daemons[0].Draining = true
	p := New(1)
	p.Plan(v, l, true, 0)
	plan := p.Plan(v, l, false, Minute)
	if got := plan.text(); got != "drain-z.0 draining to d3; scrub-d0 due; scrub-d1 waits; scrub-d2 waits; scrub-d3 waits" {
		t.Errorf("%q", got)
	}
	if !slices.ContainsFunc(plan.Queue, func(s Step) bool { return s.WaitsFor == "other scrubs: the cluster's limit is reached" }) {
		t.Errorf("what they wait for: %+v", plan.Queue)
	}
}
