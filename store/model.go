package store

import "time"

// DaemonState is what a daemon is doing as far as the control plane can tell.
type DaemonState string

// The states of a daemon. A draining daemon that is not live is shown as down.
const (
	DaemonUp       DaemonState = "up"
	DaemonDown     DaemonState = "down"
	DaemonDraining DaemonState = "draining"
)

// LogState sums up a log for people. The replicas and the writer tell the rest.
type LogState string

// The states of a log, the first that applies: a recovering writer holds it;
// one of its replicas is missing or on a daemon that is not live; a writer's
// lease lives; none of these.
const (
	LogRecovering LogState = "recovering"
	LogDegraded   LogState = "degraded"
	LogOpen       LogState = "open"
	LogClosed     LogState = "closed"
)

// ReplicaState is the place of a replica in its log's life.
type ReplicaState string

// The states of a replica in a log's record. A learner is being filled as a
// replacement and counts for nothing; a log has one at most. A condemned
// replica is no longer part of a log and is therefore not listed here.
const (
	ReplicaAllocated ReplicaState = "allocated"
	ReplicaPresent   ReplicaState = "present"
	ReplicaLearner   ReplicaState = "learner"
)

// Health is a daemon's opinion of itself.
type Health struct {
	// Status is "ok", "degraded" or "read-only"; empty means "ok".
	Status string `json:"status"`
	// Detail says why, for people.
	Detail string `json:"detail,omitempty"`
}

// readOnly says that the daemon's pool takes no writes any more.
func (h Health) readOnly() bool { return h.Status == "read-only" }

// Addresses are where a daemon serves its pool.
type Addresses struct {
	RNICAddr string `json:"rnic_addr,omitempty"`
	RNICPort int    `json:"rnic_port,omitempty"`
	TCPAddr  string `json:"tcp_addr"`
	TCPPort  int    `json:"tcp_port"`
}

// ReplicaSummary is what a daemon reports of one replica in its pool.
type ReplicaSummary struct {
	ReplicaID string `json:"replica_id"`
	LogID     string `json:"log_id"`
	// Bytes is the room that the replica takes in the pool.
	Bytes int64 `json:"bytes"`
	// Epoch is the highest epoch the replica has been fenced to.
	Epoch uint64 `json:"epoch"`
	// TrimLSN, TailLSN, DurableLSN and CommitLSN are byte positions as the daemon last
	// knew them.
	TrimLSN    uint64 `json:"trim_lsn"`
	TailLSN    uint64 `json:"tail_lsn"`
	DurableLSN uint64 `json:"durable_lsn"`
	CommitLSN  uint64 `json:"commit_lsn"`
	// Suspect says that the replica noticed the loss of something it once had.
	Suspect bool `json:"suspect,omitempty"`
	// Damage says what is wrong with what it holds from DamageLSN on; empty for
	// nothing.
	Damage    string `json:"damage,omitempty"`
	DamageLSN uint64 `json:"damage_lsn,omitempty"`
}

// Daemon is a replica daemon as the view has it.
type Daemon struct {
	DaemonID    string      `json:"daemon_id"`
	PoolID      string      `json:"pool_id"`
	Incarnation uint64      `json:"incarnation"`
	State       DaemonState `json:"state"`
	// Draining stays visible here while State says down.
	Draining bool `json:"draining"`
	Addresses
	CapacityBytes int64 `json:"capacity_bytes"`
	// FreeBytes is what a new replica can be promised: the capacity less what
	// is reserved and quarantined, and never more than the daemon reported.
	FreeBytes        int64             `json:"free_bytes"`
	ReservedBytes    int64             `json:"reserved_bytes"`
	QuarantinedBytes int64             `json:"quarantined_bytes"`
	Media            string            `json:"media"`
	Transports       []string          `json:"transports"`
	FlushModes       []string          `json:"flush_modes"`
	Labels           map[string]string `json:"labels"`
	Version          string            `json:"version"`
	Health           Health            `json:"health"`
	LeaseTTLSeconds  int64             `json:"lease_ttl_seconds"`
	Replicas         []ReplicaSummary  `json:"replicas"`
	Quarantined      []string          `json:"quarantined,omitempty"`
	// Missing lists the replicas that the control plane has as present here
	// and the daemon could not find at its last registration.
	Missing []string `json:"missing,omitempty"`
	// Identity is the name of the principal that the ID is bound to; "" if it
	// registered where nobody was asked.
	Identity string `json:"identity,omitempty"`
	// RegisteredAt, LastSeen, ReportedAt and DownSince are wall-clock times of
	// servers, for people; nothing is decided by them. DownSince is zero while
	// the daemon is live.
	RegisteredAt time.Time `json:"registered_at"`
	LastSeen     time.Time `json:"last_seen"`
	ReportedAt   time.Time `json:"reported_at"`
	DownSince    time.Time `json:"down_since,omitzero"`
	// ModRevision is the newest etcd revision among the keys this is made of.
	ModRevision int64 `json:"mod_revision"`
}

