package planner

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gravenio/graven/placement"
)

// limits are those of the tables.
func limits() Limits {
	return Limits{
		Grace: 10 * Minute, Timeout: 15 * Minute, RecoverAfter: Minute, PerDaemon: 2, Cluster: 16, MaxDownPercent: 25,
	}
}

// cluster is n daemons d0.., each its own host, all up, with room for a few
// replicas.
func cluster(n int) *View {
	v := &View{}
	for i := range n {
		v.Daemons = append(v.Daemons, Daemon{Daemon: placement.Daemon{
			ID: fmt.Sprintf("d%d", i), Media: "file", Transports: []string{"tcp"}, FreeBytes: 1 << 30, CapacityBytes: 1 << 30, Up: true,
			Labels: map[string]string{"rack": fmt.Sprintf("r%d", i)},
		}, Holds: true, Session: 1})
	}
	return v
}

// log adds one with replicas on these daemons.
func (v *View) log(id string, daemons ...int) *Log {
	l := Log{ID: id, AckQuorum: len(daemons)/2 + 1, ReplicaBytes: 1 << 20}
	for _, d := range daemons {
		l.Replicas = append(l.Replicas, Replica{
			ID: fmt.Sprintf("%s.%d", id, d), DaemonID: fmt.Sprintf("d%d", d), Reported: true, Epoch: 1, DurableLSN: 10,
		})
	}
	v.Logs = append(v.Logs, l)
	return &v.Logs[len(v.Logs)-1]
}

func (p *Plan) text() string {
	var out []string
	for _, s := range p.Start {
		text := s.ID + " " + string(s.Reason)
		if s.To != "" {
			text += " to " + s.To
		}
		out = append(out, text)
	}
	for _, s := range p.Queue {
		out = append(out, s.ID+" waits")
	}
	for _, e := range p.Ends {
		out = append(out, e.ID+" "+string(e.State))
	}
	for _, id := range p.Drop {
		out = append(out, id+" dropped")
	}
	return strings.Join(out, "; ")
}

// What is wrong with one log on d0, d1 and d2 of four daemons, and what is done
// about it before and after the grace time.
func TestReasons(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm         func(v *View, l *Log)
		first, later string
	}{
		"nothing": {harm: func(*View, *Log) {}},
		"down":    {harm: func(v *View, _ *Log) { v.Daemons[0].Up = false }, later: "replace-l.0 down to d3"},
		"lost": {
			harm: func(v *View, _ *Log) { v.Daemons = v.Daemons[1:] }, first: "replace-l.0 lost to d3", later: "replace-l.0 lost to d3",
		},
		"missing": {
			harm: func(_ *View, l *Log) { l.Replicas[1].Missing = true }, first: "replace-l.1 missing to d3", later: "replace-l.1 missing to d3",
		},
		"suspect": {
			harm:  func(_ *View, l *Log) { l.Replicas[2].Suspect, l.Written = true, true },
			later: "replace-l.2 damaged to d3",
		},
		"suspect without a writer": {
			harm:  func(_ *View, l *Log) { l.Replicas[2].Suspect = true },
			later: "replace-l.2 damaged to d3", // a recovery had its time
		},
		"read-only": {harm: func(v *View, _ *Log) { v.Daemons[2].ReadOnly = true }, later: "replace-l.2 read-only to d3"},
		"one rack": {
			harm: func(v *View, l *Log) {
				l.FailureDomain = placement.Rack
				v.Daemons[2].Labels["rack"] = "r1"
			},
			later: "replace-l.2 failure-domain to d3",
		},
		"draining": {
			harm: func(v *View, _ *Log) { v.Daemons[1].Draining = true }, first: "drain-l.1 draining to d3", later: "drain-l.1 draining to d3",
		},
		"draining and down": {
			harm:  func(v *View, _ *Log) { v.Daemons[1].Draining, v.Daemons[1].Up = true, false },
			first: "drain-l.1 draining to d3", later: "replace-l.1 down to d3",
		},
		"no room": {
			harm: func(v *View, l *Log) { l.Replicas[1].Missing, v.Daemons[3].FreeBytes = true, 0 }, first: "replace-l.1 waits", later: "replace-l.1 waits",
		},
		"no room that takes writes": {
			harm: func(v *View, l *Log) { l.Replicas[1].Missing, v.Daemons[3].ReadOnly = true, true }, first: "replace-l.1 waits", later: "replace-l.1 waits",
		},
		"the last copies": {
			harm:  func(_ *View, l *Log) { l.Replicas[0].Missing, l.Replicas[1].Missing = true, true },
			first: "replace-l.0 waits", later: "replace-l.0 waits",
		},
		"a learner there": {harm: func(v *View, l *Log) {
			l.Replicas[0].Missing = true
			l.Replicas = append(l.Replicas, Replica{ID: "x", DaemonID: "d3", Learner: true})
		}},
		"a writer gone, all the same": {harm: func(_ *View, l *Log) { l.Vanished = true }},
		"a writer gone, and they differ": {
			harm:  func(_ *View, l *Log) { l.Vanished, l.Replicas[1].DurableLSN = true, 8 },
			later: "recover-l no-writer",
		},
		"a writer there, and they differ": {harm: func(_ *View, l *Log) { l.Written, l.Replicas[1].DurableLSN = true, 8 }},
		"closed, and they differ":         {harm: func(_ *View, l *Log) { l.Replicas[1].DurableLSN = 8 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := cluster(4)
			c.harm(v, v.log("l", 0, 1, 2))
			p := New(1)
			if got := p.Plan(v, limits(), false, 0); got.text() != c.first {
				t.Errorf("at first: %q, want %q", got.text(), c.first)
			}
			p.Plan(v, limits(), false, 10*Minute-1)
			if got := p.Plan(v, limits(), false, 10*Minute); got.text() != c.later {
				t.Errorf("after the grace time: %q, want %q", got.text(), c.later)
			}
		})
	}
}

