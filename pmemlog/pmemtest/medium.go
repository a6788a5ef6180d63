package pmemtest

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/gravenio/graven/pmemlog"
)

// Units that survive a crash as a whole, but for tearing; in bytes.
const (
	Line   = 64  // of memory; tears between 8-byte words
	Sector = 512 // of a file; does not tear

	word = 8
)

// What a medium fails with.
var (
	ErrPowerless = errors.New("pmemtest: power is gone")
	ErrInjected  = errors.New("pmemtest: injected failure")
)

// Op is a kind of event.
type Op int

// The kinds of events.
const (
	OpWrite Op = iota + 1
	OpSync
)

// String names the kind.
func (o Op) String() string {
	switch o {
	case OpWrite:
		return "write"
	case OpSync:
		return "sync"
	default:
		return fmt.Sprintf("op %d", int(o))
	}
}

// Event is something that a medium was asked to do, and did.
type Event struct {
	Op  Op
	Off int64 // of a write, in bytes
	Len int   // of a write, in bytes
}

// Options say what a medium is like.
type Options struct {
	Kind pmemlog.Kind // KindFile if zero
	Unit int          // Line or Sector; Line if zero
	Log  bool         // keep the events for [Medium.Events]
}

func (o Options) withDefaults() Options {
	if o.Kind == 0 {
		o.Kind = pmemlog.KindFile
	}
	if o.Unit == 0 {
		o.Unit = Line
	}
	return o
}

// Medium is a [pmemlog.Medium] in memory that forgets what was not synced when
// it crashes. Unsynced bytes take as much memory again for each time they are
// written over; what a medium and its clones have in common is there once.
type Medium struct {
	opts Options

	mu       sync.Mutex
	now      image   // what readers see: safe, with writes done to it
	safe     image   // what is persistent
	writes   []write // since the last sync, oldest first
	dead     bool
	syncs    int
	cutAt    int // power goes before this sync; 0 for never
	events   []Event
	badReads [][2]int64
	plan
}

// plan is the faults to come. Syncs are counted as [Medium.Syncs] does; 0 is none.
type plan struct {
	failNext       error // of the next write
	failSync       error // of the sync failAt
	failAt         int
	lieFrom, lieTo int // syncs that do nothing
}

// write is one that has not been synced.
type write struct {
	off  int64
	n    int
	data []byte // what was written, once something has been written over it; never changes
}

func (w *write) end() int64 { return w.off + int64(w.n) }

// New returns a medium of size bytes of zeroes, all of them persistent.
func New(size int64, opts Options) *Medium {
	opts = opts.withDefaults()
	return &Medium{opts: opts, now: newImage(size), safe: newImage(size)}
}

// Of returns a medium with the given bytes, all of them persistent.
func Of(data []byte, opts Options) *Medium {
	m := New(int64(len(data)), opts)
	m.safe.write(data, 0)
	m.now = m.safe.fork()
	return m
}

// ReadAt implements [pmemlog.Medium].
func (m *Medium) ReadAt(p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(off, len(p)); err != nil {
		return err
	}
	for _, bad := range m.badReads {
		if off < bad[1] && bad[0] < off+int64(len(p)) {
			return fmt.Errorf("%w: bytes %d to %d can't be read", ErrInjected, bad[0], bad[1])
		}
	}
	m.now.read(p, off)
	return nil
}

// WriteAt implements [pmemlog.Medium].
func (m *Medium) WriteAt(p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.check(off, len(p)); err != nil {
		return err
	}
	if err := m.failNext; err != nil {
		m.failNext = nil
		return err
	}
	if len(p) == 0 {
		return nil
	}
	m.keep(off, off+int64(len(p)))
	m.now.write(p, off)
	m.writes = append(m.writes, write{off: off, n: len(p)})
	m.log(Event{Op: OpWrite, Off: off, Len: len(p)})
	return nil
}

// Sync implements [pmemlog.Medium].
func (m *Medium) Sync() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return ErrPowerless
	}
	if m.failAt > 0 && m.syncs+1 >= m.failAt {
		m.failAt = 0
		return m.failSync
	}
	if m.cutAt > 0 && m.syncs+1 >= m.cutAt {
		m.dead = true
		return ErrPowerless
	}
	if lie := m.lieFrom > 0 && m.lieFrom <= m.syncs+1 && m.syncs+1 <= m.lieTo; !lie {
		for _, w := range m.writes {
			m.safe.take(&m.now, w.off, w.end())
		}
	}
	clear(m.writes)
	m.writes = m.writes[:0]
	m.syncs++
	m.log(Event{Op: OpSync})
	return nil
}

// Size implements [pmemlog.Medium].
func (m *Medium) Size() int64 { return m.safe.size }

// Kind implements [pmemlog.Medium].
func (m *Medium) Kind() pmemlog.Kind { return m.opts.Kind }

// Close implements [pmemlog.Medium]; the medium can be used on.
func (m *Medium) Close() error { return nil }

// keep saves what was written, before [from, to) is written over.
func (m *Medium) keep(from, to int64) {
	for i := range m.writes {
		if w := &m.writes[i]; w.data == nil && w.off < to && from < w.end() {
			w.data = m.written(w)
		}
	}
}

// written returns what was written.
func (m *Medium) written(w *write) []byte {
	if w.data != nil {
		return w.data
	}
	b := make([]byte, w.n)
	m.now.read(b, w.off)
	return b
}

func (m *Medium) log(e Event) {
	if m.opts.Log {
		m.events = append(m.events, e)
	}
}

func (m *Medium) check(off int64, n int) error {
	if m.dead {
		return ErrPowerless
	}
	if size := m.now.size; off < 0 || int64(n) > size || off > size-int64(n) {
		return fmt.Errorf("pmemtest: bytes %d to %d of %d: %w", off, off+int64(n), size, io.ErrUnexpectedEOF)
	}
	return nil
}
