package pmemlog

import (
	"cmp"
	"errors"
	"maps"
	"slices"
)

// Unmended returns the copies of the pool's own structures that are bad and could
// not be written anew, by offset: a page of each. The other copy of each stands. A
// directory entry of which one copy is so is not changed any more, since a crash
// would leave none. A scrub tries to mend them again.
func (p *Pool) Unmended() []CorruptError {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(maps.Values(p.unmended), func(a, b CorruptError) int { return cmp.Compare(a.Offset, b.Offset) })
}

// mended takes down how the writing of a page of the pool's own structures has
// ended, and returns that. change is held, or the pool is nobody's yet.
func (p *Pool) mended(part string, off int64, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		delete(p.unmended, off)
	case errors.Is(err, ErrUnwritable):
		p.unmended[off] = CorruptError{Part: part, Offset: off, Err: err}
	}
	return err
}

// writable returns why an entry can't be changed: nil if both of its copies can.
// change or mu is held.
func (p *Pool) writable(index int) error {
	for c := range entryCopies {
		if bad, ok := p.unmended[p.dir.pageOffset(index, c)]; ok {
			return &bad
		}
	}
	return nil
}

// writeDirectoryPage writes the page of a copy of the directory in which entry
// index stands.
func (p *Pool) writeDirectoryPage(index, copyOf int, page []byte) error {
	off := p.dir.pageOffset(index, copyOf)
	return p.mended("directory, copy "+copyName(copyOf), off, p.dev.writeAt(page, off))
}

// writeEntry persists e at an index that is writable: one copy, then the other.
// What can't be written in part is written as a whole page.
//
// ErrUnwritable when the first copy can't be written: then nothing has changed, and
// nothing will. The two lines of an entry both differ from those of one that holds
// something else, so a part of it is no entry; and a page that can't be written in
// part counts again only when it has been written whole. If it has been, and just
// can't be read, the second copy makes the change sure. When only the second can't be
// written, the change is made as well; the page of a bad copy is unmended.
func (p *Pool) writeEntry(index int, e entry) error {
	var bad error
	for c := range entryCopies {
		err := p.writeCopy(index, c, e)
		switch {
		case err == nil:
			err = p.dev.sync() // rule: one copy after the other
		case !errors.Is(err, ErrUnwritable), c == 0 && !errors.Is(err, errUnread):
		case bad != nil: // nobody knows whether the first copy will count
			err = p.dev.poison("write", errors.Join(bad, err))
		default:
			bad, err = err, nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// writeCopy writes one copy of an entry, or else the whole page of it.
func (p *Pool) writeCopy(index, copyOf int, e entry) error {
	b := e.encode(index)
	err := p.dev.writeAt(b, entryOffset(index, copyOf, uint32(len(p.dir.entries))))
	if !errors.Is(err, ErrUnwritable) {
		return err
	}
	page := p.dir.page(index)
	copy(page[index%entriesPerPage*entrySize:], b)
	return p.writeDirectoryPage(index, copyOf, page)
}
