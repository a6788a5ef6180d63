package pmemlog_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

//nolint:gochecknoglobals // test flags
var (
	crashSeed  = flag.Uint64("seed", 0, "run the crash script of this seed only; 0 for all")
	crashSeeds = flag.Uint64("seeds", 6, "how many crash scripts to run")
)

// script is a random run of one writer after the other on a replica, with
// another replica that comes and goes, and what must be there after a crash.
type script struct {
	m    *pmemtest.Medium
	p    *pmemlog.Pool
	rng  *rand.Rand
	w    writer
	past []format.Chain // record boundaries in [trim, tail]

	// What has been promised or acknowledged, and what is being so now; after
	// a crash it is one or the other.
	created, creating     bool
	other, otherChanging  bool
	fenced, fencing       format.Fence
	trim, trimming        format.TrimPoint
	durable               uint64
	floor                 format.Position // the hint is not lower
	seals, sealing        []format.Seal
	incarnation           uint64
	lastAcked             format.Position
	aligning              bool // records of the chosen log may survive as evidence of what its quorum had
	deletions, recoveries int
}

var errScript = errors.New("script")

func (s *script) run(steps int) error {
	var err error
	if s.p, err = pmemlog.Format(s.m, formatOptions()); err != nil {
		return err
	}
	s.creating = true
	r, err := s.p.Create(spec(1, ringSize))
	if err != nil {
		return err
	}
	s.created = true
	s.w = writer{ring: make(format.Ring, ringSize)}
	s.past = []format.Chain{{}}
	if err := s.takeOver(r); err != nil {
		return err
	}
	for range steps {
		if err := s.step(r); err != nil {
			return err
		}
	}
	return nil
}

func (s *script) step(r *pmemlog.Replica) error {
	switch n := s.rng.IntN(20); {
	case n < 7:
		return s.append()
	case n < 11:
		return s.flush()
	case n < 13:
		if err := r.PersistHint(); err != nil {
			return err
		}
		s.floor = s.floor.Max(s.lastAcked)
		return nil
	case n < 15:
		return s.cutTail()
	case n < 16:
		return s.nextIncarnation()
	case n < 18:
		return s.comeAndGo()
	default:
		return s.takeOver(r)
	}
}

func (s *script) append() error {
	size := 1 + s.rng.IntN(700)
	if !s.w.room(size) {
		return nil
	}
	s.w.commit = s.durable
	if err := s.w.write(size); err != nil {
		return err
	}
	s.past = append(s.past, s.w.chain)
	return nil
}

func (s *script) flush() error {
	durable, err := s.w.s.Flush()
	if err != nil {
		return err
	}
	if durable != s.w.chain.LSN {
		return fmt.Errorf("%w: durable is %d, the tail %d", errScript, durable, s.w.chain.LSN)
	}
	if durable > s.durable {
		s.floor = s.floor.Max(pmemlog.HintAfter(ringSize, s.lastAcked))
		s.durable = durable
		s.lastAcked = pos(s.w.chain.Epoch, durable)
	}
	return nil
}

// cutTail trims to a boundary at or below the durable LSN.
func (s *script) cutTail() error {
	c := s.past[s.rng.IntN(len(s.past))]
	if c.LSN > s.durable || c.LSN <= s.trim.LSN {
		return nil
	}
	s.trimming = format.TrimPoint{LSN: c.LSN, CRC: c.CRC, Epoch: c.Epoch}
	if err := s.w.s.Trim(s.trimming); err != nil {
		return err
	}
	s.trim, s.w.trim = s.trimming, s.trimming
	s.forget(c.LSN)
	return nil
}

func (s *script) forget(below uint64) {
	for s.past[0].LSN < below {
		s.past = s.past[1:]
	}
}

func (s *script) nextIncarnation() error {
	n, err := s.p.NextIncarnation()
	if err != nil {
		return err
	}
	if n <= s.incarnation {
		return fmt.Errorf("%w: incarnation %d after %d", errScript, n, s.incarnation)
	}
	if err := s.p.ConfirmIncarnation(); err != nil {
		return err
	}
	s.incarnation = n
	return nil
}

// comeAndGo creates the other replica, or deletes it.
func (s *script) comeAndGo() error {
	s.otherChanging = true
	var err error
	if s.other {
		err = s.p.Delete(s.otherID())
		s.deletions++
	} else {
		_, err = s.p.Create(spec(s.otherID()[0], 1024+64*uint64(s.rng.IntN(100))))
	}
	if err != nil {
		return err
	}
	s.other, s.otherChanging = !s.other, false
	return nil
}

