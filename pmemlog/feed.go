package pmemlog

import (
	"errors"

	"github.com/gravenio/graven/pmemlog/format"
)

// feed hands records to persistent memory, which sums them as it stores them, and
// checks their CRCs while they are on their way: a record that turns out to be damaged is behind the tail, and no
// more than the torn end of a log. What its header says is checked before, so
// that nothing reaches the ring, even if it is refused, that could be taken for a
// record of another term, place or version.
type feed struct {
	r     *Replica
	left  []byte       // records that have not been handed out
	chain format.Chain // behind the one that was handed out last
	rec   []byte       // that one, whose CRC has not been checked; nil when it has
	of    format.Outline
	sum   format.Sum // of rec
	err   error      // why the last record is refused

	hinting bool // a hint line may go along
	hint    format.Position
	lags    bool // one did
}

// alone is the size, in bytes, below which a record that is the last to be stored is
// checked behind its stores, which are on their way for as long as that takes. Of
// a longer one, and of all but the last, the sum is taken as they are stored.
const alone = 16 << 10

// feed persists records and, if it may, beside them the hint of what was
// acknowledged before them: then flush is held, too. op is held.
func (r *Replica) feed(p []byte, hinting bool) (*feed, error) {
	f := &r.fed
	f.r, f.left, f.chain, f.hinting = r, p, r.chain, hinting
	f.rec, f.err, f.lags = nil, nil, false
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

// Next implements [Feed]. The hint line comes first: it takes as long to arrive
// as a record, and would be waited for if it were the last to leave.
func (f *feed) Next() (Span, bool) {
	if f.hinting {
		f.hinting = false
		var line Span
		if line, f.hint, f.lags = f.r.nextHintLine(); f.lags { // rule: hint with the next flush
			return line, true
		}
	}
	if f.check(); f.err != nil || len(f.left) == 0 {
		return Span{}, false
	}
	at := f.chain.LSN
	o, err := f.chain.FollowUnchecked(f.left) // rule: records follow
	if err != nil {
		f.err = refused(at, len(f.left), err)
		return Span{}, false
	}
	size := o.Size()
	if f.err = f.r.may(o.LSN, size, o.Epoch); f.err != nil {
		return Span{}, false
	}
	f.of, f.rec, f.left = o, f.left[:size], f.left[size:]
	f.sum.Taken = false
	return Span{Off: f.r.ringOffset(at), Bytes: f.rec}, true
}

// Sum implements [Feed].
func (f *feed) Sum() *format.Sum {
	if f.rec == nil || len(f.left) == 0 && len(f.rec) < alone {
		return nil
	}
	f.sum = f.of.Sum(f.rec)
	return &f.sum
}

// check refuses the record that was handed out last, unless its CRC is right.
func (f *feed) check() {
	if f.rec != nil && !f.of.CheckSum(f.rec, &f.sum) { // rule: crc of what is on its way
		f.err = refused(f.of.LSN, len(f.rec)+len(f.left), format.ErrCRC)
	}
	f.rec = nil
}
