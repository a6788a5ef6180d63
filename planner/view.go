package planner

import (
	"github.com/gravenio/graven/placement"
)

// Kind is what an operator does.
type Kind string

// The kinds of operators that are planned.
const (
	Replace Kind = "replace"
	Drain   Kind = "drain"
	Recover Kind = "recover"
	Scrub   Kind = "scrub"
)

// Reason is why it does so.
type Reason string

// The reasons.
const (
	Lost          Reason = "lost"
	Missing       Reason = "missing"
	Damaged       Reason = "damaged"
	Down          Reason = "down"
	ReadOnly      Reason = "read-only"
	FailureDomain Reason = "failure-domain"
	Draining      Reason = "draining"
	NoWriter      Reason = "no-writer"
	Due           Reason = "due"
)

// State is how far an operator has come.
type State string

// The states. The last three are ends.
const (
	Planned   State = "planned"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended says whether nothing more comes of it.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// View is what a plan is made from.
type View struct {
	Daemons   []Daemon
	Logs      []Log
	Operators []Operator
}

// Daemon is a daemon that is registered.
type Daemon struct {
	placement.Daemon

	// Holds says that replicas of logs are on it.
	Holds bool
	// Session is another number for each time that it was up.
	Session int64
}

// Log is a log with its replicas.
type Log struct {
	ID           string
	AckQuorum    int
	ReplicaBytes int64
	// FailureDomain, Transport, Media and Labels are what its daemons must be.
	FailureDomain placement.FailureDomain
	Transport     string
	Media         string
	Labels        map[string]string
	// Written says that a writer's lease lives, Vanished that the newest writer
	// went without closing the log. A log that nobody ever opened is neither.
	Written, Vanished bool
	Replicas          []Replica
}

// Replica is one of a log's replicas, or its learner.
type Replica struct {
	ID, DaemonID string
	// Learner says that it is being filled and counts for nothing yet; Operator
	// is what it was made by.
	Learner  bool
	Operator string
	// Missing says that its daemon is up and can't find it, Suspect that it has
	// lost something.
	Missing, Suspect bool
	// Reported says that its daemon has told Epoch and DurableLSN.
	Reported   bool
	Epoch      uint64
	DurableLSN uint64
}

// Operator is one that is recorded.
type Operator struct {
	ID        string
	Kind      Kind
	Reason    Reason // another one than above: it was not planned here
	State     State
	LogID     string
	ReplicaID string // that leaves, or on the daemon that works
	DaemonID  string // of that replica
	To        string // the learner's daemon
	LearnerID string
	WaitsFor  string
	Attempts  int
}

// Limits bound what is begun.
type Limits struct {
	// Grace is for how long a daemon must be down, or a replica unfit, before it
	// is replaced.
	Grace Duration
	// Timeout is for how long an operator may make no progress.
	Timeout Duration
	// RecoverAfter is for how long a log must be without a writer, and in need,
	// before it is recovered.
	RecoverAfter Duration
	// PerDaemon and Cluster bound the operators that a daemon takes part in, and
	// all, at a time.
	PerDaemon, Cluster int
	// MaxDownPercent is the share of daemons that may be down before nothing is
	// begun any more; one may always be.
	MaxDownPercent int
	// ScrubEvery is the time between a daemon's scrubs; 0 for none.
	ScrubEvery Duration
}

// Step is an operator that is wanted.
type Step struct {
	ID        string
	Kind      Kind
	Reason    Reason
	LogID     string
	ReplicaID string
	DaemonID  string
	// To is the new replica's daemon, in a step that shall begin.
	To string
	// WaitsFor says what a step waits for that can't begin yet, for people.
	WaitsFor string
}

// End is a running operator that shall end.
type End struct {
	ID    string
	State State // Done, Failed or Cancelled
	Why   string
}

// Plan is what to do now.
type Plan struct {
	// Ends come first; what they free is not used before the next plan.
	Ends []End
	// Start lists what to begin, the most urgent first.
	Start []Step
	// Queue lists what comes next, at most MaxQueue.
	Queue []Step
	// Drop names planned operators that are not wanted any more.
	Drop []string
	// Brake says why nothing is begun, if too many daemons are down.
	Brake string
}

// MaxQueue bounds the operators that are shown before they begin.
const MaxQueue = 100
