package store

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gravenio/graven/planner"
)

// OperatorRemoveReplica is the kind of the operators that nobody plans: each
// follows from a condemned replica, and is listed without a record of its own.
const OperatorRemoveReplica planner.Kind = "remove-replica"

// The reasons that are not the planner's.
const (
	ReasonRequested planner.Reason = "requested" // by a person, or the log's writer
	ReasonCondemned planner.Reason = "condemned"
)

// maxEnded bounds the operators that have ended and are still listed.
const maxEnded = 1000

// Operator is something that the control plane does by itself, as the view has
// it.
type Operator struct {
	OperatorID string         `json:"operator_id"`
	Kind       planner.Kind   `json:"kind"`
	Reason     planner.Reason `json:"reason"`
	State      planner.State  `json:"state"`
	LogID      string         `json:"log_id,omitempty"`
	LogName    string         `json:"log_name,omitempty"`
	// ReplicaID is the replica that leaves, or the one on the daemon that works;
	// DaemonID is that daemon.
	ReplicaID string `json:"replica_id,omitempty"`
	DaemonID  string `json:"daemon_id,omitempty"`
	// LearnerID is the new replica, To its daemon.
	LearnerID string `json:"learner_id,omitempty"`
	To        string `json:"to,omitempty"`
	// WaitsFor and Error are for people.
	WaitsFor string `json:"waits_for,omitempty"`
	Error    string `json:"error,omitempty"`
	Attempts int    `json:"attempts"`
	// CreatedAt, StartedAt and EndedAt are wall-clock times of servers, for
	// people; nothing is decided by them.
	CreatedAt time.Time `json:"created_at"`
	StartedAt time.Time `json:"started_at,omitzero"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// operatorRecord is the value of an operator's key, which has its ID.
type operatorRecord struct {
	version
	Operator
}

// operatorRow is a record as the view has it.
type operatorRow struct {
	rec *operatorRecord
	mod int64
}

// begin completes the record of an operator that begins, from the one that its key
// has, of an earlier attempt or of when it had to wait.
func (o *operatorRecord) begin(e entry) error {
	now := time.Now().UTC()
	o.CreatedAt, o.StartedAt, o.Attempts = now, now, 1
	if !e.exists() {
		return nil
	}
	before, err := decode[operatorRecord](e.key, e.value)
	o.Attempts += before.Attempts
	if before.State == planner.Planned {
		o.CreatedAt = before.CreatedAt
	}
	return err
}

// end completes the record of an operator that has ended.
func (o *operatorRecord) end(state planner.State, why string) {
	o.State, o.EndedAt, o.WaitsFor = state, time.Now().UTC(), ""
	if why != "" {
		o.Error = clipText(why)
	}
}

// clipText keeps a text for people within its bound.
func clipText(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxText)], "")
}

// assigned says whether the operator is a step of its daemon's.
func (o *operatorRecord) assigned() bool {
	return o.State == planner.Running && (o.Kind == planner.Recover || o.Kind == planner.Scrub)
}

func (t *tables) setOperator(id string, rec *operatorRecord, mod int64) {
	t.removeOperator(id)
	rec.OperatorID = id
	t.operators[id] = &operatorRow{rec: rec, mod: mod}
	if rec.assigned() {
		t.row(rec.DaemonID).work[id] = rec
	}
}

func (t *tables) removeOperator(id string) {
	o := t.operators[id]
	if o == nil {
		return
	}
	delete(t.operators, id)
	if d := t.daemons[o.rec.DaemonID]; d != nil {
		delete(d.work, id)
		t.refresh(o.rec.DaemonID)
	}
}

// Operators returns those that are recorded and the removals that follow from
// condemned replicas, sorted by ID, and the revision.
func (v *View) Operators() ([]Operator, int64) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	out := make([]Operator, 0, len(v.t.operators))
	for _, o := range v.t.operators {
		out = append(out, o.rec.Operator)
	}
	for id, d := range v.t.daemons {
		for replicaID, c := range d.condemned {
			out = append(out, v.t.removal(id, d, replicaID, &c))
		}
	}
	slices.SortFunc(out, func(a, b Operator) int { return strings.Compare(a.OperatorID, b.OperatorID) })
	return out, v.revision
}

// Operator returns one operator, and false if there is none of this ID.
func (v *View) Operator(id string) (Operator, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if o := v.t.operators[id]; o != nil {
		return o.rec.Operator, true
	}
	replicaID, ok := strings.CutPrefix(id, string(OperatorRemoveReplica)+"-")
	if !ok {
		return Operator{}, false
	}
	for daemonID, d := range v.t.daemons {
		if c, ok := d.condemned[replicaID]; ok {
			return v.t.removal(daemonID, d, replicaID, &c), true
		}
	}
	return Operator{}, false
}

// operator is a recorded one, or the removal of a replica that is condemned on the
// daemon.
func (v *View) operator(id, on string) (Operator, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if o := v.t.operators[id]; o != nil {
		return o.rec.Operator, true
	}
	replicaID, _ := strings.CutPrefix(id, string(OperatorRemoveReplica)+"-")
	d := v.t.daemons[on]
	if d == nil {
		return Operator{}, false
	}
	c, ok := d.condemned[replicaID]
	if !ok {
		return Operator{}, false
	}
	return v.t.removal(on, d, replicaID, &c), true
}

// removal is what a condemned replica asks of its daemon.
func (t *tables) removal(daemonID string, d *daemonRow, replicaID string, c *condemnedRecord) Operator {
	o := Operator{
		OperatorID: removalID(replicaID), Kind: OperatorRemoveReplica, Reason: ReasonCondemned, State: planner.Running,
		LogID: c.LogID, ReplicaID: replicaID, DaemonID: daemonID, Attempts: 1, CreatedAt: c.Since, StartedAt: c.Since,
	}
	if l := t.logs[c.LogID]; l != nil {
		o.LogName = l.rec.Name
	}
	if d.live == nil {
		o.State, o.WaitsFor, o.StartedAt, o.Attempts = planner.Planned, "daemon "+daemonID+", which is down", time.Time{}, 0
	}
	return o
}

func removalID(replicaID string) string { return StepRemoveReplica + "-" + replicaID }

// tasks are the operators that the daemon itself carries out.
func (t *tables) tasks(d *daemonRow, after time.Duration) []Step {
	var steps []Step
	for _, id := range slices.Sorted(maps.Keys(d.work)) {
		switch o := d.work[id]; {
		case len(steps) == recoveriesPerAnswer:
			return steps
		case o.Kind == planner.Scrub:
			steps = append(steps, Step{OperatorID: id, Kind: StepScrub})
		case t.logs[o.LogID] != nil && t.recoverable(t.logs[o.LogID], after):
			steps = append(steps, Step{OperatorID: id, Kind: StepRecoverLog, LogID: o.LogID, ReplicaID: o.ReplicaID})
		}
	}
	return steps
}

// replacing is what a log's learner asks of the log's writer.
func (l *logRecord) replacing(logID string) []Step {
	learner := l.learner()
	if learner == nil {
		return nil
	}
	return []Step{{
		OperatorID: learner.operatorID(logID), Kind: StepReplaceReplica, LogID: logID, ReplicaID: learner.ReplicaID, SetVersion: l.SetVersion,
	}}
}

// operatorID names the operator that a learner belongs to. One that an older
// server made has none of its own.
func (r *replicaRecord) operatorID(logID string) string {
	if r.Operator != "" {
		return r.Operator
	}
	return "recover-" + logID
}

// replaces says whether the operator has a learner.
func (o *operatorRecord) replaces() bool {
	return o.Kind == planner.Replace || o.Kind == planner.Drain
}
