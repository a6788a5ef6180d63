package store

import (
	"encoding/json"
	"fmt"
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
}

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
	LastSeen         time.Time         `json:"last_seen,omitzero"`
	DownSince        time.Time         `json:"down_since,omitzero"`
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
	// Writer and TTLSeconds are the newest writer's, so that it can have its
	// lease back; ClosedEpoch is the last one that ended by a close.
	Writer      *Writer   `json:"writer,omitempty"`
	TTLSeconds  int64     `json:"ttl_seconds,omitempty"`
	ClosedEpoch uint64    `json:"closed_epoch,omitempty"`
	CreatedAt   time.Time `json:"created_at"`
}

type replicaRecord struct {
	ReplicaID string       `json:"replica_id"`
	DaemonID  string       `json:"daemon_id"`
	State     ReplicaState `json:"state"`
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
	for i := range l.Replicas {
		if l.Replicas[i].ReplicaID == id {
			return &l.Replicas[i]
		}
	}
	return nil
}
