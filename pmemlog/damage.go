package pmemlog

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// damagePage is what a failed read is narrowed down to, in bytes: what memory
// and disks lose at once.
const damagePage = 4096

// Damage is what is known to be wrong with what a replica holds: from LSN on it
// can't vouch for its log until a writer has rewritten it. Nothing that lies
// before is touched by it.
type Damage struct {
	LSN uint64 // where the first bad record begins, or the page that can't be read or written
	Err error  // ErrUnreadable, ErrUnwritable, or one of package format's; for people
}

// damaged is damage with what tells when it has been made good.
type damaged struct {
	Damage
	cut bool // the tail has been here or before since: what follows is rewritten
}

// knownDamage returns a copy of what is known. mu is held.
func (r *Replica) knownDamage() *Damage {
	var d Damage
	switch {
	case r.damaged == nil && r.unwritable == nil:
		return nil
	case r.unwritable == nil:
		d = r.damaged.Damage
	case r.damaged == nil:
		d = *r.unwritable
	default: // what is damaged can't be written anew either
		d = Damage{LSN: min(r.damaged.LSN, r.unwritable.LSN), Err: fmt.Errorf("%w; and %w", r.damaged.Err, r.unwritable.Err)}
	}
	return &d
}

// wrote judges how a write that reaches up to LSN has ended. Where a place of the
// region can't be written, that fails the replica and nothing else: it takes no
// writes until it is fenced anew. Nobody knows how much of the write is there: a
// header slot that counts for nothing now may count later, and void the hint lines
// that would be written meanwhile. op is held.
func (r *Replica) wrote(lsn uint64, err error) error {
	if errors.Is(err, ErrUnwritable) {
		r.publish(func() { r.failed, r.unwritable = err, &Damage{LSN: lsn, Err: err} })
	}
	return err
}

// scanDamage returns what a scan of the whole ring says: a suspect has lost
// something where its log ends now, and so may have a replica whose log ends
// where the medium can't be read.
func scanDamage(res *format.ScanResult) *damaged {
	if !res.Suspect() && !errors.Is(res.Stop, ErrUnreadable) {
		return nil
	}
	return &damaged{Damage: Damage{LSN: res.Chain.LSN, Err: res.Stop}}
}

// reviewDamage forgets damage that is none any more: behind it the log ends, or
// has been rewritten, or has been trimmed. As long as a suspect holds less than it
// once had, it stays. mu is held.
func (r *Replica) reviewDamage() {
	if w := r.unwritable; w != nil && r.failed == nil && r.scanned && (r.durable > w.LSN || r.slot.Trim.LSN > w.LSN) {
		r.unwritable = nil
	}
	d := r.damaged
	if d == nil || !r.scanned {
		return
	}
	if r.chain.LSN <= d.LSN {
		d.cut = true
	}
	switch gone := r.chain.LSN < d.LSN || d.LSN < r.slot.Trim.LSN || d.cut && r.durable > d.LSN; {
	case !gone:
	case r.suspect && r.hint.After(format.Position{Epoch: r.chain.Epoch, LSN: r.durable}):
	default:
		r.damaged = nil
	}
}

// remember takes down that the medium can't be read at an LSN. Where no record
// stands, or an earlier one is damaged, that adds nothing.
func (r *Replica) remember(lsn uint64, err error) {
	if !errors.Is(err, ErrUnreadable) || errors.Is(err, ErrClosed) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone != nil || r.scanned && (lsn < r.slot.Trim.LSN || lsn >= r.chain.LSN) {
		return
	}
	if r.damaged == nil || r.damaged.LSN > lsn {
		r.damaged = &damaged{Damage: Damage{LSN: lsn, Err: err}}
	}
}

// unreadable narrows a failed read of p from LSN on down to the first page that
// can't be read, and returns where that begins and its error. p is written over.
func (r *Replica) unreadable(lsn uint64, p []byte, err error) (uint64, error) {
	for at, rest := lsn, p; len(rest) > 0; {
		off := r.ringOffset(at)
		n := min(int64(len(rest)), damagePage-off%damagePage)
		if err := r.pool.dev.readAt(rest[:n], off); err != nil {
			return at, err
		}
		at, rest = at+uint64(n), rest[n:]
	}
	return lsn, err // it could be read this time
}
