package pmemlog

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/format"
)

func pageID(b byte) format.ID { return format.ID{0: b, 15: 1} }

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noPace(context.Context, int) error { return nil }

const pageRing = 64 << 10 // of each of the two replicas

// pagePool makes a pool of two replicas on a mapping and returns its path.
func pagePool(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pool")
	p, err := CreatePMemPool(path, FormatOptions{PoolID: pageID(9), Size: 1 << 20, Replicas: 64}, DurabilityFlush)
	noError(t, err)
	for _, b := range []byte{1, 2} {
		_, err := p.Create(pageSpec(b))
		noError(t, err)
	}
	noError(t, p.Close())
	return path
}

func pageSpec(b byte) Spec {
	return Spec{Cluster: pageID(7), Log: pageID(100 + b), Replica: pageID(b), Capacity: pageRing}
}

// bad makes a page of a mapping fault, for loads, stores and flushes, as a page does
// that the kernel has taken away for an uncorrectable error.
func bad(t *testing.T, m *mapping, off int64) {
	t.Helper()
	noError(t, unix.Mprotect(m.data[off&^4095:off&^4095+4096], unix.PROT_NONE))
}

// clearing is a mapping on which a write through the file gives a page back, as that
// of a DAX file system does.
type clearing struct{ *mapping }

func (c clearing) Rewrite(p []byte, off int64) error {
	if err := c.mapping.Rewrite(p, off); err != nil {
		return err
	}
	return unix.Mprotect(c.data[off:off+int64(len(p))], unix.PROT_READ|unix.PROT_WRITE)
}

// pageMedium opens a mapping of which bad pages stay bad, unless they are cleared
// by writes through the file.
func pageMedium(t *testing.T, path string, clears bool) (*PMem, *mapping) {
	t.Helper()
	m, err := OpenPMem(path, DurabilityFlush)
	noError(t, err)
	on := m.mem.(*mapping)
	if clears {
		m.mem = clearing{on}
	}
	t.Cleanup(func() { _ = m.Close() })
	return m, on
}

// openPages opens a new pool of two replicas on such a mapping.
func openPages(t *testing.T, clears bool) (*Pool, *mapping) {
	t.Helper()
	m, on := pageMedium(t, pagePool(t), clears)
	p, err := Open(m)
	noError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p, on
}

// pageWriter is a log's writer with all that it has written.
type pageWriter struct {
	t     *testing.T
	s     *Session
	ring  format.Ring
	chain format.Chain
}

func newPageWriter(t *testing.T, p *Pool, b byte) *pageWriter {
	t.Helper()
	r, err := p.Replica(pageID(b))
	noError(t, err)
	w := &pageWriter{t: t, s: r.Attach(false), ring: make(format.Ring, pageRing), chain: format.Chain{Epoch: 1}}
	_, err = w.s.Fence(format.Fence{Epoch: 2, Nonce: 1})
	noError(t, err)
	return w
}

func (w *pageWriter) append(n int) error {
	at := w.chain.LSN
	w.ring.Append(&w.chain, 0, format.Record{Payload: make([]byte, n)})
	_, err := w.s.Append(at, w.ring[at:w.chain.LSN])
	return err
}

// repair does what a writer does whose replica is damaged: it fences it and sends
// what it lacks.
func (w *pageWriter) repair() error {
	rep, err := w.s.Fence(format.Fence{Epoch: 2, Nonce: 1})
	if err != nil {
		return err
	}
	_, err = w.s.Append(rep.Tail, w.ring[rep.Tail:w.chain.LSN])
	return err
}

// Superblocks and directory have two copies, so that one may be lost: the pool is
// opened, takes changes, and says what is bad.
func TestBadPageOfAPoolsCopyIsSurvived(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]int64{
		"superblock A": 0, "superblock B": superblockSize,
		"directory A": directoryOffset, "directory B": directoryOffset + directorySize(64),
	} {
		for _, clears := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " cleared"}[clears], func(t *testing.T) {
				t.Parallel()
				path := pagePool(t)
				m, on := pageMedium(t, path, clears)
				bad(t, on, off)
				p, err := Open(m)
				noError(t, err)
				n, err := p.NextIncarnation()
				noError(t, err)
				noError(t, p.ConfirmIncarnation())
				_, err = p.Create(pageSpec(3))
				noError(t, err)
				noError(t, newPageWriter(t, p, 2).append(100))
				unmended := p.Unmended()
				if clears != (len(unmended) == 0) || !clears && (unmended[0].Offset != off || !errors.Is(&unmended[0], ErrUnwritable)) {
					t.Errorf("unmended: %v", unmended)
				}
				noError(t, p.Failure())
				noError(t, p.Close())
				q, err := OpenPMemPool(path, DurabilityFlush) // with that page as the file has it
				noError(t, err)
				defer q.Close()
				if i := q.Identity(); i.Confirmed != n || len(q.Replicas()) != 3 {
					t.Errorf("confirmed %d of %d, %d replicas of 3", i.Confirmed, n, len(q.Replicas()))
				}
			})
		}
	}
}

