package pmemlog

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/gravenio/graven/pmemlog/format"
)

// dirCopies is a directory as it lies on the medium, while it is looked at.
type dirCopies struct {
	i      *Inspection
	pages  [entryCopies][]byte
	unread [entryCopies]error   // why a copy can't be read
	runs   [entryCopies + 1]run // of entries with the same finding, by copy; the last is for both
}

// run is a stretch of entries of which the same is to be said.
type run struct {
	first, last int
	at          int // in Findings
	is          Finding
}

// directory looks at both copies of each entry, then at the regions.
func (i *Inspection) directory(m Readable) {
	start, size := i.super.regions()
	if i.super.entries == 0 || i.super.entries > MaxReplicas || start > min(size, m.Size()) {
		i.found(SeverityDamage, "directory", directoryOffset, "it ends beyond the end of the medium, so it is not looked at", adviceRemovePool)
		return
	}
	d := &dirCopies{i: i}
	for c := range entryCopies {
		d.read(m, c)
	}
	i.dir.entries = make([]entry, i.super.entries)
	for index := range i.dir.entries {
		d.entry(index)
	}
	i.listRegions(min(size, m.Size()))
	i.Space = i.dir.space(start, size)
	i.overlaps()
}

func (d *dirCopies) read(m Readable, c int) {
	n := directorySize(d.i.super.entries)
	at := entryOffset(0, c, d.i.super.entries)
	d.pages[c] = make([]byte, n)
	if err := m.ReadAt(d.pages[c], at); err != nil {
		clear(d.pages[c])
		d.unread[c] = err
		part := "directory (copy " + copyName(c) + ")"
		d.i.refuse(&CorruptError{Part: part, Offset: at, Err: err})
		d.i.found(SeverityDamage, part, at, "it can't be read: "+err.Error(), adviceMedium)
	}
}

// entry looks at the copies of one entry and takes the one that counts.
func (d *dirCopies) entry(index int) {
	e, _, err := chooseEntry(d.pages, index)
	switch {
	case d.unread[0] != nil && d.unread[1] != nil: // said already
		d.i.dropped++
	case err != nil:
		d.lost(index, err)
	default:
		d.compare(index, e)
		d.take(index, e)
	}
}

// lost says that neither copy of an entry can be used.
func (d *dirCopies) lost(index int, err error) {
	d.i.dropped++
	if errors.Is(err, ErrVersion) {
		what, advice := versionAdvice(err)
		d.i.refuse(err)
		d.found(index, -1, SeverityDamage, what, advice)
		return
	}
	d.i.refuse(&CorruptError{Part: fmt.Sprintf("directory entry %d", index), Offset: entryOffset(index, 0, d.i.super.entries), Err: err})
	_, errA := d.copyOf(index, 0)
	_, errB := d.copyOf(index, 1)
	d.found(index, -1, SeverityDamage, fmt.Sprintf("neither copy can be used, which no crash does (A: %v; B: %v): what it named can't be found, and Open refuses the pool", errA, errB), adviceRemovePool)
}

func (d *dirCopies) raw(index, c int) []byte {
	return d.pages[c][index*entrySize : (index+1)*entrySize]
}

func (d *dirCopies) copyOf(index, c int) (entry, error) {
	if d.unread[c] != nil {
		return entry{}, d.unread[c]
	}
	return decodeEntry(d.raw(index, c), index)
}

// compare says what of an entry the next open writes anew.
func (d *dirCopies) compare(index int, counts entry) {
	var copies [entryCopies]entry
	whole := 0
	for c := range copies {
		var err error
		copies[c], err = d.copyOf(index, c)
		switch {
		case d.unread[c] != nil:
		case err != nil:
			d.found(index, c, SeverityHeals, err.Error(), adviceOtherCopy)
		case copies[c].generation < counts.generation:
			d.found(index, c, SeverityHeals, "it is older than the other copy: a crash came between the two writes", adviceOtherCopy)
		default:
			whole++
			if !bytes.Equal(d.raw(index, c), copies[c].encode(index)) {
				d.found(index, c, SeverityNote, strayBytes, "")
			}
		}
	}
	if whole == entryCopies && copies[0] != copies[1] {
		d.found(index, -1, SeverityDamage, fmt.Sprintf(copiesOfOneNo, counts.generation), adviceRemovePool)
	}
}