// Nothing is begun that could not come to its end: a log without a writer has to
// be opened first, for which its ack quorum must be there; with a writer, the ack
// quorum of the new set. What is not begun says what it waits for.
func TestWhatCannotEndIsNotBegun(t *testing.T) {
	t.Parallel()
	lost := func(at ...int) func(*View, *Log) {
		return func(_ *View, l *Log) {
			for _, i := range at {
				l.Replicas[i].Missing = true
			}
		}
	}
	both := func(fs ...func(*View, *Log)) func(*View, *Log) {
		return func(v *View, l *Log) {
			for _, f := range fs {
				f(v, l)
			}
		}
	}
	readOnly := func(at int) func(*View, *Log) { return func(v *View, _ *Log) { v.Daemons[at].ReadOnly = true } }
	drains := func(at int) func(*View, *Log) { return func(v *View, _ *Log) { v.Daemons[at].Draining = true } }
	written := func(_ *View, l *Log) { l.Written = true }
	for name, c := range map[string]struct {
		replicas, quorum int
		harm             func(v *View, l *Log)
		want             string
		waits            string // a part of what it says
	}{
		"2 of 2, one lost":               {2, 2, lost(0), "replace-l.0 waits", "of 2 replicas, 1 is here and takes writes, and 2 must be for the log to be opened"},
		"2 of 2, one lost, written":      {2, 2, both(lost(0), written), "replace-l.0 missing to d5", ""},
		"2 of 2, one drains":             {2, 2, drains(0), "drain-l.0 draining to d5", ""},
		"2 of 2, one drains, written":    {2, 2, both(drains(0), written), "drain-l.0 draining to d5", ""},
		"2 of 2, one read-only":          {2, 2, readOnly(0), "replace-l.0 waits", "must be for the log to be opened"},
		"2 of 2, one read-only, written": {2, 2, both(readOnly(0), written), "replace-l.0 read-only to d5", ""},
		"2 of 2, lost and drained, written": {
			2, 2, both(lost(0), drains(1), written), "replace-l.0 missing to d5", "",
		},
		"3 of 3, one lost":           {3, 3, lost(2), "replace-l.2 waits", "of 3 replicas, 2 are here and take writes, and 3 must be"},
		"3 of 3, one lost, written":  {3, 3, both(lost(2), written), "replace-l.2 missing to d5", ""},
		"3 of 3, two lost, written":  {3, 3, both(lost(1, 2), written), "replace-l.1 waits", "of the 2 other replicas, 1 is here and takes writes, and 2 must be for its writer to go on with the new one"},
		"3 of 3, one damaged":        {3, 3, func(_ *View, l *Log) { l.Replicas[0].Suspect = true }, "replace-l.0 damaged to d5", ""},
		"3 of 2, one lost":           {3, 2, lost(0), "replace-l.0 missing to d5", ""},
		"3 of 2, lost and read-only": {3, 2, both(lost(0), readOnly(1)), "replace-l.0 waits", "of 3 replicas, 1 is here and takes writes, and 2 must be"},
		"3 of 2, lost and read-only, written": {
			3, 2, both(lost(0), readOnly(1), written), "replace-l.0 missing to d5", "",
		},
		"3 of 2, two lost":          {3, 2, lost(0, 1), "replace-l.0 waits", "of 3 replicas, 1 is here, and 2 must be to know what was acknowledged"},
		"3 of 2, two lost, written": {3, 2, both(lost(0, 1), written), "replace-l.0 waits", "to know what was acknowledged"},
		"5 of 4, two lost":          {5, 4, lost(0, 1), "replace-l.0 waits", "of 5 replicas, 3 are here and take writes, and 4 must be"},
		"5 of 4, two lost, written": {5, 4, both(lost(0, 1), written), "replace-l.0 missing to d5", ""},
		// The more urgent one can't be begun, the other can.
		"3 of 3, damaged and read-only, written": {
			3, 3, both(func(_ *View, l *Log) { l.Replicas[0].Suspect = true }, readOnly(1), written), "replace-l.1 read-only to d5", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := cluster(6)
			l := v.log("l", []int{0, 1, 2, 3, 4}[:c.replicas]...)
			l.AckQuorum = c.quorum
			for i := c.replicas; i < 5; i++ { // what is left is d5
				v.Daemons[i].FreeBytes = 0
			}
			c.harm(v, l)
			p := New(1)
			for at := Duration(0); at < 10*Minute; at += 5 * Minute {
				p.Plan(v, limits(), false, at)
			}
			plan := p.Plan(v, limits(), false, 10*Minute)
			if plan.text() != c.want {
				t.Errorf("%q, want %q", plan.text(), c.want)
			}
			if len(plan.Queue) == 1 && !strings.Contains(plan.Queue[0].WaitsFor, c.waits) {
				t.Errorf("it waits for %q, want %q", plan.Queue[0].WaitsFor, c.waits)
			}
		})
	}
}

