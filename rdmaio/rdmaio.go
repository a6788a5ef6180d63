package rdmaio

import (
	"context"

	"github.com/gravenio/graven/pmemlog/format"
)

// Hello opens a session: who wants to reach which replica, in which term. A
// daemon that accepts it has ended nothing yet; [Session.Fence] does that.
type Hello struct {
	Cluster  format.ID
	Log      format.ID
	Replica  format.ID
	Term     format.Fence // the writer's; zero for a reader
	Capacity uint64       // of the ring in bytes; the replica must have the same
	Create   bool         // the replica is `allocated`: its region may be made now
	ReadOnly bool         // only Info and Read; needs no term and ends no other session; with TLS it needs a grant
	Grant    string       // the control plane's signed word that Term is the writer's

	// Daemon is the ID of the daemon that is meant; with TLS the far end's
	// certificate must be that one's. It does not travel; "" leaves the host.
	Daemon string

	// Peer is who asks, as far as the connection proves it. The listener fills it
	// in; it does not travel.
	Peer Peer
}

// Peer is what a connection proves of its near end to the far end.
type Peer struct {
	TLS bool   // it is encrypted, and its near end has proved a key
	Key string // SHA-256 of that key's SubjectPublicKeyInfo (DER), in lower-case hexadecimal
}

// Welcome is the daemon's answer to an accepted Hello.
type Welcome struct {
	Daemon    string    // daemon ID
	Pool      format.ID // pool UUID
	Media     string    // pmem, file or volatile
	FlushMode string    // how Flush becomes true; ack: the agent persists and answers
	Version   uint32    // of the protocol, agreed
	Created   bool      // the region was made for this Hello
}

// SealIn is the one header write that lets a replica take part in an epoch.
type SealIn struct {
	Seals []format.Seal // the chosen log's, with the writer's own
	Set   []format.ID   // the replica set, for the newest seal
	Hint  format.Position
	Tail  uint64 // all below it must be persistent here, or the seal is refused
}

// Info is what a replica says of itself without being fenced.
type Info struct {
	Slot    format.Slot // with the newest hint
	Tail    uint64      // where the next write would go; the trim LSN while Scanned is false
	Durable uint64
	Scanned bool   // Tail and Durable are known: the region was scanned since the daemon started
	Media   string // pmem, file or volatile
	Failure string // why this replica accepts no more writes; empty when it does
}

// Session is the near end of a conversation with one replica.
//
// Post may be called from one goroutine at a time and never waits for the
// network; the other methods may be called from any goroutine, wait for the far
// end's answer, and come after what was posted before them. All return the
// error that ended the session once it has ended: the far end's word if it gave
// one, else ErrLost with the cause, or ErrClosed after Close. An ended session
// still has to be closed.
type Session interface {
	// Fence makes the replica promise the Hello's term, ends every other session
	// of the replica that is not read-only, and returns what the replica holds,
	// all of it persistent. ErrFenced, with the term that it promised, when that
	// is a higher one or the same epoch under another nonce.
	Fence(ctx context.Context) (format.Report, error)

	// Post writes the bytes at lsn, whole records that follow what the replica
	// holds, and asks for a flush. The segments must stay unchanged until
	// a completion covers them or Close has returned; the slice of them may be
	// used again at once. The completion, the durable LSN behind all that is
	// persistent, comes to the session's Flushed callback; completions are
	// cumulative and may be merged. Post without bytes only asks for a flush.
	Post(lsn uint64, segments [][]byte) error

	// Read fills p with the ring's bytes from lsn on; [lsn, lsn+len(p)) lies
	// within the window from the trim LSN to trim + capacity.
	Read(ctx context.Context, lsn uint64, p []byte) error

	// Align says that the replica's bytes agree with the writer's up to lsn and
	// that those behind it will be rewritten: the hint of a replica that is not
	// suspect falls to lsn, durably, and the next Post goes there.
	Align(ctx context.Context, lsn uint64) error

	// Reset drops all that the replica holds: it begins anew, empty, at the trim
	// point. The hint of a suspect stays.
	Reset(ctx context.Context, at format.TrimPoint) error

	// Seal is the header write that seals a replica in.
	Seal(ctx context.Context, s SealIn) error

	// Reseal replaces the replica set, and its version, in the seal of the
	// session's term, durably and beside appends that go on. ErrNotSealed when the
	// replica does not hold that seal, ErrRange when the seal has a higher version
	// of the set or the set is too large.
	Reseal(ctx context.Context, version uint64, set []format.ID) error

	// Trim says that nothing below the point is needed any more. When it
	// returns, that is persistent, and the space may be written again.
	Trim(ctx context.Context, at format.TrimPoint) error

	// Info asks without fencing.
	Info(ctx context.Context) (Info, error)

	// Close ends the session and returns when nothing of it reads the posted
	// segments any more. It may be called twice.
	Close() error
}

// Events are a session's callbacks. They come from the session's own goroutine,
// one at a time, and must not block; none comes after Close has returned. Close
// waits for the one that runs, so a callback must not call Close, nor wait for a
// lock that is held around it. Either may be nil.
type Events struct {
	// Flushed reports that all below durable is persistent at the far end.
	Flushed func(durable uint64)
	// Ended reports, once, why the session is over; not after Close.
	Ended func(err error)
}

// Host is the far end as a listener sees it: a daemon that has replicas.
type Host interface {
	// Hello admits a session or refuses it with an error of this package.
	Hello(ctx context.Context, h Hello) (Target, Welcome, error)
}

// Target is one admitted session at the far end. Its listener calls Write and
// the rest from one goroutine, in the order of the wire; Flush may run beside a
// later Write. The target checks everything: term, order, bounds and chain.
// Once a later Fence has ended the session, all methods return ErrSessionEnded.
type Target interface {
	Fence() (format.Report, error)
	Write(lsn uint64, p []byte) error
	// Flush makes persistent what was written before the call and returns the
	// durable LSN.
	Flush() (durable uint64, err error)
	// FlushIsCheap says that Flush takes no longer than a hand-off to another
	// goroutine, so the listener may call it at once.
	FlushIsCheap() bool
	Read(lsn uint64, p []byte) error
	Align(lsn uint64) error
	Reset(at format.TrimPoint) error
	Seal(s SealIn) error
	// Reseal replaces the replica set and its version in the seal of the session's
	// term.
	Reseal(version uint64, set []format.ID) error
	Trim(at format.TrimPoint) error
	Info() (Info, error)
	// Close tells the target that the connection is gone.
	Close()
}

// Appender is a [Target] that writes and flushes at once for less than it costs
// apart. It is optional, and of use only where flushing is cheap.
type Appender interface {
	// Append is Write and then Flush.
	Append(lsn uint64, p []byte) (durable uint64, err error)
}

// Ender is a [Target] that hears by itself that its session is over, such as by
// a later Fence, and need not wait for its peer's next call. It is optional.
type Ender interface {
	// OnEnd has f called with what ended the session, once, at once if that has
	// happened already. f comes from any goroutine and must not block.
	OnEnd(f func(err error))
}
