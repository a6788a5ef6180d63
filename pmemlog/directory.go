package pmemlog

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/gravenio/graven/pmemlog/crc32c"
	"github.com/gravenio/graven/pmemlog/format"
)

// Limits of a pool's directory.
const (
	// MaxReplicas is the most replicas that a pool's directory can be made for.
	MaxReplicas = 4096
	// DefaultReplicas is how many it is made for unless told otherwise.
	DefaultReplicas = 1024

	entrySize    = 128
	entryMagic   = 0x44565247 // "GRVD"
	entryPayload = 8          // the CRC covers what follows it
	entryCopies  = 2

	entriesPerPage = pageSize / entrySize
)

var (
	errNoEntry    = errors.New("no directory entry here")
	errBothCopies = errors.New("both copies are damaged, which no crash does")
)

// States of an entry.
const (
	entryUnused  = 0
	entryUsed    = 1
	entryRemoved = 2 // holds nothing but the ID of the replica that was there
)

// entry is a place of the directory: a replica's region, or nothing. One whose
// replica was removed keeps its ID until the place is needed: it must not be made
// anew, empty, by a writer that has not heard of the removal.
type entry struct {
	generation uint64 // of an entry's two copies, the one with the higher counts
	used       bool
	cluster    format.ID
	log        format.ID
	replica    format.ID
	offset     int64  // of the region, in bytes
	length     int64  // of the region, in bytes
	capacity   uint64 // of the ring, in bytes
}

func (e *entry) encode(index int) []byte {
	b := make([]byte, entrySize)
	le := binary.LittleEndian
	le.PutUint32(b, entryMagic)
	le.PutUint64(b[8:], e.generation)
	le.PutUint32(b[16:], uint32(index))
	le.PutUint32(b[20:], e.state())
	copy(b[24:], e.cluster[:])
	copy(b[40:], e.log[:])
	copy(b[56:], e.replica[:])
	le.PutUint64(b[72:], uint64(e.offset))
	le.PutUint64(b[80:], uint64(e.length))
	le.PutUint64(b[88:], e.capacity)
	le.PutUint32(b[96:], version)
	le.PutUint32(b[4:], crc32c.Checksum(b[entryPayload:]))
	return b
}

func (e *entry) state() uint32 {
	switch {
	case e.used:
		return entryUsed
	case e.replica.IsZero():
		return entryUnused
	default:
		return entryRemoved
	}
}

// decodeEntry reads the copy of an entry that should stand at index.
func decodeEntry(b []byte, index int) (entry, error) {
	le := binary.LittleEndian
	if len(b) < entrySize || le.Uint32(b) != entryMagic {
		return entry{}, errNoEntry
	}
	if le.Uint32(b[4:]) != crc32c.Checksum(b[entryPayload:entrySize]) {
		return entry{}, format.ErrCRC
	}
	if err := checkVersion("entry", le.Uint32(b[96:])); err != nil {
		return entry{}, err
	}
	if le.Uint32(b[16:]) != uint32(index) {
		return entry{}, fmt.Errorf("%w: it is a copy of entry %d", errNoEntry, le.Uint32(b[16:]))
	}
	e := entry{generation: le.Uint64(b[8:])}
	switch state := le.Uint32(b[20:]); state {
	case entryUnused:
	case entryRemoved:
		e.replica = format.ID(b[56:72])
	case entryUsed:
		e.used = true
		e.cluster, e.log, e.replica = format.ID(b[24:40]), format.ID(b[40:56]), format.ID(b[56:72])
		e.offset, e.length, e.capacity = int64(le.Uint64(b[72:])), int64(le.Uint64(b[80:])), le.Uint64(b[88:])
	default: // to take it for nothing would give its space away
		return entry{}, fmt.Errorf("%w: state of the entry is %d, must be 0 to 2; start the program that made it, or a newer one", ErrVersion, state)
	}
	return e, nil
}

// validate checks an entry's claims against the pool that it is in.
func (e *entry) validate(start, size int64) error {
	if e.offset < start || e.offset%pageSize != 0 || e.length <= 0 || e.length%pageSize != 0 || e.offset > size-e.length {
		return fmt.Errorf("region of %d bytes at byte %d of a pool whose regions lie between %d and %d", e.length, e.offset, start, size)
	}
	if room := e.length - format.RingOffset; room < MinCapacity || e.capacity < MinCapacity || e.capacity%format.Align != 0 || e.capacity > uint64(room) {
		return fmt.Errorf("ring of %d bytes in a region of %d", e.capacity, e.length)
	}
	return nil
}

// directorySize returns the bytes of one copy of a directory.
func directorySize(entries uint32) int64 { return pages(int64(entries) * entrySize) }

// regionsStart returns where the regions of a pool begin.
func regionsStart(entries uint32) int64 {
	return directoryOffset + entryCopies*directorySize(entries)
}