// An entry of which one copy can't be written is not changed in the other: a crash
// would leave none.
func TestEntryWithOneGoodCopyIsNotChanged(t *testing.T) {
	t.Parallel()
	p, on := openPages(t, false)
	on.device = true
	bad(t, on, directoryOffset+directorySize(64))
	noError(t, p.Delete(pageID(1))) // the copy that was written first counts
	if got := p.Unmended(); len(got) != 1 {
		t.Errorf("unmended: %v", got)
	}
	w := newPageWriter(t, p, 2)
	if err := p.Delete(pageID(2)); !errors.Is(err, ErrUnwritable) {
		t.Errorf("delete: %v", err)
	}
	noError(t, w.append(100))
	noError(t, p.Failure())
}

// A delete whose first write fails leaves the replica in the pool, and out of use.
// Where a page was written through the file and still faults, nobody knows whether
// it counts: then the other copy makes the delete sure.
func TestDeleteOverABadPage(t *testing.T) {
	t.Parallel()
	for _, file := range []bool{false, true} {
		t.Run(map[bool]string{true: "file", false: "device"}[file], func(t *testing.T) {
			t.Parallel()
			path := pagePool(t)
			m, on := pageMedium(t, path, false)
			p, err := Open(m)
			noError(t, err)
			defer p.Close()
			on.device = !file
			w := newPageWriter(t, p, 1)
			bad(t, on, directoryOffset)
			want, left := ErrUnwritable, 2
			if err = p.Delete(pageID(1)); file {
				noError(t, err)
				want, left = ErrNotFound, 1
			} else if !errors.Is(err, want) {
				t.Errorf("delete: %v", err)
			}
			if err := w.append(100); !errors.Is(err, want) {
				t.Errorf("append afterwards: %v", err)
			}
			if len(p.Unmended()) != 1 || len(p.Replicas()) != left {
				t.Errorf("unmended %v, %d replicas of %d", p.Unmended(), len(p.Replicas()), left)
			}
			noError(t, p.Failure())
			noError(t, p.Close())
			q, err := OpenPMemPool(path, DurabilityFlush)
			noError(t, err)
			defer q.Close()
			if len(q.Replicas()) != left {
				t.Errorf("opened again, %d replicas of %d", len(q.Replicas()), left)
			}
		})
	}
}

// A scrub only looks. What it finds must not cost more than was lost.
func TestBadPageThatAScrubMeets(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]func(p *Pool) int64{
		"superblock B":     func(*Pool) int64 { return superblockSize },
		"header slot A":    func(p *Pool) int64 { return p.Replicas()[0].Offset },
		"header slot B":    func(p *Pool) int64 { return p.Replicas()[0].Offset + format.SlotSize },
		"hint page":        func(p *Pool) int64 { return p.Replicas()[0].Offset + format.HintOffset },
		"directory copy B": func(*Pool) int64 { return directoryOffset + directorySize(64) },
	} {
		for _, clears := range []bool{false, true} {
			t.Run(name+map[bool]string{true: " cleared"}[clears], func(t *testing.T) {
				t.Parallel()
				p, on := openPages(t, clears)
				first, other := newPageWriter(t, p, 1), newPageWriter(t, p, 2)
				bad(t, on, off(p))
				pool, err := p.Scrub(context.Background(), noPace)
				noError(t, err)
				res, err := first.s.r.Scrub(context.Background(), noPace)
				noError(t, err)
				if healed := len(pool.Healed)+len(res.Healed) > 0; healed != clears {
					t.Errorf("healed %v and %v", pool.Healed, res.Healed)
				}
				if told := len(pool.Damaged) > 0 || errors.Is(res.Header, ErrUnwritable); told == clears {
					t.Errorf("damaged %v and %v", pool.Damaged, res.Header)
				}
				noError(t, other.append(100))
				if clears {
					noError(t, first.append(100))
				}
			})
		}
	}
}

