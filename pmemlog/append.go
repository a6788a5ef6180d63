package pmemlog

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// Write appends p, whole records that follow what the replica holds, at its
// tail. It is not persistent until Flush has returned. Either all of p is
// taken or none: ErrRange for a place other than the tail or beyond the
// persisted trim LSN plus capacity, ErrChain for bytes that are no records,
// that do not follow or that are of a later epoch than the session's,
// ErrNotSealed for records of the session's own epoch before its Seal.
func (s *Session) Write(lsn uint64, p []byte) error {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.admit(lsn, p); err != nil {
		return err
	}
	chain, err := r.put(lsn, p)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.chain = chain
	r.mu.Unlock()
	return nil
}

// put checks records, writes them and returns the chain behind them.
func (r *Replica) put(lsn uint64, p []byte) (format.Chain, error) {
	if r.pool.dev.persister != nil {
		err := r.fed.outcome(p, false, r.feed(p, false))
		return r.fed.chain, err
	}
	chain, err := r.follow(r.chain, p)
	if err != nil {
		return chain, err
	}
	for _, span := range r.ringSpans(r.spans[:0], lsn, p) {
		err := r.pool.dev.writeAt(span.Bytes, span.Off)
		if errors.Is(err, ErrUnwritable) {
			err = r.writePages(lsn, span.Bytes)
		}
		if err != nil {
			return chain, err
		}
		lsn += uint64(len(span.Bytes))
	}
	return chain, nil
}

// Append is Write and then Flush: when it returns, p and all that was written
// before is persistent, and all below the LSN returned. On persistent memory it
// is one critical section with one fence.
func (s *Session) Append(lsn uint64, p []byte) (uint64, error) {
	r := s.r
	if r.pool.dev.persister == nil {
		if err := s.Write(lsn, p); err != nil {
			return 0, err
		}
		return s.Flush()
	}
	if r.pool.dev.blocks { // then mu is not for it to hold
		r.op.Lock()
		defer r.op.Unlock()
		if err := s.admit(lsn, p); err != nil {
			return 0, err
		}
		return r.persistNow(p)
	}
	end, failed, err := s.appendNow(lsn, p)
	if failed {
		defer r.op.Unlock()
		return r.persisted(p, err)
	}
	return end, err
}

// appendNow is Append to persistent memory, with mu held: a lock of its own would be
// a large part of a short append. If failed, op is held when it returns: what was to be
// persisted did not arrive, or the feed refused it.
func (s *Session) appendNow(lsn uint64, p []byte) (end uint64, failed bool, err error) {
	r := s.r
	r.mu.Lock()
	r.op.take()
	defer func() {
		if !failed {
			r.op.end()
		}
		r.mu.Unlock()
	}()
	if err := s.admit(lsn, p); err != nil {
		return 0, false, err
	}
	if len(p) < alone && !r.hintDue() {
		next := r.chain
		if o, ok := r.one(&next, p); ok {
			return r.appendOne(p, &o, &next)
		}
	}
	f := &r.fed
	if err := r.feed(p, true); err != nil || f.err != nil {
		return 0, true, err
	}
	r.appended(&f.chain, f.hint, f.lags)
	return r.durable, false, nil
}

// one says whether p is one record that may follow the chain, but for its CRC, and
// moves it on. If not, feed says why, or takes several.
func (r *Replica) one(chain *format.Chain, p []byte) (format.Outline, bool) {
	o, err := chain.FollowUnchecked(p)
	return o, err == nil && o.Size() == uint64(len(p)) && r.may(o.LSN, o.Size(), o.Epoch) == nil
}

// appendOne is appendNow of one record, without a hint line. Its CRC is taken behind the
// fence, which holds up later stores and locks but not that: on amd64 the record is still
// on its way. One that is refused lies behind the tail, as with feed.
func (r *Replica) appendOne(p []byte, o *format.Outline, next *format.Chain) (end uint64, failed bool, err error) {
	if err := r.pool.dev.persistOne(p, r.ringOffset(o.LSN)); err != nil {
		return 0, true, err
	}
	if !o.CheckCRC(p) { // rule: crc of one record
		return 0, false, refused(o.LSN, len(p), format.ErrCRC)
	}
	r.appended(next, format.Position{}, false)
	return r.durable, false, nil
}

// persistNow makes records persistent and acknowledges them with all before, on a
// medium where that is persistent since it was written. op is held.
func (r *Replica) persistNow(p []byte) (uint64, error) {
	return r.persisted(p, r.feed(p, true))
}

