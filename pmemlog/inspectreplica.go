package pmemlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gravenio/graven/pmemlog/format"
)

// ReplicaView is a replica as it lies on the medium, whether it can be used or
// not.
type ReplicaView struct {
	Region
	Slots    [2]SlotView
	Lines    [2]LineView
	Slot     format.Slot     // the header that counts; zero unless Readable
	SlotAt   int             // where it stands: 0 or 1
	Hint     format.Position // the newest one that counts
	Readable bool            // there is a header by which the ring can be read
	Scanned  bool            // Scan is there
	Scan     format.ScanResult
	Err      error // why the replica can't be used as it is; nil for one that is suspect
	Findings []Finding
}

// SlotView is what stands at a header slot's place.
type SlotView struct {
	Slot  format.Slot // zero unless Err is nil
	Blank bool        // nothing was ever written there
	Err   error       // why it does not count
}

// LineView is what stands at a hint line's place.
type LineView struct {
	Line   format.HintLine
	Blank  bool  // nothing was ever written there
	Counts bool  // it is the newest one of the header that counts
	Err    error // why it can't be read
}

// Suspect says whether the replica is known to have lost something.
func (v *ReplicaView) Suspect() bool { return v.Scanned && v.Scan.Suspect() }

// Damaged says whether one finding at least is damage. A suspect has one.
func (v *ReplicaView) Damaged() bool {
	for _, f := range v.Findings {
		if f.Severity == SeverityDamage {
			return true
		}
	}
	return false
}

// Visit is what [Inspection.Replica] calls while it reads a ring; each may be nil.
type Visit struct {
	// Record sees each valid record, in order, with its payload, which it may keep
	// only until it returns. Its error ends the examination.
	Record func(h format.Header, payload []byte) error
	// Beyond sees the header of each record behind the tail that testifies to what
	// was there once.
	Beyond func(h format.Header)
}

func (v *ReplicaView) found(s Severity, part string, offset int64, what, advice string) {
	v.Findings = append(v.Findings, Finding{Severity: s, Part: part, Offset: offset, Replica: v.Replica, What: what, Advice: advice})
}

// damaged adds a finding for which the replica can't be used.
func (v *ReplicaView) damaged(part string, offset int64, err error, what, advice string) {
	if v.Err == nil {
		v.Err = err
	}
	v.found(SeverityDamage, part, offset, what, advice)
}

// Header looks at a replica's header slots and hint lines only.
func (i *Inspection) Header(r Region) ReplicaView {
	v, _ := i.header(i.m, r)
	return v
}

// Replica looks at a replica's header and reads all of its ring once. The error
// is that of ctx or of visit; what is wrong with the replica is in the view.
func (i *Inspection) Replica(ctx context.Context, r Region, visit Visit) (ReplicaView, error) {
	m := interruptible{i.m, ctx}
	v, rep := i.header(m, r)
	if !v.Readable {
		return v, context.Cause(ctx)
	}
	var stopped error
	src := newObserved(m, r)
	in := format.ScanInput{Trim: v.Slot.Trim, Seals: v.Slot.Seals, Hint: rep.hint, OnBeyond: visit.Beyond}
	var err error
	v.Scan, err = format.Scan(src, in, func(h format.Header, payload []byte) error {
		if visit.Record != nil {
			stopped = visit.Record(h, payload)
		}
		return stopped
	})
	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}
	if stopped != nil {
		return v, stopped
	}
	v.ring(src, err)
	return v, nil
}

// header reads the header and takes what counts as a replica would.
func (i *Inspection) header(m Readable, r Region) (ReplicaView, *Replica) {
	v := ReplicaView{Region: r}
	rep := &Replica{entry: r.entry()}
	if r.Index < 0 {
		v.found(SeverityDamage, "directory", directoryOffset, "no entry names this region: what it holds may be old, and partly written over", "")
	}
	if r.Capacity < MinCapacity || r.Capacity > maxRing || r.Capacity%format.Align != 0 {
		err := fmt.Errorf("a ring of %d bytes, which no replica has", r.Capacity)
		v.damaged("ring", r.Offset, rep.corrupt(err), err.Error(), adviceDropReplica)
		return v, rep
	}
	head := make([]byte, format.RingOffset)
	if err := m.ReadAt(head, r.Offset); err != nil {
		v.damaged("header", r.Offset, rep.corrupt(err), "it can't be read: "+err.Error(), adviceMedium)
		return v, rep
	}
	err := rep.loadSlot(head)
	v.Readable = err == nil
	if v.Readable {
		err = rep.loadHint(head[format.HintOffset:])
		v.Slot, v.SlotAt, v.Hint = rep.slot, rep.slotAt, rep.hint
	}
	v.slots(head)
	v.lines(head[format.HintOffset:])
	if err != nil {
		v.unusable(rep, err)
		return v, rep
	}
	v.compareSlots()
	return v, rep
}

