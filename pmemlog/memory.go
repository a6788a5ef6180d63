package pmemlog

import (
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/gravenio/graven/pmemlog/format"
)

// LineSize is the unit, in bytes, in which a CPU's cache writes back to memory.
const LineSize = 64

// Memory is persistent memory as a CPU sees it: what is stored lies in a cache
// until it is flushed, and what is flushed is on its way until a fence. Between
// the two, any 8-byte word of it may have reached the memory or not, in any
// order. [PMem] makes a medium of it.
//
// All methods but Close may be called from several goroutines, with offsets and
// lengths in bytes that lie within Size; Fence is for what its own goroutine has
// done.
type Memory interface {
	// Load fills p from off on.
	Load(p []byte, off int64) error
	// Store writes p at off through the cache. It may stay there.
	Store(p []byte, off int64) error
	// Stream writes p at off past the cache: it is persistent after the next
	// fence. off and the length of p are multiples of LineSize.
	Stream(p []byte, off int64) error
	// StreamSum is Stream, and [crc32c.Update] of crc with p.
	StreamSum(p []byte, off int64, crc uint32) (uint32, error)
	// Flush begins to write back the lines that hold [off, off+n): they are
	// persistent after the next fence.
	Flush(off, n int64) error
	// Fence returns when what was streamed and flushed is persistent.
	Fence() error
	// Short is up to how many bytes at a time had better be stored and flushed than
	// streamed. It never changes.
	Short() int
	// Expect says that [off, off+n), within Size or not, will probably be stored to
	// next. It changes nothing and never faults.
	Expect(off, n int64)
	// Size never changes.
	Size() int64
	// Close gives the memory up without making anything persistent.
	Close() error
}

// Span is bytes, and where in a medium they go.
type Span struct {
	Off   int64
	Bytes []byte
}

// PMem is a medium of persistent memory. Every write is persistent when it has
// returned, so Sync has nothing to do; several that may be persistent together
// cost one fence with Persist.
type PMem struct {
	mem   Memory
	short int   // mem's
	size  int64 // mem's

	use    sync.RWMutex // shared while mem is touched
	closed bool
}

var _ persister = (*PMem)(nil)

// NewPMem makes a medium of a memory, and owns it.
func NewPMem(mem Memory) *PMem { return &PMem{mem: mem, short: mem.Short(), size: mem.Size()} }

// check says whether n bytes at off are there to be touched. use is held.
func (m *PMem) check(off, n int64) error {
	if m.closed {
		return ErrClosed
	}
	return checkRange(m.size, off, n)
}

// begin is deferred with its own result by what touches the memory:
//
//	defer m.end(m.begin(), &err)
//
// In between, a fault is an error, not the end of the process.
func (m *PMem) begin() (panicked bool) {
	m.use.RLock()
	return debug.SetPanicOnFault(true)
}

func (m *PMem) end(panicked bool, err *error) {
	fault := recover()
	m.use.RUnlock()
	m.caught(fault, panicked, err)
}

func (m *PMem) caught(fault any, panicked bool, err *error) {
	debug.SetPanicOnFault(panicked)
	if fault != nil {
		*err = m.fault(fault)
	}
}

// ReadAt implements [Medium].
func (m *PMem) ReadAt(p []byte, off int64) (err error) {
	defer m.end(m.begin(), &err)
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	return m.mem.Load(p, off)
}

// WriteAt implements [Medium]: what it wrote is persistent.
func (m *PMem) WriteAt(p []byte, off int64) (err error) {
	defer m.end(m.begin(), &err)
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	if err := m.write(p, off); err != nil {
		return err
	}
	return m.mem.Fence()
}

// Persist writes all spans and returns when they are persistent. Until then any
// part of any of them may be, so none may depend on another.
func (m *PMem) Persist(spans []Span) (err error) {
	defer m.end(m.begin(), &err)
	if m.closed {
		return ErrClosed
	}
	for _, s := range spans {
		if err := m.write(s.Bytes, s.Off); err != nil {
			return err
		}
	}
	return m.mem.Fence()
}

