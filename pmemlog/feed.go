package pmemlog

import (
	"errors"

	"github.com/gravenio/graven/pmemlog/format"
)

// feed hands records to persistent memory, and checks their CRCs while they are
// on their way: a record that turns out to be damaged is behind the tail, and no
// more than the torn end of a log. What its header says is checked before, so
// that nothing reaches the ring, even if it is refused, that could be taken for a
// record of another term, place or version.
type feed struct {
	r     *Replica
	left  []byte       // records that have not been handed out
	chain format.Chain // behind the one that was handed out last
	rec   []byte       // that one, whose CRC has not been checked; nil when it has
	h     format.Header
	err   error // why the last record is refused

	hinting bool // a hint line may go along
	hint    format.Position
	lags    bool // one did
}

// feed persists records and, if it may, beside them the hint of what was
// acknowledged before them: then flush is held, too. op is held.
func (r *Replica) feed(p []byte, hinting bool) (*feed, error) {
	f := &r.fed
	*f = feed{r: r, left: p, chain: r.chain, hinting: hinting}
	err := r.pool.dev.persistFeed(f)
	f.left, f.rec = nil, nil // they are the caller's
	if errors.Is(err, ErrUnwritable) {
		return f, f.again(p, hinting)
	}
	if err != nil {
		f.err = nil
		return f, err
	}
	return f, f.err
}

// again writes the records, and the hint line that was to go along, once more one
// after the other, by whole pages where need be.
func (f *feed) again(p []byte, hinting bool) (err error) {
	r := f.r
	f.lags, f.err = false, nil
	if f.chain, err = r.follow(r.chain, p); err != nil {
		return err
	}
	if err := r.writePages(r.chain.LSN, p); err != nil || !hinting {
		return err
	}
	return r.writeHintLine()
}

// Next implements [Feed].
func (f *feed) Next() (Span, bool) {
	if len(f.left) == 0 {
		return f.nextHint()
	}
	f.check()
	if f.err != nil {
		return Span{}, false
	}
	at := f.chain.LSN
	h, err := f.chain.FollowUnchecked(f.left) // rule: records follow
	if err != nil {
		f.err = refused(at, len(f.left), err)
		return Span{}, false
	}
	if f.err = f.r.may(&h); f.err != nil {
		return Span{}, false
	}
	f.h, f.rec, f.left = h, f.left[:h.Size()], f.left[h.Size():]
	return Span{Off: f.r.ringOffset(at), Bytes: f.rec}, true
}

// nextHint returns the hint line, once.
func (f *feed) nextHint() (Span, bool) {
	if !f.hinting {
		return Span{}, false
	}
	f.hinting = false
	var line Span
	line, f.hint, f.lags = f.r.nextHintLine() // rule: hint with the next flush
	return line, f.lags
}

// Last implements [Feed].
func (f *feed) Last() { f.check() }

// check refuses the record that was handed out last, unless its CRC is right.
func (f *feed) check() {
	if f.rec != nil && !f.h.CheckCRC(f.rec) { // rule: crc of what is on its way
		f.err = refused(f.h.LSN, len(f.rec)+len(f.left), format.ErrCRC)
	}
	f.rec = nil
}