// otherID is never used again once it has been deleted.
func (s *script) otherID() format.ID { return id(2 + byte(s.deletions)) }

// takeOver fences in the next epoch, keeps a part of the log, writes anew what
// it does not keep, or begins anew, and seals in.
func (s *script) takeOver(r *pmemlog.Replica) error {
	s.w.s = r.Attach(false)
	s.w.term = term(s.fenced.Epoch + 1)
	s.fencing = s.w.term
	rep, err := s.w.s.Fence(s.w.term)
	if err != nil {
		return err
	}
	s.fenced = s.w.term
	if rep.Tail != s.w.chain.LSN || rep.Suspect() {
		return fmt.Errorf("%w: the fence reports %+v, the tail was %d", errScript, rep, s.w.chain.LSN)
	}
	s.durable = rep.Tail
	s.floor = rep.Last
	s.lastAcked = format.Position{}
	switch n := s.rng.IntN(4); n {
	case 0:
		err = s.reset()
	case 1, 2:
		err = s.align()
	}
	if err != nil {
		return err
	}
	s.w.seals = format.AddSeal(s.w.seals, s.w.ownSeal())
	s.sealing = s.w.seals
	if err := s.w.s.Seal(s.w.sealIn()); err != nil {
		return err
	}
	s.w.chain.Epoch = s.w.term.Epoch
	s.aligning = false
	s.seals, s.floor = s.sealing, pos(s.w.term.Epoch, s.w.chain.LSN)
	s.past[len(s.past)-1].Epoch = s.w.term.Epoch
	return nil
}

func (s *script) align() error {
	i := s.rng.IntN(len(s.past))
	at := s.past[i]
	s.durable = min(s.durable, at.LSN)
	if s.floor.LSN > at.LSN {
		s.floor = format.Position{} // the epoch there is not the script's to know
	}
	s.aligning = true
	if err := s.w.s.Align(at.LSN); err != nil {
		return err
	}
	s.past = s.past[:i+1]
	s.w.chain = at
	kept := s.w.seals[:0:0]
	for _, seal := range s.w.seals {
		if seal.T <= at.LSN {
			kept = append(kept, seal)
		}
	}
	s.w.seals = kept
	s.w.chain.Epoch = max(s.w.chain.Epoch, s.w.term.Epoch-1) // records of the chosen log
	for range s.rng.IntN(3) {
		if s.w.term.Epoch == 1 {
			break
		}
		if err := s.append(); err != nil {
			return err
		}
	}
	durable, err := s.w.s.Flush()
	if err != nil {
		return err
	}
	s.durable = durable
	return nil
}

func (s *script) reset() error {
	s.trimming = s.w.point()
	s.trimming.LSN += 64 * uint64(s.rng.IntN(20))
	s.durable = 0
	s.floor = format.Position{}
	s.sealing = nil
	if err := s.w.s.Reset(s.trimming); err != nil {
		return err
	}
	s.trim, s.w.trim = s.trimming, s.trimming
	s.durable = s.trim.LSN
	s.floor = s.trim.Position()
	s.w.chain = format.Chain{LSN: s.trim.LSN, CRC: s.trim.CRC, Epoch: s.trim.Epoch}
	s.past = []format.Chain{s.w.chain}
	s.w.seals, s.seals = nil, nil
	return nil
}

// check opens what a crash left and compares it with what must be there.
func (s *script) check(m *pmemtest.Medium) error {
	p, err := pmemlog.Open(m)
	if err != nil && !s.creating { // the pool was being made
		return nil
	}
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer p.Close()
	if n := p.Identity().Incarnation; n < s.incarnation || n > s.incarnation+1 {
		return fmt.Errorf("incarnation is %d, was %d", n, s.incarnation)
	}
	if _, err := p.Replica(s.otherID()); !s.otherChanging && s.other == errors.Is(err, pmemlog.ErrNotFound) {
		return fmt.Errorf("the other replica: %w, created: %v", err, s.other)
	}
	r, err := p.Replica(id(1))
	if errors.Is(err, pmemlog.ErrNotFound) && !s.created {
		return nil
	}
	if err != nil {
		return err
	}
	slot := r.Info().Slot
	if slot.Fenced != s.fenced && slot.Fenced != s.fencing {
		return fmt.Errorf("fenced is %+v, promised was %+v", slot.Fenced, s.fenced)
	}
	if slot.Trim != s.trim && slot.Trim != s.trimming {
		return fmt.Errorf("trim is %+v, was %+v", slot.Trim, s.trim)
	}
	if !sameSeals(slot.Seals, s.seals) && !sameSeals(slot.Seals, s.sealing) {
		return fmt.Errorf("seals are %+v, were %+v", slot.Seals, s.seals)
	}
	if s.floor.After(slot.Hint) {
		return fmt.Errorf("hint is %s, acknowledged before the last flush was %s; slot %+v; script fenced %+v fencing %+v trim %+v/%+v chain %+v durable %d", slot.Hint, s.floor, slot, s.fenced, s.fencing, s.trim, s.trimming, s.w.chain, s.durable)
	}
	return s.checkFence(r, slot)
}

