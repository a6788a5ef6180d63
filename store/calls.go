package store

import "time"

// RegisterRequest is what a daemon says of itself when it starts.
type RegisterRequest struct {
	DaemonID    string            `json:"daemon_id"`
	PoolID      string            `json:"pool_id"`
	Incarnation uint64            `json:"incarnation"`
	Addresses                     // Where it serves; TCPAddr and TCPPort are required.
	Capacity    int64             `json:"capacity_bytes"`
	Free        int64             `json:"free_bytes"`
	Media       string            `json:"media"`
	Transports  []string          `json:"transports"`
	FlushModes  []string          `json:"flush_modes"`
	Labels      map[string]string `json:"labels"`
	Version     string            `json:"version"`
	Health      Health            `json:"health"`
	Replicas    []ReplicaSummary  `json:"replicas"`
	// Seals are the newest of those replicas that name a set above version 1.
	Seals []SealReport `json:"seals,omitempty"`
	// LeaseTTL is rounded up to whole seconds; zero takes the store's default.
	LeaseTTL time.Duration `json:"lease_ttl"`
	// KeysVersion is that of the grant keys on the daemon's disk, or 0.
	KeysVersion uint64 `json:"keys_version,omitempty"`
	// Mark is the highest one that the daemon was given; zero for none.
	Mark EtcdMark `json:"etcd_mark,omitzero"`
}

// Verdict is what a daemon shall do with a replica in its inventory.
type Verdict string

// The verdicts. Quarantine means: keep it, list it, serve it to nobody.
const (
	VerdictKeep       Verdict = "keep"
	VerdictRemove     Verdict = "remove"
	VerdictQuarantine Verdict = "quarantine"
)

// ReplicaVerdict names one replica of the inventory.
type ReplicaVerdict struct {
	ReplicaID string  `json:"replica_id"`
	LogID     string  `json:"log_id"`
	Verdict   Verdict `json:"verdict"`
	// SetVersion, with VerdictRemove, is as in Step.
	SetVersion uint64 `json:"set_version,omitempty"`
}

// Registration answers Register.
type Registration struct {
	LeaseTTL   time.Duration
	RenewEvery time.Duration
	// Replicas has one verdict for each replica of the inventory, in its order.
	Replicas []ReplicaVerdict
	// Missing lists replicas that should be present and were not reported.
	Missing []string
	// ClusterID and Grants are what the daemon needs to check grants without the
	// control plane.
	ClusterID string
	Grants    GrantRules
	Revision  int64
	// Mark is for the daemon to keep in the place of any that it has.
	Mark EtcdMark
}

// HeartbeatRequest renews a daemon's lease.
type HeartbeatRequest struct {
	DaemonID    string
	Incarnation uint64
	// Free is what the pool has left.
	Free   int64
	Health Health
	// Addresses replace the registered ones if TCPPort is not zero.
	Addresses Addresses
	// Replicas are the current summaries; nil leaves the recorded ones.
	Replicas []ReplicaSummary
	Results  []StepResult
	// KeysVersion is that of the grant keys on the daemon's disk; 0 leaves the
	// recorded one.
	KeysVersion uint64
	// Mark is the highest one that the daemon was given; zero for none.
	Mark EtcdMark
}

// HeartbeatAnswer answers Heartbeat.
type HeartbeatAnswer struct {
	LeaseTTL   time.Duration
	RenewEvery time.Duration
	Steps      []Step
	Grants     GrantRules
	Revision   int64
	// Mark is for the daemon to keep, if it is higher than what it has.
	Mark EtcdMark
}

// CreateLogRequest makes a log on the given daemons.
type CreateLogRequest struct {
	Name string `json:"name"`
	// Daemons are the chosen ones, all different, 1 to 7.
	Daemons       []string `json:"daemons"`
	AckQuorum     int      `json:"ack_quorum"`
	CapacityBytes int64    `json:"capacity_bytes"`
	// Placement are the rules that the daemons were chosen by. They are kept
	// for the choice of replacements.
	Placement PlacementRules `json:"placement,omitzero"`
	// IdempotencyKey makes a repetition return the first answer; "" is none.
	// The hash that tells a repetition from a misuse covers RequestHash if it
	// is set, else everything in this request but the daemons, which placement
	// may choose differently the second time.
	IdempotencyKey string `json:"-"`
	RequestHash    string `json:"-"`
}

