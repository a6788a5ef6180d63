package pmemlog_test

import (
	"errors"
	"testing"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// hintOnMedia returns the hint that survives a crash that loses all unsynced.
func hintOnMedia(t *testing.T, m *pmemtest.Medium) format.Position {
	t.Helper()
	_, r := reopen(t, m.Clone().CrashClean())
	return r.Info().Slot.Hint
}

func pos(epoch, lsn uint64) format.Position { return format.Position{Epoch: epoch, LSN: lsn} }

func TestHintIsOneFlushBehind(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	acked := uint64(0)
	for range 4 {
		w.append(200) // more than a small ring's hint may miss
		next := w.flush()
		if got := hintOnMedia(t, m); got != pos(1, acked) {
			t.Fatalf("hint on media is %s after the flush of %d, want %s", got, next, pos(1, acked))
		}
		acked = next
		if !r.HintLag() {
			t.Fatal("no lag after a flush")
		}
	}
	syncs := m.Syncs()
	must(t, r.PersistHint())
	if got := hintOnMedia(t, m); got != pos(1, acked) || r.HintLag() || m.Syncs() != syncs+1 {
		t.Errorf("hint on media is %s after PersistHint, want %s; lag %v", got, pos(1, acked), r.HintLag())
	}
	w.append(100) // not flushed: the hint must not know it
	must(t, r.PersistHint())
	if got := hintOnMedia(t, m); got != pos(1, acked) {
		t.Errorf("hint on media is %s, beyond what was acknowledged, %s", got, pos(1, acked))
	}
}

func TestFlushOfNothingSyncsNothing(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(64)
	first := w.flush()
	syncs := m.Syncs()
	if again := w.flush(); again != first || m.Syncs() != syncs {
		t.Errorf("second flush: durable %d, %d syncs; want %d and none", again, m.Syncs()-syncs, first)
	}
}

func TestFencePersistsTheHint(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(100)
	w.append(100)
	get[format.Report](t)(r.Attach(false).Fence(term(2)))
	if got := hintOnMedia(t, m); got != pos(1, w.chain.LSN) {
		t.Errorf("hint on media is %s after a fence, want %s", got, pos(1, w.chain.LSN))
	}
}

func TestAlignLowersTheHintOfACleanReplicaFirst(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(100)
	at := w.chain
	w.append(100)
	w.append(100)
	w.flush()
	must(t, r.PersistHint())
	s := r.Attach(false)
	get[format.Report](t)(s.Fence(term(2)))
	if err := s.Align(at.LSN + 64); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("align within a record: %v", err)
	}
	if err := s.Align(w.chain.LSN + 64); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("align beyond the tail: %v", err)
	}
	must(t, s.Align(at.LSN))
	if got := hintOnMedia(t, m); got != pos(1, at.LSN) {
		t.Errorf("hint on media is %s after align, want %s", got, pos(1, at.LSN))
	}
	if i := r.Info(); i.Tail != at.LSN || i.Durable != at.LSN {
		t.Errorf("tail %d, durable %d after align at %d", i.Tail, i.Durable, at.LSN)
	}
}

func TestAlignKeepsTheEpochOfASealThatStillMatches(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(64)
	w.flush()
	w = openWriter(t, r, 2)
	at := w.chain.LSN
	w.append(64)
	w.flush()
	s := r.Attach(false)
	get[format.Report](t)(s.Fence(term(3)))
	must(t, s.Align(at))
	if got := hintOnMedia(t, m); got != pos(2, at) {
		t.Errorf("hint on media is %s, want %s: the seal of epoch 2 still matches there", got, pos(2, at))
	}
}

// The chosen log went on in epoch 1 where this replica was sealed in for epoch 2,
// which nobody else was.
func TestChosenLogNeedNotKnowTheSealsHeldHere(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	first := openWriter(t, r, 1)
	first.append(64)
	first.flush()
	openWriter(t, r, 2)
	first.s = r.Attach(false)
	rep := get[format.Report](t)(first.s.Fence(term(3)))
	if rep.Last != pos(2, first.chain.LSN) {
		t.Fatalf("report %+v", rep)
	}
	first.append(64)
	first.flush()
	first.term = term(3)
	first.seal()
	if rep := get[format.Report](t)(r.Attach(false).Fence(term(3))); rep.Tail != first.chain.LSN || rep.Suspect() {
		t.Errorf("report %+v, want tail %d", rep, first.chain.LSN)
	}
}

func TestFenceSyncsWhatItVouchesFor(t *testing.T) {
	t.Parallel()
	m, r, w := suspect(t)
	s := r.Attach(false)
	get[format.Report](t)(s.Fence(term(2)))
	must(t, s.Align(128))
	must(t, s.Write(128, w.ring[128:256])) // makes the log whole, unsynced
	rep := get[format.Report](t)(r.Attach(false).Fence(term(2)))
	if rep.Tail != w.chain.LSN || rep.Suspect() {
		t.Fatalf("report %+v", rep)
	}
	_, r = reopen(t, m.CrashClean())
	if again := get[format.Report](t)(r.Attach(false).Fence(term(3))); again.Tail != rep.Tail {
		t.Errorf("the fence vouched for %d, after a crash there is %d", rep.Tail, again.Tail)
	}
}