// Feed hands out what is to be persisted together, a span at a time. What it does
// between two spans goes on while the first is on its way to the memory. It is
// handed p, of which most spans are, each time: so it need not keep it.
type Feed interface {
	// Next returns the next span, and false when there is none. None may depend on
	// another.
	Next(p []byte) (Span, bool)
	// Sum returns what is to be summed on the way of the span that Next returned
	// last; nil for nothing. It is asked for spans of SumFrom bytes or more.
	Sum(p []byte) *format.Sum
}

// SumFrom is the size of a span, in bytes, from which on it can pay to sum it on
// its way.
const SumFrom = 4 << 10

// PersistFeed is Persist of what a feed makes of p. It and PersistOne are for a caller
// who keeps the medium open meanwhile: unlike all else, they take no lock, of which each
// would cost as much as the line of a small record.
func (m *PMem) PersistFeed(p []byte, f Feed) (err error) {
	defer func(panicked bool) { m.caught(recover(), panicked, &err) }(debug.SetPanicOnFault(true))
	if m.closed {
		return ErrClosed
	}
	var last Span
	for s, ok := f.Next(p); ok; s, ok = f.Next(p) {
		if err := m.feed(p, s, f); err != nil {
			return err
		}
		last = s
	}
	return m.arrive(p, last.Off+int64(len(last.Bytes)))
}

// PersistOne is PersistFeed of one span, all of p, for the same caller.
func (m *PMem) PersistOne(p []byte, off int64) (err error) {
	defer func(panicked bool) { m.caught(recover(), panicked, &err) }(debug.SetPanicOnFault(true))
	if len(p) <= m.short {
		err = m.through(p, off)
	} else {
		err = m.write(p, off)
	}
	if err != nil {
		return err
	}
	return m.arrive(p, off+int64(len(p)))
}

// arrive returns when what left for persistent memory is there: an append of p, all of
// it, and the next one is expected to begin at end.
func (m *PMem) arrive(p []byte, end int64) error {
	if err := m.mem.Fence(); err != nil || len(p) > m.short {
		return err
	}
	m.mem.Expect(end, int64(len(p))) // while what left is on its way
	return nil
}

// feed puts a span of p on its way. A short append, all of it, goes through the
// cache, where the CPU has been told to have the lines ready: to mix the two costs
// more than either.
func (m *PMem) feed(p []byte, s Span, f Feed) error {
	switch {
	case len(p) <= m.short:
		return m.through(s.Bytes, s.Off)
	case len(s.Bytes) < SumFrom || s.Off%LineSize != 0:
		return m.write(s.Bytes, s.Off)
	default:
		return m.writeSum(s.Bytes, s.Off, f.Sum(p))
	}
}

// through puts p on its way through the cache.
func (m *PMem) through(p []byte, off int64) error {
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	return m.store(p, off)
}

// writeSum is write of whole lines at first, and takes the sum that is asked for.
func (m *PMem) writeSum(p []byte, off int64, sum *format.Sum) error {
	if sum == nil {
		return m.write(p, off)
	}
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	n := sum.Len
	crc, err := m.mem.StreamSum(p[:n], off, sum.CRC)
	if err != nil {
		return err
	}
	sum.CRC, sum.Taken = crc, true
	if n == len(p) {
		return nil
	}
	return m.write(p[n:], off+int64(n))
}

// write puts p on its way. Whole lines go past the cache, which costs half as
// much as to store and flush them; what is left at both ends shares its line
// with something else.
//
// Nothing here may use a locked instruction: it would wait for what was streamed
// before, as the fence does in the end.
func (m *PMem) write(p []byte, off int64) error {
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	if len(p) > 0 && (off|int64(len(p)))%LineSize == 0 {
		return m.mem.Stream(p, off)
	}
	head := min(int64(len(p)), -off&(LineSize-1))
	body := (int64(len(p)) - head) &^ (LineSize - 1)
	if err := m.store(p[:head], off); err != nil {
		return err
	}
	if body > 0 {
		if err := m.mem.Stream(p[head:head+body], off+head); err != nil {
			return err
		}
	}
	return m.store(p[head+body:], off+head+body)
}

