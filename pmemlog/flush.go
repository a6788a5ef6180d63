package pmemlog

import (
	"cmp"

	"github.com/gravenio/graven/pmemlog/format"
)

// Flush makes persistent what was written before the call and returns the LSN
// up to which everything is. Writes go on meanwhile. The hint that it carries
// along now and then is what earlier flushes have acknowledged: see
// [Replica.HintLag]. Of many that are called at once, one serves all whose writes came
// before it began.
func (s *Session) Flush() (uint64, error) {
	r := s.r
	if r.pool.dev.persister != nil {
		return s.acknowledge()
	}
	if !r.flush.TryLock() {
		if durable, done, err := s.awaitTurn(); done {
			return durable, err
		}
	}
	defer r.endTurn()
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

// acknowledge is Flush where what was written is persistent already.
func (s *Session) acknowledge() (uint64, error) {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := cmp.Or(s.writer(), r.pool.dev.failure()); err != nil {
		return 0, err
	}
	if r.chain.LSN == r.durable {
		return r.acknowledged(&r.chain, format.Position{}, false), nil
	}
	return r.persistNow(nil)
}

// awaitTurn waits until it is this flush's turn, which is then taken, or until one
// before it has made persistent all that this one is for: done, with its LSN.
func (s *Session) awaitTurn() (durable uint64, done bool, err error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	r.awaiting.Add(1) // before the turn is tried for, or nobody would wake us
	defer r.awaiting.Add(-1)
	want, rewinds := r.chain.LSN, r.rewinds
	for !r.flush.TryLock() {
		r.turned.Wait()
		if r.rewinds == rewinds && r.durable >= want {
			return r.durable, true, s.writer()
		}
	}
	return 0, false, nil
}

// endTurn gives up the lock of flushes and wakes all who wait for a flush at once:
// most find that theirs is done.
func (r *Replica) endTurn() {
	r.flush.Unlock()
	if r.awaiting.Load() > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.turned.Broadcast()
	}
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
	if !f.needed || !r.hintDue() {
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
		r.reviewDamage()
	}
	return r.durable, nil
}