// A record of the replica was damaged below its hint.
func suspect(t *testing.T) (*pmemtest.Medium, *pmemlog.Replica, *writer) {
	t.Helper()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 4 {
		w.append(64)
	}
	w.flush()
	must(t, r.PersistHint())
	m.FlipBit(ringStart+128+70, 3) // the second record's payload
	return m, r, w
}

func TestSuspectKeepsItsHintUntilTheSeal(t *testing.T) {
	t.Parallel()
	m, r, w := suspect(t)
	s := r.Attach(false)
	rep := get[format.Report](t)(s.Fence(term(2)))
	lost := pos(1, w.chain.LSN)
	if !rep.Suspect() || rep.Tail != 128 || rep.Evidence != lost {
		t.Fatalf("report %+v, want a suspect with tail 128 and evidence %s", rep, lost)
	}
	must(t, s.Align(0))
	if got := hintOnMedia(t, m); got != lost {
		t.Errorf("hint on media is %s after align, want the suspect's %s", got, lost)
	}
	must(t, s.Write(0, w.ring[:w.chain.LSN]))
	get[uint64](t)(s.Flush())
	if got := hintOnMedia(t, m); got != lost {
		t.Errorf("hint on media is %s before the seal, want the suspect's %s", got, lost)
	}
	w.s, w.term = s, term(2)
	w.seal()
	if got := hintOnMedia(t, m); got != pos(2, w.chain.LSN) {
		t.Errorf("hint on media is %s after the seal, want %s", got, pos(2, w.chain.LSN))
	}
}

func TestResetOfASuspectKeepsItsHintUntilOvertaken(t *testing.T) {
	t.Parallel()
	m, r, w := suspect(t)
	lost := pos(1, w.chain.LSN)
	w.s = r.Attach(false) // the same writer comes back
	get[format.Report](t)(w.s.Fence(w.term))
	second, err := format.Boundary(w.ring, format.TrimPoint{}, 128)
	must(t, err)
	must(t, w.s.Reset(format.TrimPoint{LSN: 128, CRC: second.CRC, Epoch: 1}))
	tail := w.chain.LSN
	if err := w.s.Write(128, w.ring[128:tail]); !errors.Is(err, pmemlog.ErrNotSealed) {
		t.Fatalf("append after a reset, before the seal: %v", err)
	}
	must(t, w.s.Seal(pmemlog.SealIn{
		Seals: w.seals, Set: []format.ID{id(1)}, Tail: 128, Hint: pos(1, 128),
	}))
	if got := hintOnMedia(t, m); got != lost {
		t.Errorf("hint on media is %s after a seal that made nothing good, want %s", got, lost)
	}
	must(t, w.s.Write(128, w.ring[128:tail]))
	w.flush()
	w.append(64)
	w.flush()
	w.append(64)
	w.flush()
	if got := hintOnMedia(t, m); got != pos(1, tail+128) {
		t.Errorf("hint on media is %s, want %s: appends have overtaken what was lost", got, pos(1, tail+128))
	}
	must(t, w.s.Align(tail))
	if got := hintOnMedia(t, m); got != pos(1, tail) {
		t.Errorf("hint on media is %s after an alignment at %d: the replica is clean by now", got, tail)
	}
}

func TestEvidenceOfRecordsOutlivesTheRecords(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 3 {
		w.append(64)
	}
	w.commit = w.chain.LSN
	w.append(64)
	w.flush()          // the hint knows none of them yet
	m = m.CrashClean() // and with the process goes what it knew
	m.FlipBit(ringStart+70, 0)
	_, r = reopen(t, m)
	s := r.Attach(false)
	rep := get[format.Report](t)(s.Fence(term(2)))
	want := pos(1, 3*128)
	if rep.Tail != 0 || rep.Evidence != want {
		t.Fatalf("report %+v, want evidence %s", rep, want)
	}
	must(t, s.Align(0))
	must(t, s.Write(0, w.ring[:0]))
	for off := int64(0); off < 4*128; off += 64 { // an alignment that destroys the records
		must(t, m.WriteAt(make([]byte, 64), ringStart+off))
	}
	must(t, m.Sync())
	_, r = reopen(t, m.CrashClean())
	if rep := get[format.Report](t)(r.Attach(false).Fence(term(3))); rep.Evidence != want {
		t.Errorf("evidence is %s once the records are gone, want %s", rep.Evidence, want)
	}
}