func (m *PMem) store(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if err := m.mem.Store(p, off); err != nil {
		return err
	}
	return m.mem.Flush(off, int64(len(p)))
}

// WriteBack begins to make persistent what another has stored in [off, off+n),
// such as a network card that writes into the memory: it may lie in the CPU's
// cache. It is persistent after the next Persist, if only of no spans.
func (m *PMem) WriteBack(off, n int64) (err error) {
	defer m.end(m.begin(), &err)
	if err := m.check(off, n); err != nil || n == 0 { // msync refuses to do nothing
		return err
	}
	return m.mem.Flush(off, n)
}

// Zero makes a range zeroes, persistently. Where a file lies under the memory,
// it is given its blocks, so that no later store finds the file system full.
func (m *PMem) Zero(off, n int64) (err error) {
	defer m.end(m.begin(), &err)
	if err := m.check(off, n); err != nil {
		return err
	}
	if z, ok := m.mem.(zeroer); ok {
		return z.Zero(off, n)
	}
	zeroes := make([]byte, min(n, zeroChunk))
	for ; n > 0; off, n = off+int64(len(zeroes)), n-int64(len(zeroes)) {
		zeroes = zeroes[:min(n, int64(len(zeroes)))]
		if err := m.write(zeroes, off); err != nil {
			return err
		}
	}
	return m.mem.Fence()
}

// Rewrite writes whole pages, persistently, where a store has faulted: through the
// file, if there is one, since that gives a page back that the kernel has taken
// away. A [FaultError] where there is none, and also where it has been written and
// still can't be touched.
func (m *PMem) Rewrite(p []byte, off int64) error {
	if err := m.rewrite(p, off); err != nil {
		return err
	}
	if err := m.ReadAt(make([]byte, len(p)), off); err != nil {
		return fmt.Errorf("%w: %w", errUnread, err)
	}
	return nil
}

// errUnread says that pages have been written, and may count some day, but can't be
// read here.
var errUnread = errors.New("written whole, and still not to be read")

func (m *PMem) rewrite(p []byte, off int64) (err error) {
	defer m.end(m.begin(), &err)
	if err := m.check(off, int64(len(p))); err != nil {
		return err
	}
	if w, ok := m.mem.(rewriter); ok {
		return w.Rewrite(p, off)
	}
	return &FaultError{Off: off}
}

// View shows the bytes of [off, off+n) where they lie, if the memory can: a fault
// meanwhile ends the look with a [FaultError]. Without that, errNoView.
func (m *PMem) View(off, n int64, look func(b []byte) error) (err error) {
	defer m.end(m.begin(), &err)
	if err := m.check(off, n); err != nil {
		return err
	}
	if b, ok := m.mem.(mapped); ok {
		return look(b.Bytes()[off : off+n : off+n])
	}
	return errNoView
}

// Blocks says whether a write may wait for a disk: there is a file below the memory,
// and the kernel writes it.
func (m *PMem) Blocks() bool {
	b, ok := m.mem.(blocker)
	return ok && b.Blocks()
}

// describer is a [Memory] that can say what makes it persistent.
type describer interface{ How() string }

// How says, for people, what makes stores persistent, and on whose word; empty
// where the memory doesn't know.
func (m *PMem) How() string {
	if d, ok := m.mem.(describer); ok {
		return d.How()
	}
	return ""
}

// Sync implements [Medium]: there is nothing that is not persistent.
func (m *PMem) Sync() error { return nil }

// Size implements [Medium].
func (m *PMem) Size() int64 { return m.size }

// Kind implements [Medium].
func (m *PMem) Kind() Kind { return KindPmem }

// Close implements [Medium]. It waits for what touches the memory, and may be
// called twice.
func (m *PMem) Close() error {
	m.use.Lock()
	defer m.use.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	return m.mem.Close()
}
