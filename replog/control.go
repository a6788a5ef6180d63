package replog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// Control is what a writer needs of the control plane, and only to open, to
// keep its lease and to change the replica set: never to append.
type Control interface {
	// Open takes the log's next epoch for this writer. ErrInUse while another
	// writer's lease lives and r.Takeover is false; core.ErrSetBehind while the control
	// plane knows that it was set back to before the replica set of now, and not yet
	// where all of that set's members are.
	Open(ctx context.Context, r OpenRequest) (Grant, error)
	// Renew keeps the writer's lease and returns the replica set as it is now.
	// ErrSuperseded when another writer has opened the log.
	Renew(ctx context.Context, g Grant) (Renewed, error)
	// Close gives the lease back.
	Close(ctx context.Context, g Grant) error
	// MakePresent records that replicas may hold acknowledged records. It may
	// be called again with the same replicas. ErrSuperseded as for Renew.
	MakePresent(ctx context.Context, g Grant, replicas []format.ID) error
	// Replace asks for a learner that is to take a replica's place; Renew tells of
	// it when there is one. It may be called again.
	Replace(ctx context.Context, g Grant, replica format.ID) error
	// Promote puts a learner in the place of the replica that it replaces, if
	// epoch, nonce and set version are still the log's, and returns the set's new
	// version. It may be called again. ErrAbandoned when the learner will never be
	// in the set, ErrSuperseded as for Renew; after any other error nobody knows.
	Promote(ctx context.Context, g Grant, learner format.ID) (setVersion uint64, err error)
	// Abandon gives a learner up that can't be filled, unless it has been promoted.
	// When it returns nil the learner will never be in the set.
	Abandon(ctx context.Context, g Grant, learner format.ID) error
	// RecordLoss keeps, for people, what was given up when the log was opened.
	RecordLoss(ctx context.Context, g Grant, loss core.Loss) error
	// RecordRecovery keeps, for people, what the open has made agree. It may be
	// called again with the same recovery. ErrSuperseded as for Renew.
	RecordRecovery(ctx context.Context, g Grant, recovery core.Recovery) error
}

// Errors of a Control, and of a writer.
var (
	ErrInUse      = errors.New("replog: another writer has the log open")
	ErrSuperseded = errors.New("replog: another writer has taken the log over")
	ErrFenced     = core.ErrFenced
	ErrFull       = core.ErrFull
	ErrClosed     = errors.New("replog: writer closed")
	ErrAbandoned  = errors.New("replog: the replacement was abandoned")
	ErrNoQuorum   = errors.New("replog: too few replicas work")
	ErrTooLarge   = errors.New("replog: record is larger than the log takes")
)

// OpenRequest says which log to open, and how.
type OpenRequest struct {
	Log      string // name or log ID
	Takeover bool   // open it although another writer's lease lives; that writer is fenced
	MinEpoch uint64 // lowest epoch to hand out; 0 leaves it to the control plane

	// Recovering opens it on nobody's behalf: a writer that wants the log takes it
	// over unasked.
	Recovering bool
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
	AfterClose bool          // the epoch before ended by a close
}

// Replica is one member of a log's replica set, or a learner, and where to reach
// it.
type Replica struct {
	ID       format.ID
	Daemon   string
	State    core.State
	Replaces format.ID // of a learner: the replica whose place it is to take
	Address  string    // host:port of the daemon's data listener
}

// Renewed is the control plane's answer to a renewal.
type Renewed struct {
	SetVersion uint64
	Replicas   []Replica // the set, and a learner if there is one
	Token      string    // names the learner, too; empty when the one at hand will do
}

// NoQuorumError says why nothing is committed. It is ErrNoQuorum.
type NoQuorumError struct {
	After   time.Duration // how long it has been so
	Waiting string        // each replica, and what is wrong with it
}

// Error names the replicas.
func (e *NoQuorumError) Error() string {
	return fmt.Sprintf("%v for %v: %s", ErrNoQuorum, e.After, e.Waiting)
}

// Is makes errors.Is(err, ErrNoQuorum) true.
func (e *NoQuorumError) Is(target error) bool { return target == ErrNoQuorum }
