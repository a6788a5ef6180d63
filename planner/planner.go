package planner

import (
	"cmp"
	"slices"

	"github.com/gravenio/graven/placement"
)

// Planner remembers what it has seen since its election. Make it with New.
type Planner struct {
	seed   uint64
	sights sights
	scrubs map[string]int // how often each was begun, as of the plan before
}

// New returns a planner that has seen nothing. The seed is for the choice of
// daemons.
func New(seed uint64) *Planner { return &Planner{seed: seed} }

// Plan decides what to do. now is any monotonic clock's time, the same one's in
// every call.
func (p *Planner) Plan(v *View, l Limits, paused bool, now Duration) Plan {
	p.sights.begin(now)
	p.seed++
	r := newRound(p, v, l)
	r.seeEnded()
	plan := Plan{Brake: r.brake, Ends: r.ends()}
	wait := plan.Brake
	if paused {
		wait = "operators are paused"
	}
	plan.Start, plan.Queue = r.take(r.wanted(), wait)
	plan.Drop = r.unlisted(&plan)
	return plan
}

// take begins what can be begun, and lists for each log without a step that begins
// the first that can't, at most MaxQueue. A log's next step has its turn if no daemon
// fits for the one before it, which may last; it has none before one that waits for
// the limits. wait is what all wait for, or "".
func (r *round) take(wanted []want, wait string) (start, queue []Step) {
	listed, settled := make(map[string]bool), make(map[string]bool)
	for _, w := range wanted {
		of := cmp.Or(w.LogID, w.ID)
		if r.room.logs[of] || settled[of] {
			continue
		}
		step, fits := w.Step, true
		if step.WaitsFor = cmp.Or(w.lacks, wait); step.WaitsFor == "" {
			step, fits = r.admit(w)
		}
		if step.WaitsFor == "" {
			start = append(start, step)
			continue
		}
		if !listed[of] {
			queue = append(queue, step)
		}
		listed[of], settled[of] = true, fits
	}
	queue = slices.DeleteFunc(queue, func(s Step) bool { return r.room.logs[s.LogID] })
	return start, queue[:min(len(queue), MaxQueue)]
}

// round is one plan in the making.
type round struct {
	*Planner
	v       *View
	limits  Limits
	brake   string
	all     []Daemon
	daemons map[string]*Daemon
	logs    map[string]*Log
	ops     map[string]*Operator
	index   *placement.Index
	room    room
}

func newRound(p *Planner, v *View, l Limits) *round {
	r := &round{
		Planner: p, v: v, limits: l, brake: Brake(v.Daemons, l),
		daemons: make(map[string]*Daemon, len(v.Daemons)),
		logs:    make(map[string]*Log, len(v.Logs)),
		ops:     make(map[string]*Operator, len(v.Operators)),
		index:   placement.NewIndex(),
	}
	r.all = slices.Clone(v.Daemons) // what is chosen takes its room here
	for i := range r.all {
		d := &r.all[i]
		r.daemons[d.ID] = d
		r.index.Put(d.Daemon)
	}
	for i := range v.Logs {
		r.logs[v.Logs[i].ID] = &v.Logs[i]
	}
	for i := range v.Operators {
		r.ops[v.Operators[i].ID] = &v.Operators[i]
	}
	r.room = newRoom(r)
	return r
}

// want is a step with its place in the queue.
type want struct {
	Step

	log    *Log
	lacks  string   // what keeps it from coming to an end, for people, or ""
	urgent int      // the lower, the sooner
	spare  int      // copies that the log can still lose
	waited Duration // since the daemon's last scrub
}

// wanted are all steps that there is a reason for, the most urgent first, and last
// those that could not come to an end.
func (r *round) wanted() []want {
	var ws []want
	for i := range r.v.Logs {
		ws = append(ws, r.wantsForLog(&r.v.Logs[i])...)
	}
	ws = append(ws, r.wantScrubs()...)
	slices.SortStableFunc(ws, func(a, b want) int {
		return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.spare, b.spare), cmp.Compare(b.waited, a.waited), cmp.Compare(a.ID, b.ID))
	})
	return ws
}

// unlisted are the planned operators that no step stands for.
func (r *round) unlisted(p *Plan) []string {
	stays := make(map[string]bool, len(p.Start)+len(p.Queue))
	for _, s := range slices.Concat(p.Start, p.Queue) {
		stays[s.ID] = true
	}
	var drop []string
	for i := range r.v.Operators {
		if o := &r.v.Operators[i]; o.State == Planned && !stays[o.ID] {
			drop = append(drop, o.ID)
		}
	}
	return drop
}