func sameSeals(a, b []format.Seal) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (s *script) checkFence(r *pmemlog.Replica, slot format.Slot) error {
	session := r.Attach(false)
	rep, err := session.Fence(term(s.fencing.Epoch + 1))
	if err != nil {
		return err
	}
	if rep.Suspect() && (!s.aligning || rep.Evidence.Epoch >= s.fencing.Epoch) {
		return fmt.Errorf("suspect though nothing was damaged: last %s, evidence %s, acknowledged %d; header %+v", rep.Last, rep.Evidence, s.durable, slot)
	}
	if rep.Tail < s.durable {
		return fmt.Errorf("tail is %d, acknowledged was %d", rep.Tail, s.durable)
	}
	got := make(format.Ring, ringSize)
	for lsn := slot.Trim.LSN; lsn < s.durable; lsn += 64 {
		if err := session.Read(lsn, got.At(lsn, 64)); err != nil {
			return err
		}
		if !bytes.Equal(got.At(lsn, 64), s.w.ring.At(lsn, 64)) {
			return fmt.Errorf("acknowledged bytes at LSN %d differ", lsn)
		}
	}
	return nil
}

// recheck crashes the recovery too, before its n-th sync.
func (s *script) recheck(m *pmemtest.Medium, n int, rng *rand.Rand) error {
	m.CutAtSync(n)
	if err := s.check(m); err == nil {
		return nil
	} else if !m.Dead() {
		return err
	}
	s.recoveries++
	fencing := s.fencing
	s.fencing.Epoch++ // the recovery's term
	s.fencing.Nonce = s.fencing.Epoch * 1000
	defer func() { s.fencing = fencing }()
	recovered := m.Crash(rng)
	if p, err := pmemlog.Open(recovered); err == nil { // which of three terms it is depends on the cut
		if r, err := p.Replica(id(1)); err == nil && r.Info().Slot.Fenced == fencing {
			s.fencing = fencing
		}
		_ = p.Close()
	}
	return s.check(recovered)
}

// TestCrashAtEverySync runs scripts, takes the power away before each of their
// syncs and compares what different random losses leave.
func TestCrashAtEverySync(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= max(*crashSeeds, *crashSeed); seed++ {
		if *crashSeed != 0 && seed != *crashSeed {
			continue
		}
		for _, medium := range []pmemtest.Options{
			{Unit: pmemtest.Line}, {Unit: pmemtest.Sector}, {Kind: pmemlog.KindPmem},
		} {
			crashScript(t, seed, medium)
		}
	}
}

func crashScript(t *testing.T, seed uint64, medium pmemtest.Options) {
	t.Helper()
	const steps = 40
	start := func(cut int) (*script, error) {
		s := &script{m: pmemtest.New(poolSize, medium), rng: seeded(t, seed)}
		s.w.t = t
		if cut > 0 {
			s.m.CutAtSync(cut)
		}
		return s, s.run(steps)
	}
	whole, err := start(0)
	if err != nil {
		t.Fatalf("seed %d medium %+v: without a crash: %v", seed, medium, err)
	}
	for cut := 1; cut <= whole.m.Syncs()+1; cut++ { // the last cut is when all has been said
		s, err := start(cut)
		if cut <= whole.m.Syncs() && !errors.Is(err, pmemtest.ErrPowerless) {
			t.Fatalf("seed %d medium %+v cut %d: got %v", seed, medium, cut, err)
		}
		rng := seeded(t, seed<<32+uint64(cut))
		for try := range 4 {
			left := s.m.Crash(rng)
			again := left.Clone()
			if err := s.check(left); err != nil {
				t.Fatalf("seed %d medium %+v cut %d try %d: %v", seed, medium, cut, try, err)
			}
			if err := s.recheck(again, 1+try, rng); err != nil {
				t.Fatalf("seed %d medium %+v cut %d try %d: crash in recovery: %v", seed, medium, cut, try, err)
			}
		}
	}
}
