package pmemlog

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Volatile is a medium of anonymous memory. It takes memory only for what has
// been written. Nothing outlives Close.
type Volatile struct {
	mu   sync.RWMutex // a reader beside a writer of the same bytes is a race
	data []byte       // nil once closed
	size int64
}

// NewVolatile maps size bytes of zeroes.
func NewVolatile(size int64) (*Volatile, error) {
	if size <= 0 || int64(int(size)) != size {
		return nil, fmt.Errorf("%w: size of a volatile medium is %d bytes, must be positive", ErrRange, size)
	}
	data, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("pmemlog: map %d bytes of memory: %w", size, err)
	}
	return &Volatile{data: data, size: size}, nil
}

// ReadAt implements [Medium].
func (v *Volatile) ReadAt(p []byte, off int64) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if err := v.check(off, int64(len(p))); err != nil {
		return err
	}
	copy(p, v.data[off:])
	return nil
}

// WriteAt implements [Medium].
func (v *Volatile) WriteAt(p []byte, off int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.check(off, int64(len(p))); err != nil {
		return err
	}
	copy(v.data[off:], p)
	return nil
}

// Zero zeroes whole pages by giving them back to the system, which is cheap and
// keeps the medium sparse.
func (v *Volatile) Zero(off, n int64) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.check(off, n); err != nil {
		return err
	}
	page := int64(unix.Getpagesize())
	from, to := (off+page-1)/page*page, (off+n)/page*page
	if from >= to {
		clear(v.data[off : off+n])
		return nil
	}
	clear(v.data[off:from])
	clear(v.data[to : off+n])
	if err := unix.Madvise(v.data[from:to], unix.MADV_DONTNEED); err != nil {
		return fmt.Errorf("give back %d bytes of memory: %w", to-from, err)
	}
	return nil
}

// Bytes returns the memory itself; it is gone after Close.
func (v *Volatile) Bytes() []byte { return v.data }

// Sync implements [Medium]; there is nothing to do.
func (v *Volatile) Sync() error { return nil }

// Size implements [Medium].
func (v *Volatile) Size() int64 { return v.size }

// Kind implements [Medium].
func (v *Volatile) Kind() Kind { return KindVolatile }

// Close gives the memory back. It may be called twice.
func (v *Volatile) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.data == nil {
		return nil
	}
	data := v.data
	v.data = nil
	return unix.Munmap(data)
}

func (v *Volatile) check(off, n int64) error {
	if v.data == nil {
		return ErrClosed
	}
	return checkRange(v.size, off, n)
}