func TestReset(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 5 {
		w.append(100)
	}
	w.flush()
	s := r.Attach(false)
	get[format.Report](t)(s.Fence(term(2)))
	if err := s.Reset(format.TrimPoint{LSN: 1}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("reset to an odd LSN: %v", err)
	}
	if err := s.Reset(format.TrimPoint{LSN: 1<<64 - 64}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("reset to an LSN near overflow: %v", err)
	}
	at := format.TrimPoint{LSN: 64 * 1000, Epoch: 1, CRC: 77}
	must(t, s.Reset(at))
	_, r2 := reopen(t, m.Clone().CrashClean())
	rep := get[format.Report](t)(r2.Attach(false).Fence(term(3)))
	if rep.Trim != at || rep.Tail != at.LSN || len(rep.Seals) != 0 || rep.Last != pos(1, at.LSN) || rep.Suspect() {
		t.Errorf("report after a reset %+v", rep)
	}
	if got := hintOnMedia(t, m); got != at.Position() {
		t.Errorf("hint on media is %s after a reset, want %s", got, at.Position())
	}
}

func TestFlushThatBeganBeforeAnAlignRaisesNothing(t *testing.T) {
	t.Parallel()
	m := newGate(pmemtest.New(poolSize, pmemtest.Options{}))
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize)))
	w := openWriter(t, r, 1)
	w.append(64)
	at := w.chain.LSN
	w.flush()
	w.append(64)
	entered := m.shut()
	flushed := make(chan uint64)
	go func() {
		durable, _ := w.s.Flush()
		flushed <- durable
	}()
	<-entered
	must(t, w.s.Align(at)) // the hint is low enough: it needs no sync
	m.open()
	<-flushed
	if i := r.Info(); i.Tail != at || i.Durable > at {
		t.Errorf("tail %d, durable %d after an align at %d", i.Tail, i.Durable, at)
	}
}

func TestStaleBytesBehindAnAlignmentStayInvalid(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := seeded(t, seed)
		m, _, r := newReplica(t, pmemtest.Options{})
		w := openWriter(t, r, 1)
		w.append(64)
		at := w.chain
		for range 6 {
			w.append(64) // of the same size as what replaces them
		}
		w.flush()
		s := r.Attach(false)
		get[format.Report](t)(s.Fence(term(2)))
		must(t, s.Align(at.LSN))
		n := &writer{t: t, s: s, ring: append(format.Ring(nil), w.ring...), chain: at, term: term(2), seals: w.seals, commit: 64}
		n.seal()
		for range 1 + rng.IntN(5) {
			n.append(64)
		}
		_, r = reopen(t, m.Crash(rng))
		s = r.Attach(false)
		rep := get[format.Report](t)(s.Fence(term(3)))
		got := make(format.Ring, ringSize)
		must(t, s.Read(0, got))
		if rep.Suspect() {
			t.Fatalf("seed %d: suspect: %+v", seed, rep)
		}
		for lsn := at.LSN; lsn < rep.Tail; lsn += 128 {
			h, err := format.DecodeHeader(got.At(lsn, 64))
			must(t, err)
			if h.Epoch != 2 {
				t.Fatalf("seed %d: a record of epoch %d at %d is valid behind the seal of epoch 2 at %d", seed, h.Epoch, lsn, at.LSN)
			}
		}
	}
}

func TestResealChangesSetAndVersionAlone(t *testing.T) {
	t.Parallel()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	w.append(100)
	end := w.flush()
	must(t, w.s.Reseal(2, []format.ID{id(1), id(2)}))
	w.append(100) // appends go on in the same session
	w.flush()
	if err := w.s.Reseal(1, []format.ID{id(1)}); !errors.Is(err, pmemlog.ErrRange) {
		t.Errorf("reseal with a lower version: %v, want ErrRange", err)
	}
	_, r = reopen(t, m.Clone().CrashClean())
	slot := r.Info().Slot
	if len(slot.Set) != 2 || len(slot.Seals) != 1 || slot.Seals[0].SetVersion != 2 {
		t.Errorf("after a crash the header has set %v and seals %+v", slot.Set, slot.Seals)
	}
	if slot.Hint != pos(1, end) {
		t.Errorf("hint is %s, want what was acknowledged, %s", slot.Hint, pos(1, end))
	}
}

func TestMemberBeyond(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	if v, beyond := r.MemberBeyond(0); beyond {
		t.Errorf("a replica without a seal is a member of set version %d", v)
	}
	w := openWriter(t, r, 1)
	must(t, w.s.Reseal(3, []format.ID{id(1), id(2)}))
	for known, want := range map[uint64]bool{2: true, 3: false, 4: false} {
		if v, beyond := r.MemberBeyond(known); beyond != want || v != 3 {
			t.Errorf("set version %d is known: %d, %v", known, v, beyond)
		}
	}
	must(t, w.s.Reseal(4, []format.ID{id(2)})) // it has been replaced
	if v, beyond := r.MemberBeyond(2); beyond {
		t.Errorf("a replaced replica is a member of set version %d", v)
	}
}

func TestResealNeedsSeal(t *testing.T) {
	t.Parallel()
	_, _, r := newReplica(t, pmemtest.Options{})
	s := r.Attach(false)
	get[format.Report](t)(s.Fence(term(1)))
	if err := s.Reseal(2, nil); !errors.Is(err, pmemlog.ErrNotSealed) {
		t.Errorf("reseal without a seal: %v, want ErrNotSealed", err)
	}
}
