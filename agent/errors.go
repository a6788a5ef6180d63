package agent

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gravenio/graven/openapi"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/rdmaio"
)

// What New and Run fail with beside pmemlog's errors of the pool; test with
// errors.Is.
var (
	// ErrRefused: the control plane will not have this daemon; see RefusedError.
	ErrRefused = errors.New("agent: refused by the control plane")
	// ErrOtherCluster: the pool belongs to another cluster than the API servers.
	ErrOtherCluster = errors.New("agent: the pool belongs to another cluster")
	// ErrOtherDaemon: the pool belongs to a daemon of another ID.
	ErrOtherDaemon = errors.New("agent: the pool belongs to another daemon")
	// ErrListen: an address can't be listened on.
	ErrListen = errors.New("agent: can't listen")
	// ErrClosed: the agent has been closed.
	ErrClosed = errors.New("agent: closed")
)

// RefusedError is a refusal that asking again won't change. It is ErrRefused.
type RefusedError struct {
	Type   openapi.ProblemType
	Detail string // the server's words
	Advice string // what to do
}

// Error renders the refusal and the advice.
func (e *RefusedError) Error() string {
	kind := strings.TrimPrefix(string(e.Type), openapi.ProblemPrefix)
	return fmt.Sprintf("%v: %s: %s; %s", ErrRefused, kind, e.Detail, e.Advice)
}

// Unwrap returns ErrRefused.
func (e *RefusedError) Unwrap() error { return ErrRefused }

// advice says what to do about the refusals that end an agent; read-only.
var advice = map[openapi.ProblemType]string{
	openapi.ProblemStaleIncarnation: "a later start of this daemon, or of a copy of its pool, has registered: keep the one that has the newest data, and stop and remove the other",
	openapi.ProblemPoolCloned:       "another process serves a copy of this pool under the same ID: keep the one that has the newest data, and stop and remove the other",
	openapi.ProblemPoolWiped:        "start it with the pool that the ID is bound to, or under a new ID; if that pool is lost for good, remove the daemon (`graven daemon rm`) first",
	openapi.ProblemPoolMismatch:     "start it under the ID that this pool is bound to",
	openapi.ProblemIncarnationAhead: "the pool's superblock is damaged, or something else than the agent wrote it: check the pool (`graven pool check`), or start with a new ID and an empty folder",
	openapi.ProblemPoolRolledBack:   "the pool is an older copy and may lack what was acknowledged: bring back the newest one, or start with a new ID and an empty folder and remove this daemon (`graven daemon rm`)",
	openapi.ProblemAddressInUse:     "stop the other daemon or choose another address to listen on",
	openapi.ProblemDaemonGone:       "the daemon was deleted: start with a new ID and an empty folder",
	openapi.ProblemInvalidRequest:   "correct the options of the agent",
	openapi.ProblemTTLTooShort:      "ask for a longer lease",
}

// sessionErrors says which of rdmaio's kinds an error of pmemlog travels as;
// the first one that matches counts. Read-only.
var sessionErrors = []struct{ from, to error }{
	{pmemlog.ErrPoisoned, rdmaio.ErrMedium},
	{pmemlog.ErrFenced, rdmaio.ErrFenced},
	{pmemlog.ErrSessionEnded, rdmaio.ErrSessionEnded},
	{pmemlog.ErrNotFenced, rdmaio.ErrNotSealed},
	{pmemlog.ErrNotSealed, rdmaio.ErrNotSealed},
	{pmemlog.ErrReadOnly, rdmaio.ErrReadOnly},
	{pmemlog.ErrRange, rdmaio.ErrRange},
	{pmemlog.ErrChain, rdmaio.ErrChain},
	{pmemlog.ErrNoSpace, rdmaio.ErrNoSpace},
	{pmemlog.ErrNotFound, rdmaio.ErrUnknownLog},
	{pmemlog.ErrRemoved, rdmaio.ErrUnknownLog},
	{pmemlog.ErrIdentity, rdmaio.ErrUnknownLog},
	{pmemlog.ErrCorrupt, rdmaio.ErrReplicaMissing},
	{pmemlog.ErrVersion, rdmaio.ErrReplicaMissing},
	{pmemlog.ErrClosed, rdmaio.ErrLost},
}

// wireError makes an error of pmemlog one of rdmaio's, and leaves one of
// rdmaio's as it is. What is none of either's sentinels came from the medium.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	var already *rdmaio.Error
	if errors.As(err, &already) {
		return already
	}
	out := &rdmaio.Error{Kind: rdmaio.ErrMedium, Detail: err.Error()}
	for _, row := range sessionErrors {
		if errors.Is(err, row.from) {
			out.Kind = row.to
			break
		}
	}
	var fenced *pmemlog.FencedError
	if errors.As(err, &fenced) {
		out.Fenced = fenced.Promised
	}
	return out
}

// refuse makes an error of one of rdmaio's kinds.
func refuse(kind error, format string, args ...any) error {
	return &rdmaio.Error{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
