package store

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels: callers ask which kind of failure it was. Where a typed error
// below carries more, it unwraps to one of these.
var (
	// ErrUnavailable: etcd did not answer in time, has no quorum or no space.
	ErrUnavailable = errors.New("store: etcd is unavailable")
	// ErrNoSpace: etcd has reached its quota and takes no writes. It is
	// ErrUnavailable, too, and nothing was changed.
	ErrNoSpace = errors.New("store: etcd has no space left")
	// ErrInvalid: a field of the request breaks a rule; see InvalidError.
	ErrInvalid = errors.New("store: invalid request")
	// ErrNotFound: no such daemon or log.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict: something that the transaction compared has changed; place
	// or read again and retry. See UnfitError for the daemon it was about.
	ErrConflict = errors.New("store: conflict")
	// ErrPrecondition: the caller's revision (If-Match) is not the current one.
	ErrPrecondition = errors.New("store: revision does not match")
	// ErrNameTaken: another log has this name.
	ErrNameTaken = errors.New("store: log name is taken")
	// ErrPoolRolledBack: the pool's incarnation is below the recorded one, so
	// it was restored from a copy or cloned.
	ErrPoolRolledBack = errors.New("store: pool is older than the control plane's record of it")
	// ErrPoolMismatch: the pool belongs to another daemon ID.
	ErrPoolMismatch = errors.New("store: pool and daemon ID do not belong together")
	// ErrPoolWiped: the daemon ID belongs to another pool, and this one is
	// nobody's: the disk was wiped or replaced.
	ErrPoolWiped = errors.New("store: pool is a new one under a known daemon ID")
	// ErrPoolCloned: this very incarnation is live at another address, so the
	// pool runs twice. The caller must stop serving and not register again.
	ErrPoolCloned = errors.New("store: pool is live at another address")
	// ErrIncarnationAhead: the incarnation is more than MaxIncarnationJump above
	// the recorded one.
	ErrIncarnationAhead = errors.New("store: incarnation is out of reach")
	// ErrStaleIncarnation: a later incarnation of this daemon has registered.
	// The caller must stop serving and not register again.
	ErrStaleIncarnation = errors.New("store: stale incarnation")
	// ErrAddressInUse: another live daemon serves at this address.
	ErrAddressInUse = errors.New("store: address is in use by another live daemon")
	// ErrLeaseExpired: the lease is gone; register again.
	ErrLeaseExpired = errors.New("store: lease has expired")
	// ErrGone: the daemon has been deleted; stop.
	ErrGone = errors.New("store: daemon has been deleted")
	// ErrForeignDaemon: the daemon ID is bound to another principal's name.
	ErrForeignDaemon = errors.New("store: daemon ID is another's")
	// ErrForeignLog: the log belongs to another principal.
	ErrForeignLog = errors.New("store: log is another's")
	// ErrDaemonBusy: the daemon is live or still has reserved bytes.
	ErrDaemonBusy = errors.New("store: daemon is in use")
	// ErrLogInUse: a writer's lease lives; see InUseError.
	ErrLogInUse = errors.New("store: log is in use")
	// ErrSuperseded: a later epoch exists; see SupersededError.
	ErrSuperseded = errors.New("store: writer is superseded")
	// ErrEpochAhead: the caller's epoch is above the recorded one, so etcd has
	// been set back; open again with a min_epoch above it.
	ErrEpochAhead = errors.New("store: epoch is ahead of the record")
	// ErrWriterClosed: this writer has closed the log.
	ErrWriterClosed = errors.New("store: writer has closed")
	// ErrReplacing: another replica of the log is being replaced; see
	// ReplacingError.
	ErrReplacing = errors.New("store: a replacement is under way")
	// ErrAbandoned: the learner is not the log's (any more) and can never be
	// promoted.
	ErrAbandoned = errors.New("store: the learner was given up")
	// ErrOperatorEnded: the operator has ended, or is none that can be cancelled.
	ErrOperatorEnded = errors.New("store: the operator can't be cancelled")
	// ErrSetBehind: replicas know a newer set than the log's record, which was set
	// back, and it can't be taken from them yet.
	ErrSetBehind = errors.New("store: the record of the log's replicas is older than what they know")
	// ErrLastCopies: a log could not be opened without the daemon.
	ErrLastCopies = errors.New("store: a log could not be opened any more")
	// ErrKeyInUse: a grant key still signs or is to sign; see KeyError.
	ErrKeyInUse = errors.New("store: grant key is in use")
	// ErrIdempotencyMismatch: the key was used for another request.
	ErrIdempotencyMismatch = errors.New("store: idempotency key was used for another request")
	// ErrCompacted: the revision is below what etcd still has; read a snapshot
	// and go on from there.
	ErrCompacted = errors.New("store: revision has been compacted")
	// ErrSlow: a subscriber fell behind its buffer; resume from the last
	// revision it has seen.
	ErrSlow = errors.New("store: subscriber is too slow")
)