// take takes an entry for what it says, unless that can't be.
func (d *dirCopies) take(index int, e entry) {
	if !e.used {
		d.i.dir.entries[index] = e
		if !e.replica.IsZero() {
			d.i.Removed++
			d.i.removed[e.replica] = true
		}
		return
	}
	if err := e.validate(d.i.super.regions()); err != nil {
		d.i.dropped++
		d.i.refuse(&CorruptError{Part: fmt.Sprintf("directory entry %d", index), Offset: entryOffset(index, 0, d.i.super.entries), Err: err})
		d.found(index, -1, SeverityDamage, fmt.Sprintf("replica %s of log %s: %v", e.replica, e.log, err), adviceRemovePool)
		return
	}
	d.i.dir.entries[index] = e
}

// found adds a finding about a copy of an entry, or both (-1). What is to be said
// of one entry behind the other is said once.
func (d *dirCopies) found(index, c int, s Severity, what, advice string) {
	r := &d.runs[(c+len(d.runs))%len(d.runs)]
	is := Finding{Severity: s, What: what, Advice: advice}
	if r.is == is && r.last == index-1 {
		r.last = index
		d.i.Findings[r.at].Part = entryPart(r.first, index, c)
		return
	}
	*r = run{first: index, last: index, at: len(d.i.Findings), is: is}
	d.i.found(s, entryPart(index, index, c), entryOffset(index, max(c, 0), d.i.super.entries), what, advice)
}

func entryPart(first, last, c int) string {
	part := fmt.Sprintf("directory entry %d", first)
	if last > first {
		part = fmt.Sprintf("directory entries %d to %d", first, last)
	}
	if c >= 0 {
		part += " (copy " + copyName(c) + ")"
	}
	return part
}

// listRegions lists what the directory names. end is that of pool and medium.
func (i *Inspection) listRegions(end int64) {
	seen := map[format.ID]int{}
	for index, e := range i.dir.entries {
		if !e.used {
			continue
		}
		at := entryOffset(index, 0, i.super.entries)
		part := entryPart(index, index, -1)
		if first, twice := seen[e.replica]; twice {
			i.refuse(&CorruptError{Part: "directory", Offset: directoryOffset, Err: fmt.Errorf("replica %s is in it twice", e.replica)})
			i.found(SeverityDamage, part, at, fmt.Sprintf("replica %s is in entry %d, too", e.replica, first), adviceRemovePool)
		}
		seen[e.replica] = index
		if i.removed[e.replica] {
			i.found(SeverityNote, part, at, fmt.Sprintf("replica %s is remembered as removed, too", e.replica), "")
		}
		if !i.super.cluster.IsZero() && e.cluster != i.super.cluster {
			i.found(SeverityNote, part, at, fmt.Sprintf("replica %s is of cluster %s, the pool of %s", e.replica, e.cluster, i.super.cluster), "")
		}
		if e.offset > end-e.length {
			i.found(SeverityDamage, part, at, fmt.Sprintf("the region of replica %s of log %s ends at byte %d, the medium at %d: what is behind is lost",
				e.replica, e.log, e.offset+e.length, end), adviceDropReplica)
		}
		i.Regions = append(i.Regions, Region{
			Index: index, Cluster: e.cluster, Log: e.log, Replica: e.replica, Capacity: e.capacity, Offset: e.offset, Bytes: e.length,
		})
	}
	slices.SortFunc(i.Regions, func(a, b Region) int { return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Index, b.Index)) })
}

// overlaps finds regions that claim the same bytes.
func (i *Inspection) overlaps() {
	if err := i.dir.overlap(); err != nil {
		i.refuse(err)
	}
	if len(i.Regions) == 0 {
		return
	}
	far := i.Regions[0] // of those before, the one that ends last
	for _, r := range i.Regions[1:] {
		if far.end() > r.Offset {
			i.found(SeverityDamage, "directory", directoryOffset, fmt.Sprintf("the regions of replica %s [%d, %d) and replica %s [%d, %d) overlap",
				far.Replica, far.Offset, far.end(), r.Replica, r.Offset, r.end()), adviceRemovePool)
		}
		if r.end() > far.end() {
			far = r
		}
	}
}
