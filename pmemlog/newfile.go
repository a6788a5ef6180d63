package pmemlog

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// newName is what a pool file is called while it is being made.
func newName(path string) string { return path + ".new" }

// newFile opens and locks an empty file of the given size under path's new
// name, which a crash may have left there before.
func newFile(path string, size int64) (*File, error) {
	if size <= 0 {
		return nil, fmt.Errorf("%w: size of a pool is %d bytes, must be positive", ErrRange, size)
	}
	if err := absent(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(newName(path), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("pmemlog: create pool: %w", advise(err))
	}
	m, err := lockFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := unclaimed(path, f); err != nil {
		return nil, errors.Join(fmt.Errorf("pmemlog: create pool: %w", err), m.Close())
	}
	if err := errors.Join(f.Truncate(0), f.Truncate(size)); err != nil {
		return nil, errors.Join(fmt.Errorf("pmemlog: create pool: %w", advise(err)), discard(path, f, m))
	}
	m.size = size
	return m, nil
}

func absent(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.IsDir() {
		return fmt.Errorf("%w: %s is a folder; name the pool's file in it", ErrExists, path)
	}
	if err == nil && info.Mode()&(os.ModeDevice|os.ModeNamedPipe|os.ModeSocket) != 0 {
		return fmt.Errorf("%w: %s is a device, a pipe or a socket that this medium can't use; name a file that is not there yet", ErrExists, path)
	}
	if err == nil {
		return fmt.Errorf("%w: %s; open it, or remove it if nothing in it is needed", ErrExists, path)
	}
	return nil
}

// unclaimed checks, with the lock held, that f is still the new file and has
// not become somebody's pool between open and lock, and that nothing has come to
// lie where it is to go.
func unclaimed(path string, f *os.File) error {
	if err := absent(path); err != nil {
		return err
	}
	return stillNew(path, f)
}

// stillNew checks that f is what lies under path's new name.
func stillNew(path string, f *os.File) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := os.Stat(newName(path))
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return fmt.Errorf("%w: %s is being made by another process", ErrExists, path)
	}
	return nil
}

// discard gives up the new file f, whose lock m holds. The name goes before the
// lock: else another could lock the file in between, and lose its name.
func discard(path string, f *os.File, m io.Closer) error {
	var err error
	if stillNew(path, f) == nil { // rule: only one's own is removed
		err = os.Remove(newName(path))
	}
	return errors.Join(err, m.Close())
}

// publish gives the finished pool file f its name, for good. ErrExists when
// anything lies there: it may be a pool that somebody has put back meanwhile.
func publish(path string, f *os.File) error {
	if err := unclaimed(path, f); err != nil {
		return fmt.Errorf("pmemlog: name pool: %w", err)
	}
	if err := rename(path); err != nil {
		return fmt.Errorf("pmemlog: name pool: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("pmemlog: sync folder of pool: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// rename gives what has path's new name the name itself, if nothing has it. Where
// the file system can't do both at once, what was looked at a moment ago must do.
func rename(path string) error {
	err := unix.Renameat2(unix.AT_FDCWD, newName(path), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return os.Rename(newName(path), path)
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%w: %s; it came while the pool was being made", ErrExists, path)
	}
	return os.NewSyscallError("renameat2", err)
}
