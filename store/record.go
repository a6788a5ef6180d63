package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// schema is the version that every value carries.
const schema = 1

type version struct {
	V int `json:"v"`
}

type clusterRecord struct {
	version
	ClusterID string    `json:"cluster_id"`
	CreatedAt time.Time `json:"created_at"`
	// EtcdID is etcd's own cluster ID in hexadecimal; Life counts how often it
	// was found to be another one.
	EtcdID string `json:"etcd_id,omitempty"`
	Life   uint64 `json:"life,omitempty"`
}

// markKeyRecord is what servers prove marks to each other with.
type markKeyRecord struct {
	version
	Secret []byte `json:"secret"`
}

// keyRecord is schema 1 of the grant keys: one, which signs.
type keyRecord struct {
	version
	Seed []byte `json:"seed"`
}

type daemonRecord struct {
	version
	PoolID           string            `json:"pool_id"`
	Incarnation      uint64            `json:"incarnation"`
	Addresses        Addresses         `json:"addresses"`
	CapacityBytes    int64             `json:"capacity_bytes"`
	QuarantinedBytes int64             `json:"quarantined_bytes,omitempty"`
	Quarantined      []string          `json:"quarantined,omitempty"`
	Media            string            `json:"media"`
	Transports       []string          `json:"transports"`
	FlushModes       []string          `json:"flush_modes,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
	Version          string            `json:"version,omitempty"`
	Draining         bool              `json:"draining,omitempty"`
	RegisteredAt     time.Time         `json:"registered_at"`
	// Identity is the name that the ID is bound to; "" if it registered without.
	Identity  string    `json:"identity,omitempty"`
	LastSeen  time.Time `json:"last_seen,omitzero"`
	DownSince time.Time `json:"down_since,omitzero"`
}

type liveRecord struct {
	version
	Incarnation uint64           `json:"incarnation"`
	Addresses   Addresses        `json:"addresses"`
	FreeBytes   int64            `json:"free_bytes"`
	Health      Health           `json:"health"`
	Replicas    []ReplicaSummary `json:"replicas,omitempty"`
	Missing     []string         `json:"missing,omitempty"`
	ReportedAt  time.Time        `json:"reported_at"`
	TTLSeconds  int64            `json:"ttl_seconds"`
	// Life is that of etcd in which the daemon registered. What it has may be
	// unknown to a later one.
	Life uint64 `json:"life,omitempty"`
	// Seals name newer sets than their logs' records did when the daemon registered.
	Seals []SealReport `json:"seals,omitempty"`
	// Outdated asks the daemon to register again: what it was told to do with a
	// replica has changed.
	Outdated bool `json:"outdated,omitempty"`
	// KeysVersion is that of the grant keys that the daemon keeps.
	KeysVersion uint64 `json:"keys_version,omitempty"`
}

type spaceRecord struct {
	version
	ReservedBytes int64 `json:"reserved_bytes"`
}

type ownerRecord struct {
	version
	DaemonID string `json:"daemon_id"`
}

type goneRecord struct {
	version
	At time.Time `json:"at"`
	// PoolID is that of a daemon that was given up as lost, for good.
	PoolID string `json:"pool_id,omitempty"`
	Lost   bool   `json:"lost,omitempty"`
}

type logRecord struct {
	version
	Name          string          `json:"name"`
	AckQuorum     int             `json:"ack_quorum"`
	CapacityBytes int64           `json:"capacity_bytes"`
	ReplicaBytes  int64           `json:"replica_bytes"`
	Replicas      []replicaRecord `json:"replicas"`
	SetVersion    uint64          `json:"set_version"`
	Epoch         uint64          `json:"epoch"`
	Nonce         string          `json:"nonce,omitempty"`
	// Life is that of etcd in which the record was made or last opened. One from an
	// earlier life may be older than what the replicas have promised since.
	Life uint64 `json:"life,omitempty"`
	// Writer and TTLSeconds are the newest writer's, so that it can have its
	// lease back; ClosedEpoch is the last one that ended by a close.
	Writer      *Writer   `json:"writer,omitempty"`
	TTLSeconds  int64     `json:"ttl_seconds,omitempty"`
	ClosedEpoch uint64    `json:"closed_epoch,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
	// Owner is who made the log, and Groups are those that he was in.
	Owner  string   `json:"owner,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// ClientKey is what the newest writer proves to daemons, or "".
	ClientKey string `json:"client_key,omitempty"`
	// Placement is what a replacement's daemon must be, too.
	Placement PlacementRules `json:"placement,omitzero"`
}

type replicaRecord struct {
	ReplicaID string       `json:"replica_id"`
	DaemonID  string       `json:"daemon_id"`
	State     ReplicaState `json:"state"`
	// Replaces is the replica whose place a learner is to take.
	Replaces string `json:"replaces,omitempty"`
	// JoinedSet is the set version that a promote of this replica made; it
	// tells a repeated promote from another one's.
	JoinedSet uint64 `json:"joined_set,omitempty"`
	// Operator is what a learner was made by.
	Operator string `json:"operator,omitempty"`
}

type nameRecord struct {
	version
	LogID string `json:"log_id"`
}

type writerRecord struct {
	version
	Writer
	TTLSeconds int64 `json:"ttl_seconds"`
}

type condemnedRecord struct {
	version
	LogID string    `json:"log_id"`
	Bytes int64     `json:"bytes"`
	Since time.Time `json:"since"`
	// SetVersion is that of the log's set when the replica left it. Its daemon keeps
	// a replica that is a member of a later set: this etcd was set back.
	SetVersion uint64 `json:"set_version,omitempty"`
}

type journalRecord struct {
	version
	JournalEntry
}

type idemRecord struct {
	version
	Hash   string          `json:"hash"`
	Answer json.RawMessage `json:"answer"`
}

func (v version) schemaVersion() int { return v.V }

// decode reads a value. A value of another schema version is an error: an
// older server must not guess what a newer one meant.
func decode[T interface{ schemaVersion() int }](key string, value []byte) (T, error) {
	var rec T
	if err := json.Unmarshal(value, &rec); err != nil {
		return rec, fmt.Errorf("store: value of %s: %w", key, err)
	}
	if v := rec.schemaVersion(); v != schema {
		return rec, fmt.Errorf("store: value of %s has schema version %d, this program knows %d: "+
			"use one version of the servers", key, v, schema)
	}
	return rec, nil
}

// encode cannot fail: records are made of plain types.
func encode(rec any) string {
	b, err := json.Marshal(rec)
	if err != nil {
		panic(fmt.Sprintf("store: encode %T: %v", rec, err))
	}
	return string(b)
}

func current() version { return version{V: schema} }

func (l *logRecord) replica(id string) *replicaRecord {
	return l.find(func(r *replicaRecord) bool { return r.ReplicaID == id })
}

// learner is the one replica that is being filled as a replacement, or nil.
func (l *logRecord) learner() *replicaRecord {
	return l.find(func(r *replicaRecord) bool { return r.State == ReplicaLearner })
}

// member is the replica of the set that has this ID or is on this daemon, or
// nil. A learner is not of the set.
func (l *logRecord) member(id string) *replicaRecord {
	return l.find(func(r *replicaRecord) bool {
		return r.State != ReplicaLearner && (r.ReplicaID == id || r.DaemonID == id)
	})
}

func (l *logRecord) find(is func(*replicaRecord) bool) *replicaRecord {
	for i := range l.Replicas {
		if is(&l.Replicas[i]) {
			return &l.Replicas[i]
		}
	}
	return nil
}

// drop takes a replica out of the list and returns it.
func (l *logRecord) drop(id string) replicaRecord {
	i := slices.IndexFunc(l.Replicas, func(r replicaRecord) bool { return r.ReplicaID == id })
	if i < 0 {
		return replicaRecord{}
	}
	gone := l.Replicas[i]
	l.Replicas = slices.Delete(l.Replicas, i, i+1)
	return gone
}
