package pmemtest

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog"
	"github.com/gravenio/graven/pmemlog/crc32c"
)

// memory is a [Medium] of persistent memory as the product's own [pmemlog.PMem]
// drives it: lines in a cache, on their way, or persistent.
type memory struct{ m *Medium }

var _ pmemlog.Memory = memory{}

// Load implements [pmemlog.Memory].
func (c memory) Load(p []byte, off int64) error { return c.m.load(p, off) }

// Store implements [pmemlog.Memory].
func (c memory) Store(p []byte, off int64) error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.m.store(OpStore, p, off)
}

// Stream implements [pmemlog.Memory].
func (c memory) Stream(p []byte, off int64) error {
	if off%pmemlog.LineSize != 0 || len(p)%pmemlog.LineSize != 0 {
		return fmt.Errorf("pmemtest: stream of %d bytes to byte %d: both must be multiples of %d", len(p), off, pmemlog.LineSize)
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.m.store(OpStream, p, off)
}

// StreamSum implements [pmemlog.Memory].
func (c memory) StreamSum(p []byte, off int64, crc uint32) (uint32, error) {
	return crc32c.Update(crc, p), c.Stream(p, off)
}

// store puts what is written into the cache, or past it, line by line: each
// has a fate of its own. mu is held.
func (m *Medium) store(op Op, p []byte, off int64) error {
	if err := m.mayWrite(p, off); err != nil || len(p) == 0 {
		return err
	}
	m.keep(off, off+int64(len(p)))
	if op == OpStream { // whatever the cache has of these lines is written back before
		m.send(off, off+int64(len(p)))
	}
	m.now.write(p, off)
	m.log(Event{Op: op, Off: off, Len: len(p)})
	for end := off + int64(len(p)); off < end; {
		n := min(end-off, Line-off%Line)
		m.writes = append(m.writes, write{off: off, n: int(n), sent: op == OpStream})
		off += n
	}
	return nil
}

// Flush implements [pmemlog.Memory]: what the cache has of the lines by now is
// on its way.
func (c memory) Flush(off, n int64) error {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(m.check(off, int(n)), m.count()); err != nil {
		return err
	}
	m.send(off&^(Line-1), (off+n+Line-1)&^(Line-1))
	m.log(Event{Op: OpFlush, Off: off, Len: int(n)})
	return nil
}

// send puts on its way what has been written of whole lines. mu is held.
func (m *Medium) send(from, to int64) {
	for i := range m.writes {
		if w := &m.writes[i]; w.off < to && from < w.end() {
			w.sent = true
		}
	}
}

// Fence implements [pmemlog.Memory]: what was on its way has arrived.
func (c memory) Fence() error {
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commit(OpFence)
}

// short has the shortest appends of tests go through the cache, and most past it.
const short = 256

// Short implements [pmemlog.Memory].
func (c memory) Short() int { return short }

// Expect implements [pmemlog.Memory].
func (c memory) Expect(int64, int64) {}

// Size implements [pmemlog.Memory].
func (c memory) Size() int64 { return c.m.Size() }

// Close implements [pmemlog.Memory].
func (c memory) Close() error { return nil }

// PMem returns the product's own medium, through which all that a medium of
// KindPmem is asked goes; nil for other kinds.
func (m *Medium) PMem() *pmemlog.PMem { return m.pmem }

// Persist carries out what the product's medium makes of several writes. Only a
// medium of KindPmem has it, and WriteBack.
func (m *Medium) Persist(spans []pmemlog.Span) error { return m.pmem.Persist(spans) }

// PersistFeed carries out what the product's medium makes of what a feed makes
// of p.
func (m *Medium) PersistFeed(p []byte, f pmemlog.Feed) error { return m.pmem.PersistFeed(p, f) }

// PersistOne carries out what the product's medium makes of one record.
func (m *Medium) PersistOne(p []byte, off int64) error { return m.pmem.PersistOne(p, off) }

// WriteBack carries out what the product's medium makes of bytes that have
// arrived.
func (m *Medium) WriteBack(off, n int64) error { return m.pmem.WriteBack(off, n) }

// Arrive stores p behind the product's back, as a network card does: it may lie
// in the cache until somebody flushes it.
func (m *Medium) Arrive(p []byte, off int64) error { return memory{m}.Store(p, off) }
