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
//
// It keeps no pointer to the records, nor any other that changes: while garbage is
// collected, each store of one would cost as much as a record's CRC.
type feed struct {
	r     *Replica
	next  int          // where the first record begins that has not been handed out, in bytes
	chain format.Chain // behind the one that was handed out last
	due   int          // that one's size, if its CRC has not been checked, else 0
	of    format.Outline
	sum   format.Sum // of that one
	err   error      // why the last record is refused

	hinting bool // a hint line may go along
	hint    format.Position
	lags    bool // one did
}

// alone is the size, in bytes, below which a record that is the last to be stored is
// checked behind its stores, or behind the fence, which are on their way for as long as
// that takes. Of a longer one, and of all but the last, the sum is taken as they are stored.
const alone = 16 << 10

// feed persists records and, if it may and one is due, beside them the hint of what
// was acknowledged before them. How that ended is for outcome to say, unless there is
// no error and fed has none. op is held, which also keeps the pool open.
func (r *Replica) feed(p []byte, hinting bool) error {
	f := &r.fed
	f.next, f.due, f.chain, f.hinting, f.lags = 0, 0, r.chain, hinting && r.hintDue(), false
	if f.err != nil {
		f.err = nil
	}
	return r.pool.dev.persistFeed(p, f)
}

// outcome says how a feed has ended that returned err. What can't be touched is
// written by whole pages first. op is held, and mu is not.
func (f *feed) outcome(p []byte, hinting bool, err error) error {
	err = f.r.pool.dev.fed(err)
	if errors.Is(err, ErrUnwritable) {
		return f.again(p, hinting)
	}
	if err != nil {
		f.err = nil
		return err
	}
	return f.err
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
func (f *feed) Next(p []byte) (Span, bool) {
	if f.hinting {
		f.hinting = false
		var line Span
		if line, f.hint, f.lags = f.r.nextHintLine(); f.lags { // rule: hint with the next flush
			return line, true
		}
	}
	if f.check(p); f.err != nil || f.next == len(p) {
		return Span{}, false
	}
	at, left := f.chain.LSN, p[f.next:]
	o, err := f.chain.FollowUnchecked(left) // rule: records follow
	if err != nil {
		f.err = refused(at, len(left), err)
		return Span{}, false
	}
	size := o.Size()
	if err := f.r.may(o.LSN, size, o.Epoch); err != nil {
		f.err = err
		return Span{}, false
	}
	f.of, f.due = o, int(size)
	f.next += f.due
	f.sum.Taken = false
	return Span{Off: f.r.ringOffset(at), Bytes: left[:size]}, true
}

// last is the record that was handed out last.
func (f *feed) last(p []byte) []byte { return p[f.next-f.due : f.next] }

// Sum implements [Feed].
func (f *feed) Sum(p []byte) *format.Sum {
	if f.due == 0 || f.next == len(p) && f.due < alone {
		return nil
	}
	f.sum = f.of.Sum(f.last(p))
	return &f.sum
}

// check refuses the record that was handed out last, unless its CRC is right.
func (f *feed) check(p []byte) {
	if f.due > 0 && !f.of.CheckSum(f.last(p), &f.sum) { // rule: crc of what is on its way
		f.err = refused(f.of.LSN, len(p)-f.next+f.due, format.ErrCRC)
	}
	f.due = 0
}
