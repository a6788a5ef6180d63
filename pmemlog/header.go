package pmemlog

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// writeHeader makes next the header that counts: it is written to the place of
// the one that does not, and counts once it is persistent. All hint lines are
// void from then on. What changes with it is published with it, so that nobody sees
// the one without the other. op is held.
func (r *Replica) writeHeader(next format.Slot, with ...func()) error {
	next.Generation = r.slot.Generation + 1
	at := 1 - r.slotAt // rule: header slots alternate
	if r.header == nil {
		r.header = make([]byte, format.SlotSize)
	}
	format.EncodeSlot(r.header, &next)
	if err := r.pool.dev.writeAt(r.header, r.entry.offset+int64(at)*format.SlotSize); err != nil {
		return r.wrote(r.chain.LSN, err)
	}
	if err := r.pool.dev.sync(); err != nil { // rule: header synced
		return err
	}
	r.publish(func() {
		r.slot, r.slotAt, r.hint = next, at, next.Hint
		for _, change := range with {
			change()
		}
	})
	return nil
}

// renewHeader writes next to both places, one after the other, and clears the hint
// page, which that has voided: all by whole pages, so that one that was bad can be
// put elsewhere by the medium. op is held.
func (r *Replica) renewHeader(next format.Slot) error {
	for range 2 {
		if err := r.writeHeader(next); err != nil {
			return err
		}
	}
	err := r.pool.dev.persist([]Span{{Off: r.entry.offset + format.HintOffset, Bytes: make([]byte, format.SlotSize)}})
	if err != nil {
		return r.wrote(r.chain.LSN, err)
	}
	r.publish(func() {
		var at *UnwritableError
		if r.unwritable != nil && errors.As(r.unwritable.Err, &at) && at.Off < r.entry.offset+format.RingOffset {
			r.unwritable = nil // it was the header, and has been written after all
		}
	})
	return nil
}

// nextHeader returns a copy of the header to change and write, with the newest
// hint that may be persisted in it.
func (r *Replica) nextHeader() format.Slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.slot.Clone()
	next.Hint = r.hint.Max(r.acked)
	return next
}

// writeHintLine writes what flushes before this one have acknowledged, if that
// is not in a line or the header yet. It counts after the next sync. op and
// flush are held, so that the other line is persistent, which on persistent memory
// it is without a flush: a torn one loses no more than itself.
func (r *Replica) writeHintLine() error {
	line, hint, needed := r.nextHintLine()
	if !needed {
		return nil
	}
	if err := r.pool.dev.writeAt(line.Bytes, line.Off); err != nil {
		return r.wrote(r.chain.LSN, err)
	}
	r.publish(func() { r.hintWritten(hint) })
	return nil
}

// nextHintLine encodes the line that writeHintLine would write, and says whether
// there is one. op is held, and flush where lines are not persistent at once.
func (r *Replica) nextHintLine() (Span, format.Position, bool) {
	hint := r.acked // rule: hint behind persistence
	if !hint.After(r.hint) {
		return Span{}, hint, false
	}
	format.EncodeHint(r.line[:], format.HintLine{Generation: r.slot.Generation, Sequence: r.lineSeq, Hint: hint})
	off := r.entry.offset + format.HintOffset + int64(r.lineAt)*format.HintStride
	return Span{Off: off, Bytes: r.line[:]}, hint, true
}

// hintEvery is how many bytes may be acknowledged and not hinted before a flush takes
// the hint along: to make and store a line costs a quarter of a short append to
// persistent memory, and on a disk a page of its own to sync costs a tenth of an
// append of 64 KiB.
func hintEvery(capacity uint64) uint64 { return min(256<<10, capacity/16) }

// hintDue says whether the next flush should take a hint line along: ADR 29. The first
// one behind a header does, since the line tells if that header is lost. op is held.
func (r *Replica) hintDue() bool {
	return r.lineOf != r.slot.Generation || r.suspect || r.hintWanted.Load() ||
		r.acked.Epoch != r.hint.Epoch || r.acked.LSN >= r.hint.LSN+hintEvery(r.entry.capacity)
}

// hintWritten makes the line that was written the newest. mu is held.
func (r *Replica) hintWritten(hint format.Position) {
	r.hint, r.lineAt = hint, 1-r.lineAt
	r.lineOf = r.slot.Generation
	if r.hintWanted.Load() {
		r.hintWanted.Store(false)
	}
	r.lineSeq++
	r.suspect = false // what was lost has been made good, and more
}

// loadHint takes the newest hint line that belongs to the header. A line of
// another version is skipped only when the header has voided it; else it holds
// what the replica has promised, and this program can't read it.
func (r *Replica) loadHint(page []byte) error {
	for i := range 2 {
		l, err := format.DecodeHint(page[i*format.HintStride:])
		if errors.Is(err, format.ErrVersion) && l.Generation >= r.slot.Generation { // rule: no hint line unread
			return fmt.Errorf("%w: hint line %d: %w", ErrVersion, i, err)
		}
		if err != nil {
			continue
		}
		if l.Generation > r.slot.Generation { // lines are written after their header is persistent
			return fmt.Errorf("the header has generation %d, but a hint line belongs to generation %d: the newest header is damaged, and with it what the replica has promised; %s", r.slot.Generation, l.Generation, deleteReplica)
		}
		if l.Generation < r.slot.Generation || l.Sequence < r.lineSeq { // rule: old hint lines are void
			continue
		}
		r.hint, r.lineAt, r.lineSeq = r.hint.Max(l.Hint), 1-i, l.Sequence+1
		r.lineOf = l.Generation
	}
	return nil
}

// HintLag reports whether the replica has acknowledged more than its persistent
// hint tells. A flush carries the hint along now and then. So that nothing is without
// one for longer than 10 ms, HintNext or, if no flush comes, PersistHint should be
// called by then.
func (r *Replica) HintLag() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone == nil && r.failed == nil && r.acked.After(r.hint)
}

// HintNext has the next flush carry the hint along. It waits for nothing.
func (r *Replica) HintNext() { r.hintWanted.Store(true) }

// PersistHint persists the hint by itself. It does nothing when there is no lag.
func (r *Replica) PersistHint() error {
	r.flush.Lock()
	defer r.endTurn()
	if err := r.startHint(); err != nil {
		return err
	}
	return r.pool.dev.sync()
}

func (r *Replica) startHint() error {
	r.op.Lock()
	defer r.op.Unlock()
	if err := cmp.Or(r.gone, r.failed); err != nil {
		return err
	}
	return r.writeHintLine()
}