// unusable says why the replica can't be used, once.
func (v *ReplicaView) unusable(rep *Replica, err error) {
	what, advice := err.Error(), adviceDropReplica
	if errors.Is(err, ErrVersion) {
		what, advice = versionAdvice(err)
	}
	switch {
	case v.Readable && !errors.Is(err, ErrVersion): // what loadHint says of a hint line
		what = fmt.Sprintf("a hint line belongs to a newer header than generation %d, which is the newest that is whole: the one behind it is damaged, and with it what the replica has promised", v.Slot.Generation)
	case v.Slots[0].Err != nil && v.Slots[1].Err != nil && !errors.Is(err, ErrVersion):
		what = fmt.Sprintf("neither slot can be used (A: %v; B: %v)", v.Slots[0].Err, v.Slots[1].Err)
	}
	v.damaged("header", v.Offset, rep.corrupt(err), what, advice)
}

func (v *ReplicaView) slots(head []byte) {
	for c := range v.Slots {
		raw := head[c*format.SlotSize : (c+1)*format.SlotSize]
		s := &v.Slots[c]
		s.Slot, s.Err = format.DecodeSlot(raw)
		s.Blank = blank(raw)
		if s.Err == nil && !sameSlot(raw, &s.Slot) {
			v.found(SeverityNote, "header slot "+copyName(c), v.slotOffset(c), strayBytes, "")
		}
	}
}

func sameSlot(raw []byte, s *format.Slot) bool {
	again := make([]byte, format.SlotSize)
	format.EncodeSlot(again, s)
	return bytes.Equal(raw, again)
}

func (v *ReplicaView) slotOffset(c int) int64 { return v.Offset + int64(c)*format.SlotSize }

// compareSlots looks at the slot that does not count. It was written before the
// other one, by the header write before the last.
func (v *ReplicaView) compareSlots() {
	c := 1 - v.SlotAt
	s, part, at := &v.Slots[c], "header slot "+copyName(c), v.slotOffset(c)
	first := v.Slot.Generation <= 1
	switch {
	case s.Blank && first:
	case s.Err != nil:
		v.found(SeverityHeals, part, at, fmt.Sprintf("%v: a crash tore a write that nobody was told of, or it is damaged. Which can't be told, unless what the replica has promised since is noticed elsewhere", s.Err), adviceFence)
	case s.Slot.Generation == v.Slot.Generation:
		v.found(SeverityDamage, "header", v.Offset, fmt.Sprintf("both slots are whole and of generation %d, which no crash does; slot A counts", v.Slot.Generation), adviceDropReplica)
	case s.Slot.Generation != v.Slot.Generation-1:
		v.found(SeverityNote, part, at, fmt.Sprintf("it is of generation %d, the one that counts of %d: one between the two was lost", s.Slot.Generation, v.Slot.Generation), "")
	}
}

func (v *ReplicaView) lines(page []byte) {
	for c := range v.Lines {
		raw := page[c*format.HintStride:][:format.HintSize]
		l := &v.Lines[c]
		l.Line, l.Err = format.DecodeHint(raw)
		l.Blank = blank(raw)
		part, at := fmt.Sprintf("hint line %s", copyName(c)), v.Offset+format.HintOffset+int64(c)*format.HintStride
		switch {
		case l.Blank || errors.Is(l.Err, format.ErrVersion): // the latter counts or is void, which loadHint says
		case l.Err != nil:
			v.found(SeverityHeals, part, at, "torn by a crash, or damaged: the hint that it held is known no more",
				"verify the log, which compares the replica with the others; the next hint is written over it")
		case !sameLine(raw, l.Line):
			v.found(SeverityNote, part, at, strayBytes, "")
		}
	}
	a, b := &v.Lines[0], &v.Lines[1]
	a.Counts, b.Counts = v.belongs(a), v.belongs(b)
	if a.Counts && b.Counts {
		a.Counts = a.Line.Sequence > b.Line.Sequence
		b.Counts = !a.Counts
	}
}

