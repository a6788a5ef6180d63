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

// Forgotten is a region that no entry of the directory names, or (with no Replica)
// something else to be said of the free space.
type Forgotten struct {
	Region
	Finding Finding
}

// Forgotten looks through the space that no entry of the directory names for
// headers of replicas, and hands the first 64 to found. A removed replica leaves
// its header behind, and so does a creation that a crash cut short, so there is
// nothing wrong with them; where an entry is lost they tell whose it was. All free
// space is read but for the holes of a sparse file; the error is that of ctx.
func (i *Inspection) Forgotten(ctx context.Context, found func(Forgotten)) error {
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
		s.say(SeverityNote, start, fmt.Sprintf("%d more headers of replicas that no entry names", s.more), "")
	}
	if s.unread > 0 {
		s.say(SeverityDamage, s.first, fmt.Sprintf("%d stretches of it can't be read, here the first: %v", s.unread, s.err), adviceMedium)
	}
	return nil
}

// forgotten is one search.
type forgotten struct {
	i     *Inspection
	m     interruptible
	found func(Forgotten)
	buf   []byte
	seen  int
	more  int       // not told one by one
	last  int64     // where the last header stood; 0 for nowhere in this gap
	whose format.ID // that one

	unread int   // reads that failed
	first  int64 // where
	err    error // of the first
}

func (s *forgotten) say(sev Severity, at int64, what, advice string) {
	s.found(Forgotten{Finding: Finding{Severity: sev, Part: "free space", Offset: at, What: what, Advice: advice}})
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
			if s.m.ctx.Err() != nil {
				return err
			}
			if s.unread == 0 {
				s.first, s.err = at, err
			}
			s.unread++
			clear(b)
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
	s.found(Forgotten{Finding: f, Region: Region{
		Index: -1, Cluster: slot.Cluster, Log: slot.Log, Replica: slot.Replica, Capacity: slot.Capacity, Offset: at, Bytes: regionBytes(slot.Capacity),
	}})
}

// regionBytes is regionSize for a capacity that need not be true.
func regionBytes(capacity uint64) int64 { return regionSize(min(capacity, maxRing)) }
