package pmemlog

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// File is a medium in a file or on a block device, written with pwrite and synced
// with fdatasync. It is mapped only where and while it is looked through, so a
// large pool takes no more memory than a small one. The file is locked while it is
// open; a process that dies, however it dies, gives the lock up. A block device is
// held for this process alone, too, so nothing mounts it meanwhile.
type File struct {
	f    *os.File
	size int64
}

// OpenFile opens an existing file or block device and locks it: [LockedError]
// when another process, or another File of this one, has it, ErrLocked when it is
// a device that is mounted or otherwise in use. What is read from it, once it has
// been synced, then comes from the disk, or has been written to it: the system's
// cache keeps nothing of writes that have failed.
func OpenFile(path string) (*File, error) {
	f, err := openExclusive(path)
	if errors.Is(err, ErrLocked) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("pmemlog: open pool: %w", advise(err))
	}
	m, err := lockFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := forgetCache(f, 0, 0); err != nil {
		return nil, errors.Join(fmt.Errorf("pmemlog: open pool: %w", err), f.Close())
	}
	return m, nil
}

// forgetCache has the system give up its clean pages of [off, off+n), to the end
// for 0. After a sync that failed they hold, as if they were clean, what the disk
// never got; later syncs succeed. Dirty pages stay, and the next sync writes them,
// or fails.
func forgetCache(f *os.File, off, n int64) error {
	return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), off, n, unix.FADV_DONTNEED))
}

// CreateFilePool makes a pool in a new file of opts.Size bytes, which is sparse
// until replicas are created in it. The file gets its name only when the pool
// in it is complete, so a crash leaves no half-made pool behind. ErrExists when
// there is a file of that name.
//
// When path is, or links to, a block device, the pool is made on that, in place,
// with opts.Size bytes of it, all of them for 0. ErrExists when a pool is there;
// ErrForeign when its first or last 128 KiB hold anything else, unless
// opts.Overwrite says that nothing of it is needed. A crash leaves no pool there, or
// a whole one.
func CreateFilePool(path string, opts FormatOptions) (*Pool, error) {
	if isBlockDevice(path) {
		return createOnDevice(path, opts)
	}
	m, err := newFile(path, opts.Size)
	if err != nil {
		return nil, err
	}
	p, err := Format(m, opts)
	if err != nil {
		return nil, errors.Join(err, discard(path, m.f, m))
	}
	if err := publish(path, m.f); err != nil {
		return nil, errors.Join(err, discard(path, m.f, p))
	}
	return p, nil
}

// OpenFilePool opens the pool in a file. The error is fs.ErrNotExist when there
// is no such file.
func OpenFilePool(path string) (*Pool, error) {
	m, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	p, err := Open(m)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), m.Close())
	}
	return p, nil
}

// ReadAt implements [Medium].
func (m *File) ReadAt(p []byte, off int64) error {
	if err := checkRange(m.size, off, int64(len(p))); err != nil {
		return err
	}
	return readFile(m.f, p, off)
}

func readFile(f *os.File, p []byte, off int64) error {
	_, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("file has been truncated: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// WriteAt implements [Medium].
func (m *File) WriteAt(p []byte, off int64) error {
	if err := checkRange(m.size, off, int64(len(p))); err != nil {
		return err
	}
	_, err := m.f.WriteAt(p, off)
	return err
}

// Sync implements [Medium] with fdatasync.
func (m *File) Sync() error {
	return uninterrupted("fdatasync", func() error { return unix.Fdatasync(int(m.f.Fd())) })
}

// uninterrupted makes a system call again where a signal has cut it short: that
// is no failure of the medium.
func uninterrupted(name string, call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError(name, err)
		}
	}
}

// Size implements [Medium].
func (m *File) Size() int64 { return m.size }

// Kind implements [Medium].
func (m *File) Kind() Kind { return KindFile }

// Close closes the file, which unlocks it. It may be called twice.
func (m *File) Close() error { return closeFile(m.f) }

func closeFile(f *os.File) error {
	if err := f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}
