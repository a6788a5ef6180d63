package pmemlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SectorSize is the unit, in bytes, in which the kernel counts bad blocks.
const SectorSize = 512

// BadRange is sectors of a block device that its driver knows to be bad.
type BadRange struct {
	Sector uint64 // from the start of the device, or of the partition
	Count  uint64
}

// BadBlocks returns what the kernel knows of bad sectors on the block device that
// path is, or lies on. They may belong to other files than this one, and what
// it does not know of is only found by reading: see [Replica.Scrub]. sysfs is where that
// is mounted, usually /sys. A device without such a list has no entries.
func BadBlocks(path, sysfs string) ([]BadRange, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return nil, fmt.Errorf("pmemlog: bad blocks: %w", &fs.PathError{Op: "stat", Path: path, Err: err})
	}
	dev := stat.Dev
	if stat.Mode&unix.S_IFMT == unix.S_IFBLK {
		dev = stat.Rdev
	}
	link := filepath.Join(sysfs, "dev", "block", fmt.Sprintf("%d:%d", unix.Major(dev), unix.Minor(dev)))
	dir, err := filepath.EvalSymlinks(link) // so that a partition's parent is its disk
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // no block device, such as that of a memory or network file system
	}
	if err != nil {
		return nil, fmt.Errorf("pmemlog: bad blocks: %w", err)
	}
	own, err := readBadBlocks(dir)
	if own != nil || err != nil {
		return own, err
	}
	return badOfPartition(dir)
}

// badOfPartition returns which of a disk's bad sectors lie in a partition of it.
func badOfPartition(dir string) ([]BadRange, error) {
	start, size, err := partition(dir)
	if size == 0 || err != nil {
		return nil, err
	}
	disk, err := readBadBlocks(filepath.Dir(dir))
	var out []BadRange
	for _, b := range disk {
		from, to := max(b.Sector, start), min(b.Sector+b.Count, start+size)
		if from < to {
			out = append(out, BadRange{Sector: from - start, Count: to - from})
		}
	}
	return out, err
}

// partition returns where a partition lies on its disk, in sectors; 0 for what is
// none.
func partition(dir string) (start, size uint64, err error) {
	if _, err := os.Stat(filepath.Join(dir, "partition")); errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	for name, v := range map[string]*uint64{"start": &start, "size": &size} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return 0, 0, fmt.Errorf("pmemlog: bad blocks: %w", err)
		}
		if *v, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 63); err != nil {
			return 0, 0, fmt.Errorf("pmemlog: bad blocks: %s of partition %s: %w", name, dir, err)
		}
	}
	return start, size, nil
}

// readBadBlocks reads a device's list, a line for each range: sector and count.
func readBadBlocks(dir string) ([]BadRange, error) {
	b, err := os.ReadFile(filepath.Join(dir, "badblocks"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pmemlog: bad blocks: %w", err)
	}
	out := []BadRange{}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 2 {
			return nil, fmt.Errorf("pmemlog: bad blocks of %s: %q, must be sector and count", dir, line)
		}
		sector, errS := strconv.ParseUint(f[0], 10, 62)
		count, errC := strconv.ParseUint(f[1], 10, 62)
		if err := errors.Join(errS, errC); err != nil {
			return nil, fmt.Errorf("pmemlog: bad blocks of %s: %w", dir, err)
		}
		out = append(out, BadRange{Sector: sector, Count: count})
	}
	return out, nil
}
