package pmemlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gravenio/graven/pmemlog/format"
)

// Fence makes the replica promise the term, ends all older sessions that are not
// read-only, and reports what the replica holds, all of it persistent. The bytes
// are scanned anew each time, so damage is noticed. [FencedError] when the
// replica has promised another term; [TakenError] when another process has opened
// the pool meanwhile; ErrVersion when the log goes on with a record
// that another version wrote, and then the replica takes no writes.
func (s *Session) Fence(term format.Fence) (format.Report, error) {
	r := s.r
	r.op.Lock()
	defer r.op.Unlock()
	if err := s.live(); err != nil {
		return format.Report{}, err
	}
	if s.readOnly {
		return format.Report{}, ErrReadOnly
	}
	if term.Epoch == 0 {
		return format.Report{}, fmt.Errorf("%w: epoch of a term is 0, must be at least 1", ErrRange)
	}
	if !r.slot.Fenced.Admits(term) { // rule: fence admits
		return format.Report{}, &FencedError{Term: term, Promised: r.slot.Fenced}
	}
	if err := r.pool.own(); err != nil { // rule: a pool that another has taken promises nothing
		return format.Report{}, err
	}
	r.publish(func() { r.owner, r.term = s.token, term }) // rule: old sessions ended
	if err := r.promise(term); err != nil {               // rule: fence persisted
		return format.Report{}, err
	}
	if err := r.pool.dev.sync(); err != nil { // rule: sync before scan
		return format.Report{}, err
	}
	if err := r.settle(); err != nil {
		return format.Report{}, err
	}
	res, err := r.scan()
	if err != nil {
		return format.Report{}, err
	}
	if err := r.vouch(res); err != nil { // rule: hint after fence
		return format.Report{}, err
	}
	return r.report(res), nil
}

// promise persists the term, if the replica has not promised it yet. Of a replica
// that failed it writes all of the header anew, so that nothing counts which the
// write that failed may have left in it.
func (r *Replica) promise(term format.Fence) error {
	next := r.nextHeader()
	next.Fenced = term
	if r.failed != nil {
		return r.renewHeader(next)
	}
	if term == r.slot.Fenced {
		return nil
	}
	return r.writeHeader(next)
}

// settle makes persistent what a scan will see, in the order of LSNs: the log ends
// where the memory can't be touched.
func (r *Replica) settle() error {
	for _, part := range r.ringParts(r.slot.Trim.LSN, r.entry.capacity) {
		err := r.pool.dev.settle(r.entry.offset+format.RingOffset+part.offset, part.length)
		var fault *FaultError
		if errors.As(err, &fault) {
			return r.pool.dev.failure()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// scan reads the ring and takes what it holds as the replica's state.
func (r *Replica) scan() (format.ScanResult, error) {
	var res format.ScanResult
	err := r.look(func(ring format.Source) (err error) {
		res, err = format.Scan(ring, format.ScanInput{Trim: r.slot.Trim, Seals: r.slot.Seals, Hint: r.hint}, nil)
		return err
	})
	if err != nil {
		r.publish(func() { r.scanned, r.stop = false, err }) // or the session would write at an old tail
		if errors.Is(err, format.ErrVersion) {
			err = fmt.Errorf("%w: replica %s: %w", ErrVersion, r.entry.replica, err)
		}
		return res, err
	}
	chain := res.Chain
	if chain.Epoch < r.term.Epoch {
		// What a writer rewrites from its log may be of a lower epoch than the seal
		// of an opener that got no further than here; its own seal replaces that one.
		chain.Epoch = res.Written
	}
	r.publish(func() {
		r.scanned, r.stop, r.failed = true, res.Stop, nil
		r.chain, r.durable = chain, chain.LSN
		r.acked = format.Position{}
		r.suspect = res.Suspect()
		r.sealed = ownSeal(r.slot.Seals, r.term) != nil
		r.rewinds++
		r.damaged = scanDamage(&res) // rather than what was found before: all of it has been read anew
	})
	return res, nil
}

// vouch persists what the replica is about to say of itself: its last position
// or, for a suspect, the evidence. What is rewritten later may destroy the
// records that are the evidence; the hint keeps it.
func (r *Replica) vouch(res format.ScanResult) error {
	hint := res.Last.Max(res.Evidence)
	if hint == r.hint {
		return nil
	}
	next := r.nextHeader()
	next.Hint = hint
	return r.writeHeader(next)
}

func (r *Replica) report(res format.ScanResult) format.Report {
	slot := r.slot.Clone()
	format.SortSeals(slot.Seals)
	return format.Report{
		Fenced: slot.Fenced, Trim: slot.Trim, Tail: res.Chain.LSN, Durable: res.Chain.LSN,
		Last: res.Last, Pairs: res.Pairs, Evidence: res.Evidence, Commit: res.Commit, Records: res.Records,
		Set: slot.Set, Seals: slot.Seals, Capacity: slot.Capacity,
	}
}

// ownSeal returns the seal of a term, or nil.
func ownSeal(seals []format.Seal, term format.Fence) *format.Seal {
	if i := slices.IndexFunc(seals, func(s format.Seal) bool { return s.Fence() == term }); i >= 0 {
		return &seals[i]
	}
	return nil
}
