package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gravenio/graven/placement"
)

// world is a cluster that carries plans out, on a clock of its own, and that
// things happen to.
type world struct {
	t    *testing.T
	rnd  *rand.Rand
	p    *Planner
	v    *View
	l    Limits
	now  Duration
	made int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), p: New(seed), l: Limits{
		Grace: 10 * Minute, Timeout: 15 * Minute, RecoverAfter: Minute, MaxDownPercent: 100,
	}}
	w.l.PerDaemon, w.l.Cluster = 1+w.rnd.IntN(3), 1+w.rnd.IntN(8)
	racks := 5 + w.rnd.IntN(4)
	w.v = cluster(2*racks + w.rnd.IntN(4))
	for i := range w.v.Daemons {
		w.v.Daemons[i].Labels["rack"] = fmt.Sprint("r", i%racks)
		w.v.Daemons[i].FreeBytes = 1 << 40 // failure domains are the scarce thing here
	}
	for i := range 10 + w.rnd.IntN(30) {
		n := 3
		first := w.rnd.IntN(len(w.v.Daemons) - n)
		l := w.v.log(fmt.Sprint("l", i), first, first+1, first+2)
		l.FailureDomain = []placement.FailureDomain{placement.Host, placement.Rack}[w.rnd.IntN(2)]
		l.AckQuorum, l.Written = 2+w.rnd.IntN(2), w.rnd.IntN(2) == 0
	}
	return w
}

// harm does something to a daemon or a log, never to more daemons than the
// racks that are left can make up for.
func (w *world) harm() {
	d := &w.v.Daemons[w.rnd.IntN(len(w.v.Daemons))]
	l := &w.v.Logs[w.rnd.IntN(len(w.v.Logs))]
	unwell := 0
	for i := range w.v.Daemons {
		if d := &w.v.Daemons[i]; !d.Up || d.Draining || d.ReadOnly {
			unwell++
		}
	}
	switch kind := w.rnd.IntN(7); {
	case kind == 0:
		l.Replicas[w.rnd.IntN(len(l.Replicas))].Missing = true
	case kind == 1:
		l.Written, l.Vanished, l.Replicas[0].DurableLSN = false, true, 7
	case kind == 2:
		d.Up, d.Draining, d.ReadOnly = true, false, false
		d.Session++
	case kind == 6:
		l.Written, l.Vanished = !l.Written, false
	case unwell >= 2:
	case kind == 3:
		d.Up = false
	case kind == 4:
		d.Draining = true
	case kind == 5:
		d.ReadOnly = true
	}
}

// step plans once and carries everything out.
func (w *world) step() Plan {
	w.now += Duration(w.rnd.Int64N(int64(Minute)))
	for i := range w.v.Daemons {
		w.v.Daemons[i].Holds = true
	}
	plan := w.p.Plan(w.v, w.l, false, w.now)
	for _, e := range plan.Ends {
		w.end(w.op(e.ID), e.State)
	}
	for _, id := range plan.Drop {
		w.op(id).State = Cancelled
		w.forget(id)
	}
	for _, s := range plan.Start {
		w.start(&s)
	}
	for _, s := range plan.Queue {
		if w.op(s.ID) == nil {
			w.v.Operators = append(w.v.Operators, Operator{ID: s.ID, Kind: s.Kind, State: Planned})
		}
	}
	w.check()
	return plan
}

func (w *world) op(id string) *Operator {
	for i := range w.v.Operators {
		if w.v.Operators[i].ID == id {
			return &w.v.Operators[i]
		}
	}
	return nil
}

func (w *world) forget(id string) {
	for i := range w.v.Operators {
		if w.v.Operators[i].ID == id {
			w.v.Operators = append(w.v.Operators[:i], w.v.Operators[i+1:]...)
			return
		}
	}
}

func (w *world) logOf(id string) *Log {
	for i := range w.v.Logs {
		if w.v.Logs[i].ID == id {
			return &w.v.Logs[i]
		}
	}
	w.t.Fatalf("no log %s", id)
	return nil
}

