package pmemlog

import (
	"fmt"
	"sync/atomic"

	"github.com/gravenio/graven/pmemlog/format"
)

// Session is one caller's handle on a replica. A session that is not read-only
// writes after it has fenced the replica, until a newer session fences it. All
// methods may be called from any goroutine.
type Session struct {
	r        *Replica
	token    uint64 // sessions are numbered in the order of Attach
	readOnly bool
	closed   atomic.Bool
}

// Attach returns a new session. It has ended no other yet; [Session.Fence] does.
// A read-only session only reads, and no fence ends it.
func (r *Replica) Attach(readOnly bool) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens++
	return &Session{r: r, token: r.tokens, readOnly: readOnly}
}

// Replica returns the replica.
func (s *Session) Replica() *Replica { return s.r }

// Close ends the session: all later calls return ErrClosed. It may be called
// twice.
func (s *Session) Close() { s.closed.Store(true) }

// live returns why the session may do nothing any more. op or mu is held.
func (s *Session) live() error {
	switch {
	case s.r.gone != nil:
		return s.r.gone
	case s.closed.Load():
		return fmt.Errorf("%w: session", ErrClosed)
	case !s.readOnly && s.token < s.r.owner: // rule: old sessions are refused
		return ErrSessionEnded
	default:
		return nil
	}
}

// writer returns why the session may not change the replica. op or mu is held.
func (s *Session) writer() error {
	if err := s.live(); err != nil {
		return err
	}
	if s.readOnly {
		return ErrReadOnly
	}
	if s.token != s.r.owner {
		return ErrNotFenced
	}
	if s.r.failed != nil { // rule: a replica that failed is fenced anew
		return s.r.failed
	}
	if !s.r.scanned {
		return fmt.Errorf("%w: its fence could not tell what the replica holds", ErrNotFenced)
	}
	return nil
}

// Info returns what the replica says of itself. It never waits for I/O, but on
// persistent memory for an append that is under way.
func (s *Session) Info() (Info, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if err := s.live(); err != nil {
		return Info{}, err
	}
	return s.r.info(), nil
}

// Read fills p with the ring's bytes from lsn on, as they are: the caller checks
// what they mean. [lsn, lsn+len(p)) must lie within the window from the trim
// LSN to trim + capacity, else ErrRange. ErrUnreadable where the medium fails; the
// replica remembers that as damage.
func (s *Session) Read(lsn uint64, p []byte) error {
	r := s.r
	r.use.RLock()
	defer r.use.RUnlock()
	if err := s.readable(lsn, uint64(len(p))); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(uint64(len(p)), format.ToEnd(lsn, r.entry.capacity))
		if err := r.pool.dev.readAt(p[:n], r.ringOffset(lsn)); err != nil {
			at, err := r.unreadable(lsn, p[:n], err)
			r.remember(at, err)
			return fmt.Errorf("read LSN %d: %w", at, err)
		}
		lsn, p = lsn+n, p[n:]
	}
	return nil
}

func (s *Session) readable(lsn, n uint64) error {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := s.live(); err != nil {
		return err
	}
	trim, capacity := r.slot.Trim.LSN, r.entry.capacity
	if lsn < trim || n > capacity || lsn-trim > capacity-n {
		return fmt.Errorf("%w: read of %d bytes at LSN %d, the replica's window is [%d, %d)", ErrRange, n, lsn, trim, trim+capacity)
	}
	return nil
}
