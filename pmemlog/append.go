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
	if err := s.writer(); err != nil {
		return err
	}
	if lsn != r.chain.LSN { // rule: sequential
		return fmt.Errorf("%w: write at LSN %d, the tail is %d", ErrRange, lsn, r.chain.LSN)
	}
	if room := r.slot.Trim.LSN + r.entry.capacity - lsn; uint64(len(p)) > room { // rule: space
		return fmt.Errorf("%w: write of %d bytes at LSN %d, the trim LSN %d leaves room for %d; trim what is no longer needed, then write again", ErrRange, len(p), lsn, r.slot.Trim.LSN, room)
	}
	chain, err := r.follow(p)
	if err != nil {
		return err
	}
	if err := r.writeRing(lsn, p); err != nil {
		return err
	}
	r.mu.Lock()
	r.chain = chain
	r.mu.Unlock()
	return nil
}

// follow checks the records in p and returns the chain behind them.
func (r *Replica) follow(p []byte) (format.Chain, error) {
	chain := r.chain
	for len(p) > 0 {
		at := chain.LSN
		h, err := chain.Follow(p) // rule: records follow
		if err != nil {
			return chain, refused(at, len(p), err)
		}
		if h.Size() > format.ToEnd(at, r.entry.capacity) {
			return chain, fmt.Errorf("%w: record of %d bytes at LSN %d crosses the end of the ring", ErrChain, h.Size(), at)
		}
		if h.Epoch > r.term.Epoch {
			return chain, fmt.Errorf("%w: record of epoch %d at LSN %d, the session's is %d", ErrChain, h.Epoch, at, r.term.Epoch)
		}
		if h.Epoch == r.term.Epoch && !r.sealed { // rule: seal before append
			return chain, fmt.Errorf("%w: record of epoch %d at LSN %d", ErrNotSealed, h.Epoch, at)
		}
		p = p[h.Size():]
	}
	return chain, nil
}

// refused says why what is left of a write is no record that follows.
func refused(at uint64, left int, why error) error {
	if errors.Is(why, format.ErrLength) {
		return fmt.Errorf("%w: at LSN %d: %w: %d bytes are no whole record of at most %d bytes of payload; write smaller ones, and each whole", ErrChain, at, why, left, format.MaxPayload)
	}
	return fmt.Errorf("%w: at LSN %d: %w", ErrChain, at, why)
}

// writeRing writes p at lsn, in two pieces where the ring ends.
func (r *Replica) writeRing(lsn uint64, p []byte) error {
	for len(p) > 0 {
		n := min(uint64(len(p)), format.ToEnd(lsn, r.entry.capacity))
		if err := r.pool.dev.writeAt(p[:n], r.ringOffset(lsn)); err != nil {
			return err
		}
		lsn, p = lsn+n, p[n:]
	}
	return nil
}

// Flush makes persistent what was written before the call and returns the LSN
// up to which everything is. Writes go on meanwhile. The hint that it carries
// along is what earlier flushes have acknowledged, so that the replica's
// persistent hint is at most one flush behind.
func (s *Session) Flush() (uint64, error) {
	r := s.r
	r.flush.Lock()
	defer r.flush.Unlock()
	f, err := s.startFlush()
	if err != nil {
		return 0, err
	}
	if f.needed {
		if err := r.pool.dev.sync(); err != nil { // rule: sync before acknowledge
			return 0, err
		}
	}
	return s.endFlush(f)
}

// flushing is what a flush will have made persistent.
type flushing struct {
	at      format.Position // the tail when it began
	rewinds uint64
	sealed  bool
	needed  bool
}

func (s *Session) startFlush() (flushing, error) {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.writer(); err != nil {
		return flushing{}, err
	}
	if err := r.pool.dev.failure(); err != nil {
		return flushing{}, err
	}
	f := flushing{
		at:      format.Position{Epoch: r.chain.Epoch, LSN: r.chain.LSN},
		rewinds: r.rewinds, sealed: r.sealed,
	}
	f.needed = r.chain.LSN != r.durableLSN()
	if !f.needed {
		return f, nil
	}
	return f, r.writeHintLine() // rule: hint with the next flush
}

func (r *Replica) durableLSN() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.durable
}

func (s *Session) endFlush(f flushing) (uint64, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := s.writer(); err != nil {
		return 0, err
	}
	if r.rewinds == f.rewinds {
		r.durable = f.at.LSN
		if f.sealed {
			r.acked = f.at
		}
	}
	return r.durable, nil
}
