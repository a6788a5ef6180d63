package pmemlog

import (
	"errors"
	"fmt"
	"io"
)

// Kind is what a pool lives on. It is recorded in the pool.
type Kind uint32

// The kinds of media.
const (
	KindFile     Kind = 1 // a file or block device: fdatasync makes persistent
	KindVolatile Kind = 2 // memory, for tests and demonstrations: gone with the process
	KindPmem     Kind = 3 // persistent memory: the CPU's instructions make persistent
)

// String returns the name that the rest of Graven uses for the kind.
func (k Kind) String() string {
	switch k {
	case KindFile:
		return "file"
	case KindVolatile:
		return "volatile"
	case KindPmem:
		return "pmem"
	default:
		return fmt.Sprintf("kind %d", uint32(k))
	}
}

// Medium is what a pool lives on: bytes that can be made persistent. All
// methods may be called from several goroutines; a read beside a write of the
// same bytes sees any mixture of old and new. Offsets and sizes are in bytes.
type Medium interface {
	// ReadAt fills p from off on, or fails; there are no short reads.
	ReadAt(p []byte, off int64) error
	// WriteAt writes p at off; the range lies within Size. The bytes may
	// survive a crash in part, or not at all, until Sync has returned.
	WriteAt(p []byte, off int64) error
	// Sync makes persistent all writes that returned before it was called.
	Sync() error
	// Size never changes.
	Size() int64
	// Kind never changes. Only what has all methods of PMem may be of KindPmem.
	Kind() Kind
	// Close gives the medium up without making anything persistent.
	Close() error
}

// mapped is a Medium whose bytes lie in memory, so that a scan copies nothing.
// The slice is valid until Close.
type mapped interface {
	Bytes() []byte
}

// viewer is a Medium whose bytes lie in memory where touching them may fault.
type viewer interface {
	// View shows the bytes of [off, off+n) where they lie. It returns look's error,
	// a [FaultError] if a byte could not be touched, or errNoView.
	View(off, n int64, look func(b []byte) error) error
}

var errNoView = errors.New("pmemlog: bytes can't be looked at where they lie")

// persister is a Medium whose writes are persistent when they return, and for
// which several together cost little more than one.
type persister interface {
	// Persist writes all spans and returns when they are persistent; before, any
	// part of any of them may be.
	Persist(spans []Span) error
	// PersistFeed is Persist of what a feed makes of p, for a caller who keeps the
	// medium open meanwhile.
	PersistFeed(p []byte, f Feed) error
	// PersistOne is PersistFeed of one span, all of p, for the same caller.
	PersistOne(p []byte, off int64) error
	// WriteBack begins to make persistent what another has stored in [off, off+n);
	// the next Persist completes it.
	WriteBack(off, n int64) error
}

// blocker is a persister that may wait for a disk.
type blocker interface {
	// Blocks never changes.
	Blocks() bool
}

// rewriter is a Medium that can write whole pages where they can't be touched.
type rewriter interface {
	// Rewrite writes p at off, both multiples of the page, and returns when that is
	// persistent and can be read.
	Rewrite(p []byte, off int64) error
}

// cached is a Medium that is read through a cache of the system.
type cached interface {
	// DropCache has the cache give up what it holds of [off, off+n) and is on the
	// medium, too. What is not yet stays, so it may be called beside writes. A cache
	// that gives up nothing makes no error.
	DropCache(off, n int64)
}

// zeroer is a Medium that has a better way to zero a range than to write it.
type zeroer interface {
	Zero(off, n int64) error
}

// checkRange is the bounds check that media share.
func checkRange(size, off, n int64) error {
	if off < 0 || n < 0 || n > size || off > size-n {
		return fmt.Errorf("%d bytes at byte %d of a medium of %d: %w", n, off, size, io.ErrUnexpectedEOF)
	}
	return nil
}
