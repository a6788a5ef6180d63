package pmemlog

// LineSize is the unit, in bytes, in which a CPU's cache writes back to memory.
const LineSize = 64

// Memory is persistent memory as a CPU sees it: what is stored lies in a cache
// until it is flushed, and what is flushed is on its way until a fence. Between
// the two, any 8-byte word of it may have reached the memory or not, in any
// order. [PMem] makes a medium of it.
//
// All methods may be called from several goroutines; Fence is for what its own
// goroutine, or one that it has been handed the work by, has done. Offsets and
// sizes are in bytes.
type Memory interface {
	// Load fills p from off on.
	Load(p []byte, off int64) error
	// Store writes p at off through the cache. It may stay there.
	Store(p []byte, off int64) error
	// Stream writes p at off past the cache: it is persistent after the next
	// fence. off and the length of p are multiples of LineSize.
	Stream(p []byte, off int64) error
	// Flush begins to write back the lines that hold [off, off+n): they are
	// persistent after the next fence.
	Flush(off, n int64) error
	// Fence returns when what was streamed and flushed is persistent.
	Fence() error
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
type PMem struct{ mem Memory }

// NewPMem makes a medium of a memory, and owns it.
func NewPMem(mem Memory) *PMem { return &PMem{mem: mem} }

// ReadAt implements [Medium].
func (m *PMem) ReadAt(p []byte, off int64) error {
	if err := checkRange(m.mem.Size(), off, len(p)); err != nil {
		return err
	}
	return m.mem.Load(p, off)
}

// WriteAt implements [Medium]: what it wrote is persistent.
func (m *PMem) WriteAt(p []byte, off int64) error {
	if err := m.write(p, off); err != nil {
		return err
	}
	return m.mem.Fence()
}

// Persist writes all spans and returns when they are persistent. Until then any
// part of any of them may be, so none may depend on another.
func (m *PMem) Persist(spans []Span) error {
	for _, s := range spans {
		if err := m.write(s.Bytes, s.Off); err != nil {
			return err
		}
	}
	return m.mem.Fence()
}

// Settle makes persistent what readers see of n bytes from off on, whoever wrote
// it. It costs about as much as to read them.
func (m *PMem) Settle(off, n int64) error {
	if err := checkRange(m.mem.Size(), off, int(n)); err != nil {
		return err
	}
	if err := m.mem.Flush(off, n); err != nil {
		return err
	}
	return m.mem.Fence()
}

// write puts p on its way. Whole lines go past the cache, which costs half as
// much as to store and flush them; what is left at both ends shares its line
// with something else.
func (m *PMem) write(p []byte, off int64) error {
	if err := checkRange(m.mem.Size(), off, len(p)); err != nil {
		return err
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

// Sync implements [Medium]: nothing that was written through this medium is not
// persistent. What another process has left in the cache is Settle's.
func (m *PMem) Sync() error { return nil }

// Size implements [Medium].
func (m *PMem) Size() int64 { return m.mem.Size() }

// Kind implements [Medium].
func (m *PMem) Kind() Kind { return KindPmem }

// Close implements [Medium].
func (m *PMem) Close() error { return m.mem.Close() }
