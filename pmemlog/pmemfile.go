package pmemlog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenPMem maps a file or a device-dax and locks it: [LockedError] when another
// process, or another medium of this one, has it. ErrNotPersistent where nobody
// vouches for what is stored into the mapping; see [Durability]. Of a file the
// system's cache is given up before anything is read, as by [OpenFile].
func OpenPMem(path string, d Durability) (*PMem, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("pmemlog: open pool: %w", advise(err))
	}
	m, err := lockPMem(f, d)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// lockPMem takes f as a medium; it stays the caller's when that fails.
func lockPMem(f *os.File, d Durability) (*PMem, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("pmemlog: open pool: %w", err)
	}
	if err := exclusive(f, info); err != nil {
		return nil, err
	}
	return mapPMem(f, d)
}

// mapPMem maps what has been locked.
func mapPMem(f *os.File, d Durability) (*PMem, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, fmt.Errorf("pmemlog: open pool: %w", os.NewSyscallError("fstat", err))
	}
	size := st.Size
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG: // rule: cache given up, before anything is mapped
		if err := forgetCache(f, 0, 0); err != nil {
			return nil, fmt.Errorf("pmemlog: open pool: %w", err)
		}
	case unix.S_IFCHR:
		var err error
		if size, err = deviceSize(sysRoot, &st); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
	default:
		return nil, fmt.Errorf("%w: %s is neither a regular file nor a device-dax; for a block device, use medium file", ErrNoPool, f.Name())
	}
	m, err := mapFile(f, size, &st, d)
	if err != nil {
		return nil, err
	}
	return NewPMem(m), nil
}

// CreatePMemPool makes a pool in a new file on a DAX file system, which gets its
// name only when the pool in it is complete, or in an existing device-dax, whole.
// ErrExists when there is such a file, or a pool on the device; ErrForeign when that
// holds anything else that opts.Overwrite does not give up; see [CreateFilePool].
func CreatePMemPool(path string, opts FormatOptions, d Durability) (*Pool, error) {
	info, err := os.Stat(path)
	if err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return formatDevice(path, opts, d)
	}
	m, f, err := newPMemFile(path, opts, d)
	if err != nil {
		return nil, err
	}
	p, err := Format(m, opts)
	if err != nil {
		return nil, errors.Join(err, discard(path, f, m))
	}
	if err := publish(path, f); err != nil {
		return nil, errors.Join(err, discard(path, f, p))
	}
	return p, nil
}

func formatDevice(path string, opts FormatOptions, d Durability) (*Pool, error) {
	m, err := OpenPMem(path, d)
	if err != nil {
		return nil, err
	}
	return claimAt(path, m, opts)
}

// newPMemFile maps a new file whose beginning, where Format writes, has its
// blocks: a store into a hole of a full file system would fault.
func newPMemFile(path string, opts FormatOptions, d Durability) (*PMem, *os.File, error) {
	file, err := newFile(path, opts.Size)
	if err != nil {
		return nil, nil, err
	}
	m, err := mapNew(file, opts, d)
	if err != nil {
		return nil, nil, errors.Join(err, discard(path, file.f, file))
	}
	return m, file.f, nil
}

func mapNew(file *File, opts FormatOptions, d Durability) (*PMem, error) {
	opts = opts.withDefaults(file)
	if err := opts.validate(file); err != nil { // before anything is written on its word
		return nil, err
	}
	n := min(opts.Size, regionsStart(uint32(opts.Replicas)))
	for off := int64(0); off < n; off += pageSize {
		if err := file.WriteAt(make([]byte, min(pageSize, n-off)), off); err != nil {
			return nil, fmt.Errorf("pmemlog: create pool: %w", noRoom(err))
		}
	}
	if err := uninterrupted("fsync", func() error { return unix.Fsync(int(file.f.Fd())) }); err != nil {
		return nil, fmt.Errorf("pmemlog: create pool: %w", err)
	}
	return mapPMem(file.f, d)
}

// noRoom makes ErrNoSpace of what a full file system answers.
func noRoom(err error) error {
	if full(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, advise(err))
	}
	return err
}

// OpenPMemPool opens the pool in a file or a device-dax. The error is
// fs.ErrNotExist when there is no such file.
func OpenPMemPool(path string, d Durability) (*Pool, error) {
	m, err := OpenPMem(path, d)
	if err != nil {
		return nil, err
	}
	p, err := Open(m)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), m.Close())
	}
	return p, nil
}
