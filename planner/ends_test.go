package planner

import (
	"strings"
	"testing"
)

// endCase is what happens while an operator runs, and how it ends at that time:
// not, if want is "".
type endCase struct {
	change func(v *View)
	after  Duration
	want   State
	why    string // a part of what it says
}

// check plans when the operator, the only one of the view, has just begun, when
// half of the time has gone by, and at the time.
func (c *endCase) check(t *testing.T, v *View, l Limits) {
	t.Helper()
	p := New(1)
	if plan := p.Plan(v, l, false, 0); len(plan.Ends) != 0 {
		t.Fatalf("it ends at once: %q", plan.text())
	}
	if c.after > 0 {
		p.Plan(v, l, false, c.after/2)
	}
	if c.change != nil {
		c.change(v)
	}
	plan := p.Plan(v, l, false, c.after)
	if c.want == "" {
		if len(plan.Ends)+len(plan.Start) != 0 {
			t.Errorf("it does not go on: %q", plan.text())
		}
		return
	}
	if len(plan.Ends) != 1 || plan.Ends[0].ID != v.Operators[0].ID || plan.Ends[0].State != c.want || !strings.Contains(plan.Ends[0].Why, c.why) {
		t.Errorf("%+v, want %s, %q", plan.Ends, c.want, c.why)
	}
}

// What ends a replacement that is under way.
func TestEndsOfReplacements(t *testing.T) {
	t.Parallel()
	daemon := func(i int, f func(*Daemon)) func(*View) { return func(v *View) { f(&v.Daemons[i]) } }
	down := func(d *Daemon) { d.Up = false }
	for name, c := range map[string]struct {
		reason Reason
		begin  func(v *View) // how it is from the beginning
		endCase
	}{
		"nothing":            {Missing, nil, endCase{nil, 15*Minute - 1, "", ""}},
		"no progress":        {Missing, nil, endCase{nil, 15 * Minute, Failed, "no progress for 900 s"}},
		"log deleted":        {Missing, nil, endCase{func(v *View) { v.Logs = nil }, 0, Cancelled, "deleted"}},
		"given up by others": {Missing, nil, endCase{func(v *View) { v.Logs[0].Replicas = v.Logs[0].Replicas[:3] }, 0, Failed, "not the log's any more"}},
		"promoted": {Missing, nil, endCase{func(v *View) {
			v.Logs[0].Replicas = v.Logs[0].Replicas[1:]
			v.Logs[0].Replicas[2].Learner = false
		}, 0, Done, ""}},
		"promoted before the old one goes": {Missing, nil, endCase{func(v *View) { v.Logs[0].Replicas[3].Learner = false }, 0, Done, ""}},
		"the old one gone first":           {Missing, nil, endCase{func(v *View) { v.Logs[0].Replicas = v.Logs[0].Replicas[1:] }, 0, Done, ""}},
		"its daemon lost":                  {Missing, nil, endCase{func(v *View) { v.Daemons = v.Daemons[:3] }, 0, Failed, "given up"}},
		"its daemon drains":                {Missing, nil, endCase{daemon(3, func(d *Daemon) { d.Draining = true }), 0, Failed, "drains"}},
		"its daemon down":                  {Missing, nil, endCase{daemon(3, down), 15*Minute - 1, "", ""}}, // it has its time to return
		"undrained":                        {Draining, daemon(0, func(d *Daemon) { d.Draining = true }), endCase{daemon(0, func(d *Daemon) { d.Draining = false }), 0, Cancelled, "does not drain"}},
		"drains still":                     {Draining, daemon(0, func(d *Daemon) { d.Draining = true }), endCase{nil, 15*Minute - 1, "", ""}},
		"drained, then lost":               {Draining, daemon(0, func(d *Daemon) { d.Draining = true }), endCase{func(v *View) { v.Daemons = v.Daemons[1:] }, 0, "", ""}},
		"back":                             {Down, daemon(0, down), endCase{daemon(0, func(d *Daemon) { d.Up = true }), 0, Cancelled, "is back"}},
		"down still":                       {Down, daemon(0, down), endCase{nil, 15*Minute - 1, "", ""}},
		"back without the replica": {Down, daemon(0, down), endCase{func(v *View) {
			v.Daemons[0].Up, v.Logs[0].Replicas[0].Missing = true, true
		}, 0, "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := replacing(c.reason)
			if c.begin != nil {
				c.begin(v)
			}
			c.check(t, v, limits())
		})
	}
}