func (w *world) daemon(id string) *Daemon {
	for i := range w.v.Daemons {
		if w.v.Daemons[i].ID == id {
			return &w.v.Daemons[i]
		}
	}
	w.t.Fatalf("no daemon %s", id)
	return nil
}

// start begins a step as the store does.
func (w *world) start(s *Step) {
	attempts := 1
	if o := w.op(s.ID); o != nil {
		attempts += o.Attempts
		w.forget(s.ID)
	}
	o := Operator{
		ID: s.ID, Kind: s.Kind, Reason: s.Reason, State: Running, LogID: s.LogID, ReplicaID: s.ReplicaID, DaemonID: s.DaemonID, To: s.To, Attempts: attempts,
	}
	l := w.logOf(s.LogID)
	if l.learner() != nil {
		w.t.Fatalf("%s begins while the log has a learner", s.ID)
	}
	if known := (&round{daemons: w.index()}).readable(l); known < l.needed() {
		w.t.Fatalf("%s touches the last copies: %d known, %d needed", s.ID, known, l.needed())
	}
	if !w.ends(l, &o) {
		w.t.Fatalf("%s can't end: %+v", s.ID, l)
	}
	if s.To != "" {
		w.made++
		o.LearnerID = fmt.Sprint("new", w.made)
		l.Replicas = append(l.Replicas, Replica{ID: o.LearnerID, DaemonID: s.To, Learner: true, Operator: s.ID})
	}
	w.v.Operators = append(w.v.Operators, o)
}

// ends says whether the protocol brings an operator to its end, with the daemons
// as they are: the log has to be opened by an ack quorum of its set unless a writer
// has done that, and then one of the set to come has to hold what there is.
func (w *world) ends(l *Log, o *Operator) bool {
	set, fenced, next := 0, 0, 0
	for i := range l.Replicas {
		rep := &l.Replicas[i]
		d := w.daemon(rep.DaemonID)
		takes := d.Up && !d.ReadOnly && !rep.Missing
		if !rep.Learner {
			set++
		}
		if takes && !rep.Learner {
			fenced++
		}
		if takes && (rep.Learner || rep.ID != o.ReplicaID) {
			next++
		}
	}
	if to := w.index()[o.To]; o.LearnerID == "" && to != nil && to.Up && !to.ReadOnly {
		next++ // it is made there
	}
	unknown := set - fenced
	opened := l.Written && o.Kind != Recover || unknown < l.AckQuorum && fenced >= l.AckQuorum
	return opened && (o.Kind == Recover || next >= l.AckQuorum)
}

func (w *world) index() map[string]*Daemon {
	m := map[string]*Daemon{}
	for i := range w.v.Daemons {
		m[w.v.Daemons[i].ID] = &w.v.Daemons[i]
	}
	return m
}

// end takes an operator's learner out.
func (w *world) end(o *Operator, s State) {
	o.State = s
	l := w.logOf(o.LogID)
	if r := l.replica(o.LearnerID); r != nil && r.Learner && s != Done {
		w.drop(l, r.ID)
	}
}

func (w *world) drop(l *Log, id string) {
	for i := range l.Replicas {
		if l.Replicas[i].ID == id {
			l.Replicas = append(l.Replicas[:i], l.Replicas[i+1:]...)
			return
		}
	}
}

// work brings some of what runs to its end.
func (w *world) work() {
	for i := range w.v.Operators {
		o := &w.v.Operators[i]
		if o.State != Running || w.rnd.IntN(3) > 0 {
			continue
		}
		l := w.logOf(o.LogID)
		switch learner := l.replica(o.LearnerID); {
		case !w.ends(l, o):
		case o.Kind == Recover:
			l.Vanished, o.State = false, Done
			for i := range l.Replicas {
				l.Replicas[i].DurableLSN = 10
			}
		case learner == nil || !w.daemon(o.To).Up:
		default:
			learner.Learner, learner.Reported, learner.Epoch, learner.DurableLSN = false, true, 1, 10
			w.drop(l, o.ReplicaID)
			o.State = Done
		}
	}
}

