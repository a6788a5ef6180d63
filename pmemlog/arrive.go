package pmemlog

import (
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// Arrived takes whole records that another, such as a network card, has stored in
// the ring at [lsn, lsn+n), makes them persistent and returns the LSN up to which
// everything is. They are checked as Write checks what it is given, but only once
// they are persistent, so that nothing is vouched for that lay in a cache. When
// they are refused, the tail is where it was. ErrWrongMedium on media in which
// nobody can store.
func (s *Session) Arrived(lsn, n uint64) (uint64, error) {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.writer(); err != nil {
		return 0, err
	}
	if n%format.Align != 0 {
		return 0, fmt.Errorf("%w: %d bytes have arrived, must be a multiple of %d", ErrRange, n, format.Align)
	}
	if err := r.placed(lsn, n); err != nil {
		return 0, err
	}
	return r.arrived(lsn, n)
}

func (r *Replica) arrived(lsn, n uint64) (uint64, error) {
	parts := r.ringParts(lsn, n)
	for _, p := range parts {
		if err := r.pool.dev.writeBack(r.entry.offset+format.RingOffset+p.offset, p.length); err != nil {
			return 0, r.wrote(lsn, err)
		}
	}
	hint, lags, err := r.persistWithHint(r.spans[:0]) // rule: arrived bytes persisted before they are read
	if err != nil {
		return 0, r.wrote(lsn, err)
	}
	chain, err := r.followRing(parts)
	if err != nil {
		if lags {
			r.publish(func() { r.hintWritten(hint) })
		}
		return 0, err
	}
	return r.acknowledged(&chain, hint, lags), nil
}

// ringParts returns where in the ring [lsn, lsn+n) lies; the second part is
// empty unless the ring ends between.
func (r *Replica) ringParts(lsn, n uint64) [2]extent {
	first := min(n, format.ToEnd(lsn, r.entry.capacity))
	return [2]extent{{int64(lsn % r.entry.capacity), int64(first)}, {0, int64(n - first)}}
}

// followRing checks records that stand in the ring and returns the chain behind
// them.
func (r *Replica) followRing(parts [2]extent) (format.Chain, error) {
	var chain format.Chain
	err := r.look(func(ring format.Source) error {
		chain = r.chain
		for _, p := range parts {
			b, err := ring.View(p.offset, int(p.length))
			if err != nil {
				return err
			}
			if chain, err = r.follow(chain, b); err != nil {
				return err
			}
		}
		return nil
	})
	return chain, err
}