// belongs says whether a hint line belongs to the header that counts. Older ones
// are void.
func (v *ReplicaView) belongs(l *LineView) bool {
	return l.Err == nil && v.Readable && l.Line.Generation == v.Slot.Generation
}

func sameLine(raw []byte, l format.HintLine) bool {
	var again [format.HintSize]byte
	format.EncodeHint(again[:], l)
	return bytes.Equal(raw, again[:])
}

// ring says what the scan of the ring means.
func (v *ReplicaView) ring(src *observed, err error) {
	tail := v.Scan.Chain.LSN
	at := v.Offset + format.RingOffset + int64(tail%v.Capacity)
	if err != nil {
		what, advice := versionAdvice(err)
		if errors.Is(err, format.ErrVersion) {
			err = fmt.Errorf("%w: replica %s: %w", ErrVersion, v.Replica, err)
		}
		v.damaged("ring", at, err, what, advice)
		return
	}
	v.Scanned = true
	if src.failed > 0 {
		v.found(SeverityDamage, "ring", v.Offset+format.RingOffset+src.at, fmt.Sprintf("%d stretches of it can't be read, here the first: %v", src.failed, src.err), adviceMedium)
	}
	switch {
	case v.Scan.Suspect():
		v.found(SeverityDamage, "ring", at, v.lost(), adviceOpenLog)
	case v.Scan.Beyond > 0:
		v.found(SeverityNote, "ring", at, fmt.Sprintf("behind the tail at LSN %d stand %d whole records, none of which says that anything there was committed: what a power cut leaves of writes that were under way (%v)",
			tail, v.Scan.Beyond, v.Scan.Stop), "")
	case errors.Is(v.Scan.Stop, format.ErrCRC):
		v.found(SeverityNote, "ring", at, fmt.Sprintf("a record is torn at the tail, LSN %d, as by a power cut during its write; nothing says that it was committed", tail), "")
	}
}

// lost says of a suspect how far it must have gone once.
func (v *ReplicaView) lost() string {
	s := &v.Scan
	text := fmt.Sprintf("suspect: the records end at LSN %d of epoch %d (%v), but LSN %d of epoch %d was acknowledged",
		s.Last.LSN, s.Last.Epoch, s.Stop, s.Evidence.LSN, s.Evidence.Epoch)
	if s.Evidence.LSN > s.Last.LSN {
		text += fmt.Sprintf(": LSNs %d to %d are missing", s.Last.LSN, s.Evidence.LSN)
	}
	if s.Beyond > 0 {
		text += fmt.Sprintf("; %d whole records stand behind the gap", s.Beyond)
	}
	return text
}

// maxRing is the largest ring that is looked through, in bytes. Without a limit
// a bad entry in a truncated pool could make that last for ever.
const maxRing = 1 << 42

// observed is a ring that remembers what of it could not be read.
type observed struct {
	window
	end    int64 // ring offset where the medium ends
	beyond error // what is read behind that
	failed int   // views
	err    error // of the first
	at     int64 // ring offset of the first
}

func newObserved(m Readable, r Region) *observed {
	start := r.Offset + format.RingOffset
	return &observed{
		window: window{read: m.ReadAt, ahead: readAhead, start: start, capacity: r.Capacity},
		end:    m.Size() - start,
		beyond: fmt.Errorf("the medium ends at byte %d: %w", m.Size(), io.ErrUnexpectedEOF),
	}
}

// View implements [format.Source].
func (o *observed) View(off int64, n int) (b []byte, err error) {
	if off >= o.end {
		err = o.beyond
	} else {
		b, err = o.window.View(off, n)
	}
	if err != nil {
		if o.failed == 0 {
			o.err, o.at = err, off
		}
		o.failed++
	}
	return b, err
}
