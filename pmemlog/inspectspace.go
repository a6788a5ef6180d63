package pmemlog

import (
	"context"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// maxForgotten is how many forgotten regions are told one by one.
const maxForgotten = 64

// sparse is a Readable that knows where its holes are.
type sparse interface {
	// NextData returns where, from off on, there is something else than a hole.
	NextData(off int64) int64
}

// Forgotten looks through the space that no entry of the directory names for
// headers of replicas, and hands each to found. A removed replica leaves its
// header behind, and so does a creation that a crash cut short, so there is
// nothing wrong with them; where an entry is lost they tell whose it was. All
// free space is read but for the holes of a sparse file; the error is that of
// ctx or of a read.
func (i *Inspection) Forgotten(ctx context.Context, found func(Finding)) error {
	if !i.Known || i.dir.entries == nil {
		return nil
	}
	start, end := i.super.regions()
	s := &forgotten{i: i, m: interruptible{i.m, ctx}, found: found, buf: make([]byte, min(readAhead, max(0, i.m.Size())))}
	for _, gap := range i.dir.free(start, min(end, i.m.Size())) {
		s.last = 0
		if err := s.gap(gap); err != nil {
			return err
		}
	}
	if s.more > 0 {
		found(Finding{Severity: SeverityNote, Part: "free space", Offset: s.last, What: fmt.Sprintf("%d more headers of replicas that no entry names", s.more)})
	}
	return nil
}

// forgotten is one search.
type forgotten struct {
	i     *Inspection
	m     Readable
	found func(Finding)
	buf   []byte
	seen  int
	more  int       // not told one by one
	last  int64     // where the last header stood; 0 for nowhere in this gap
	whose format.ID // that one
}

// gap looks at each page of a gap.
func (s *forgotten) gap(g extent) error {
	end := min(g.end(), s.i.m.Size()&^(pageSize-1)) // the region behind it may lie beyond a truncated medium
	for at := g.offset; at < end; {
		if holes, ok := s.i.m.(sparse); ok {
			at = holes.NextData(at) &^ (pageSize - 1)
		}
		if at >= end {
			return nil
		}
		b := s.buf[:min(int64(len(s.buf)), end-at)]
		if err := s.m.ReadAt(b, at); err != nil {
			return fmt.Errorf("pmemlog: read free space at byte %d: %w", at, err)
		}
		for n := 0; n+format.SlotSize <= len(b); n += pageSize {
			if slot, err := format.DecodeSlot(b[n : n+format.SlotSize]); err == nil {
				s.header(at+int64(n), &slot)
			}
		}
		at += int64(len(b))
	}
	return nil
}

// header tells of a header, unless it is slot B behind slot A.
func (s *forgotten) header(at int64, slot *format.Slot) {
	second := s.last != 0 && at == s.last+format.SlotSize && slot.Replica == s.whose
	s.last, s.whose = at, slot.Replica
	if second {
		return
	}
	if s.seen++; s.seen > maxForgotten {
		s.more++
		return
	}
	f := Finding{Severity: SeverityNote, Part: "free space", Offset: at, Replica: slot.Replica}
	switch {
	case s.i.removed[slot.Replica]:
		f.What = fmt.Sprintf("what is left of replica %s of log %s, which was removed", slot.Replica, slot.Log)
	case s.i.dropped > 0:
		f.What = fmt.Sprintf("a region of replica %s of log %s, which no entry names; it may be what a damaged entry named", slot.Replica, slot.Log)
		f.Advice = "keep the pool until the log's other replicas are known to be good"
	default:
		f.What = fmt.Sprintf("a region of replica %s of log %s, which no entry names: removed long ago, or a crash cut its creation short", slot.Replica, slot.Log)
	}
	s.found(f)
}
