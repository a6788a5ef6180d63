package pmemlog_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// sectors is a disk with a bad page: it can't be read, and what is written to a
// part of it fails, since the system must read the rest of the page first. A write
// of all of it has the disk put another sector there, if it has any.
type sectors struct {
	pmemlog.Medium
	bad   int64 // -1 for none
	spent bool  // the disk has no other sectors left
}

func (s *sectors) touches(p []byte, off int64) bool {
	return s.bad >= 0 && off < s.bad+4096 && s.bad < off+int64(len(p))
}

func (s *sectors) ReadAt(p []byte, off int64) error {
	if s.touches(p, off) {
		return unix.EIO
	}
	return s.Medium.ReadAt(p, off)
}

func (s *sectors) WriteAt(p []byte, off int64) error {
	if s.touches(p, off) {
		if s.spent || off > s.bad || off+int64(len(p)) < s.bad+4096 {
			return &os.PathError{Op: "write", Path: "pool", Err: unix.EIO}
		}
		s.bad = -1
	}
	return s.Medium.WriteAt(p, off)
}

func TestOpenHealsABadDirectorySector(t *testing.T) {
	t.Parallel()
	m, p, _ := newReplica(t, pmemtest.Options{})
	must(t, p.Close())
	for _, spent := range []bool{true, false} {
		s := &sectors{Medium: m, bad: 8192, spent: spent}
		p = get[*pmemlog.Pool](t)(pmemlog.Open(s))
		if bad := p.Unmended(); spent != (len(bad) == 1) || spent == (s.bad < 0) {
			t.Errorf("unmended %v, the bad page is %d", bad, s.bad)
		}
		must(t, p.Close())
	}
	if _, err := pmemlog.Open(&sectors{Medium: m, bad: 12288}); err != nil {
		t.Errorf("copy B can't be read, A was healed: %v", err)
	}
}

func TestScrubOfABadDirectorySector(t *testing.T) {
	t.Parallel()
	for _, spent := range []bool{true, false} {
		s := &sectors{Medium: pmemtest.New(poolSize, pmemtest.Options{}), bad: -1, spent: spent}
		p := get[*pmemlog.Pool](t)(pmemlog.Format(s, formatOptions()))
		w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize))), 1)
		w.appendNow(100)
		s.bad = 8192
		res := get[pmemlog.PoolScrubbed](t)(p.Scrub(context.Background(), unpaced))
		if want := formatOptions().Replicas; len(res.Healed)+len(res.Damaged) != want || spent == (len(res.Damaged) == 0) || spent != (len(p.Unmended()) > 0) {
			t.Errorf("healed %v, damaged %v, unmended %v", res.Healed, res.Damaged, p.Unmended())
		}
		w.appendNow(100)
		s.spent = false
		if res = get[pmemlog.PoolScrubbed](t)(p.Scrub(context.Background(), unpaced)); len(res.Damaged)+len(p.Unmended()) > 0 {
			t.Errorf("a later scrub leaves %v and %v", res.Damaged, p.Unmended())
		}
		must(t, p.Close())
	}
}

// A change of an entry that stands on a bad sector is made, in a page written whole.
func TestChangesOfABadDirectorySector(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(2*poolSize, pmemtest.Options{})
	s := &sectors{Medium: m, bad: -1}
	p := get[*pmemlog.Pool](t)(pmemlog.Format(s, formatOptions()))
	for i, bad := range []int64{8192, 12288} { // either copy
		s.bad = bad
		get[*pmemlog.Replica](t)(p.Create(spec(byte(i+1), ringSize)))
	}
	s.bad, s.spent = 8192, true
	if err := create(p, spec(3, ringSize)); !errors.Is(err, pmemlog.ErrNoSpace) || !errors.Is(err, pmemlog.ErrUnwritable) {
		t.Errorf("no entry can be written any more: %v", err)
	}
	must(t, p.Failure())
	must(t, p.Close())
	p = get[*pmemlog.Pool](t)(pmemlog.Open(m.CrashClean()))
	defer p.Close()
	if n := len(p.Replicas()); n != 2 {
		t.Errorf("%d replicas of 2", n)
	}
}

