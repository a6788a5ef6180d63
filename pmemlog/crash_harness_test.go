package pmemlog_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

//nolint:gochecknoglobals // test flags
var crashTries = flag.Int("tries", 24, "how many random losses a crash case tries at each persist boundary")

// crashMedium is what crash cases run on.
type crashMedium struct {
	name string
	opts pmemtest.Options
}

func crashMedia() []crashMedium {
	return []crashMedium{
		{"line", pmemtest.Options{Unit: pmemtest.Line}},
		{"sector", pmemtest.Options{Unit: pmemtest.Sector}},
		{"pmem", pmemtest.Options{Kind: pmemlog.KindPmem, Log: true}},
	}
}

// crashCase is an operation that is broken off at each of its persist boundaries,
// once it has returned, too.
type crashCase struct {
	only    pmemlog.Kind // of media; all if zero
	prepare step         // what is acknowledged before
	operate step         // what is broken off
	recover step         // what the next process does; goesOn if nil
	racing  bool         // several goroutines operate, so the boundaries vary
}

// ending is a way in which a process ends, and where it can.
type ending struct {
	name  string
	count func(m *pmemtest.Medium) int // boundaries so far
	plan  func(m *pmemtest.Medium, boundary int)
	leave func(m *pmemtest.Medium, rng *rand.Rand) *pmemtest.Medium
}

// endings are: the power goes, the process alone dies, a sync fails. To the
// random losses of a power cut it is all the same between which two writes it
// comes; what a process leaves that dies alone is all that it has written by then.
func endings() []ending {
	syncs, events, lose := (*pmemtest.Medium).Syncs, (*pmemtest.Medium).Counted, (*pmemtest.Medium).Crash
	return []ending{
		{"power", syncs, (*pmemtest.Medium).CutAtSync, lose},
		{"kill", events, (*pmemtest.Medium).CutAtEvent, func(m *pmemtest.Medium, _ *rand.Rand) *pmemtest.Medium { return m.CrashKeepingUnsynced() }},
		{"fail", syncs, func(m *pmemtest.Medium, n int) { m.FailAtSync(n, pmemtest.ErrInjected) }, lose},
	}
}

// crash runs a case on all media. At each boundary the power goes, the process
// alone dies, or the sync fails; of what was not persistent random subsets
// survive; what is left is opened and compared with what was promised. That
// recovery is broken off, too, at a boundary of its own, and carried out again.
func crash(t *testing.T, c crashCase) {
	t.Helper()
	t.Parallel()
	if c.recover == nil {
		c.recover = goesOn()
	}
	for _, m := range crashMedia() {
		if c.only != 0 && c.only != m.opts.Kind {
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, e := range endings() {
				if err := c.runAll(t, m, e); err != nil {
					t.Fatalf("seed %d: %v\nagain: go test ./pmemlog -run '%s' -seed %d -tries %d", baseSeed(), err, t.Name(), baseSeed(), *crashTries)
				}
			}
		})
	}
}

// baseSeed is what all random numbers of a run derive from.
func baseSeed() uint64 { return max(*crashSeed, 1) }

func (c crashCase) runAll(t *testing.T, m crashMedium, e ending) error {
	boundaries, err := c.boundaries(m, e)
	for k := 1; err == nil && k <= boundaries+1; k++ {
		err = c.endAt(m, e, k, boundaries, *crashTries, func(try int) *rand.Rand {
			return seeded(t, baseSeed()<<32+uint64(k<<16+try))
		})
	}
	return err
}

// boundaries counts where the operation can be broken off.
func (c crashCase) boundaries(m crashMedium, e ending) (int, error) {
	began := 0
	whole, err := c.run(m, func(m *pmemtest.Medium) { began = e.count(m) })
	if err != nil {
		return 0, fmt.Errorf("%s: without a crash: %w", m.name, err)
	}
	return e.count(whole.m) - began, nil
}

// endAt breaks the operation off at the k-th boundary, or when it has returned,
// and tries random losses.
func (c crashCase) endAt(m crashMedium, e ending, k, boundaries, tries int, random func(try int) *rand.Rand) error {
	w, err := c.run(m, func(m *pmemtest.Medium) { e.plan(m, k) })
	if err == nil && k <= boundaries && !c.racing {
		err = errors.New("the operation returned")
	} else if err != nil {
		err = w.brokenOff(err)
	}
	if err == nil {
		err = c.tryAll(w, e, tries, random)
	}
	if err != nil {
		return fmt.Errorf("%s: %s at boundary %d of %d: %w", m.name, e.name, k, boundaries, err)
	}
	return nil
}

// run carries out a case in a new world, and plans how it ends once all is
// prepared.
func (c crashCase) run(m crashMedium, plan func(*pmemtest.Medium)) (*world, error) {
	w := newWorld(pmemtest.New(poolSize, m.opts))
	if err := c.prepare(w); err != nil {
		return nil, fmt.Errorf("prepare: %w", err)
	}
	plan(w.m)
	return w, c.operate(w)
}

// tryAll tries random losses. The first recovery goes through to its end and
// tells how many boundaries there are to break the others off at.
func (c crashCase) tryAll(w *world, e ending, tries int, random func(try int) *rand.Rand) error {
	boundaries := 0
	for try := range tries {
		rng := random(try)
		cut := 0
		if try > 0 && boundaries > 0 {
			cut = 1 + (try-1)%boundaries
		}
		second, err := c.again(w, e.leave(w.m, rng), cut)
		if err != nil {
			return fmt.Errorf("try %d: %w", try, err)
		}
		if try == 0 {
			boundaries = second.m.Syncs()
		}
		if _, err := c.again(second, second.m.Crash(rng), 0); err != nil {
			return fmt.Errorf("try %d, after a crash at boundary %d of the recovery (0 is its end): %w", try, cut, err)
		}
	}
	return nil
}

// again runs the next process on what one has left, up to a boundary, 0 being
// none.
func (c crashCase) again(w *world, m *pmemtest.Medium, cut int) (*world, error) {
	next := w.next(m)
	if cut > 0 {
		m.CutAtSync(cut)
	}
	err := c.recover(next)
	if m.Dead() && errors.Is(err, pmemtest.ErrPowerless) {
		err = nil
	}
	return next, err
}