// persisted takes down what has become of the records that were fed with a hint, and
// of that: err is how it ended. op is held.
func (r *Replica) persisted(p []byte, err error) (uint64, error) {
	f := &r.fed
	if err := f.outcome(p, true, err); err != nil {
		if f.lags && f.err != nil { // only the records are refused
			r.publish(func() { r.hintWritten(f.hint) })
		}
		return 0, err
	}
	return r.acknowledged(&f.chain, f.hint, f.lags), nil
}

// acknowledged is appended, and returns the durable LSN. op is held.
func (r *Replica) acknowledged(chain *format.Chain, hint format.Position, lags bool) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.appended(chain, hint, lags)
	return r.durable
}

// persistWithHint persists the spans and, beside them, a hint line if the hint lags.
func (r *Replica) persistWithHint(spans []Span) (format.Position, bool, error) {
	line, hint, lags := r.nextHintLine()
	if lags { // rule: hint with the next flush
		spans = append(spans, line)
	}
	return hint, lags, r.pool.dev.persist(spans)
}

// appended makes what has been persisted the replica's tail and durable LSN. op and
// mu are held.
func (r *Replica) appended(chain *format.Chain, hint format.Position, lags bool) {
	if lags {
		r.hintWritten(hint)
	}
	r.chain, r.durable = *chain, chain.LSN
	if r.sealed {
		r.acked = format.Position{Epoch: chain.Epoch, LSN: chain.LSN}
	}
	r.reviewDamage()
}

// admit checks that bytes may be written at lsn, whatever they are. op is held.
func (s *Session) admit(lsn uint64, p []byte) error {
	if err := s.writer(); err != nil {
		return err
	}
	return s.r.placed(lsn, uint64(len(p)))
}

// placed checks that n bytes may be written at lsn.
func (r *Replica) placed(lsn, n uint64) error {
	if lsn != r.chain.LSN { // rule: sequential
		return fmt.Errorf("%w: write at LSN %d, the tail is %d", ErrRange, lsn, r.chain.LSN)
	}
	if room := r.slot.Trim.LSN + r.entry.capacity - lsn; n > room { // rule: space
		return fmt.Errorf("%w: write of %d bytes at LSN %d, the trim LSN %d leaves room for %d; trim what is no longer needed, then write again", ErrRange, n, lsn, r.slot.Trim.LSN, room)
	}
	return nil
}

// follow checks that the records in p follow the chain and returns the chain
// behind them.
func (r *Replica) follow(chain format.Chain, p []byte) (format.Chain, error) {
	for len(p) > 0 {
		next := chain
		o, err := next.FollowUnchecked(p) // rule: records follow
		if err == nil && !o.CheckCRC(p) {
			err = format.ErrCRC
		}
		if err != nil {
			return chain, refused(chain.LSN, len(p), err)
		}
		if err := r.may(o.LSN, o.Size(), o.Epoch); err != nil {
			return chain, err
		}
		p, chain = p[o.Size():], next
	}
	return chain, nil
}

// may checks what a record's header says against the replica and its writer.
func (r *Replica) may(lsn, size, epoch uint64) error {
	switch {
	case size > format.ToEnd(lsn, r.entry.capacity):
		return fmt.Errorf("%w: record of %d bytes at LSN %d crosses the end of the ring", ErrChain, size, lsn)
	case epoch > r.term.Epoch:
		return fmt.Errorf("%w: record of epoch %d at LSN %d, the session's is %d", ErrChain, epoch, lsn, r.term.Epoch)
	case epoch == r.term.Epoch && !r.sealed: // rule: seal before append
		return fmt.Errorf("%w: record of epoch %d at LSN %d", ErrNotSealed, epoch, lsn)
	}
	return nil
}

// refused says why what is left of a write is no record that follows.
func refused(at uint64, left int, why error) error {
	if errors.Is(why, format.ErrLength) {
		return fmt.Errorf("%w: at LSN %d: %w: %d bytes are no whole record of at most %d bytes of payload; write smaller ones, and each whole", ErrChain, at, why, left, format.MaxPayload)
	}
	return fmt.Errorf("%w: at LSN %d: %w", ErrChain, at, why)
}

// ringSpans appends to dst where p goes when it is written at lsn: two pieces
// where the ring ends.
func (r *Replica) ringSpans(dst []Span, lsn uint64, p []byte) []Span {
	for len(p) > 0 {
		n := min(uint64(len(p)), format.ToEnd(lsn, r.entry.capacity))
		dst = append(dst, Span{Off: r.ringOffset(lsn), Bytes: p[:n]})
		lsn, p = lsn+n, p[n:]
	}
	return dst
}