// A record in a bad sector is written anew by its writer, in a page written whole.
func TestRepairOfABadSector(t *testing.T) {
	t.Parallel()
	for _, spent := range []bool{true, false} {
		s := &sectors{Medium: pmemtest.New(4*poolSize, pmemtest.Options{}), bad: -1, spent: spent}
		p := get[*pmemlog.Pool](t)(pmemlog.Format(s, formatOptions()))
		w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 32<<10))), 1)
		other := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(2, ringSize))), 1)
		for range 20 {
			w.appendNow(1000)
		}
		s.bad = ringStart + 8192
		rep := get[format.Report](t)(w.s.Fence(w.term))
		if rep.Tail == 0 || rep.Tail > 8192 {
			t.Fatalf("the log ends at %d", rep.Tail)
		}
		durable, err := w.s.Append(rep.Tail, w.ring[rep.Tail:w.chain.LSN])
		other.appendNow(100)
		if !spent {
			must(t, err)
			if i := w.s.Replica().Info(); durable != w.chain.LSN || i.Damage != nil || i.Failure != nil {
				t.Errorf("after the repair: %d, %+v", durable, i)
			}
		} else if i := w.s.Replica().Info(); !errors.Is(err, pmemlog.ErrUnwritable) || !errors.Is(i.Failure, pmemlog.ErrUnwritable) || i.Damage == nil || i.Damage.LSN != rep.Tail || !errors.Is(i.Damage.Err, pmemlog.ErrUnwritable) {
			t.Errorf("the repair ends with %v, the replica says %+v", err, i)
		}
		must(t, p.Close())
	}
}

// A fence that can't be persisted is refused, and only that: nothing is poisoned, and
// the replica takes no writes under the old term, whose session it has ended.
func TestFenceOverABadHeaderSector(t *testing.T) {
	t.Parallel()
	s := &sectors{Medium: pmemtest.New(2*poolSize, pmemtest.Options{}), bad: -1, spent: true}
	p := get[*pmemlog.Pool](t)(pmemlog.Format(s, formatOptions()))
	defer p.Close()
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, ringSize)))
	w := openWriter(t, r, 1)
	w.appendNow(100)
	s.bad = ringStart - format.RingOffset + int64(r.Info().Slot.Generation%2)*format.SlotSize // generation 1 is in slot A
	if _, err := r.Attach(false).Fence(term(2)); !errors.Is(err, pmemlog.ErrUnwritable) {
		t.Fatalf("fence: %v", err)
	}
	if _, err := w.tryAppend(100); !errors.Is(err, pmemlog.ErrSessionEnded) {
		t.Errorf("append of the session before: %v", err)
	}
	if i := r.Info(); i.Slot.Fenced != term(1) || !errors.Is(i.Failure, pmemlog.ErrUnwritable) || i.Damage == nil {
		t.Errorf("the replica says %+v", i)
	}
	must(t, p.Failure())
	s.spent = false
	get[format.Report](t)(r.Attach(false).Fence(term(2)))
	if i := r.Info(); i.Slot.Fenced != term(2) || i.Failure != nil || i.Damage != nil {
		t.Errorf("with another sector there it says %+v", i)
	}
}

// A sync that failed is no bad place, whatever its error.
func TestFailedSyncPoisonsThePool(t *testing.T) {
	t.Parallel()
	m, p, r := newReplica(t, pmemtest.Options{})
	w := openWriter(t, r, 1)
	m.FailNextSync(os.NewSyscallError("fdatasync", unix.EIO))
	if _, err := w.tryAppend(100); !errors.Is(err, pmemlog.ErrPoisoned) || !errors.Is(p.Failure(), unix.EIO) {
		t.Errorf("append: %v, the pool says %v", err, p.Failure())
	}
	if pmemlog.OnePlace(os.NewSyscallError("msync", unix.EIO)) {
		t.Error("an msync that failed is taken for a write that did")
	}
}

// The kernel's own answer to the model above: what lies behind the end of the file
// under a loop device can't be read, and can be written.
func TestRepairOverABadSectorOfADevice(t *testing.T) {
	t.Parallel()
	dev := loopDevice(t, 16<<20)
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(dev, fileOptions(0)))
	get[*pmemlog.Replica](t)(p.Create(spec(2, 64<<10))) // lies before
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 4<<20))), 1)
	for range 300 {
		w.append(10000)
	}
	w.flush()
	at := p.Replicas()[0].Offset + format.RingOffset
	must(t, p.Close())
	must(t, os.Truncate(backing(t, dev), (at+1<<20)&^4095))
	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(dev))
	defer p.Close()
	r := get[*pmemlog.Replica](t)(p.Replica(id(1)))
	s := r.Attach(false)
	rep := get[format.Report](t)(s.Fence(term(2)))
	if rep.Tail == 0 || rep.Tail >= w.chain.LSN {
		t.Skip("the sectors could be read after all")
	}
	var err error
	for lsn := rep.Tail; lsn < w.chain.LSN && err == nil; { // a record at a time
		n := format.RecordSize(10000)
		err = s.Write(lsn, w.ring.At(lsn, int(n)))
		lsn += n
	}
	if err == nil {
		_, err = s.Flush()
	}
	must(t, err)
	if i := r.Info(); i.Damage != nil || i.Durable != w.chain.LSN {
		t.Errorf("after the repair: %+v", i)
	}
	other := get[*pmemlog.Replica](t)(p.Replica(id(2)))
	get[format.Report](t)(other.Attach(false).Fence(term(2)))
}
