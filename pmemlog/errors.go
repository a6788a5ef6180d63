package pmemlog

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// What the package fails with; test with errors.Is.
var (
	ErrNoPool       = errors.New("pmemlog: no pool here")
	ErrCorrupt      = errors.New("pmemlog: corrupt")
	ErrVersion      = errors.New("pmemlog: made by another version of the program")
	ErrWrongMedium  = errors.New("pmemlog: pool belongs on another kind of medium")
	ErrLocked       = errors.New("pmemlog: pool is in use")
	ErrPoisoned     = errors.New("pmemlog: medium failed, nothing more is written")
	ErrUnreadable   = errors.New("pmemlog: medium can't be read")
	ErrUnwritable   = errors.New("pmemlog: a place of the medium can't be written")
	ErrClosed       = errors.New("pmemlog: closed")
	ErrIdentity     = errors.New("pmemlog: pool belongs to another")
	ErrExists       = errors.New("pmemlog: exists already")
	ErrForeign      = errors.New("pmemlog: the medium holds something else")
	ErrRemoved      = errors.New("pmemlog: replica has been removed from this pool")
	ErrNotFound     = errors.New("pmemlog: no such replica")
	ErrNoSpace      = errors.New("pmemlog: no room in the pool")
	ErrFenced       = errors.New("pmemlog: fenced by another term")
	ErrNotFenced    = errors.New("pmemlog: session has not fenced the replica")
	ErrSessionEnded = errors.New("pmemlog: session ended by a newer one")
	ErrReadOnly     = errors.New("pmemlog: session is read-only")
	ErrRange        = errors.New("pmemlog: out of range")
	ErrChain        = errors.New("pmemlog: bytes do not follow what the replica holds")
	ErrNotSealed    = errors.New("pmemlog: replica does not hold the writer's seal")
)

// CorruptError says where a pool is damaged. It is ErrCorrupt and its cause.
type CorruptError struct {
	Part   string // superblock, directory entry 5, replica ...
	Offset int64  // of the part, in bytes from the start of the pool
	Err    error  // what is wrong with it
}

// Error renders place and cause.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("pmemlog: corrupt %s at byte %d: %v", e.Part, e.Offset, e.Err)
}

// Unwrap returns ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }

// FencedError is the refusal of a term. It is ErrFenced.
type FencedError struct {
	Term     format.Fence // that was refused
	Promised format.Fence // that the replica keeps to
}

// Error renders both terms.
func (e *FencedError) Error() string {
	return fmt.Sprintf("%v: epoch %d nonce %x refused, epoch %d nonce %x is promised",
		ErrFenced, e.Term.Epoch, e.Term.Nonce, e.Promised.Epoch, e.Promised.Nonce)
}

// Unwrap returns ErrFenced.
func (e *FencedError) Unwrap() error { return ErrFenced }

// PoisonedError is the failure of a medium after which a pool writes nothing
// more: what a failed sync has left behind can't be known. It is ErrPoisoned
// and its cause.
type PoisonedError struct {
	Op  string // write, flush, sync or zero
	Err error
}

// Error renders the operation, its failure and what to do.
func (e *PoisonedError) Error() string {
	return fmt.Sprintf("%v: %s: %v; see to the medium, then open the pool anew", ErrPoisoned, e.Op, advise(e.Err))
}

// Unwrap returns ErrPoisoned and the cause.
func (e *PoisonedError) Unwrap() []error { return []error{ErrPoisoned, e.Err} }

// UnwritableError is a place of a medium that takes no writes, though it was asked
// to by whole pages, too. What else the medium holds is not touched by it. It is
// ErrUnwritable and its cause.
type UnwritableError struct {
	Off, Len int64 // in the pool, in bytes: the place lies therein
	Err      error
}

// Error renders the place and the cause.
func (e *UnwritableError) Error() string {
	return fmt.Sprintf("%v, bytes %d to %d of the pool: %v", ErrUnwritable, e.Off, e.Off+e.Len, e.Err)
}

// Unwrap returns ErrUnwritable and the cause.
func (e *UnwritableError) Unwrap() []error { return []error{ErrUnwritable, e.Err} }

// LockedError says who uses a pool, as far as that can be known. It is
// ErrLocked.
type LockedError struct {
	Path    string
	PID     int    // 0 when unknown
	Command string // of that process; empty when unknown
}

// Error names the file and the holder.
func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%v: %s is locked by another process; stop it or choose another pool", ErrLocked, e.Path)
	}
	return fmt.Sprintf("%v: %s is locked by process %d (%s); stop it or choose another pool", ErrLocked, e.Path, e.PID, e.Command)
}

// Unwrap returns ErrLocked.
func (e *LockedError) Unwrap() error { return ErrLocked }
