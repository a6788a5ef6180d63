package pmemlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gravenio/graven/pmemlog/format"
)

// SealIn is the one header write that lets a replica take part in an epoch.
type SealIn struct {
	Seals []format.Seal // the chosen log's, with the writer's own
	Set   []format.ID   // the replica set, for the newest seal
	Hint  format.Position
	Tail  uint64 // all below it must be persistent here, or the seal is refused
}

// Align says that the bytes up to lsn, a record boundary, are the writer's and
// that what lies behind is to be rewritten from there: lsn is the tail from now
// on. A clean replica's hint falls to lsn before Align returns, else the next
// opener would take the rewriting for a loss. A suspect's hint stays until Seal
// says that the loss is made good.
func (s *Session) Align(lsn uint64) error {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.writer(); err != nil {
		return err
	}
	if lsn < r.slot.Trim.LSN || lsn > r.chain.LSN {
		return fmt.Errorf("%w: align at LSN %d, the replica holds [%d, %d)", ErrRange, lsn, r.slot.Trim.LSN, r.chain.LSN)
	}
	if lsn == r.chain.LSN { // nothing is to be rewritten
		return nil
	}
	chain, err := r.boundary(lsn)
	if err != nil {
		return err
	}
	sealed, err := r.sealedEpoch(lsn)
	if err != nil {
		return fmt.Errorf("align: %w", err)
	}
	at := format.Position{Epoch: max(chain.Epoch, sealed), LSN: lsn}
	if !r.suspect && r.nextHeader().Hint.After(at) { // rule: suspect keeps its hint
		if err := r.lowerHint(at); err != nil { // rule: hint lowered before rewriting
			return err
		}
	}
	r.publish(func() { r.rewind(chain) })
	return nil
}

func (r *Replica) lowerHint(at format.Position) error {
	next := r.nextHeader()
	next.Hint = at
	return r.writeHeader(next)
}

// rewind sets the tail. Flushes that are under way raise nothing any more. op
// and mu are held.
func (r *Replica) rewind(chain format.Chain) {
	r.chain, r.durable = chain, min(r.durable, chain.LSN)
	r.acked = format.Position{}
	r.rewinds++
}

// boundary returns the chain at lsn, below the tail, with the epoch of the
// session's own seal if that stands there or before.
func (r *Replica) boundary(lsn uint64) (format.Chain, error) {
	var chain format.Chain
	err := r.look(func(ring format.Source) (err error) {
		chain, err = format.Boundary(ring, r.slot.Trim, lsn)
		return err
	})
	if errors.Is(err, ErrUnreadable) {
		return chain, fmt.Errorf("align: %w", err)
	}
	if err != nil {
		return chain, fmt.Errorf("%w: align: %w", ErrRange, err)
	}
	if own := ownSeal(r.slot.Seals, r.term); own != nil && own.T <= lsn {
		chain.Epoch = max(chain.Epoch, own.Epoch)
	}
	return chain, nil
}

// sealedEpoch returns the highest epoch of the seals that match at or below
// lsn. It counts for the replica's position there, not for what may follow: the
// log that is written next need not know these seals. ErrUnreadable where that
// can't be known: the hint must not fall too low.
func (r *Replica) sealedEpoch(lsn uint64) (uint64, error) {
	var epoch uint64
	for _, seal := range r.slot.Seals {
		if seal.T > lsn {
			continue
		}
		crc, known, err := r.crcBefore(seal.T)
		if errors.Is(err, ErrUnreadable) {
			return 0, err
		}
		if err == nil && known && crc == seal.Prev {
			epoch = max(epoch, seal.Epoch)
		}
	}
	return epoch, nil
}

// Reset drops all that the replica holds: it is empty and begins at the trim
// point. Its seals are gone, so the session's own must be sealed in before
// records of its epoch are written. A clean replica's hint falls to the trim
// point; a suspect's stays where it is higher.
func (s *Session) Reset(at format.TrimPoint) error {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.writer(); err != nil {
		return err
	}
	if err := r.checkTrim(at); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	next := r.nextHeader()
	next.Trim, next.Seals, next.Set = at, nil, nil
	next.Hint = at.Position()
	if r.suspect { // rule: suspect keeps its hint
		next.Hint = r.hint.Max(at.Position())
	}
	return r.writeHeader(next, func() { // rule: reset persisted
		r.rewind(format.Chain{LSN: at.LSN, CRC: at.CRC, Epoch: at.Epoch})
		r.durable = at.LSN
		r.sealed = false
		r.suspect = r.hint.After(at.Position())
	})
}

func (r *Replica) checkTrim(at format.TrimPoint) error {
	if at.LSN%format.Align != 0 || at.LSN > maxLSN {
		return fmt.Errorf("%w: trim LSN %d, must be a multiple of %d and at most %d", ErrRange, at.LSN, format.Align, uint64(maxLSN))
	}
	if at.Epoch > r.term.Epoch {
		return fmt.Errorf("%w: trim point of epoch %d, the session's is %d", ErrRange, at.Epoch, r.term.Epoch)
	}
	return nil
}

// Seal is the one header write that seals a replica in: when it has returned,
// the seals, the set and the hint are persistent and records of the session's
// epoch may be written. The tail must be in.Tail and all below it persistent,
// else ErrRange. A suspect that still holds less than it has lost stays one: its
// hint is kept until appends have overtaken it.
func (s *Session) Seal(in SealIn) error {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.writer(); err != nil {
		return err
	}
	own, err := r.checkSeal(in)
	if err != nil {
		return err
	}
	next := r.nextHeader()
	evidence := r.hint
	next.Seals, next.Set, next.Hint = slices.Clone(in.Seals), slices.Clone(in.Set), in.Hint
	format.SortSeals(next.Seals)
	lost := r.suspect && evidence.After(format.Position{Epoch: own.Epoch, LSN: in.Tail})
	if lost { // rule: suspect keeps what it has not made good
		next.Hint = evidence
	}
	if err := r.writeHeader(next); err != nil { // rule: seal persisted
		return err
	}
	r.publish(func() {
		r.sealed, r.suspect = true, lost
		r.chain.Epoch = max(r.chain.Epoch, own.Epoch)
	})
	return nil
}

