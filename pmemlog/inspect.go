package pmemlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/gravenio/graven/pmemlog/format"
)

// Inspection is what an examination of a pool has found in its superblocks and
// its directory. It only reads: nothing is healed, nothing made persistent. Whatever
// the bytes say, it does not panic, and its memory does not grow with the pool.
// The medium must not change meanwhile. Its methods may be called from several
// goroutines.
type Inspection struct {
	Identity Identity
	Known    bool      // one superblock at least can be used; else all but Findings and Refused is zero
	Entries  int       // of the directory
	Removed  int       // replicas that it remembers as removed
	Space    Space     // room that its regions leave
	Regions  []Region  // that it names, in the order of their offsets; MaxReplicas at most
	Findings []Finding // about superblocks and directory
	Refused  error     // why Open would refuse the pool; nil if it would not

	m       Readable
	super   superblock
	dir     directory // what counts; entries that can't be used are taken for unused
	dropped int       // entries of which no copy tells anything
	removed map[format.ID]bool
}

// Region is a replica's place in a pool, as the directory has it.
type Region struct {
	Index    int // of the directory entry; -1 for what no entry names
	Cluster  format.ID
	Log      format.ID
	Replica  format.ID
	Capacity uint64 // of the ring, in bytes
	Offset   int64  // in bytes from the start of the pool
	Bytes    int64  // that it takes
}

func (r *Region) end() int64 { return r.Offset + r.Bytes }

// entry returns the entry that names the region.
func (r *Region) entry() entry {
	return entry{
		used: true, cluster: r.Cluster, log: r.Log, replica: r.Replica,
		offset: r.Offset, length: r.Bytes, capacity: r.Capacity,
	}
}

// Inspect looks at superblocks and directory. What is wrong with them is in the
// findings; the error is ErrNoPool or ErrVersion, where there is nothing to look
// at, or that of ctx.
func Inspect(ctx context.Context, m Readable) (*Inspection, error) {
	i := &Inspection{m: m, removed: map[format.ID]bool{}}
	err := i.superblocks(interruptible{m, ctx})
	if err == nil && i.Known {
		i.directory(interruptible{m, ctx})
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return i, nil
}

// found adds a finding about the pool's own structures.
func (i *Inspection) found(s Severity, part string, offset int64, what, advice string) {
	i.Findings = append(i.Findings, Finding{Severity: s, Part: part, Offset: offset, What: what, Advice: advice})
}

// refuse keeps the first reason for which Open would refuse the pool.
func (i *Inspection) refuse(err error) {
	if i.Refused == nil {
		i.Refused = err
	}
}

// superblockCopy is one of the two, as it was found.
type superblockCopy struct {
	raw   []byte
	super superblock
	err   error
}

func (i *Inspection) superblocks(m Readable) error {
	if err := tooSmall(m); err != nil {
		return err
	}
	var copies [superblocks]superblockCopy
	for c := range copies {
		copies[c].raw = make([]byte, min(superblockSize, m.Size()))
		if copies[c].err = m.ReadAt(copies[c].raw, int64(c)*superblockSize); copies[c].err == nil {
			copies[c].super, copies[c].err = decodeSuperblock(copies[c].raw)
		}
		if errors.Is(copies[c].err, ErrVersion) {
			return copies[c].err
		}
	}
	a, b := &copies[0], &copies[1]
	if a.err != nil && b.err != nil {
		err := noSuperblock([superblocks]error{a.err, b.err})
		if errors.Is(err, ErrNoPool) {
			return err
		}
		i.refuse(err)
		i.found(SeverityDamage, "superblock", 0, fmt.Sprintf("neither copy can be used (A: %v; B: %v)", a.err, b.err),
			"nothing in it can be found without them: remove the pool and let its replicas be made anew elsewhere")
		return nil
	}
	i.take(&copies)
	i.compareSuperblocks(&copies)
	i.checkSuperblock(m)
	return nil
}

// tooSmall tells a small file of somebody else's from a pool that was cut off.
func tooSmall(m Readable) error {
	if m.Size() >= directoryOffset {
		return nil
	}
	head := make([]byte, min(8, m.Size()))
	if err := m.ReadAt(head, 0); err != nil {
		return err
	}
	if magic := (&superblock{}).encode()[:8]; !bytes.Equal(head, magic) {
		return fmt.Errorf("%w: %d bytes are too few for a pool, and they don't begin as one", ErrNoPool, m.Size())
	}
	return nil
}

// take takes the superblock that counts, one at least is good.
func (i *Inspection) take(copies *[superblocks]superblockCopy) {
	at := 0
	if copies[0].err != nil || copies[1].err == nil && copies[1].super.generation > copies[0].super.generation {
		at = 1
	}
	i.super, i.Known = copies[at].super, true
	i.Identity, i.Entries = i.super.identity(), int(i.super.entries)
}

func (i *Inspection) compareSuperblocks(copies *[superblocks]superblockCopy) {
	a, b := &copies[0], &copies[1]
	for c := range copies {
		part, at := "superblock "+copyName(c), int64(c)*superblockSize
		switch s := &copies[c]; {
		case s.err != nil:
			i.found(SeverityHeals, part, at, s.err.Error(), adviceSuperblock)
		case s.super.generation < i.super.generation:
			i.found(SeverityHeals, part, at, fmt.Sprintf("it is of generation %d, the other copy of %d: a crash came between the two writes",
				s.super.generation, i.super.generation), adviceSuperblock)
		case !bytes.Equal(s.raw, s.super.encode()):
			i.found(SeverityNote, part, at, strayBytes, "")
		}
	}
	if a.err == nil && b.err == nil && a.super.generation == b.super.generation && a.super != b.super {
		i.found(SeverityDamage, "superblock", 0, fmt.Sprintf(copiesOfOneNo, a.super.generation), adviceRemovePool)
	}
}

// checkSuperblock compares what the superblock claims with the medium.
func (i *Inspection) checkSuperblock(m Readable) {
	kind := i.super.kind
	if known, ok := i.m.(interface{ Kind() Kind }); ok {
		kind = known.Kind()
	}
	err := i.super.validate(kind, m.Size())
	if err == nil {
		return
	}
	i.refuse(err)
	switch {
	case errors.Is(err, ErrWrongMedium):
		i.found(SeverityDamage, "superblock", 0, err.Error(), "put the pool where it was made")
	case i.super.size > uint64(m.Size()):
		i.found(SeverityDamage, "superblock", 0, fmt.Sprintf("the pool has %d bytes, the medium only %d: it has been truncated, and what lay behind is lost",
			i.super.size, m.Size()), adviceRemovePool)
	default:
		i.found(SeverityDamage, "superblock", 0, fmt.Sprintf("a directory of %d entries in a pool of %d bytes", i.super.entries, i.super.size), adviceRemovePool)
	}
}
