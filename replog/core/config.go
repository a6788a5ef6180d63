package core

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// State of a replica in the control plane's record of the log.
type State uint8

const (
	// Allocated replicas have been reserved and have promised nothing.
	Allocated State = iota
	// Present replicas may hold acknowledged records: one that can't be found is
	// unknown, never empty.
	Present
	// Learner replicas are being filled to take another one's place. They are not
	// in the set and count for nothing.
	Learner
)

// String returns the control plane's word for s.
func (s State) String() string {
	return [...]string{"allocated", "present", "learner"}[s]
}

// Replica is one member of the set that the writer was granted.
type Replica struct {
	ID    format.ID
	State State
}

// Replacement is a learner and the replica of the set whose place it is to take.
type Replacement struct {
	Learner  format.ID
	Replaces format.ID
}

// Config is what an opener knows when it begins.
type Config struct {
	Term       format.Fence // the epoch and nonce that the control plane handed out
	Replicas   []Replica    // the set: 1 to 7, allocated or present
	Replacing  *Replacement // the replacement that is under way, or nil
	AckQuorum  int          // majority to all of the replicas
	Capacity   uint64       // of the ring, in bytes, a multiple of 64
	SetVersion uint64       // of the replica set
	Window     int          // sends to one replica that may wait for completion; default 2

	// Cut returns the highest record boundary in (from, to] that is at most max
	// bytes behind from; the first one of all if that is further than max; from
	// itself if there is none up to to. The driver reads it off the mirror, where
	// from is a boundary. Required.
	Cut      func(from, to, max uint64) uint64
	MaxBatch uint64 // bytes in one send; default 512 KiB
}

// Defaults of Config.
const (
	DefaultWindow   = 2
	DefaultMaxBatch = 512 << 10
)

func (c Config) withDefaults() Config {
	if c.Window == 0 {
		c.Window = DefaultWindow
	}
	if c.MaxBatch == 0 {
		c.MaxBatch = DefaultMaxBatch
	}
	return c
}

func (c Config) validate() error {
	n := len(c.Replicas)
	switch {
	case n < 1 || n > format.MaxReplicas:
		return fmt.Errorf("core: %d replicas: must be 1 to %d", n, format.MaxReplicas)
	case c.AckQuorum < n/2+1 || c.AckQuorum > n:
		return fmt.Errorf("core: ack quorum %d of %d replicas: must be %d to %d", c.AckQuorum, n, n/2+1, n)
	case c.Capacity == 0 || c.Capacity%format.Align != 0:
		return fmt.Errorf("core: capacity of %d bytes: must be a multiple of %d", c.Capacity, format.Align)
	case c.Term.Epoch == 0:
		return errors.New("core: epoch 0: the control plane hands out epochs from 1 on")
	case c.Cut == nil:
		return errors.New("core: Cut is required")
	case c.Window < 1:
		return fmt.Errorf("core: window %d: must be at least 1", c.Window)
	}
	for i, r := range c.Replicas {
		if r.State != Allocated && r.State != Present {
			return fmt.Errorf("core: replica %d is a %s: the set has allocated and present ones, a learner goes into Replacing", i, r.State)
		}
	}
	return nil
}

// Why a core refuses or stops.
var (
	ErrFull      = errors.New("core: log is full: trim what is no longer needed")
	ErrFenced    = errors.New("core: fenced by another writer")
	ErrClosed    = errors.New("core: closed")
	ErrNotOpen   = errors.New("core: log is not open yet")
	ErrTrim      = errors.New("core: trim point must be a record boundary between the trim LSN and the commit LSN")
	ErrReplacing = errors.New("core: another replacement is under way: one at a time")
	ErrNoReplica = errors.New("core: no such replica in the set")
	ErrSetBehind = errors.New("core: a replica was sealed with a newer replica set than the control plane granted: the control plane has lost state")
)

// FencedError is ErrFenced with the term that took over, as far as it is known.
type FencedError struct{ By format.Fence }

// Error names the epoch.
func (e *FencedError) Error() string {
	return fmt.Sprintf("%v: epoch %d", ErrFenced, e.By.Epoch)
}

// Is makes errors.Is(err, ErrFenced) true.
func (e *FencedError) Is(target error) bool { return target == ErrFenced }