// replacing is a log of which a replica on d0 is replaced by one on d3.
func replacing(reason Reason) *View {
	kind := Replace
	if reason == Draining {
		kind = Drain
	}
	v := cluster(4)
	l := v.log("l", 0, 1, 2)
	l.Replicas = append(l.Replicas, Replica{ID: "new", DaemonID: "d3", Learner: true, Operator: "op", Epoch: 1, DurableLSN: 1})
	v.Operators = []Operator{{
		ID: "op", Kind: kind, Reason: reason, State: Running, LogID: "l", ReplicaID: "l.0", DaemonID: "d0", To: "d3", LearnerID: "new", Attempts: 1,
	}}
	return v
}

// What ends a recovery that is under way, on d0.
func TestEndsOfRecoveries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]endCase{
		"nothing":           {nil, 15*Minute - 1, "", ""},
		"too slow":          {nil, 15 * Minute, Failed, "not done within 900 s"},
		"log deleted":       {func(v *View) { v.Logs = nil }, 0, Cancelled, "deleted"},
		"a writer came":     {func(v *View) { v.Logs[0].Written, v.Logs[0].Vanished = true, false }, 0, Done, "a writer has the log"},
		"a writer damaged":  {func(v *View) { v.Logs[0].Written, v.Logs[0].Replicas[1].Suspect = true, true }, 0, Done, "a writer has the log"},
		"they agree":        {func(v *View) { v.Logs[0].Replicas[1].DurableLSN = 10 }, 0, Done, ""},
		"closed":            {func(v *View) { v.Logs[0].Vanished = false }, 0, Done, ""},
		"closed, damaged":   {func(v *View) { v.Logs[0].Vanished, v.Logs[0].Replicas[1].Suspect = false, true }, 0, "", ""},
		"its daemon down":   {func(v *View) { v.Daemons[0].Up = false }, 0, Failed, "down"},
		"its daemon lost":   {func(v *View) { v.Daemons = v.Daemons[1:] }, 0, Failed, "down"},
		"another one down":  {func(v *View) { v.Daemons[2].Up = false }, 0, "", ""},
		"its daemon drains": {func(v *View) { v.Daemons[0].Draining = true }, 0, "", ""},
		// Each attempt has its time, and what replicas tell on the way gives none.
		"another attempt": {func(v *View) { v.Operators[0].Attempts++ }, 15 * Minute, "", ""},
		"still differing": {func(v *View) { v.Logs[0].Replicas[1].DurableLSN = 9 }, 15 * Minute, Failed, "not done"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := cluster(4)
			l := v.log("l", 0, 1, 2)
			l.Vanished, l.Replicas[1].DurableLSN = true, 8
			v.Operators = []Operator{{
				ID: "recover-l", Kind: Recover, Reason: NoWriter, State: Running, LogID: "l", ReplicaID: "l.0", DaemonID: "d0", Attempts: 1,
			}}
			c.check(t, v, limits())
		})
	}
}