// OpenLogRequest asks for the next epoch.
type OpenLogRequest struct {
	// Log is a log's ID or name.
	Log  string `json:"log"`
	Name string `json:"name"`
	Host string `json:"host"`
	PID  int    `json:"pid"`
	// Takeover opens although another writer's lease lives.
	Takeover bool `json:"takeover"`
	// Recovering marks an agent that opens on nobody's behalf; a client's open
	// preempts it without Takeover.
	Recovering bool `json:"recovering"`
	// MinEpoch is the least epoch that will do; the answer's epoch is the
	// higher of it and the recorded one plus one.
	MinEpoch uint64 `json:"min_epoch"`
	// LeaseTTL is rounded up to whole seconds; zero takes the store's default.
	LeaseTTL time.Duration `json:"lease_ttl"`
	// ClientKey is what the writer will prove to daemons: the SHA-256 of its
	// SubjectPublicKeyInfo in lower-case hexadecimal; "" makes a grant without.
	ClientKey      string `json:"client_key,omitempty"`
	IdempotencyKey string `json:"-"`
}

// OpenAnswer is what a writer needs to fence and append.
type OpenAnswer struct {
	LogID    string `json:"log_id"`
	Name     string `json:"name"`
	WriterID string `json:"writer_id"`
	Epoch    uint64 `json:"epoch"`
	// Nonce is 16 hexadecimal digits.
	Nonce         string        `json:"nonce"`
	SetVersion    uint64        `json:"set_version"`
	AckQuorum     int           `json:"ack_quorum"`
	CapacityBytes int64         `json:"capacity_bytes"`
	Replicas      []Endpoint    `json:"replicas"`
	Grant         string        `json:"grant"`
	LeaseTTL      time.Duration `json:"lease_ttl"`
	RenewEvery    time.Duration `json:"renew_every"`
	ClusterID     string        `json:"cluster_id"`
	// AfterClose says that the epoch before ended by a close.
	AfterClose bool `json:"after_close,omitempty"`
}

// WriterRef names a writer in its epoch.
type WriterRef struct {
	// Log is a log's ID or name.
	Log      string
	WriterID string
	Epoch    uint64
	// Nonce is compared if it is not empty.
	Nonce string
	// ClientKey is for the grant of a renewal; "" is the one of the open.
	ClientKey string
}

// RenewAnswer answers Renew.
type RenewAnswer struct {
	LeaseTTL   time.Duration
	RenewEvery time.Duration
	SetVersion uint64
	// Replicas have the daemons' current addresses.
	Replicas []Endpoint
	// Steps are what the control plane asks of the writer.
	Steps []Step
	// Grant is for the same epoch and nonce and names the set as it is now and the
	// learner; it is "" when a later open has the log.
	Grant    string
	Revision int64
}

// SetReplicasRequest changes replicas in a writer's name.
type SetReplicasRequest struct {
	// Log is a log's ID or name.
	Log        string
	Epoch      uint64
	Nonce      string
	SetVersion uint64
	// Present lists the replica IDs that shall be present: allocated ones, or
	// the learner alone, which is then promoted.
	Present []string
	// Condemned is the learner's ID when it is to be given up; nothing else may
	// be asked for then.
	Condemned []string
}

// PlacementRules say what a log's daemons must be. Zero values are placement's
// defaults.
type PlacementRules struct {
	FailureDomain string            `json:"failure_domain,omitempty"`
	Transport     string            `json:"transport,omitempty"`
	Media         string            `json:"media,omitempty"`
	Labels        map[string]string `json:"labels,omitempty"`
}

// StartReplacementRequest asks for another replica in the place of one.
type StartReplacementRequest struct {
	// Log is a log's ID or name.
	Log string `json:"log"`
	// Replica is a replica's ID or its daemon's.
	Replica string `json:"replica"`
	// To is the daemon for the new one; "" lets placement choose.
	To             string `json:"to"`
	IdempotencyKey string `json:"-"`
}

// LogEventRequest is what a writer wants in the journal.
type LogEventRequest struct {
	// Writer must be the log's, its nonce included.
	Writer WriterRef `json:"writer"`
	// Kind is JournalDataLossAccepted.
	Kind JournalKind `json:"kind"`
	// Detail is at most 2 KiB, GivenUp at most 14.
	Detail         string    `json:"detail"`
	GivenUp        []GivenUp `json:"given_up"`
	IdempotencyKey string    `json:"-"`
}
