package agent

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/rdmaio"
)

// target is one admitted session: a session of pmemlog in rdmaio's words.
type target struct {
	a       *Agent
	hosted  *hosted
	session *pmemlog.Session
	term    format.Fence
	grant   [sha256.Size]byte
	key     string // the client's, as the grant names it
	cheap   bool
	end     end
	closed  sync.Once
	fenced  atomic.Bool
}

var (
	_ rdmaio.Target   = (*target)(nil)
	_ rdmaio.Appender = (*target)(nil)
	_ rdmaio.Ender    = (*target)(nil)
)

// end is what has ended a session, and who wants to hear of it.
type end struct {
	mu     sync.Mutex
	why    error
	listen func(error)
}

func (e *end) tell(why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.why != nil {
		return
	}
	e.why = why
	if e.listen != nil {
		e.listen(why)
	}
}

// OnEnd implements [rdmaio.Ender].
func (t *target) OnEnd(f func(error)) {
	t.end.mu.Lock()
	defer t.end.mu.Unlock()
	t.end.listen = f
	if t.end.why != nil {
		f(t.end.why)
	}
}

// Fence implements [rdmaio.Target].
func (t *target) Fence() (format.Report, error) {
	report, err := t.session.Fence(t.term)
	if err != nil {
		return format.Report{}, t.wire(err)
	}
	t.fenced.Store(true)
	t.hosted.fenced(t.term, t.grant, t.key)
	t.hosted.endOlder(t, refuse(rdmaio.ErrSessionEnded, "epoch %d has fenced the replica", t.term.Epoch))
	t.a.metrics.fences.Inc()
	r := t.hosted.replica
	args := []any{"log", r.Log(), "replica", r.ID(), "epoch", t.term.Epoch, "trim", report.Trim.LSN, "tail", report.Tail}
	if report.Suspect() {
		t.a.log.Warn("fenced a replica that has lost something it once had", append(args, "last", report.Last, "evidence", report.Evidence)...)
	} else {
		t.a.log.Info("fenced a replica", args...)
	}
	return report, nil
}

// wire makes an error one for the wire. That of a place that can't be written is
// news for the control plane, too: Info says by now where the replica is damaged.
func (t *target) wire(err error) error {
	if errors.Is(err, pmemlog.ErrUnwritable) {
		signal(t.a.news)
	}
	return wireError(err)
}

// Write implements [rdmaio.Target].
func (t *target) Write(lsn uint64, p []byte) error {
	if err := t.session.Write(lsn, p); err != nil {
		return t.wire(err)
	}
	t.a.metrics.written.Add(uint64(len(p)))
	return nil
}

// Flush implements [rdmaio.Target].
func (t *target) Flush() (uint64, error) {
	begun := time.Now()
	durable, err := t.session.Flush()
	return t.flushed(begun, durable, err)
}

// Append implements [rdmaio.Appender].
func (t *target) Append(lsn uint64, p []byte) (uint64, error) {
	begun := time.Now()
	durable, err := t.session.Append(lsn, p)
	if durable, err = t.flushed(begun, durable, err); err == nil {
		t.a.metrics.written.Add(uint64(len(p)))
	}
	return durable, err
}

func (t *target) flushed(begun time.Time, durable uint64, err error) (uint64, error) {
	if err != nil {
		return 0, t.wire(err)
	}
	t.a.metrics.flushes.Add(1)
	t.hosted.hint.flushed(durable, time.Since(begun))
	return durable, nil
}

// FlushIsCheap implements [rdmaio.Target].
func (t *target) FlushIsCheap() bool { return t.cheap }

// Read implements [rdmaio.Target].
func (t *target) Read(lsn uint64, p []byte) error { return t.wire(t.session.Read(lsn, p)) }

// Align implements [rdmaio.Target].
func (t *target) Align(lsn uint64) error { return t.wire(t.session.Align(lsn)) }

// Reset implements [rdmaio.Target].
func (t *target) Reset(at format.TrimPoint) error { return t.wire(t.session.Reset(at)) }

// Seal implements [rdmaio.Target].
func (t *target) Seal(s rdmaio.SealIn) error {
	return t.wire(t.session.Seal(pmemlog.SealIn{Seals: s.Seals, Set: s.Set, Hint: s.Hint, Tail: s.Tail}))
}

// Reseal implements [rdmaio.Target].
func (t *target) Reseal(version uint64, set []format.ID) error {
	return t.wire(t.session.Reseal(version, set))
}

// Trim implements [rdmaio.Target].
func (t *target) Trim(at format.TrimPoint) error { return t.wire(t.session.Trim(at)) }

// Info implements [rdmaio.Target].
func (t *target) Info() (rdmaio.Info, error) {
	i, err := t.session.Info()
	if err != nil {
		return rdmaio.Info{}, t.wire(err)
	}
	out := rdmaio.Info{Slot: i.Slot, Tail: i.Tail, Durable: i.Durable, Scanned: i.Scanned, Media: i.Media.String()}
	if i.Failure != nil {
		out.Failure = i.Failure.Error()
	}
	return out, nil
}

// Close implements [rdmaio.Target].
func (t *target) Close() {
	t.closed.Do(func() {
		t.session.Close()
		t.hosted.leave(t)
		t.a.metrics.sessions.Add(-1)
	})
}