// pages rounds up to whole pages.
func pages(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// directory is the table of regions. The two copies of an entry are written one
// after the other with a sync between, so that a crash tears one at most.
type directory struct {
	entries []entry
	bad     []extent // free space that can't be written, as far as is known
}

func entryOffset(index, copyOf int, entries uint32) int64 {
	return directoryOffset + int64(copyOf)*directorySize(entries) + int64(index)*entrySize
}

// formatDirectory writes entries that hold nothing: zeroes are no entry, so that
// a hole in the directory is noticed.
func formatDirectory(d *device, entries uint32) (*directory, error) {
	dir := &directory{entries: make([]entry, entries)}
	page := make([]byte, directorySize(entries))
	for i := range dir.entries {
		dir.entries[i].generation = 1
		copy(page[i*entrySize:], dir.entries[i].encode(i))
	}
	for c := range entryCopies {
		if err := d.grow(page, entryOffset(0, c, entries)); err != nil {
			return nil, err
		}
	}
	return dir, d.sync()
}

// readDirectory reads both copies, checks them and returns the copy of each entry
// that is damaged or behind the other, -1 for none: heal rewrites them, so that the
// next damage finds two good ones. A page that can't be read is damaged like any
// other.
func readDirectory(d *device, buf *scratch, entries uint32, size int64) (*directory, []int, error) {
	var pages [entryCopies][]byte
	n := directorySize(entries)
	b := buf.take(entryCopies * n)
	var unreadable error
	for c := range entryCopies {
		pages[c] = b[int64(c)*n : int64(c+1)*n]
		unreadable = errors.Join(unreadable, readPages(d, pages[c], entryOffset(0, c, entries)))
	}
	dir := &directory{entries: make([]entry, entries)}
	bad := make([]int, entries) // the copy of each entry that must be rewritten
	for i := range dir.entries {
		var err error
		if dir.entries[i], bad[i], err = readEntry(pages, i, entries, size); err != nil {
			return nil, nil, errors.Join(err, unreadable)
		}
	}
	if err := dir.overlap(); err != nil {
		return nil, nil, err
	}
	return dir, bad, nil
}

// readPages reads b from off on. Where pages can't be read it leaves zeroes, which
// are no entries, and returns the first error.
func readPages(d *device, b []byte, off int64) error {
	if d.readAt(b, off) == nil {
		return nil
	}
	var first error
	for i := 0; i < len(b); i += pageSize {
		page := b[i : i+pageSize]
		if err := d.readAt(page, off+int64(i)); err != nil {
			clear(page)
			first = cmp.Or(first, err)
		}
	}
	return first
}

// readEntry returns the entry that counts at index i, checked.
func readEntry(pages [entryCopies][]byte, i int, entries uint32, size int64) (entry, int, error) {
	e, bad, err := chooseEntry(pages, i)
	if errors.Is(err, ErrVersion) {
		return entry{}, -1, fmt.Errorf("directory entry %d: %w", i, err)
	}
	if err == nil && e.used {
		err = e.validate(regionsStart(entries), size)
	}
	if err != nil {
		return entry{}, -1, &CorruptError{Part: fmt.Sprintf("directory entry %d", i), Offset: entryOffset(i, 0, entries), Err: fmt.Errorf("%w; %s", err, removePool)}
	}
	return e, bad, nil
}

// heal rewrites the copies that bad names, by entry; -1 names none. It writes whole
// pages, since what can't be read can't be written in part either.
func (p *Pool) heal(bad []int) error {
	healed := false
	for page := 0; page < len(bad); page += entriesPerPage {
		for c := range entryCopies {
			if !slices.Contains(bad[page:min(page+entriesPerPage, len(bad))], c) {
				continue
			}
			err := p.writeDirectoryPage(page, c, p.dir.page(page))
			if err != nil && !errors.Is(err, ErrUnwritable) {
				return err
			}
			healed = true
		}
	}
	if healed {
		return p.dev.sync()
	}
	return nil
}

// page encodes one page of the directory, in which entry index stands.
func (dir *directory) page(index int) []byte {
	b := make([]byte, pageSize)
	first := index / entriesPerPage * entriesPerPage
	for i := first; i < min(first+entriesPerPage, len(dir.entries)); i++ {
		copy(b[(i-first)*entrySize:], dir.entries[i].encode(i))
	}
	return b
}

// pageOffset returns where the page of a copy of the directory begins in which
// entry index stands.
func (dir *directory) pageOffset(index, copyOf int) int64 {
	return entryOffset(index, copyOf, uint32(len(dir.entries))) &^ (pageSize - 1)
}

// chooseEntry returns the entry that counts and the copy that must be rewritten,
// -1 if none must.
func chooseEntry(pages [entryCopies][]byte, i int) (entry, int, error) {
	a, errA := decodeEntry(pages[0][i*entrySize:(i+1)*entrySize], i)
	b, errB := decodeEntry(pages[1][i*entrySize:(i+1)*entrySize], i)
	switch {
	case errors.Is(errA, ErrVersion): // whatever the other copy says: it may be the older one
		return entry{}, -1, errA
	case errors.Is(errB, ErrVersion):
		return entry{}, -1, errB
	case errA != nil && errB != nil:
		return entry{}, -1, fmt.Errorf("%w (A: %w; B: %w)", errBothCopies, errA, errB)
	case errA != nil || (errB == nil && b.generation > a.generation):
		return b, 0, nil
	case errB != nil || a.generation > b.generation:
		return a, 1, nil
	default:
		return a, -1, nil
	}
}

// unused returns an index that holds nothing, or -1: one that was never used, or
// else the one that was used least often, which has most likely been given up
// longest ago. It must be writable.
func (dir *directory) unused(writable func(index int) bool) int {
	best := -1
	for i := range dir.entries {
		e := &dir.entries[i]
		switch {
		case e.used || !writable(i):
		case e.replica.IsZero():
			return i
		case best < 0 || e.generation < dir.entries[best].generation:
			best = i
		}
	}
	return best
}

// removed says whether a replica is known to have been removed.
func (dir *directory) removed(id format.ID) bool {
	return slices.ContainsFunc(dir.entries, func(e entry) bool { return !e.used && !id.IsZero() && e.replica == id })
}
