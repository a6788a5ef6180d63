package pmemlog_test

import (
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// stores puts records into the ring behind the pool's back, as a network card
// does: they may lie in the CPU's cache.
func stores(b byte, sizes ...int) step {
	return func(w *world) error {
		_, _, err := w.store(b, sizes...)
		return err
	}
}

func (w *world) store(b byte, sizes ...int) (lsn, n uint64, err error) {
	lsn, p := w.encode(b, sizes...)
	for at := lsn; len(p) > 0; {
		part := min(uint64(len(p)), format.ToEnd(at, w.book.replicas[b].capacity))
		if err := w.m.Arrive(p[:part], ringOffset(w, b, at)); err != nil {
			return 0, 0, err
		}
		at, p, n = at+part, p[part:], n+part
	}
	return lsn, n, nil
}

// arrives stores records and has them taken.
func arrives(b byte, sizes ...int) step {
	return func(w *world) error {
		lsn, n, err := w.store(b, sizes...)
		if err != nil {
			return err
		}
		durable, err := w.sessions[b].Arrived(lsn, n)
		if err != nil {
			return err
		}
		return w.book.replicas[b].acknowledge(durable)
	}
}

func TestCrashArrive(t *testing.T) {
	crash(t, crashCase{
		only:    pmemlog.KindPmem,
		prepare: begins(),
		operate: steps(arrives(1, 500), arrives(1, 100, 200), appends(1, 50), arrives(1, 70)),
	})
}

func TestCrashArriveAcrossTheEndOfTheRing(t *testing.T) {
	crash(t, crashCase{
		only:    pmemlog.KindPmem,
		prepare: steps(begins(), appends(1, 900, 900, 900), flushes(1), trims(1, 3)),
		operate: steps(arrives(1, 400, 60), arrives(1, 10)),
	})
}

// A fence finds what nobody has taken yet, and vouches for it.
func TestCrashFenceOverWhatHasArrived(t *testing.T) {
	crash(t, crashCase{
		only:    pmemlog.KindPmem,
		prepare: steps(begins(), stores(1, 500), stores(1, 100)),
		operate: fences(1, 0),
	})
}