func (r *Replica) checkSeal(in SealIn) (format.Seal, error) {
	if len(in.Seals) > format.MaxSeals || len(in.Set) > format.MaxReplicas {
		return format.Seal{}, fmt.Errorf("%w: %d seals and %d replicas, at most %d and %d", ErrRange, len(in.Seals), len(in.Set), format.MaxSeals, format.MaxReplicas)
	}
	if in.Tail != r.chain.LSN || r.durableLSN() < in.Tail { // rule: bytes before seal
		return format.Seal{}, fmt.Errorf("%w: seal at LSN %d, the tail is %d and all below %d is persistent", ErrRange, in.Tail, r.chain.LSN, r.durableLSN())
	}
	if in.Hint.LSN > in.Tail || in.Hint.Epoch > r.term.Epoch {
		return format.Seal{}, fmt.Errorf("%w: hint %s of a seal at LSN %d in epoch %d", ErrRange, in.Hint, in.Tail, r.term.Epoch)
	}
	for _, s := range in.Seals {
		if s.T%format.Align != 0 || s.T > maxLSN {
			return format.Seal{}, fmt.Errorf("%w: a seal at LSN %d, must be a multiple of %d and at most %d", ErrRange, s.T, format.Align, uint64(maxLSN))
		}
	}
	own := ownSeal(in.Seals, r.term)
	if own == nil || own.T > in.Tail {
		return format.Seal{}, fmt.Errorf("%w: no seal of the session's epoch %d at or below LSN %d", ErrRange, r.term.Epoch, in.Tail)
	}
	crc, known, err := r.crcBefore(own.T)
	if err != nil {
		return format.Seal{}, fmt.Errorf("seal: %w", err)
	}
	if known && crc != own.Prev { // rule: seal matches
		return format.Seal{}, fmt.Errorf("%w: the seal at LSN %d names another record before it", ErrChain, own.T)
	}
	return *own, nil
}

// Reseal replaces the replica set, and its version, in the seal of the session's
// term, by one header write: an opener whose grant is of an older version than a
// seal that it finds knows that the control plane has been set back. ErrNotSealed
// before Seal, ErrRange for a lower version than the seal has.
func (s *Session) Reseal(version uint64, set []format.ID) error {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.writer(); err != nil {
		return err
	}
	if len(set) > format.MaxReplicas {
		return fmt.Errorf("%w: a set of %d replicas, at most %d", ErrRange, len(set), format.MaxReplicas)
	}
	next := r.nextHeader()
	own := ownSeal(next.Seals, r.term)
	if own == nil || !r.sealed {
		return fmt.Errorf("%w: reseal in epoch %d", ErrNotSealed, r.term.Epoch)
	}
	if version < own.SetVersion {
		return fmt.Errorf("%w: reseal with set version %d, the seal has %d", ErrRange, version, own.SetVersion)
	}
	own.SetVersion, next.Set = version, slices.Clone(set)
	return r.writeHeader(next) // rule: reseal persisted
}

// Trim says that nothing below the point is needed any more: when it returns,
// that is persistent and the space may be written again. The point is a record
// boundary and at most the durable LSN, else ErrRange. At or below the trim LSN
// it does nothing.
func (s *Session) Trim(at format.TrimPoint) error {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.writer(); err != nil {
		return err
	}
	if at.LSN <= r.slot.Trim.LSN {
		return nil
	}
	if err := r.checkTrim(at); err != nil {
		return err
	}
	if durable := r.durableLSN(); at.LSN > durable { // rule: trim behind durable
		return fmt.Errorf("%w: trim to LSN %d, only %d is persistent", ErrRange, at.LSN, durable)
	}
	crc, _, err := r.crcBefore(at.LSN)
	if err != nil {
		return fmt.Errorf("trim: %w", err)
	}
	if crc != at.CRC {
		return fmt.Errorf("%w: trim to LSN %d names another record before it", ErrChain, at.LSN)
	}
	next := r.nextHeader()
	next.Trim = at
	return r.writeHeader(next) // rule: trim persisted
}

// crcBefore returns the CRC of the record that ends at lsn, at most the tail,
// and false where that has been trimmed. The record that begins there names it,
// so one header is read.
func (r *Replica) crcBefore(lsn uint64) (uint32, bool, error) {
	switch {
	case lsn == r.chain.LSN:
		return r.chain.CRC, true, nil
	case lsn == r.slot.Trim.LSN:
		return r.slot.Trim.CRC, true, nil
	case lsn < r.slot.Trim.LSN:
		return 0, false, nil
	case lsn%format.Align != 0: // its header could lie across the ring's end
		return 0, false, fmt.Errorf("%w: LSN %d is no record boundary: it is no multiple of %d", ErrRange, lsn, format.Align)
	}
	b := make([]byte, format.HeaderSize)
	if err := r.pool.dev.readAt(b, r.ringOffset(lsn)); err != nil {
		r.remember(lsn, err)
		return 0, false, err
	}
	h, err := format.DecodeHeader(b)
	if err == nil && h.LSN != lsn {
		err = format.ErrLSN
	}
	if err != nil {
		return 0, false, fmt.Errorf("%w: LSN %d is no record boundary: %w", ErrRange, lsn, err)
	}
	return h.Prev, true, nil
}
