package pmemlog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/gravenio/graven/pmemlog/crc32c"
	"github.com/gravenio/graven/pmemlog/persist"
)

// mapping is a [Memory] that is mapped from a file or a device-dax, with an
// exclusive lock that lasts until it is closed. There is no lock in it: a locked
// instruction between two streams would wait for the first one as a fence does.
type mapping struct {
	f    *os.File
	size int64
	cpu  persist.CPU
	sync bool // msync is what makes persistent

	device bool // a device-dax: there is no file system
	how    string

	data []byte
}

// mapFile maps what has been opened and locked.
func mapFile(f *os.File, size int64, info *unix.Stat_t, d Durability) (*mapping, error) {
	if err := d.validate(); err != nil {
		return nil, err
	}
	m := &mapping{f: f, size: size, sync: d == DurabilityMsync, device: info.Mode&unix.S_IFMT == unix.S_IFCHR}
	if m.device && m.sync {
		return nil, fmt.Errorf("%w: durability of %s is %s, but a device-dax has no file system that could write: use %s", ErrNotPersistent, f.Name(), d, DurabilityAuto)
	}
	if m.device && d == DurabilityAuto && !onNVDIMM(sysRoot, info) {
		return nil, fmt.Errorf("%w: %s is memory that the system does not know to be an NVDIMM's, and that may be gone at power off; if you know it to last, declare its durability: %s if what the CPU writes back survives a power cut, %s if its caches do",
			ErrNotPersistent, f.Name(), DurabilityFlush, DurabilityFence)
	}
	if !m.sync {
		method, err := d.method(persistenceDomain(sysRoot, info))
		if err != nil {
			return nil, err
		}
		if m.cpu, err = persist.New(method); err != nil {
			return nil, err
		}
	}
	if size <= 0 || int64(int(size)) != size {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrNoPool, f.Name(), size)
	}
	var err error
	if m.data, err = mapShared(f, int(size), info, d); err != nil {
		return nil, err
	}
	m.how = m.describe(d)
	return m, nil
}

// describe says, for people, what makes stores to the mapping persistent, and on
// whose word.
func (m *mapping) describe(d Durability) string {
	with, where := m.cpu.Method().String(), fileSystem(int(m.f.Fd()))
	if m.sync {
		with = "msync"
	}
	if m.device {
		where = "device-dax"
	}
	word := "declared by the operator"
	if d == DurabilityAuto || d == DurabilityMsync {
		word = "vouched for by the system"
	}
	return fmt.Sprintf("%s on %s, %s", with, where, word)
}

// How implements describer.
func (m *mapping) How() string { return m.how }

// mapShared maps with MAP_SYNC where that must vouch for the mapping.
func mapShared(f *os.File, size int, info *unix.Stat_t, d Durability) ([]byte, error) {
	flags := unix.MAP_SHARED
	if d == DurabilityAuto && info.Mode&unix.S_IFMT == unix.S_IFREG {
		flags = unix.MAP_SHARED_VALIDATE | unix.MAP_SYNC
	}
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if flags != unix.MAP_SHARED && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) {
		return nil, fmt.Errorf("%w: %s lies on %s, which gives no MAP_SYNC; put the pool on a DAX file system (ext4 or xfs on /dev/pmem*, mounted with -o dax) or on a device-dax, use medium file, or declare its durability: %s if what the CPU writes back survives a power cut, %s if its caches do, %s to have the kernel write it",
			ErrNotPersistent, f.Name(), fileSystem(int(f.Fd())), DurabilityFlush, DurabilityFence, DurabilityMsync)
	}
	if err != nil {
		return nil, fmt.Errorf("pmemlog: map %d bytes of %s: %w", size, f.Name(), err)
	}
	return data, nil
}

// Load implements [Memory].
func (m *mapping) Load(p []byte, off int64) error {
	copy(p, m.data[off:])
	return nil
}