// Nor is a recovery, which is an open.
func TestARecoveryThatCannotEndIsNotBegun(t *testing.T) {
	t.Parallel()
	v := cluster(3)
	l := v.log("l", 0, 1, 2)
	l.AckQuorum, l.Vanished, l.Replicas[0].DurableLSN = 3, true, 8
	v.Daemons[2].Up = false
	p := New(1)
	p.Plan(v, limits(), false, 0)
	if plan := p.Plan(v, limits(), false, Minute); plan.text() != "recover-l waits" || !strings.Contains(plan.Queue[0].WaitsFor, "for the log to be opened") {
		t.Errorf("with one away: %q, %+v", plan.text(), plan.Queue)
	}
	v.Daemons[2].Up = true
	if plan := p.Plan(v, limits(), false, Minute); plan.text() != "recover-l no-writer" {
		t.Errorf("with all here: %q", plan.text())
	}
}

// Nor is one that no daemon can carry out: it is listed with what it waits for.
func TestARecoveryWithoutADaemonForItWaits(t *testing.T) {
	t.Parallel()
	v := cluster(3)
	l := v.log("l", 0, 1, 2)
	l.Vanished, l.Replicas[0].DurableLSN = true, 8
	for i := range v.Daemons {
		v.Daemons[i].ReadOnly = true
	}
	p := New(1)
	p.Plan(v, limits(), false, 0)
	if plan := p.Plan(v, limits(), false, Minute); plan.text() != "recover-l waits" || !strings.Contains(plan.Queue[0].WaitsFor, "0 are here and take writes") {
		t.Errorf("all take no writes: %q, %+v", plan.text(), plan.Queue)
	}
	v.Daemons[1].ReadOnly, v.Daemons[2].ReadOnly = false, false
	if plan := p.Plan(v, limits(), false, Minute); plan.text() != "recover-l no-writer" || plan.Start[0].DaemonID != "d1" || plan.Start[0].ReplicaID != "l.1" {
		t.Errorf("two do: %q, %+v", plan.text(), plan.Start)
	}
}

