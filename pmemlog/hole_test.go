package pmemlog_test

import (
	"errors"
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/format"
)

// Where the parts of a pool file of newFilePool lie, in bytes.
const (
	fileDirectory = 8192
	fileCopy      = 1024 * 128 // of the directory
	fileRegion    = fileDirectory + 2*fileCopy
)

// punch makes a hole in a file: the system gives the blocks away, and zeroes are
// read from then on.
func punch(t *testing.T, path string, off, n int64) {
	t.Helper()
	f := get[*os.File](t)(os.OpenFile(path, os.O_RDWR, 0))
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n); err != nil {
		t.Skipf("this file system makes no holes: %v", err)
	}
}

// TestHoles makes holes in a pool file that has two replicas. Each must be
// noticed where it can have taken something away.
func TestHoles(t *testing.T) {
	t.Parallel()
	const capacity = 64 << 10
	const length = format.RingOffset + capacity
	for name, tt := range map[string]struct {
		off, n  int64
		open    error
		replica error
		suspect bool
	}{
		"one superblock":             {0, 4096, nil, nil, false},
		"both superblocks":           {0, 8192, pmemlog.ErrNoPool, nil, false},
		"one copy of the directory":  {fileDirectory, fileCopy, nil, nil, false},
		"the directory":              {fileDirectory, 2 * fileCopy, pmemlog.ErrCorrupt, nil, false},
		"a page of both copies":      {fileDirectory + fileCopy - 4096, fileCopy + 4096, pmemlog.ErrCorrupt, nil, false},
		"all of the pool":            {0, 1 << 20, pmemlog.ErrNoPool, nil, false},
		"the header":                 {fileRegion, 2 * format.SlotSize, nil, pmemlog.ErrCorrupt, false},
		"header and hints":           {fileRegion, format.RingOffset, nil, pmemlog.ErrCorrupt, false},
		"the region":                 {fileRegion, length, nil, pmemlog.ErrCorrupt, false},
		"the ring":                   {fileRegion + format.RingOffset, capacity, nil, nil, true},
		"a page of the log":          {fileRegion + format.RingOffset + 8192, 4096, nil, nil, true},
		"the last page of the log":   {fileRegion + format.RingOffset + 28<<10, 4096, nil, nil, true},
		"what the log does not need": {fileRegion + format.RingOffset + 40<<10, 8192, nil, nil, false},
		"the other replica":          {fileRegion + length, length, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path, p := newFilePool(t, 1<<20)
			w := openWriter(t, get[*pmemlog.Replica](t)(p.Create(spec(1, capacity))), 1)
			must(t, create(p, spec(2, capacity)))
			for range 30 {
				w.append(960)
			}
			durable := w.flush()
			must(t, w.s.Replica().PersistHint())
			must(t, p.Close())
			punch(t, path, tt.off, tt.n)

			p, err := pmemlog.OpenFilePool(path)
			if !errors.Is(err, tt.open) {
				t.Fatalf("open: %v, want %v", err, tt.open)
			}
			if err != nil {
				return
			}
			defer p.Close()
			r, err := p.Replica(id(1))
			if !errors.Is(err, tt.replica) {
				t.Fatalf("replica: %v, want %v", err, tt.replica)
			}
			if err != nil {
				return
			}
			rep := get[format.Report](t)(r.Attach(false).Fence(term(2)))
			if rep.Suspect() != tt.suspect || (rep.Tail == durable) == tt.suspect {
				t.Errorf("report %+v, want suspect %v", rep, tt.suspect)
			}
		})
	}
}

// TestPoolFilesAreWrittenThrough: what a replica needs is on the disk when it has
// been made. A hole, or an extent that was allocated and not written, would make
// later syncs write the file system's journal, and later writes need room.
func TestPoolFilesAreWrittenThrough(t *testing.T) {
	t.Parallel()
	path, p := newFilePool(t, 64<<20)
	must(t, create(p, spec(1, 3<<20)))
	must(t, p.Delete(id(1)))
	must(t, create(p, spec(2, 5<<20)))
	last := p.Replicas()[0]
	end := last.Offset + last.Bytes
	f := get[*os.File](t)(os.Open(path))
	defer f.Close()
	hole := get[int64](t)(unix.Seek(int(f.Fd()), 0, unix.SEEK_HOLE))
	if hole < end {
		t.Errorf("there is a hole at byte %d, before the end of the last replica at %d", hole, end)
	}
	at := int64(0)
	for _, e := range extents(t, f, end) {
		if int64(e.logical) > at {
			t.Errorf("bytes %d to %d are not allocated", at, e.logical)
		}
		if e.flags&(extentUnwritten|extentDelayed) != 0 {
			t.Errorf("bytes %d to %d are not written: flags %#x", e.logical, e.logical+e.length, e.flags)
		}
		at = int64(e.logical + e.length)
	}
	if at < end {
		t.Errorf("bytes %d to %d are not allocated", at, end)
	}
}

// What fiemap(4) says of a file.
const (
	fsIocFiemap     = 0xc020660b
	extentDelayed   = 0x4
	extentUnwritten = 0x800
	maxExtents      = 512
)

type extent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

// extents returns the extents of a file up to end, as they are on the disk; what
// has not been synced is not synced by that.
func extents(t *testing.T, f *os.File, end int64) []extent {
	t.Helper()
	var m struct {
		start, length           uint64
		flags, mapped, count, _ uint32
		extents                 [maxExtents]extent
	}
	m.length, m.count = uint64(end), maxExtents
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsIocFiemap, uintptr(unsafe.Pointer(&m)))
	if errors.Is(errno, unix.EOPNOTSUPP) || errors.Is(errno, unix.ENOTTY) {
		t.Skipf("this file system does not tell its extents: %v", errno)
	}
	if errno != 0 {
		t.Fatal(errno)
	}
	return m.extents[:m.mapped]
}
