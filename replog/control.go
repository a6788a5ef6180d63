package replog

import (
	"context"
	"errors"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// Control is what a writer needs of the control plane, and only to open, to
// keep its lease and to change the replica set: never to append.
type Control interface {
	// Open takes the log's next epoch for this writer. ErrInUse while another
	// writer's lease lives and r.Takeover is false.
	Open(ctx context.Context, r OpenRequest) (Grant, error)
	// Renew keeps the writer's lease and returns the replicas' present
	// addresses. ErrSuperseded when another writer has opened the log.
	Renew(ctx context.Context, g Grant) ([]Replica, error)
	// Close gives the lease back.
	Close(ctx context.Context, g Grant) error
	// MakePresent records that replicas may hold acknowledged records. It may
	// be called again with the same replicas. ErrSuperseded as for Renew.
	MakePresent(ctx context.Context, g Grant, replicas []format.ID) error
}

// Errors of a Control, and of a writer.
var (
	ErrInUse      = errors.New("replog: another writer has the log open")
	ErrSuperseded = errors.New("replog: another writer has taken the log over")
	ErrFenced     = core.ErrFenced
	ErrFull       = core.ErrFull
	ErrClosed     = errors.New("replog: writer closed")
	ErrTooLarge   = errors.New("replog: record is larger than the log takes")
)

// OpenRequest says which log to open, and how.
type OpenRequest struct {
	Log      string // name or log ID
	Takeover bool   // open it although another writer's lease lives; that writer is fenced
	MinEpoch uint64 // lowest epoch to hand out; 0 leaves it to the control plane
}

// Grant is the control plane's answer to an open.
type Grant struct {
	Cluster    format.ID
	Log        format.ID
	Name       string
	Term       format.Fence
	SetVersion uint64
	AckQuorum  int
	Capacity   uint64 // of the ring, in bytes
	Replicas   []Replica
	Token      string        // signed; daemons check it
	Writer     string        // ID of the lease's owner
	RenewEvery time.Duration // how often the lease wants to be renewed
}

// Replica is one member of a log's replica set and where to reach it.
type Replica struct {
	ID      format.ID
	Daemon  string
	State   core.State
	Address string // host:port of the daemon's data listener
}
