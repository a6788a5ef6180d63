package pmemlog

import (
	"errors"

	"github.com/gravenio/graven/pmemlog/format"
)

// readAhead is how much of a ring that is not mapped is read at a time.
const readAhead = 256 << 10

// source returns the ring for a scan. op is held until the scan has ended.
func (r *Replica) source() format.Source {
	start := r.entry.offset + format.RingOffset
	if m, ok := r.pool.dev.medium.(mapped); ok {
		return format.Ring(m.Bytes()[start : start+int64(r.entry.capacity)])
	}
	return &window{read: r.pool.dev.readAt, ahead: readAhead, start: start, capacity: r.entry.capacity}
}

// look has a ring read, where it lies if the medium can show it. A fault there
// has it read anew through a buffer, where damage ends no more than the read of
// one record. op is held until it returns.
func (r *Replica) look(read func(format.Source) error) error {
	if v, ok := r.pool.dev.medium.(viewer); ok {
		start := r.entry.offset + format.RingOffset
		err := v.View(start, int64(r.entry.capacity), func(b []byte) error { return read(format.Ring(b)) })
		var fault *FaultError
		if !errors.Is(err, errNoView) && !errors.As(err, &fault) {
			return err
		}
	}
	return read(r.source())
}

// window is a ring that is read through a buffer.
type window struct {
	read     func(p []byte, off int64) error // off in the pool
	ahead    int64                           // bytes that are read at a time, unless more are asked for
	start    int64                           // of the ring in the pool
	capacity uint64
	buf      []byte // allocated when first needed
	at       int64  // ring offset of held
	held     []byte
	doubt    [2]int64 // where reading ahead has failed: from, to; there no more than asked for is read
}

// Capacity implements [format.Source].
func (w *window) Capacity() uint64 { return w.capacity }

// View implements [format.Source].
func (w *window) View(off int64, n int) ([]byte, error) {
	if from := off - w.at; from >= 0 && from+int64(n) <= int64(len(w.held)) {
		return w.held[from : from+int64(n)], nil
	}
	if ahead := min(int64(w.capacity)-off, max(w.ahead, int64(n))); off < w.doubt[0] || off >= w.doubt[1] {
		if err := w.fill(off, int(ahead)); err == nil {
			return w.held[:n], nil
		}
		w.doubt = [2]int64{off, off + ahead}
	}
	if err := w.fill(off, n); err != nil { // what lies ahead must not hide what can be read
		return nil, err
	}
	return w.held, nil
}

func (w *window) fill(off int64, n int) error {
	if cap(w.buf) < n {
		w.buf = make([]byte, n)
	}
	w.held = nil
	if err := w.read(w.buf[:n], w.start+off); err != nil {
		return err
	}
	w.at, w.held = off, w.buf[:n]
	return nil
}