// What ends a scrub that is under way, on d0. It tells nothing on its way, so it
// has the time until the next one.
func TestEndsOfScrubs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		every Duration
		endCase
	}{
		"nothing":            {20 * Hour, endCase{nil, 20*Hour - 1, "", ""}},
		"too slow":           {20 * Hour, endCase{nil, 20 * Hour, Failed, "not done within 72000 s"}},
		"often":              {Minute, endCase{nil, 15*Minute - 1, "", ""}},
		"often and too slow": {Minute, endCase{nil, 15 * Minute, Failed, "not done within 900 s"}},
		"none any more":      {0, endCase{nil, 24*Hour - 1, "", ""}},
		"none and too slow":  {0, endCase{nil, 24 * Hour, Failed, "not done within 86400 s"}},
		"its daemon down":    {20 * Hour, endCase{func(v *View) { v.Daemons[0].Up = false }, 0, Failed, "down"}},
		"its daemon removed": {20 * Hour, endCase{func(v *View) { v.Daemons = v.Daemons[1:] }, 0, Cancelled, "removed"}},
		"another one down":   {20 * Hour, endCase{func(v *View) { v.Daemons[1].Up = false }, 0, "", ""}},
		"its daemon drains":  {20 * Hour, endCase{func(v *View) { v.Daemons[0].Draining = true }, 0, "", ""}},
		"another attempt":    {20 * Hour, endCase{func(v *View) { v.Operators[0].Attempts++ }, 20 * Hour, "", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, l := cluster(4), limits()
			v.Operators = []Operator{{ID: "scrub-d0", Kind: Scrub, Reason: Due, State: Running, DaemonID: "d0", Attempts: 1}}
			l.ScrubEvery, l.Cluster = c.every, 4 // one at a time
			c.check(t, v, l)
		})
	}
}

// The time of an operator that stands still runs, too, while it would end for
// another reason and did not: that may go away again.
func TestTimesOfEndsRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind  Kind
		other func(v *View, on bool)
	}{
		"replacement": {Replace, func(v *View, on bool) { v.Daemons[3].Draining = on }},
		"recovery":    {Recover, func(v *View, on bool) { v.Logs[0].Written = on }},
		"scrub":       {Scrub, func(v *View, on bool) { v.Daemons[0].Up = !on }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p, l := replacing(Missing), New(1), limits()
			v.Operators[0].Kind, l.ScrubEvery = c.kind, Minute
			if c.kind == Recover {
				v.Logs[0].Vanished, v.Logs[0].Replicas[1].DurableLSN = true, 8
			}
			for i := range 3 {
				c.other(v, i == 1)
				if plan := p.Plan(v, l, false, Duration(i)*Minute); (len(plan.Ends) > 0) != (i == 1) {
					t.Fatalf("after %d minutes: %q", i, plan.text())
				}
			}
			if plan := p.Plan(v, l, false, 15*Minute); len(plan.Ends) != 1 || plan.Ends[0].State != Failed {
				t.Errorf("after its time: %q", plan.text())
			}
		})
	}
}

// What does not run has no end.
func TestOnlyWhatRunsEnds(t *testing.T) {
	t.Parallel()
	for _, state := range []State{Planned, Done, Failed, Cancelled} {
		v, p := replacing(Missing), New(1)
		v.Logs = nil
		v.Operators[0].State = state
		if plan := p.Plan(v, limits(), false, 0); len(plan.Ends) != 0 {
			t.Errorf("%s: %q", state, plan.text())
		}
	}
}

// The time of a replacement begins anew with each step that its learner makes.
func TestProgressIsTime(t *testing.T) {
	t.Parallel()
	for name, advance := range map[string]func(*Replica){
		"LSN":           func(r *Replica) { r.DurableLSN++ },
		"epoch":         func(r *Replica) { r.Epoch++ },
		"LSN goes back": func(r *Replica) { r.Epoch, r.DurableLSN = r.Epoch+1, 0 }, // another writer began to fill it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v, p := replacing(Missing), New(1)
			learner := &v.Logs[0].Replicas[3]
			at := Duration(0)
			after := func(d Duration) string {
				at += d
				plan := p.Plan(v, limits(), false, at)
				return plan.text()
			}
			after(0)
			for range 4 {
				if got := after(14 * Minute); got != "" {
					t.Fatalf("after 14 minutes: %q", got)
				}
				advance(learner)
				if got := after(0); got != "" {
					t.Fatalf("with progress: %q", got)
				}
			}
			if got := after(15*Minute - 1); got != "" {
				t.Errorf("almost too long after the last progress: %q", got)
			}
			v.Logs[0].Replicas[1].DurableLSN++ // another one's progress is none
			if got := after(1); got != "op failed" {
				t.Errorf("too long after the last progress: %q", got)
			}
		})
	}
}
