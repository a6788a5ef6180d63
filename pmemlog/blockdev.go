package pmemlog

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// claimSpan is how much of each end of a block device must be zero before a pool
// is made on it, in bytes. File systems, volume managers and partition tables
// have their marks in it, most in the first 64 KiB, a few right behind or at the
// end, where some keep a copy.
const claimSpan = 128 << 10

// isBlockDevice says whether path, or what it links to, is a block device.
func isBlockDevice(path string) bool {
	info, err := os.Stat(path)
	return err == nil && blockDevice(info)
}

func blockDevice(info os.FileInfo) bool {
	return info.Mode()&(os.ModeDevice|os.ModeCharDevice) == os.ModeDevice
}

// openExclusive opens a file for reading and writing, and a block device only
// if nothing on the machine has it mounted or otherwise in use.
func openExclusive(path string) (*os.File, error) {
	flags := os.O_RDWR
	if isBlockDevice(path) {
		flags |= unix.O_EXCL
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, busyDevice(path, err)
	}
	return f, err
}

// busyDevice tells another user of the pool from another use of the device.
func busyDevice(path string, cause error) error {
	if info, err := os.Stat(path); err == nil {
		var locked *LockedError
		if errors.As(lockedBy(path, info), &locked) && locked.PID != 0 {
			return locked
		}
	}
	return fmt.Errorf("%w: %s is mounted, or part of a volume or of swap space; end that use, or choose another device: %w", ErrLocked, path, cause)
}

// sizeOf returns the size of an open file or block device, in bytes.
func sizeOf(f *os.File, info os.FileInfo) (int64, error) {
	if !blockDevice(info) {
		return info.Size(), nil
	}
	return f.Seek(0, io.SeekEnd)
}

// createOnDevice makes a pool on a block device, in place: it counts from the
// moment when its superblock is persistent, and before that there is none.
func createOnDevice(path string, opts FormatOptions) (*Pool, error) {
	m, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	return claimAt(path, m, opts)
}

// claimAt claims what has been opened at path, and owns it.
func claimAt(path string, m Medium, opts FormatOptions) (*Pool, error) {
	p, err := claim(m, opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pmemlog: create pool on %s: %w", path, err), m.Close())
	}
	return p, nil
}

// claim makes a pool on a medium that may belong to something else.
func claim(m Medium, opts FormatOptions) (*Pool, error) {
	if err := opts.withDefaults(m).validate(m); err != nil {
		return nil, err
	}
	if err := vacant(m); err != nil {
		return nil, err
	}
	what, err := foreign(m)
	if err != nil {
		return nil, err
	}
	if what != "" && !opts.Overwrite {
		return nil, fmt.Errorf("%w: %s; if nothing on it is needed, have it overwritten (what a creation leaves behind that was cut off must be, too)", ErrForeign, what)
	}
	if what != "" {
		if err := wipeEnds(m); err != nil {
			return nil, err
		}
	}
	return Format(m, opts)
}

// foreign says what a medium holds at its ends, "" if all there is zero.
func foreign(m Medium) (string, error) {
	for _, off := range ends(m) {
		b := make([]byte, min(claimSpan, m.Size()))
		if err := m.ReadAt(b, off); err != nil {
			return "", fmt.Errorf("read what is there: %w", err)
		}
		at := firstNonZero(b)
		if at < 0 {
			continue
		}
		if name := signature(b); name != "" && off == 0 {
			return "it holds " + name, nil
		}
		return fmt.Sprintf("it holds something (byte %d is not zero)", off+int64(at)), nil
	}
	return "", nil
}

// wipeEnds zeroes the marks of what a medium held, for good, so that nothing
// takes it for that again, and a pool that is being made on it not for one.
func wipeEnds(m Medium) error {
	for _, off := range ends(m) {
		if err := m.WriteAt(make([]byte, min(claimSpan, m.Size())), off); err != nil {
			return fmt.Errorf("wipe what is there: %w", err)
		}
	}
	return m.Sync()
}

// ends returns where the first and the last claimSpan bytes begin.
func ends(m Medium) []int64 { return []int64{0, max(0, m.Size()-claimSpan)} }

func firstNonZero(b []byte) int {
	for i, c := range b {
		if c != 0 {
			return i
		}
	}
	return -1
}

// signature names what a device begins with, "" if it is not known.
func signature(b []byte) string {
	for _, s := range []struct {
		name, magic string
		at          int
	}{
		{"a damaged pool", "GRVNPOOL", 0},
		{"a damaged pool", "GRVNPOOL", superblockSize},
		{"a partition table (GPT)", "EFI PART", 512},
		{"a partition table (GPT)", "EFI PART", 4096},
		{"an encrypted volume (LUKS)", "LUKS\xba\xbe", 0},
		{"a volume of LVM", "LABELONE", 512},
		{"a member of a RAID (md)", "\xfc\x4e\x2b\xa9", 4096},
		{"an XFS file system", "XFSB", 0},
		{"an ext2, ext3 or ext4 file system", "\x53\xef", 1080},
		{"a btrfs file system", "_BHRfS_M", 64<<10 + 64},
		{"swap space", "SWAPSPACE2", 4096 - 10},
		{"a partition table or a FAT file system", "\x55\xaa", 510},
	} {
		if end := s.at + len(s.magic); end <= len(b) && string(b[s.at:end]) == s.magic {
			return s.name
		}
	}
	return ""
}
