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
	OpStore // through the cache, of a medium of KindPmem like those below
	OpStream
	OpFlush
	OpFence
)

// String names the kind.
func (o Op) String() string {
	switch o {
	case OpWrite:
		return "write"
	case OpSync:
		return "sync"
	case OpStore:
		return "store"
	case OpStream:
		return "stream"
	case OpFlush:
		return "flush"
	case OpFence:
		return "fence"
	default:
		return fmt.Sprintf("op %d", int(o))
	}
}

// Event is something that a medium was asked to do, and did.
type Event struct {
	Op  Op
	Off int64 // in bytes; 0 for syncs and fences
	Len int   // in bytes; 0 for syncs and fences
}

// Options say what a medium is like.
type Options struct {
	Kind pmemlog.Kind // KindFile if zero
	Unit int          // Line or Sector; Line if zero, and for KindPmem
	Log  bool         // keep the events for [Medium.Events]
}

func (o Options) withDefaults() Options {
	if o.Kind == 0 {
		o.Kind = pmemlog.KindFile
	}
	if o.Unit == 0 || o.Kind == pmemlog.KindPmem {
		o.Unit = Line
	}
	return o
}

// Medium is a [pmemlog.Medium] in memory that forgets what was not synced when
// it crashes. One of KindPmem is the product's own medium on a simulated cache,
// whose fences count as syncs. Unsynced bytes take as much memory again for each
// time they are written over; what a medium and its clones have in common is
// there once.
type Medium struct {
	opts Options
	pmem *pmemlog.PMem // of KindPmem: what turns writes into stores, flushes and fences

	mu       sync.Mutex
	now      image   // what readers see: safe, with writes done to it
	safe     image   // what is persistent
	writes   []write // that may be lost, oldest first
	dead     bool
	syncs    int
	cutAt    int // power goes before this sync; 0 for never
	ops      int // events, with those that failed
	cutOp    int // power goes before this event; 0 for never
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
	sent bool   // the next sync or fence makes it persistent
	data []byte // what was written, once something has been written over it; never changes
}

func (w *write) end() int64 { return w.off + int64(w.n) }

// New returns a medium of size bytes of zeroes, all of them persistent.
func New(size int64, opts Options) *Medium {
	return newMedium(opts.withDefaults(), newImage(size), newImage(size))
}

func newMedium(opts Options, now, safe image) *Medium {
	m := &Medium{opts: opts, now: now, safe: safe}
	if opts.Kind == pmemlog.KindPmem {
		m.pmem = pmemlog.NewPMem(memory{m})
	}
	return m
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
	if m.pmem != nil {
		return m.pmem.ReadAt(p, off)
	}
	return m.load(p, off)
}

func (m *Medium) load(p []byte, off int64) error {
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
	if m.pmem != nil {
		return m.pmem.WriteAt(p, off)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.mayWrite(p, off); err != nil || len(p) == 0 {
		return err
	}
	m.keep(off, off+int64(len(p)))
	m.now.write(p, off)
	m.writes = append(m.writes, write{off: off, n: len(p), sent: true})
	m.log(Event{Op: OpWrite, Off: off, Len: len(p)})
	return nil
}

// mayWrite returns why a write fails. mu is held.
func (m *Medium) mayWrite(p []byte, off int64) error {
	if err := m.check(off, len(p)); err != nil {
		return err
	}
	if err := m.count(); err != nil {
		return err
	}
	err := m.failNext
	m.failNext = nil
	return err
}

// count counts an event that is about to happen, or takes the power away before
// it. mu is held.
func (m *Medium) count() error {
	if m.dead {
		return ErrPowerless
	}
	m.ops++
	if m.cutOp > 0 && m.ops >= m.cutOp {
		m.dead = true
		return ErrPowerless
	}
	return nil
}

// Sync implements [pmemlog.Medium].
func (m *Medium) Sync() error {
	if m.pmem != nil {
		return m.pmem.Sync()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commit(OpSync)
}

// commit makes persistent what has been sent. mu is held.
func (m *Medium) commit(op Op) error {
	if err := m.count(); err != nil {
		return err
	}
	if m.failAt > 0 && m.syncs+1 >= m.failAt {
		m.failAt = 0
		return m.failSync
	}
	if m.cutAt > 0 && m.syncs+1 >= m.cutAt {
		m.dead = true
		return ErrPowerless
	}
	m.arrive(m.lieFrom > 0 && m.lieFrom <= m.syncs+1 && m.syncs+1 <= m.lieTo)
	m.syncs++
	m.log(Event{Op: op})
	return nil
}

// arrive makes persistent what has been sent, or loses it; what still lies in a
// cache stays there. mu is held.
func (m *Medium) arrive(lose bool) {
	staying := m.writes[:0]
	for i := range m.writes {
		w := m.writes[i]
		switch {
		case !w.sent:
			staying = append(staying, w)
		case lose:
		case w.data != nil: // written over since, by what may not be persistent
			m.safe.write(w.data, w.off)
		default:
			m.safe.take(&m.now, w.off, w.end())
		}
	}
	clear(m.writes[len(staying):])
	m.writes = staying
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