// A writer that repairs a bad page of its replica ends no other log. Where the page
// can be had back it succeeds; where not, the replica says so, and where.
func TestRepairOfABadPage(t *testing.T) {
	t.Parallel()
	for _, clears := range []bool{false, true} {
		t.Run(map[bool]string{false: "stays", true: "cleared"}[clears], func(t *testing.T) {
			t.Parallel()
			p, on := openPages(t, clears)
			w, other := newPageWriter(t, p, 1), newPageWriter(t, p, 2)
			for range 10 {
				noError(t, w.append(1000))
			}
			r := w.s.r
			at := r.ringOffset(5000) &^ 4095
			bad(t, on, at)
			res, err := r.Scrub(context.Background(), noPace)
			noError(t, err)
			if res.Damage == nil {
				t.Fatal("the scrub has found nothing")
			}
			err = w.repair()
			noError(t, other.append(100))
			if clears {
				noError(t, err)
				noError(t, w.append(100))
				res, err := r.Scrub(context.Background(), noPace)
				noError(t, err)
				if res.Damage != nil || res.Records != 11 || r.Info().Failure != nil {
					t.Errorf("after the repair: %+v, %v", res, r.Info().Failure)
				}
				return
			}
			for range 2 { // it stays so, however often the writer comes back
				var where *UnwritableError
				if !errors.As(err, &where) || where.Off != at {
					t.Fatalf("the repair ends with %v", err)
				}
				if i := r.Info(); !errors.Is(i.Failure, ErrUnwritable) || i.Damage == nil || i.Damage.LSN > 5000 {
					t.Errorf("the replica says %v, %+v", i.Failure, i.Damage)
				}
				if err := w.append(100); !errors.Is(err, ErrUnwritable) {
					t.Errorf("an append after that: %v", err)
				}
				err = w.repair()
			}
			if d := r.Info().Damage; d == nil {
				t.Error("the damage is forgotten")
			}
			noError(t, p.Delete(pageID(1)))
			noError(t, p.Failure())
		})
	}
}

// An append that meets a bad page with records of before in it writes nothing in
// their place: only the next fence knows what is lost.
func TestAppendIntoABadPageWithRecords(t *testing.T) {
	t.Parallel()
	p, on := openPages(t, true)
	w := newPageWriter(t, p, 1)
	for range 6 {
		noError(t, w.append(1000))
	}
	bad(t, on, w.s.r.ringOffset(5000))
	if err := w.append(1000); !errors.Is(err, ErrUnwritable) {
		t.Fatalf("an append to a page whose records are lost: %v", err)
	}
	rep, err := w.s.Fence(format.Fence{Epoch: 2, Nonce: 1})
	noError(t, err)
	if rep.Tail == 0 || rep.Tail > 4096 {
		t.Errorf("the log ends at %d", rep.Tail)
	}
	noError(t, w.repair())
	if i := w.s.r.Info(); i.Damage != nil || i.Tail != w.chain.LSN {
		t.Errorf("after the repair: %+v", i)
	}
}

// A hint line that can't be written fails its replica; the next fence writes the
// header anew, the hint page whole.
func TestBadHintPageIsWrittenWholeByTheNextFence(t *testing.T) {
	t.Parallel()
	p, on := openPages(t, true)
	w := newPageWriter(t, p, 1)
	r := w.s.r
	own := format.Seal{Epoch: 2, Nonce: 1}
	noError(t, w.s.Seal(SealIn{Seals: []format.Seal{own}, Set: []format.ID{pageID(1)}}))
	w.chain.Epoch = 2
	noError(t, w.append(100)) // the next one has a hint to carry
	generation := r.Info().Slot.Generation
	bad(t, on, r.entry.offset+format.HintOffset)
	if err := w.append(100); !errors.Is(err, ErrUnwritable) {
		t.Fatalf("an append with a hint that can't be written: %v", err)
	}
	if r.HintLag() {
		t.Error("a hint waits for a replica that takes no writes")
	}
	if err := r.PersistHint(); !errors.Is(err, ErrUnwritable) {
		t.Errorf("its hint: %v", err)
	}
	noError(t, w.repair())
	noError(t, w.append(100))
	noError(t, w.append(100))
	if i := r.Info(); i.Failure != nil || i.Damage != nil || i.Slot.Generation < generation+2 || i.Slot.Hint.LSN == 0 {
		t.Errorf("after the fence: %+v", i)
	}
}

// A bad page in free space is nobody's loss: the replica is made behind it.
func TestCreateLeavesABadPageOut(t *testing.T) {
	t.Parallel()
	p, on := openPages(t, false)
	on.device = true // there the CPU zeroes
	last := p.Replicas()[1]
	at := last.Offset + last.Bytes + format.RingOffset
	bad(t, on, at)
	before := p.Free()
	_, err := p.Create(pageSpec(3))
	noError(t, err)
	noError(t, p.Failure())
	if l := p.Replicas()[2]; l.Offset <= at {
		t.Errorf("the replica lies at %d, the bad page at %d", l.Offset, at)
	}
	if after := p.Free(); before.Free-after.Free != regionSize(pageRing)+pageSize {
		t.Errorf("free were %d, are %d", before.Free, after.Free)
	}
	noError(t, newPageWriter(t, p, 3).append(100))
	for off := regionsStart(64); off < 1<<20; off += pageSize {
		bad(t, on, off)
	}
	if _, err := p.Create(pageSpec(4)); !errors.Is(err, ErrUnwritable) {
		t.Errorf("a creation where nothing can be written: %v", err)
	}
	noError(t, p.Failure())
}
