package pmemlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Readable is what an [Inspection] reads: any [Medium], or a [ReadOnly].
// Offsets and sizes are in bytes.
type Readable interface {
	// ReadAt fills p from off on, or fails; there are no short reads.
	ReadAt(p []byte, off int64) error
	// Size never changes.
	Size() int64
}

// ReadOnly is a pool's file, block device or device-dax, opened to be looked at: it
// can't be written through this, and needs no permission to. A shared lock keeps agents
// away while it is open; others that only look are let in. All methods but Close
// may be called from any goroutine.
type ReadOnly struct {
	f      *os.File
	size   int64
	node   string
	mapped *PMem // of a device-dax, which can't be read otherwise
}

// OpenReadOnly opens what lies at path: fs.ErrNotExist if nothing does,
// [LockedError] when a process uses the pool, ErrNoPool for what can't hold one.
// Nothing is made persistent: what an earlier process left in the system's cache
// is read as if it were on the disk.
func OpenReadOnly(path string) (*ReadOnly, error) {
	// Without O_NONBLOCK the open of a named pipe would wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("pmemlog: open pool to look at it: %w", err)
	}
	m := &ReadOnly{f: f}
	if err := m.lock(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

func (m *ReadOnly) lock() error {
	info, err := m.f.Stat()
	if err != nil {
		return fmt.Errorf("pmemlog: look at pool: %w", err)
	}
	if m.node, m.size, err = measure(m.f, info.Mode()); err != nil {
		return err
	}
	if err := flock(m.f, info, unix.LOCK_SH); err != nil {
		return err
	}
	if m.node == nodeDAX {
		return m.mapDevice()
	}
	// After a sync that failed the system keeps as clean what the disk never got. A
	// device that can't be told so is read as it is.
	_ = unix.Fadvise(int(m.f.Fd()), 0, 0, unix.FADV_DONTNEED)
	return nil
}

// nodeDAX is what a device-dax is called.
const nodeDAX = "device-dax"

func (m *ReadOnly) mapDevice() error {
	data, err := unix.Mmap(int(m.f.Fd()), 0, int(m.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("pmemlog: map pool to look at it: %w", err)
	}
	m.mapped = NewPMem(&mapping{f: m.f, size: m.size, device: true, data: data})
	return nil
}

// measure says what kind of file system node a pool lies in, and its size in
// bytes. Here is where another kind is let in, with its own way to be read.
func measure(f *os.File, mode fs.FileMode) (node string, size int64, err error) {
	switch {
	case mode.IsRegular():
		node = "file"
	case mode&fs.ModeCharDevice != 0:
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return "", 0, fmt.Errorf("pmemlog: measure pool: %w", os.NewSyscallError("fstat", err))
		}
		size, err := deviceSize(sysRoot, &st)
		return nodeDAX, size, err
	case mode&fs.ModeDevice != 0:
		node = "block device"
	case mode.IsDir():
		return "", 0, fmt.Errorf("%w: it is a folder; name the pool's file in it", ErrNoPool)
	default:
		return "", 0, fmt.Errorf("%w: it is neither a file nor a block device", ErrNoPool)
	}
	if size, err = f.Seek(0, io.SeekEnd); err != nil { // Stat says 0 of a block device
		return "", 0, fmt.Errorf("pmemlog: measure pool: %w", err)
	}
	return node, size, nil
}

// ReadAt implements [Readable].
func (m *ReadOnly) ReadAt(p []byte, off int64) error {
	if m.mapped != nil {
		return m.mapped.ReadAt(p, off)
	}
	if err := checkRange(m.size, off, int64(len(p))); err != nil {
		return err
	}
	return readFile(m.f, p, off)
}

// Size implements [Readable].
func (m *ReadOnly) Size() int64 { return m.size }

// Node says what the pool lies in: "file", "block device" or "device-dax". On what medium it
// was made, only the pool knows.
func (m *ReadOnly) Node() string { return m.node }

// NextData returns where, from off on, there is something else than a hole of a
// sparse file; the size if nothing is. Holes read as zeroes.
func (m *ReadOnly) NextData(off int64) int64 {
	at, err := unix.Seek(int(m.f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return m.size
	case err != nil || at < off: // no idea of holes: all is data
		return off
	default:
		return min(at, m.size)
	}
}

// Close gives up file and lock. It may be called twice.
func (m *ReadOnly) Close() error {
	if m.mapped != nil {
		return m.mapped.Close()
	}
	return closeFile(m.f)
}

// interruptible fails reads once ctx has ended, so that an examination of hours
// ends soon after.
type interruptible struct {
	Readable
	ctx context.Context //nolint:containedctx // of the one call that it is made for
}

func (r interruptible) ReadAt(p []byte, off int64) error {
	if r.ctx.Err() != nil {
		return context.Cause(r.ctx)
	}
	return r.Readable.ReadAt(p, off)
}
