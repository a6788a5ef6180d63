package pmemlog_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/gravenio/graven/internal/golden"
	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// newerRecord returns a pool whose replica's last record, flushed and behind LSN
// 256, is of a version to come. It is whole unless torn.
func newerRecord(t *testing.T, torn bool) *pmemtest.Medium {
	t.Helper()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 3 {
		w.append(64)
	}
	w.flush()
	b := m.CrashClean().Image()
	rec := b[ringStart+256:][:128]
	rec[10] = 2
	binary.LittleEndian.PutUint32(rec, crc32.Checksum(rec[4:], crc32.MakeTable(crc32.Castagnoli)))
	if torn {
		clear(rec[64:])
	}
	return pmemtest.Of(b, pmemtest.Options{})
}

// What a newer program has acknowledged must not be answered for as a shorter
// log, or the next writer would go on before it.
func TestFenceRefusesANewerRecord(t *testing.T) {
	t.Parallel()
	m := newerRecord(t, false)
	_, r := reopen(t, m)
	ring := m.Image()[ringStart:]
	s := r.Attach(false)
	_, err := s.Fence(term(2))
	want := "pmemlog: made by another version of the program: replica " + id(1).String() +
		": record at LSN 256: format: of another version: version of a record is 2, must be 1; start the program that wrote it, or a newer one"
	if !errors.Is(err, pmemlog.ErrVersion) || err.Error() != want {
		t.Errorf("fence: %v, want %s", err, want)
	}
	if i := r.Info(); i.Scanned || i.Slot.Fenced != term(2) || !errors.Is(i.Stop, format.ErrVersion) {
		t.Errorf("info %+v: the promise holds, and nothing is known", i)
	}
	_, rec := (&writer{ring: make(format.Ring, ringSize), chain: format.Chain{Epoch: 1}}).encode(64)
	for name, err := range map[string]error{
		"Write": s.Write(0, rec), "Align": s.Align(0), "Reset": s.Reset(format.TrimPoint{}),
		"Seal": s.Seal(pmemlog.SealIn{Seals: []format.Seal{{Epoch: 2, Nonce: 2000}}}), "Trim": s.Trim(format.TrimPoint{LSN: 64}),
	} {
		if !errors.Is(err, pmemlog.ErrNotFenced) {
			t.Errorf("%s after that: %v, want %v", name, err, pmemlog.ErrNotFenced)
		}
	}
	if got := m.Image()[ringStart:]; string(got) != string(ring) {
		t.Error("the ring was changed")
	}
}

// What was torn is no record, whatever version it names: the log ends there,
// and the hint tells whether that is a loss.
func TestFencePassesATornNewerRecord(t *testing.T) {
	t.Parallel()
	_, r := reopen(t, newerRecord(t, true))
	w := openWriter(t, r, 2)
	if w.chain.LSN != 256 {
		t.Errorf("the tail is %d, want 256", w.chain.LSN)
	}
	w.append(64)
	w.flush()
}

// Not even if it knew what the replica held before.
func TestAFenceThatFailsForgetsTheTail(t *testing.T) {
	t.Parallel()
	newer := newerRecord(t, false).Image()
	m, _, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	for range 3 {
		w.append(64)
	}
	w.flush()
	must(t, m.WriteAt(newer[ringStart:], ringStart))
	s := r.Attach(false)
	if _, err := s.Fence(term(2)); !errors.Is(err, pmemlog.ErrVersion) {
		t.Errorf("fence: %v, want %v", err, pmemlog.ErrVersion)
	}
	if err := s.Reset(w.point()); !errors.Is(err, pmemlog.ErrNotFenced) {
		t.Errorf("reset: %v, want %v", err, pmemlog.ErrNotFenced)
	}
	if i := r.Info(); i.Scanned || i.Tail != 0 || i.Durable != 0 {
		t.Errorf("info %+v", i)
	}
}

// A fence that fails on what it doesn't know has ended the sessions before it
// all the same, and fails again.
func TestNobodyWritesBehindANewerRecord(t *testing.T) {
	t.Parallel()
	_, r := reopen(t, newerRecord(t, false))
	older, reader := r.Attach(false), r.Attach(true)
	for range 2 {
		if _, err := r.Attach(false).Fence(term(3)); !errors.Is(err, pmemlog.ErrVersion) {
			t.Errorf("fence: %v, want %v", err, pmemlog.ErrVersion)
		}
	}
	if err := older.Write(256, nil); !errors.Is(err, pmemlog.ErrSessionEnded) {
		t.Errorf("write of the older session: %v, want %v", err, pmemlog.ErrSessionEnded)
	}
	must(t, reader.Read(0, make([]byte, 512)))
}

// oldPool makes the pool that testdata keeps: what a version 1 program leaves
// behind that has been used a little.
func oldPool(t *testing.T) []byte {
	t.Helper()
	m, p, r := newReplica(t, pmemtest.Options{})
	must(t, p.BindDaemon("d1"))
	get[uint64](t)(p.NextIncarnation())
	w := openWriter(t, r, 1)
	w.append(100)
	w.flush()
	must(t, w.s.Trim(w.point()))
	w.trim = w.point()
	w = openWriter(t, r, 2)
	w.commit = w.chain.LSN
	w.append(80)
	w.append(0)
	w.flush()
	must(t, w.s.Reseal(3, []format.ID{id(1), id(2)}))
	w.append(1)
	w.flush()
	must(t, r.PersistHint())
	return m.CrashClean().Image()
}

func TestAPoolOfVersion1IsRead(t *testing.T) {
	t.Parallel()
	m := pmemtest.Of(golden.Check(t, "pool.v1", oldPool(t)), pmemtest.Options{})
	p, r := reopen(t, m)
	if i := p.Identity(); i.Pool != id(0xa) || i.Cluster != id(0xc) || i.Daemon != "d1" || i.Incarnation != 1 {
		t.Errorf("identity %+v", i)
	}
	if i := r.Info(); i.Slot.Hint != pos(2, 192+192+64+128) {
		t.Errorf("the hint is %s", i.Slot.Hint)
	}
	rep := get[format.Report](t)(r.Attach(false).Fence(term(3)))
	set := []format.ID{id(1), id(2)}
	seal, ok := rep.NewestSeal()
	if rep.Trim.LSN != 192 || rep.Last != pos(2, 576) || rep.Suspect() || rep.Records != 3 || rep.Commit != 192 ||
		!ok || seal.Fence() != term(2) || seal.SetVersion != 3 || !slices.Equal(rep.Set, set) {
		t.Errorf("report %+v", rep)
	}
	w := openWriter(t, r, 4) // and it is written to
	w.append(500)
	w.flush()
}