// Replica is one daemon's copy of a log.
type Replica struct {
	ReplicaID string       `json:"replica_id"`
	DaemonID  string       `json:"daemon_id"`
	State     ReplicaState `json:"state"`
	// Replaces is the replica whose place a learner is to take, or "".
	Replaces string `json:"replaces,omitempty"`
	// Missing says that the daemon is live and has no region for a replica
	// that should be present: unknown, never empty.
	Missing bool `json:"missing,omitempty"`
	// DaemonState is the state of the daemon that holds it, or "" if the
	// daemon is not known (any more).
	DaemonState DaemonState `json:"daemon_state,omitempty"`
	// Reported is what the daemon last said of it, ReportedAt when; nil and
	// zero if it has not.
	Reported   *ReplicaSummary `json:"reported,omitempty"`
	ReportedAt time.Time       `json:"reported_at,omitzero"`
}

// Writer is the one process that may append to a log.
type Writer struct {
	WriterID   string    `json:"writer_id"`
	Name       string    `json:"name,omitempty"`
	Host       string    `json:"host,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Epoch      uint64    `json:"epoch"`
	Recovering bool      `json:"recovering,omitempty"`
	Since      time.Time `json:"since"`
}

// Log is a replicated log as the view has it.
type Log struct {
	LogID         string    `json:"log_id"`
	Name          string    `json:"name"`
	State         LogState  `json:"state"`
	AckQuorum     int       `json:"ack_quorum"`
	CapacityBytes int64     `json:"capacity_bytes"`
	ReplicaBytes  int64     `json:"replica_bytes"`
	SetVersion    uint64    `json:"set_version"`
	Epoch         uint64    `json:"epoch"`
	Replicas      []Replica `json:"replicas"`
	Writer        *Writer   `json:"writer,omitempty"`
	CreatedAt     time.Time `json:"created_at"`
	// Owner is the principal that made it, and Groups are those that he was in;
	// empty where nobody was asked.
	Owner  string   `json:"owner,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// ModRevision is the etcd revision of the log's record.
	ModRevision int64 `json:"mod_revision"`
}

// Condemned is a replica that is no longer part of any log and whose bytes stay
// reserved until its daemon has said that the region is gone.
type Condemned struct {
	DaemonID  string    `json:"daemon_id"`
	ReplicaID string    `json:"replica_id"`
	LogID     string    `json:"log_id"`
	Bytes     int64     `json:"bytes"`
	Since     time.Time `json:"since"`
}

// Step is one thing that the control plane asks of a daemon.
type Step struct {
	// OperatorID is what the daemon repeats in its result.
	OperatorID string `json:"operator_id"`
	// Kind is one of the Step constants. A scrub has neither log nor replica.
	Kind      string `json:"kind"`
	LogID     string `json:"log_id"`
	ReplicaID string `json:"replica_id"`
	// SetVersion, of a removal, is the version of the log's set when the replica
	// left it, else that of the set; 0 if not known.
	SetVersion uint64 `json:"set_version,omitempty"`
}

// The kinds of steps.
const (
	// StepRemoveReplica asks a daemon to free the region of a condemned
	// replica.
	StepRemoveReplica = "remove-replica"
	// StepRecoverLog asks a daemon to do a writer's work for a log that has none:
	// open it, fill the learner and promote it if there is one, close. What came
	// of a learner shows in the log's record.
	StepRecoverLog = "recover-log"
	// StepScrub asks a daemon to read its pool through.
	StepScrub = "scrub"
	// StepReplaceReplica asks a writer to fill the learner and promote it. The
	// change of the set is its result.
	StepReplaceReplica = "replace-replica"
)

// StepResult is what became of a step.
type StepResult struct {
	OperatorID string `json:"operator_id"`
	Kind       string `json:"kind"`
	ReplicaID  string `json:"replica_id"`
	// Done is true when it is done, or there was nothing to do.
	Done bool `json:"done"`
	// Error says why it is not done; the step will be sent again.
	Error string `json:"error,omitempty"`
}

// Endpoint is a daemon that a writer must reach.
type Endpoint struct {
	ReplicaID string       `json:"replica_id"`
	DaemonID  string       `json:"daemon_id"`
	State     ReplicaState `json:"state"`
	// Replaces is the replica whose place a learner is to take, or "".
	Replaces string `json:"replaces,omitempty"`
	// Live says whether the daemon's lease lives; the addresses are then
	// current, else the last known ones.
	Live bool `json:"live"`
	Addresses
}
