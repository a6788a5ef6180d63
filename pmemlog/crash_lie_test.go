package pmemlog_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// A sync that says it succeeded and did not is no crash that can be made good:
// what was acknowledged is lost. All that can be asked is that the replica knows,
// wherever something that is persistent tells. A failed sync is one of the endings
// of every crash case.

// lied runs a story on each medium: what came before, a lie at the n-th sync or
// fence from then on, and what is done without noticing. What is left after a
// power cut is handed to check, as often as there are random losses to try.
func lied(t *testing.T, before, after step, n int, check func(next *world) error) {
	t.Helper()
	for _, m := range crashMedia() {
		w := newWorld(pmemtest.New(poolSize, m.opts))
		must(t, before(w))
		w.m.LieAtSync(n)
		must(t, after(w))
		for try := range *crashTries {
			rng := seeded(t, baseSeed()<<32+uint64(n<<16+try))
			if err := check(w.next(w.m.Crash(rng))); err != nil {
				t.Fatalf("seed %d: %s: lie at sync %d: try %d: %v", baseSeed(), m.name, n, try, err)
			}
		}
	}
}

// fenced opens what a lie has left and fences replica 1, without a book: that no
// longer holds.
func fenced(w *world) (format.Report, error) {
	p, err := pmemlog.Open(w.medium())
	if err != nil {
		return format.Report{}, err
	}
	r, err := p.Replica(id(1))
	if err != nil {
		return format.Report{}, err
	}
	return r.Attach(false).Fence(term(r.Info().Slot.Fenced.Epoch + 1))
}

// rounds are appends, each acknowledged by one sync or fence.
const rounds = 4

func commitRounds() step {
	return steps(commits(1, 300), commits(1, 100, 50), commits(1, 500), commits(1, 200))
}

// The hint that an honest flush carries along names what the lost one has
// acknowledged. Of the last flush nothing on the medium tells: the replica holds
// less, and can't know. Other replicas hold it.
func TestCrashLieAboutAFlush(t *testing.T) {
	t.Parallel()
	for n := 1; n <= rounds; n++ {
		after := commitRounds()
		if n < rounds { // what is not acknowledged yet changes nothing
			after = steps(after, appends(1, 90))
		}
		lied(t, begins(), after, n, func(next *world) error {
			rep, err := fenced(next)
			switch s := next.book.replicas[1].now(); {
			case err != nil:
				return err
			case rep.Tail >= s.durable:
				return fmt.Errorf("tail is %d, though a sync below %d has lied", rep.Tail, s.durable)
			case n < rounds && (!rep.Suspect() || s.floor.After(rep.Evidence)):
				return fmt.Errorf("last %s, evidence %s; the hint of %s was flushed honestly", rep.Last, rep.Evidence, s.floor)
			case n == rounds && rep.Suspect():
				return fmt.Errorf("suspect, last %s, evidence %s, without any evidence", rep.Last, rep.Evidence)
			}
			return nil
		})
	}
}

// Records behind the lost ones carry a commit LSN. That alone is enough, here with
// both hint lines destroyed.
func TestCrashLieToldByRecords(t *testing.T) {
	t.Parallel()
	for n := 1; n < rounds; n++ {
		lied(t, begins(), commitRounds(), n, func(next *world) error {
			region := int64(ringStart - format.RingOffset + format.HintOffset)
			next.m.FlipBit(region+30, 1)
			next.m.FlipBit(region+format.HintStride+30, 1)
			rep, err := fenced(next)
			if err == nil && (!rep.Suspect() || rep.Evidence.Epoch != 1 || rep.Evidence.LSN <= rep.Tail) {
				err = fmt.Errorf("last %s, evidence %s, though a sync has lied", rep.Last, rep.Evidence)
			}
			return err
		})
	}
}

// Once every sync lies nothing new is persistent, and nothing can tell. What is
// left is the pool as it was, whole and fit for use.
func TestCrashLiesFromNowOn(t *testing.T) {
	t.Parallel()
	for _, m := range crashMedia() {
		for n := range rounds {
			w := newWorld(pmemtest.New(poolSize, m.opts))
			must(t, begins()(w))
			for range n {
				must(t, commits(1, 100)(w))
			}
			honest := w.book.clone()
			w.m.LieFromSync(1)
			must(t, steps(commitRounds(), trims(1, 2), takesOver(1), creates(2), (*world).nextIncarnation)(w))
			for try := range *crashTries {
				rng := seeded(t, baseSeed()<<32+uint64(n<<16+try))
				next := w.next(w.m.Crash(rng))
				next.book = honest.clone()
				if err := next.goOn(); err != nil {
					t.Fatalf("seed %d: %s: after %d honest syncs: try %d: %v", baseSeed(), m.name, n, try, err)
				}
			}
		}
	}
}

// Hint lines name the header that they belong to. When that was lost, the replica
// is refused, whatever it had promised there: a seal, a trim, a term.
func TestCrashLieAboutAHeader(t *testing.T) {
	t.Parallel()
	for name, promise := range map[string]step{
		"seal":   seals(1),
		"trim":   trims(1, 1),
		"reseal": func(w *world) error { return w.reseal(1, 2, id(1)) },
	} {
		before := begins()
		if name == "seal" {
			before = steps(before, fences(1, 1))
		}
		lied(t, before, steps(promise, commits(1, 100), commits(1, 100)), 1, func(next *world) error {
			if _, err := fenced(next); !errors.Is(err, pmemlog.ErrCorrupt) {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
}

// A later header replaces the lost one, and holds all that it held.
func TestCrashLieMadeGoodByTheNextHeader(t *testing.T) {
	t.Parallel()
	lied(t, begins(), steps(trims(1, 1), trims(1, 2)), 1, goesOn())
}

// Of an entry's two copies an honest one is enough.
func TestCrashLieAboutACopyOfAnEntry(t *testing.T) {
	t.Parallel()
	lied(t, begins(), removes(1), 1, goesOn())
	lied(t, begins(), removes(1), 2, goesOn())
}

// A replica whose region was lost is not an empty one.
func TestCrashLieAboutARegion(t *testing.T) {
	t.Parallel()
	regions := func(w *world) error { // the header's fence comes behind that of the zeroes
		if w.m.Kind() == pmemlog.KindPmem {
			w.m.LieAtSync(2)
		}
		return w.create(2, ringSize)
	}
	lied(t, begins(), regions, 1, func(next *world) error {
		p, err := pmemlog.Open(next.medium())
		if err != nil {
			return err
		}
		if _, err := p.Replica(id(2)); !errors.Is(err, pmemlog.ErrCorrupt) {
			return fmt.Errorf("the replica without a region: %w", err)
		}
		return nil
	})
}
