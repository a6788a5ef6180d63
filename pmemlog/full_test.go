package pmemlog_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/pmemlog/pmemtest"
)

// What has no room says how much there is, and what to do.
func TestFull(t *testing.T) {
	t.Parallel()
	_, p, r := newReplica(t, pmemtest.Options{})
	checkSays(t, "a ring that is larger than the pool", create(p, spec(2, 1<<40)), pmemlog.ErrNoSpace,
		"a ring of 1099511627776 bytes in a pool of 65536", "choose a smaller one, or another pool")
	checkSays(t, "a ring that is larger than what is free", create(p, spec(2, 40960)), pmemlog.ErrNoSpace,
		"a ring of 40960 bytes needs a stretch of 53248", "the longest that is free has 32768 of 49152", "delete a replica")
	w := openWriter(t, r, 1)
	for w.room(960) {
		w.append(960)
	}
	checkSays(t, "a full ring", w.write(960), pmemlog.ErrRange,
		"write of 1024 bytes at LSN 4096", "the trim LSN 0 leaves room for 0", "trim what is no longer needed")
	if f := p.Failure(); f != nil {
		t.Errorf("the pool has failed: %v", f)
	}

	m := pmemtest.New(4*poolSize, pmemtest.Options{})
	p = get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	for i := range byte(8) {
		must(t, create(p, spec(i+1, pmemlog.MinCapacity)))
	}
	checkSays(t, "a full directory", create(p, spec(9, pmemlog.MinCapacity)), pmemlog.ErrNoSpace,
		"all 8 entries of the directory are taken", "delete a replica, or choose another pool")
	must(t, p.Delete(id(3)))
	must(t, create(p, spec(9, pmemlog.MinCapacity)))
}

func TestRecordTooLarge(t *testing.T) {
	t.Parallel()
	m := pmemtest.New(8<<20, pmemtest.Options{})
	p := get[*pmemlog.Pool](t)(pmemlog.Format(m, formatOptions()))
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 4<<20))), 1)
	rec := make([]byte, 64+format.MaxPayload+64)
	format.EncodeHeader(rec, &format.Header{Kind: format.KindData, Length: format.MaxPayload + 64, Epoch: 1})
	checkSays(t, "a payload above the limit", w.s.Write(0, rec), pmemlog.ErrChain,
		"format: length out of range", "at most 1048576 bytes of payload", "write smaller ones")
	checkSays(t, "a claim of 4 GiB", w.s.Write(0, claiming(1<<32-1)), pmemlog.ErrChain, "at most 1048576 bytes of payload")
	_, half := (&writer{ring: make(format.Ring, ringSize), chain: format.Chain{Epoch: 1}}).encode(500)
	checkSays(t, "half a record", w.s.Write(0, half[:256]), pmemlog.ErrChain, "256 bytes are no whole record", "each whole")
	checkSays(t, "more than the ring", w.s.Write(0, make([]byte, 5<<20)), pmemlog.ErrRange, "leaves room for 4194304")
	w.append(format.MaxPayload) // the largest goes
	w.flush()
}

// claiming returns a record's header with a right checksum over what is there.
func claiming(length uint32) []byte {
	rec := make([]byte, 128)
	format.EncodeHeader(rec, &format.Header{Kind: format.KindData, Length: 64, Epoch: 1})
	binary.LittleEndian.PutUint32(rec[16:], length)
	binary.LittleEndian.PutUint32(rec, crc32.Checksum(rec[4:], crc32.MakeTable(crc32.Castagnoli)))
	return rec
}

// smallDisk mounts a file system of so many bytes in memory, or skips the test
// where nobody lets it.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	folder := t.TempDir()
	if err := unix.Mount("pmemlog-test", folder, "tmpfs", 0, options); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(folder, unix.MNT_DETACH)) })
	return folder
}

// fill takes all room that a disk has left.
func fill(t *testing.T, folder string) (free func()) {
	t.Helper()
	path := filepath.Join(folder, "filler")
	f := get[*os.File](t)(os.Create(path))
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			return func() { must(t, os.Remove(path)) }
		}
	}
}

func TestDiskFullAtCreation(t *testing.T) {
	t.Parallel()
	folder := smallDisk(t, "size=128k") // less than the directory takes
	path := filepath.Join(folder, "pool")
	err := createFile(path, fileOptions(1<<20))
	checkSays(t, "create", err, pmemlog.ErrNoSpace, "no space left on device", "make room on the file system")
	if left := get[[]os.DirEntry](t)(os.ReadDir(folder)); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A sparse pool is larger than its disk: what does not fit is refused, and no harm
// is done to what does.
func TestDiskFullAtAReplica(t *testing.T) {
	t.Parallel()
	path := filepath.Join(smallDisk(t, "size=1m"), "pool")
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(path, fileOptions(16<<20)))
	defer p.Close()
	w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, 64<<10))), 1)
	checkSays(t, "create", create(p, spec(2, 8<<20)), pmemlog.ErrNoSpace, "no space left on device", "make room on the file system")
	must(t, p.Failure())
	w.append(100)
	w.flush()
}

// A region that was written needs no room later, unless somebody has made holes
// in it. The write that finds none ends the pool, and the next open tells what
// has become of the log.
func TestDiskFullAtAWrite(t *testing.T) {
	t.Parallel()
	folder := smallDisk(t, "size=1m")
	path := filepath.Join(folder, "pool")
	p := get[*pmemlog.Pool](t)(pmemlog.CreateFilePool(path, fileOptions(16<<20)))
	r := get[*pmemlog.Replica](t)(p.Create(spec(1, 64<<10)))
	w := openWriter(t, r, 1)
	w.append(100)
	durable := w.flush()
	must(t, r.PersistHint())
	region := p.Replicas()[0].Offset
	punch(t, path, region+format.RingOffset+8192, 32<<10)
	free := fill(t, folder)
	err := error(nil)
	for err == nil && w.room(4000) {
		err = w.write(4000)
	}
	checkSays(t, "write", err, pmemlog.ErrPoisoned, "write", "no space left on device", "make room on the file system", "then open the pool anew")
	checkSays(t, "create after it", create(p, spec(2, 4096)), pmemlog.ErrPoisoned)
	must(t, p.Close())
	free()
	p = get[*pmemlog.Pool](t)(pmemlog.OpenFilePool(path))
	defer p.Close()
	rep := get[format.Report](t)(get[*pmemlog.Replica](t)(p.Replica(id(1))).Attach(false).Fence(term(2)))
	if rep.Tail < durable || rep.Suspect() {
		t.Errorf("report %+v, want at least what was acknowledged, %d", rep, durable)
	}
}

// TestFormatOnAFullDisk has no need of a disk.
func TestFormatOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, errno := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EIO} {
		m := pmemtest.New(poolSize, pmemtest.Options{})
		m.FailNextWrite(&os.PathError{Op: "write", Path: "pool", Err: errno})
		want := pmemlog.ErrNoSpace
		if errno == unix.EIO {
			want = pmemlog.ErrUnwritable
		}
		_, err := pmemlog.Format(m, formatOptions())
		checkSays(t, errno.Error(), err, want, errno.Error())
	}
}
