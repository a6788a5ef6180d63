package pmemlog_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// step is one operation of a crash case, or several.
type step func(w *world) error

func steps(list ...step) step {
	return func(w *world) error {
		for _, do := range list {
			if err := do(w); err != nil {
				return err
			}
		}
		return nil
	}
}

func nothing() step { return steps() }

func formats() step { return (*world).format }

func opens() step { return (*world).open }

func goesOn() step { return (*world).goOn }

func creates(b byte) step {
	return func(w *world) error { return w.create(b, ringSize) }
}

func removes(b byte) step { return func(w *world) error { return w.remove(b) } }

func takesOver(b byte) step { return func(w *world) error { return w.takeOver(b) } }

// fences fences in a term so many above the one that is promised.
func fences(b byte, above uint64) step {
	return func(w *world) error { return w.fence(b, term(w.book.replicas[b].now().fenced.Epoch+above)) }
}

func seals(b byte) step { return func(w *world) error { return w.seal(b) } }

func appends(b byte, sizes ...int) step {
	return func(w *world) error { return w.append(b, sizes...) }
}

func commits(b byte, sizes ...int) step {
	return func(w *world) error { return w.commit(b, sizes...) }
}

// hintless is a step that stores to no hint line on persistent memory, or it is an error.
func hintless(b byte, do step) step {
	return func(w *world) error {
		before := len(w.m.Events())
		if err := do(w); err != nil || w.m.PMem() == nil {
			return err
		}
		listed := w.p.Replicas()
		at := listed[slices.IndexFunc(listed, func(l pmemlog.Listed) bool { return l.Replica == id(b) })].Offset + format.HintOffset
		events := w.m.Events()[before:]
		if len(events) == 0 {
			return errors.New("nothing was logged of a step that is to store to no hint line")
		}
		for _, e := range events {
			if e.Off < at+format.SlotSize && at < e.Off+int64(e.Len) {
				return fmt.Errorf("%+v is of a hint line", e)
			}
		}
		return nil
	}
}

func flushes(b byte) step { return func(w *world) error { return w.flush(b) } }

func persistsHint(b byte) step { return func(w *world) error { return w.persistHint(b) } }

// trims trims to the n-th record boundary of what was ever written.
func trims(b byte, n int) step {
	return func(w *world) error { return w.trim(b, w.book.replicas[b].now().log().ends[n].LSN) }
}

// aligns keeps the log up to its n-th record boundary.
func aligns(b byte, n int) step {
	return func(w *world) error { return w.align(b, w.book.replicas[b].now().log().ends[n].LSN) }
}

// resets begins anew so many bytes behind the log's end.
func resets(b byte, behind uint64) step {
	return func(w *world) error {
		end := w.book.replicas[b].now().log().end()
		return w.reset(b, format.TrimPoint{LSN: end.LSN + behind, Epoch: end.Epoch, CRC: end.CRC + 1})
	}
}

// loses flips a bit under the record at the n-th boundary and opens the pool anew:
// what lies from there on is lost, and evidence of it is left.
func loses(b byte, n int) step {
	return func(w *world) error {
		s := w.book.replicas[b].now()
		s.lost = s.floor
		lsn := s.log().ends[n].LSN
		w.m.FlipBit(ringOffset(w, b, lsn)+format.HeaderSize+3, 2)
		s.durable = lsn
		return w.open()
	}
}

// ringOffset returns where in the pool a replica's LSN lies.
func ringOffset(w *world, b byte, lsn uint64) int64 {
	for _, l := range w.p.Replicas() {
		if l.Replica == id(b) {
			return l.Offset + format.RingOffset + int64(lsn%l.Capacity)
		}
	}
	panic("no such replica")
}

// begins makes a pool with replica 1 in it, taken over, and two records in that.
func begins() step {
	return steps(formats(), creates(1), takesOver(1), appends(1, 100, 300), flushes(1))
}

// createsOnce is creates where the replica is not there yet.
func createsOnce(b byte) step {
	return func(w *world) error {
		if r, ok := w.book.replicas[b]; ok && r.presence == present {
			return nil
		}
		return w.create(b, ringSize)
	}
}

// removesOnce is removes where the replica is there yet.
func removesOnce(b byte) step {
	return func(w *world) error {
		if w.book.replicas[b].presence != present {
			return nil
		}
		return w.remove(b)
	}
}

// forgets says that the tombstone of a replica may be used from now on.
func forgets(b byte) step {
	return func(w *world) error {
		w.book.replicas[b].presence = forgetting
		return nil
	}
}

// damages flips a bit on the medium.
func damages(off int64) step {
	return func(w *world) error {
		w.m.FlipBit(off, 5)
		return nil
	}
}

// together carries out steps in goroutines of their own.
func together(list ...step) step {
	return func(w *world) error {
		errs := make([]error, len(list))
		var wg sync.WaitGroup
		for i, do := range list {
			wg.Go(func() { errs[i] = do(w) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
}

// with changes what the pool is formatted with.
func with(change func(*pmemlog.FormatOptions)) step {
	return func(w *world) error {
		change(&w.opts)
		return nil
	}
}
