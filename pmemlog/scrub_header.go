package pmemlog

import (
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// headerReads is how often a header that changes while it is read is read
// again. One that changes all the time is written all the time.
const headerReads = 8

// marks is which header slot and hint line count.
type marks struct {
	generation uint64
	slotAt     int
	lineSeq    uint64
	lineAt     int             // of the newest line
	hint       format.Position // that the newest line must hold, if
	lined      bool            // it counts
}

func (r *Replica) marks() (marks, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return marks{
		generation: r.slot.Generation, slotAt: r.slotAt, lineSeq: r.lineSeq, lineAt: 1 - r.lineAt,
		hint: r.hint, lined: r.hint.After(r.slot.Hint),
	}, r.gone
}

// header checks that the medium has the header slot and the hint line that
// count. What counts is not written over before something newer counts, so what
// was read while nothing changed was at rest. The other slot and line count for
// nothing: a crash may have torn them; only that they can be read is checked.
func (s *scrub) header() error {
	var bad []error
	for range headerReads {
		before, err := s.r.marks()
		if err != nil {
			return err
		}
		if bad, err = s.headerParts(&before, s.read); err != nil {
			return err
		}
		if after, err := s.r.marks(); err != nil || after == before {
			break
		}
		bad = nil
	}
	if len(bad) == 0 {
		return nil
	}
	s.res.Healed, s.res.Header = s.r.healHeader(s)
	_, err := s.r.moment()
	return err
}

// headerParts returns what is wrong with the header on the medium. The error is
// read's, if the medium is not to blame.
func (s *scrub) headerParts(m *marks, read func([]byte, int64) error) ([]error, error) {
	var bad []error
	for i, check := range []func([]byte) error{
		func(p []byte) error { return m.slot(0, p) },
		func(p []byte) error { return m.slot(1, p) },
		m.lines,
	} {
		p := s.take(format.SlotSize)
		err := read(p, s.r.entry.offset+int64(i)*format.SlotSize)
		if err == nil {
			err = check(p)
		} else if !errors.Is(err, ErrUnreadable) {
			return nil, err
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("%s: %w", [...]string{"header slot A", "header slot B", "hint page"}[i], err))
		}
	}
	return bad, nil
}

func (m *marks) slot(at int, p []byte) error {
	if at != m.slotAt {
		return nil
	}
	slot, err := format.DecodeSlot(p)
	if err == nil && slot.Generation != m.generation {
		err = fmt.Errorf("has generation %d, %d was written last", slot.Generation, m.generation)
	}
	return err
}

func (m *marks) lines(p []byte) error {
	if !m.lined {
		return nil
	}
	line, err := format.DecodeHint(p[m.lineAt*format.HintStride:])
	if err == nil && (line.Generation != m.generation || line.Hint != m.hint) {
		err = fmt.Errorf("has hint %s of generation %d, %s of %d was written last", line.Hint, line.Generation, m.hint, m.generation)
	}
	return err
}

// healHeader looks once more while nothing can change, and writes the header
// anew if it is bad: to both places, one after the other, and the hint with it.
// It returns what was bad, and why it still is.
func (r *Replica) healHeader(s *scrub) (healed []error, failed error) {
	r.op.Lock()
	defer r.op.Unlock()
	now, err := r.marks()
	if err != nil {
		return nil, nil //nolint:nilerr // the replica is gone, and its header of no interest
	}
	bad, err := s.headerParts(&now, r.pool.dev.readAt)
	if err != nil || len(bad) == 0 {
		return nil, err
	}
	if err := r.renewHeader(r.nextHeader()); err != nil {
		return nil, errors.Join(append(bad, err)...)
	}
	return bad, nil
}