// A recovery goes to a daemon with room, and waits for the first if there is none.
func TestWhoRecovers(t *testing.T) {
	t.Parallel()
	v, limit := cluster(9), limits()
	limit.PerDaemon = 1
	l := v.log("l", 3, 0, 1, 2)
	l.Vanished, l.Replicas[3].DurableLSN, v.Daemons[3].ReadOnly = true, 8, true
	other := func(id string, on int) {
		o := v.log(id, on, 7, 8)
		o.Replicas[0].Suspect = true
		v.Operators = append(v.Operators, Operator{ID: "recover-" + id, Kind: Recover, Reason: NoWriter, State: Running, LogID: id, DaemonID: fmt.Sprint("d", on)})
	}
	p := New(1)
	p.Plan(v, limit, true, 0)
	for i, want := range []string{"d0", "d1", "d2"} {
		plan := p.Plan(v, limit, false, Minute)
		if len(plan.Start) != 1 || plan.Start[0].DaemonID != want {
			t.Errorf("%d daemons have work: %q %+v, want %s", i, plan.text(), plan.Start, want)
		}
		other(fmt.Sprint("x", i), i)
	}
	if plan := p.Plan(v, limit, false, Minute); plan.text() != "recover-l waits" || !strings.Contains(plan.Queue[0].WaitsFor, "the limit of daemon d0") {
		t.Errorf("all have work: %q, %+v", plan.text(), plan.Queue)
	}
}

// Recoveries that are begun at once are spread, too.
func TestRecoveriesAreSpread(t *testing.T) {
	t.Parallel()
	v, limit := cluster(3), limits()
	limit.PerDaemon = 1
	for _, id := range []string{"a", "b", "c", "d"} {
		v.log(id, 0, 1, 2).Replicas[2].Suspect = true
	}
	p := New(1)
	p.Plan(v, limit, true, 0)
	plan := p.Plan(v, limit, false, Minute)
	var on []string
	for _, s := range plan.Start {
		on = append(on, s.LogID+" "+s.ReplicaID+" "+s.DaemonID)
	}
	if want := []string{"a a.0 d0", "b b.1 d1", "c c.2 d2"}; !slices.Equal(on, want) || len(plan.Queue) != 1 || plan.Queue[0].ID != "recover-d" {
		t.Errorf("begun are %q, want %q; %+v wait", on, want, plan.Queue)
	}
}

// What can't be begun is shown after what can.
func TestWhatCannotEndComesLast(t *testing.T) {
	t.Parallel()
	v := cluster(4)
	for i := range MaxQueue + 1 {
		l := v.log(fmt.Sprintf("a%03d", i), 0, 1)
		l.AckQuorum, l.Replicas[0].Missing = 2, true
	}
	v.log("z", 0, 1, 2)
	v.Daemons[2].Draining = true
	plan := New(1).Plan(v, limits(), true, 0)
	if len(plan.Queue) != MaxQueue || plan.Queue[0].ID != "drain-z.2" || plan.Queue[0].WaitsFor != "operators are paused" {
		t.Errorf("%d wait, first %+v", len(plan.Queue), plan.Queue[0])
	}
	if !strings.Contains(plan.Queue[1].WaitsFor, "more replicas") {
		t.Errorf("what waits for more than the pause: %+v", plan.Queue[1])
	}
}

// The grace time begins anew with each session, and with each planner.
func TestABlipCausesNothing(t *testing.T) {
	t.Parallel()
	v := cluster(4)
	v.log("l", 0, 1, 2)
	p, now := New(1), Duration(0)
	step := func(up bool) string {
		now += 9 * Minute
		v.Daemons[0].Up = up
		plan := p.Plan(v, limits(), false, now)
		return plan.text()
	}
	for range 5 {
		if got := step(false) + step(true); got != "" {
			t.Fatalf("a blip caused %q", got)
		}
	}
	step(false)
	v.Daemons[0].Session++ // it was up between two looks
	if got := step(false); got != "" {
		t.Errorf("a blip that was not seen caused %q", got)
	}
	if got := New(2).Plan(v, limits(), false, now+100*Hour); got.text() != "" {
		t.Errorf("a new planner begins with %q", got.text())
	}
	step(false)
	if got := step(false); got == "" {
		t.Error("a daemon that stays down is not replaced")
	}
}