// Store implements [Memory].
func (m *mapping) Store(p []byte, off int64) error {
	copy(m.data[off:], p)
	return nil
}

// Stream implements [Memory].
func (m *mapping) Stream(p []byte, off int64) error {
	if m.sync {
		copy(m.data[off:], p)
		return m.Flush(off, int64(len(p)))
	}
	m.cpu.Stream(m.data[off:off+int64(len(p))], p)
	return nil
}

// StreamSum implements [Memory].
func (m *mapping) StreamSum(p []byte, off int64, crc uint32) (uint32, error) {
	if m.sync {
		return crc32c.Update(crc, p), m.Stream(p, off)
	}
	return m.cpu.StreamSum(m.data[off:off+int64(len(p))], p, crc), nil
}

// Flush implements [Memory].
func (m *mapping) Flush(off, n int64) error {
	if m.sync {
		page := int64(unix.Getpagesize())
		from, to := off&^(page-1), min((off+n+page-1)&^(page-1), m.size)
		return uninterrupted("msync", func() error { return unix.Msync(m.data[from:to], unix.MS_SYNC) })
	}
	m.cpu.Flush(m.data[off : off+n])
	return nil
}

// Fence implements [Memory].
func (m *mapping) Fence() error {
	if !m.sync {
		m.cpu.Fence()
	}
	return nil
}

// Blocks implements blocker.
func (m *mapping) Blocks() bool { return m.sync }

// Short implements [Memory].
func (m *mapping) Short() int {
	if m.sync {
		return 0
	}
	return m.cpu.Short()
}

// Expect implements [Memory].
func (m *mapping) Expect(off, n int64) {
	if off >= 0 && off+n <= m.size {
		persist.Expect(m.data[off : off+n])
	}
}

// Bytes implements mapped.
func (m *mapping) Bytes() []byte { return m.data }

// Place implements faulting.
func (m *mapping) Place(addr uintptr) (int64, bool) { return placeIn(m.data, addr) }

// Zero makes a range zeroes. A file gets its blocks by the zeroes being written,
// which fails, rather than faults, when there are none left.
func (m *mapping) Zero(off, n int64) error {
	zeroes := make([]byte, min(n, zeroChunk))
	for n > 0 {
		zeroes = zeroes[:min(n, int64(len(zeroes)))]
		if err := m.put(zeroes, off); err != nil {
			return err
		}
		off, n = off+int64(len(zeroes)), n-int64(len(zeroes))
	}
	if m.device {
		m.cpu.Fence()
		return nil
	}
	return uninterrupted("fdatasync", func() error { return unix.Fdatasync(int(m.f.Fd())) })
}

// Rewrite writes through the file, which clears what is wrong with a page of
// persistent memory. A file that has been truncated stays so.
func (m *mapping) Rewrite(p []byte, off int64) error {
	if m.device {
		return &FaultError{Off: off}
	}
	info, err := m.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < off+int64(len(p)) {
		return &FaultError{Off: off}
	}
	if err := m.put(p, off); err != nil {
		return err
	}
	return uninterrupted("fdatasync", func() error { return unix.Fdatasync(int(m.f.Fd())) })
}

// put writes by the system where there is a file system, and by the CPU where
// there is none.
func (m *mapping) put(p []byte, off int64) error {
	if !m.device {
		n, err := m.f.WriteAt(p, off)
		if errors.Is(err, unix.EIO) { // memory that is damaged, as it is elsewhere
			return &FaultError{Off: off + int64(n)}
		}
		return err
	}
	copy(m.data[off:], p)
	m.cpu.Flush(m.data[off : off+int64(len(p))])
	return nil
}

// Size implements [Memory].
func (m *mapping) Size() int64 { return m.size }

// Close implements [Memory].
func (m *mapping) Close() error {
	return errors.Join(os.NewSyscallError("munmap", unix.Munmap(m.data)), m.f.Close())
}
