package replog

import (
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// Read calls visit with every committed data record from lsn on, in order, up to
// the commit LSN at the time of the call, and returns the LSN behind the last
// one. lsn must be a record boundary; one below the trim LSN is an error. The
// payload is visit's to keep.
func (w *Writer) Read(lsn uint64, visit func(h format.Header, payload []byte) error) (uint64, error) {
	end := w.Commit()
	for lsn < end {
		h, payload, err := w.readOne(lsn)
		if err != nil {
			return lsn, err
		}
		if h.Kind == format.KindData {
			if err := visit(h, payload); err != nil {
				return lsn, err
			}
		}
		lsn = h.End()
	}
	return lsn, nil
}

func (w *Writer) readOne(lsn uint64) (format.Header, []byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if trim := w.core.TrimPoint().LSN; lsn < trim {
		return format.Header{}, nil, fmt.Errorf("read at LSN %d: the log is trimmed to LSN %d", lsn, trim)
	}
	var h format.Header
	err := format.ErrLSN
	if lsn%format.Align == 0 {
		h, err = format.DecodeHeader(w.mirror.At(lsn, format.HeaderSize))
	}
	if err != nil || h.LSN != lsn || h.Size() > w.mirror.ToEnd(lsn) { // a payload may look like a header
		return h, nil, fmt.Errorf("read at LSN %d: no record begins there", lsn)
	}
	rec := w.mirror.At(lsn, int(h.Size()))
	if !h.CheckCRC(rec) {
		return h, nil, fmt.Errorf("read at LSN %d: %w", lsn, format.ErrCRC)
	}
	return h, append([]byte(nil), rec[format.HeaderSize:format.HeaderSize+int(h.Length)]...), nil
}
