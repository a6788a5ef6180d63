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
// written.
type Medium struct {
	opts Options

	mu       sync.Mutex
	now      []byte           // what readers see
	safe     []byte           // what is persistent
	dirty    map[int][][]byte // unit number: its versions since the last sync, oldest first
	order    []int            // keys of dirty in the order of their first write
	dead     bool
	syncs    int
	cutAt    int // power goes before this sync; 0 for never
	events   []Event
	failSync error
	failNext error
	badReads [][2]int64
}

// New returns a medium of size bytes of zeroes, all of them persistent.
func New(size int64, opts Options) *Medium {
	opts = opts.withDefaults()
	return &Medium{opts: opts, now: make([]byte, size), safe: make([]byte, size), dirty: map[int][][]byte{}}
}

// Of returns a medium with the given bytes, all of them persistent.
func Of(data []byte, opts Options) *Medium {
	m := New(int64(len(data)), opts)
	copy(m.now, data)
	copy(m.safe, data)
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
	copy(p, m.now[off:])
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
	copy(m.now[off:], p)
	for u := int(off) / m.opts.Unit; u*m.opts.Unit < int(off)+len(p); u++ {
		if m.dirty[u] == nil {
			m.order = append(m.order, u)
		}
		m.dirty[u] = append(m.dirty[u], append([]byte(nil), m.unit(m.now, u)...))
	}
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
	if err := m.failSync; err != nil {
		m.failSync = nil
		return err
	}
	if m.cutAt > 0 && m.syncs+1 >= m.cutAt {
		m.dead = true
		return ErrPowerless
	}
	for _, u := range m.order {
		copy(m.unit(m.safe, u), m.unit(m.now, u))
	}
	m.clean()
	m.syncs++
	m.log(Event{Op: OpSync})
	return nil
}

// Size implements [pmemlog.Medium].
func (m *Medium) Size() int64 { return int64(len(m.safe)) }

// Kind implements [pmemlog.Medium].
func (m *Medium) Kind() pmemlog.Kind { return m.opts.Kind }

// Close implements [pmemlog.Medium]; the medium can be used on.
func (m *Medium) Close() error { return nil }

func (m *Medium) clean() {
	clear(m.dirty)
	m.order = m.order[:0]
}

func (m *Medium) unit(b []byte, u int) []byte {
	return b[u*m.opts.Unit : min((u+1)*m.opts.Unit, len(b))]
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
	if off < 0 || n > len(m.now) || off > int64(len(m.now)-n) {
		return fmt.Errorf("pmemtest: bytes %d to %d of %d: %w", off, off+int64(n), len(m.now), io.ErrUnexpectedEOF)
	}
	return nil
}