func TestBrakeAndPause(t *testing.T) {
	t.Parallel()
	v := cluster(8)
	for i := range 8 {
		v.log(fmt.Sprint("l", i), i, (i+1)%8, (i+2)%8)
	}
	for i, want := range []int{0, 1, 1, 0} { // so many are down
		for d := range i {
			v.Daemons[3*d%8].Up = false
		}
		p := New(1)
		p.Plan(v, limits(), false, 0)
		plan := p.Plan(v, limits(), false, Hour)
		if got := min(1, len(plan.Start)); got != want || (plan.Brake != "") != (i == 3) {
			t.Errorf("%d down: %d begun, brake %q", i, len(plan.Start), plan.Brake)
		}
		if paused := p.Plan(v, limits(), true, Hour+1); len(paused.Start) != 0 || (len(paused.Queue) != 0) != (want != 0) {
			t.Errorf("%d down and paused: %q", i, paused.text())
		}
	}
	for i := range v.Daemons {
		if !v.Daemons[i].Up {
			v.Daemons[i].Holds = false
		}
	}
	if brake := Brake(v.Daemons, limits()); brake != "" {
		t.Errorf("daemons that hold nothing brake: %s", brake)
	}
}

// Daemons that were cut off together come back one after the other. When so many are
// there that the brake is off, nobody has waited for the others yet.
func TestTheGraceBeginsWithTheBrakesEnd(t *testing.T) {
	t.Parallel()
	v := cluster(8)
	for i := range 8 {
		v.log(fmt.Sprint("l", i), i, (i+1)%8, (i+2)%8)
	}
	p := New(1)
	step := func(now Duration) string {
		plan := p.Plan(v, limits(), false, now)
		return plan.text()
	}
	v.Daemons[0].Up, v.Daemons[3].Up, v.Daemons[6].Up = false, false, false
	for now := Duration(0); now <= Hour; now += 10 * Minute {
		if got := step(now); got != "" {
			t.Fatalf("with the brake on for %v: %q", now, got)
		}
	}
	v.Daemons[3].Up = true
	for _, later := range []Duration{1, 10 * Minute} {
		if got := step(Hour + later); got != "" {
			t.Fatalf("%v after the first is back: %q", later, got)
		}
	}
	if got := step(Hour + 10*Minute + 1); !strings.Contains(got, "down to") {
		t.Errorf("those that do not come back are not replaced: %q", got)
	}
}

func TestLimitsHold(t *testing.T) {
	t.Parallel()
	v := cluster(6)
	for i := range 20 {
		v.log(fmt.Sprintf("l%02d", i), 0, 1+i%2, 3)
	}
	v.Daemons[0].Draining = true
	l := limits()
	plan := New(1).Plan(v, l, false, 0)
	if len(plan.Start) != 2 || len(plan.Queue) != 18 {
		t.Errorf("one daemon drains: %q", plan.text())
	}
	l.PerDaemon, l.Cluster = 100, 5
	if plan = New(1).Plan(v, l, false, 0); len(plan.Start) != 5 || len(plan.Queue) != 15 {
		t.Errorf("the cluster's limit: %q", plan.text())
	}
	v.Operators = []Operator{
		{ID: "drain-x", Kind: Drain, State: Running, LogID: "l00", ReplicaID: "l00.0", DaemonID: "d0", To: "d4", LearnerID: "y"},
		{ID: "drain-l19.0", Kind: Drain, State: Planned},
		{ID: "drain-gone", Kind: Drain, State: Planned},
	}
	v.Logs[0].Replicas = append(v.Logs[0].Replicas, Replica{ID: "y", DaemonID: "d4", Learner: true, Operator: "drain-x"})
	v.Operators[0].Reason = Draining
	if plan = New(1).Plan(v, l, false, 0); len(plan.Start) != 4 || !slices.Equal(plan.Drop, []string{"drain-gone"}) {
		t.Errorf("with one under way: %q", plan.text())
	}
}
