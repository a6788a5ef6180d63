package replog

import (
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
	"github.com/gravenio/graven/replog/core"
)

// Trim says that no record below lsn is needed any more. lsn must be a record
// boundary, at most the commit LSN; one at or below the present trim LSN changes
// nothing. The space is free to the caller at once; each replica's bytes are
// overwritten only when it has persisted the trim.
func (w *Writer) Trim(lsn uint64) error {
	w.mu.Lock()
	defer w.unlock()
	if lsn <= w.core.TrimPoint().LSN {
		return w.errLocked()
	}
	at, err := w.trimPoint(lsn)
	if err != nil {
		return err
	}
	err = w.core.Trim(at)
	w.dispatch()
	w.signalChanged()
	if err != nil {
		return w.orClosed(err)
	}
	return nil
}

// trimPoint finds the record that ends at lsn in the mirror.
func (w *Writer) trimPoint(lsn uint64) (format.TrimPoint, error) {
	at := w.core.TrimPoint()
	for at.LSN < lsn && at.LSN < w.core.Commit() {
		h, err := format.DecodeHeader(w.mirror.At(at.LSN, format.HeaderSize))
		if err != nil {
			return at, fmt.Errorf("trim to LSN %d: the mirror at LSN %d: %w", lsn, at.LSN, err)
		}
		at = format.TrimPoint{LSN: h.End(), Epoch: h.Epoch, CRC: h.CRC}
	}
	if at.LSN != lsn {
		return at, fmt.Errorf("trim to LSN %d: %w", lsn, core.ErrTrim)
	}
	return at, nil
}
