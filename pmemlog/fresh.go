package pmemlog

import "golang.org/x/sys/unix"

// freshSpan is the largest piece, in bytes, in which a system's cache holds
// anything. It lies at a multiple of its size and is given up whole or not at all.
const freshSpan = 2 << 20

// fresh reads what the medium itself holds. What has been written since the start
// is in the system's cache, where damage to a disk does not show.
type fresh struct {
	dev      *device
	from, to int64 // of the pool: the cache has given it up, and what it holds of it now has been read, or written, after that
}

// readAt is the device's, of what the cache has given up.
func (f *fresh) readAt(p []byte, off int64) error {
	if m, ok := f.dev.medium.(cached); ok && (off < f.from || off+int64(len(p)) > f.to) {
		f.from = off &^ (freshSpan - 1)
		f.to = min((off+int64(len(p))+freshSpan-1)&^(freshSpan-1), f.dev.medium.Size())
		m.DropCache(f.from, f.to-f.from)
	}
	return f.dev.readAt(p, off)
}

// DropCache has the system's cache give up its clean pages of [off, off+n), so
// that the next read comes from the disk. A disk that can't be told so is read as
// it is.
func (m *File) DropCache(off, n int64) { _ = forgetCache(m.f, off, n) }

// DropCache is that of a [File] where msync makes persistent; other memory is not
// read through a cache of the system.
func (m *PMem) DropCache(off, n int64) {
	m.use.RLock()
	defer m.use.RUnlock()
	if c, ok := m.mem.(cached); ok && m.check(off, n) == nil {
		c.DropCache(off, n)
	}
}

// DropCache implements cached. Pages that are mapped are not given up, so they
// are unmapped first; what has been stored into them is not lost by that.
func (m *mapping) DropCache(off, n int64) {
	page := int64(unix.Getpagesize())
	from, to := off&^(page-1), min((off+n+page-1)&^(page-1), m.size)
	if !m.sync || from >= to {
		return
	}
	if unix.Madvise(m.data[from:to], unix.MADV_DONTNEED) == nil {
		_ = forgetCache(m.f, from, to-from)
	}
}
