package pmemlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockFile takes f as a medium, with an exclusive lock on it that lasts until
// it is closed.
func lockFile(f *os.File) (*File, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("pmemlog: lock pool: %w", err)
	}
	if !info.Mode().IsRegular() && !blockDevice(info) {
		return nil, fmt.Errorf("%w: %s is neither a file nor a block device; name one", ErrNoPool, f.Name())
	}
	if err := exclusive(f, info); err != nil {
		return nil, err
	}
	size, err := sizeOf(f, info)
	if err != nil {
		return nil, fmt.Errorf("pmemlog: size of pool: %w", err)
	}
	return &File{f: f, size: size}, nil
}

// exclusive takes the lock of what has been opened, until it is closed:
// [LockedError] when another has it.
func exclusive(f *os.File, info os.FileInfo) error { return flock(f, info, unix.LOCK_EX) }

// flock takes a lock on f, LOCK_EX or LOCK_SH, or says who has one that is in
// the way.
func flock(f *os.File, info os.FileInfo, how int) error {
	err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return lockedBy(f.Name(), info)
	}
	if err != nil {
		return fmt.Errorf("pmemlog: lock pool: %w", os.NewSyscallError("flock", err))
	}
	return nil
}

// lockedBy looks up who holds the lock. What the system does not tell stays
// unknown; it is for people only.
func lockedBy(path string, info os.FileInfo) error {
	held := &LockedError{Path: path}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return held
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return held
	}
	held.PID = holder(string(locks), stat.Ino)
	if held.PID != 0 {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", held.PID))
		held.Command = string(bytes.TrimSpace(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
	}
	return held
}

// holder finds the process that holds a lock on the inode in the text of
// /proc/locks, such as "1: FLOCK ADVISORY WRITE 708 08:01:1234 0 EOF"; 0 if
// there is none, or more than one, as when several look at a pool (READ).
func holder(locks string, inode uint64) int {
	found := 0
	for line := range strings.Lines(locks) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		at := strings.LastIndexByte(f[5], ':')
		if ino, err := strconv.ParseUint(f[5][at+1:], 10, 64); err != nil || ino != inode {
			continue
		}
		pid, err := strconv.Atoi(f[4])
		if err != nil || pid <= 0 || found != 0 {
			return 0
		}
		found = pid
	}
	return found
}
