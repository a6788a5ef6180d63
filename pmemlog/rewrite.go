package pmemlog

import (
	"errors"

	"github.com/gravenio/graven/pmemlog/format"
)

// writePages writes records once more where a write of them has failed, page by
// page. One that can't be written in part is written whole: a disk then puts
// another sector there, and need not read it first. op is held.
func (r *Replica) writePages(lsn uint64, p []byte) error {
	for len(p) > 0 {
		off := r.ringOffset(lsn)
		n := min(int64(len(p)), damagePage-off%damagePage, int64(format.ToEnd(lsn, r.entry.capacity)))
		err := r.pool.dev.writeAt(p[:n], off)
		if errors.Is(err, ErrUnwritable) && n < damagePage {
			err = r.writePage(lsn, p[:n], err)
		}
		if err != nil {
			return r.wrote(lsn, err)
		}
		lsn, p = lsn+uint64(n), p[n:]
	}
	return nil
}

// writePage writes the page whole of which p is a part. What else stands there is
// kept if it can be read; if not, it must be nothing that the replica still holds:
// zeroes in the place of records would be worse than a page that can't be read.
func (r *Replica) writePage(lsn uint64, p []byte, why error) error {
	off := r.ringOffset(lsn)
	start := off &^ (damagePage - 1)
	page := make([]byte, damagePage)
	if err := r.pool.dev.readAt(page, start); err != nil {
		if r.holds(lsn, start) {
			return why
		}
		clear(page)
	}
	copy(page[off-start:], p)
	return r.pool.dev.writeAt(page, start)
}

// holds says whether records that end at or below LSN lie in the page that begins
// at start.
func (r *Replica) holds(lsn uint64, start int64) bool {
	from := start - r.entry.offset - format.RingOffset
	for _, part := range r.ringParts(r.slot.Trim.LSN, lsn-r.slot.Trim.LSN) {
		if part.length > 0 && part.offset < from+damagePage && from < part.end() {
			return true
		}
	}
	return false
}
