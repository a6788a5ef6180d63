package rdmaio

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// What a session can fail with. Each has a number on the wire ([Code]); both
// ends test with errors.Is.
var (
	ErrVersion        = errors.New("rdmaio: no common protocol version")
	ErrFrame          = errors.New("rdmaio: malformed frame")
	ErrTooLarge       = errors.New("rdmaio: frame is larger than agreed")
	ErrUnknownLog     = errors.New("rdmaio: unknown log or replica")
	ErrReplicaMissing = errors.New("rdmaio: replica has been present here but its region can't be found")
	ErrGrant          = errors.New("rdmaio: grant refused")
	ErrFenced         = errors.New("rdmaio: fenced by another writer")
	ErrSessionEnded   = errors.New("rdmaio: session ended by a newer one")
	ErrReadOnly       = errors.New("rdmaio: session is read-only")
	ErrRange          = errors.New("rdmaio: out of the replica's range")
	ErrChain          = errors.New("rdmaio: bytes do not follow what the replica holds")
	ErrNotSealed      = errors.New("rdmaio: replica does not hold the writer's seal")
	ErrMedium         = errors.New("rdmaio: medium failed")
	ErrNoSpace        = errors.New("rdmaio: no room in the pool")
	ErrBusy           = errors.New("rdmaio: far end has no room for another session")
	ErrLost           = errors.New("rdmaio: connection lost")
	ErrClosed         = errors.New("rdmaio: session closed")
	ErrInternal       = errors.New("rdmaio: internal error at the far end")
	ErrTLS            = errors.New("rdmaio: one end speaks TLS and the other does not")
	ErrUntrusted      = errors.New("rdmaio: certificate of the far end is not believed")
)

// Why a grant is refused. Each is an ErrGrant, too.
var (
	ErrGrantMalformed  = fmt.Errorf("%w: malformed", ErrGrant)
	ErrGrantAlgorithm  = fmt.Errorf("%w: signed with another algorithm than EdDSA", ErrGrant)
	ErrGrantSignature  = fmt.Errorf("%w: bad signature", ErrGrant)
	ErrGrantUnknownKey = fmt.Errorf("%w: signed by an unknown key", ErrGrant)
	ErrGrantRetiredKey = fmt.Errorf("%w: signed by a retired key, and its term has not been fenced here", ErrGrant)
	ErrGrantExpired    = fmt.Errorf("%w: expired before its term was fenced here", ErrGrant)
	ErrGrantCluster    = fmt.Errorf("%w: for another cluster", ErrGrant)
	ErrGrantLog        = fmt.Errorf("%w: for another log", ErrGrant)
	ErrGrantTerm       = fmt.Errorf("%w: for another epoch or nonce", ErrGrant)
	ErrGrantReplica    = fmt.Errorf("%w: does not name the replica", ErrGrant)
	ErrGrantRights     = fmt.Errorf("%w: does not allow this", ErrGrant)
	ErrGrantNoKey      = fmt.Errorf("%w: names no client key, and this daemon wants proof", ErrGrant)
	ErrGrantClientKey  = fmt.Errorf("%w: for another client's key", ErrGrant)
)

// Error is a refusal with what the far end said about it. It is, for errors.Is,
// the sentinel that Kind holds.
type Error struct {
	Kind   error        // one of the sentinels
	Detail string       // for people
	Fenced format.Fence // with ErrFenced: the term that the replica promised
}

// Error renders kind and detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Kind.Error()
	}
	return fmt.Sprintf("%v: %s", e.Kind, e.Detail)
}

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.Kind }