// check holds what must never be broken.
func (w *world) check() {
	w.t.Helper()
	all, busy := 0, map[string]int{}
	for i := range w.v.Operators {
		if o := &w.v.Operators[i]; o.State == Running {
			all++
			for _, id := range []string{o.DaemonID, o.To} {
				if id != "" {
					busy[id]++
				}
			}
		}
	}
	if all > w.l.Cluster {
		w.t.Fatalf("%d operators run, %d may", all, w.l.Cluster)
	}
	for id, n := range busy {
		// One that was down took no part, and its work is not taken away when it returns.
		if n > w.l.PerDaemon && w.daemon(id).Session == 1 && w.daemon(id).Up {
			w.t.Fatalf("%d operators with daemon %s, %d may", n, id, w.l.PerDaemon)
		}
	}
	for i := range w.v.Logs {
		w.checkDomains(&w.v.Logs[i])
	}
}

// checkDomains says that no new replica lies where one that stays does.
func (w *world) checkDomains(l *Log) {
	w.t.Helper()
	learner := l.learner()
	for i := range l.Replicas {
		a := &l.Replicas[i]
		for j := range i {
			b := &l.Replicas[j]
			if learner != nil && (a.Learner && w.op(a.Operator).ReplicaID == b.ID || b.Learner && w.op(b.Operator).ReplicaID == a.ID) {
				continue
			}
			if placement.Share(&w.daemon(a.DaemonID).Daemon, &w.daemon(b.DaemonID).Daemon, l.FailureDomain) {
				w.t.Fatalf("replicas %s and %s of log %s share a failure domain", a.ID, b.ID, l.ID)
			}
		}
	}
}

// TestSimulation does harm at random, and then lets the cluster come to rest:
// every promise holds all the while, and nothing is left that could be repaired.
func TestSimulation(t *testing.T) {
	t.Parallel()
	runs := 60
	if testing.Short() {
		runs = 20
	}
	for range runs {
		seed := rand.Uint64()
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			for range 200 {
				if w.rnd.IntN(4) == 0 {
					w.harm()
				}
				w.step()
				w.work()
			}
			for i := range w.v.Daemons { // blips, from now on
				w.v.Daemons[i].Up = true
			}
			quiet := 0
			for i := 0; quiet < 200; i++ {
				if i > 20000 {
					t.Fatalf("it does not come to rest: %+v", w.v.Operators)
				}
				plan := w.step()
				w.work()
				quiet++
				if len(plan.Start)+len(plan.Ends) > 0 {
					quiet = 0
				}
			}
			w.atRest()
		})
	}
}

// anyWell is a daemon that takes writes.
func (w *world) anyWell() string {
	for i := range w.v.Daemons {
		if d := &w.v.Daemons[i]; d.Up && !d.ReadOnly {
			return d.ID
		}
	}
	w.t.Fatal("no daemon takes writes")
	return ""
}

// atRest says that whatever could be repaired has been.
func (w *world) atRest() {
	w.t.Helper()
	known := &round{daemons: w.index()}
	for i := range w.v.Logs {
		l := &w.v.Logs[i]
		if known.readable(l) < l.needed() {
			continue // the last copies are for people, even if a writer is at work
		}
		for _, r := range l.Replicas {
			if !r.Learner && !w.ends(l, &Operator{Kind: Replace, ReplicaID: r.ID, To: w.anyWell()}) {
				continue // for people
			}
			if d := w.daemon(r.DaemonID); d.Draining || d.ReadOnly || r.Missing || r.Learner {
				w.t.Errorf("replica %s of log %s is left on %s: draining %v, read-only %v, missing %v, learner %v; %+v",
					r.ID, l.ID, d.ID, d.Draining, d.ReadOnly, r.Missing, r.Learner, w.v.Operators)
			}
		}
	}
}