// InvalidError names the field, the rule it breaks and what to do.
type InvalidError struct {
	Field string
	Rule  string
}

func (e *InvalidError) Error() string { return "store: " + e.Field + ": " + e.Rule }

// Unwrap makes errors.Is(err, ErrInvalid) true.
func (e *InvalidError) Unwrap() error { return ErrInvalid }

func invalid(field, format string, args ...any) error {
	return &InvalidError{Field: field, Rule: fmt.Sprintf(format, args...)}
}

// InUseError carries the writer whose lease lives.
type InUseError struct {
	LogID  string
	Writer Writer
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("store: log %s is in use by writer %s (host %s, pid %d, epoch %d)",
		e.LogID, e.Writer.WriterID, e.Writer.Host, e.Writer.PID, e.Writer.Epoch)
}

// Unwrap makes errors.Is(err, ErrLogInUse) true.
func (e *InUseError) Unwrap() error { return ErrLogInUse }

// ReplacingError names the replacement that is under way.
type ReplacingError struct {
	LogID string
	// From and To are the daemons of the replica that is being replaced and of
	// its learner.
	From, To string
}

func (e *ReplacingError) Error() string {
	return fmt.Sprintf("store: the replica of log %s on %s is being replaced by one on %s; wait for that, or abandon it",
		e.LogID, e.From, e.To)
}

// Unwrap makes errors.Is(err, ErrReplacing) true.
func (e *ReplacingError) Unwrap() error { return ErrReplacing }

// SupersededError carries the epoch that the log is in.
type SupersededError struct {
	LogID string
	Epoch uint64
}

func (e *SupersededError) Error() string {
	return fmt.Sprintf("store: log %s is in epoch %d already", e.LogID, e.Epoch)
}

// Unwrap makes errors.Is(err, ErrSuperseded) true.
func (e *SupersededError) Unwrap() error { return ErrSuperseded }

// RolledBackError carries both incarnations.
type RolledBackError struct {
	DaemonID          string
	Offered, Recorded uint64
}

func (e *RolledBackError) Error() string {
	return fmt.Sprintf("store: daemon %s: pool has incarnation %d, the record says %d: "+
		"it was restored from a copy or cloned", e.DaemonID, e.Offered, e.Recorded)
}

// Unwrap makes errors.Is(err, ErrPoolRolledBack) true.
func (e *RolledBackError) Unwrap() error { return ErrPoolRolledBack }

// DaemonError says which daemon and what about it stood in the way.
type DaemonError struct {
	DaemonID string
	Detail   string
	Err      error
}

func (e *DaemonError) Error() string {
	return fmt.Sprintf("%v: daemon %s: %s", e.Err, e.DaemonID, e.Detail)
}

// Unwrap returns the sentinel.
func (e *DaemonError) Unwrap() error { return e.Err }

// KeyError says why a grant key can't be retired, or another one made.
type KeyError struct {
	KeyID  string
	Detail string
}

func (e *KeyError) Error() string { return "store: grant key " + e.KeyID + ": " + e.Detail }

// Unwrap makes errors.Is(err, ErrKeyInUse) true.
func (e *KeyError) Unwrap() error { return ErrKeyInUse }

// UnfitError says why a chosen daemon cannot take a replica now. It is a
// conflict: place again and retry.
type UnfitError struct {
	DaemonID string
	// Rule is "unknown", "down", "draining", "read-only", "space" or "contention".
	Rule string
	// NeedBytes and FreeBytes are set for "space".
	NeedBytes, FreeBytes int64
}

func (e *UnfitError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "store: daemon %s cannot take the replica: %s", e.DaemonID, e.Rule)
	if e.Rule == "space" {
		fmt.Fprintf(&b, " (needs %d bytes, has %d)", e.NeedBytes, e.FreeBytes)
	}
	return b.String()
}

// Unwrap makes errors.Is(err, ErrConflict) true.
func (e *UnfitError) Unwrap() error { return ErrConflict }
